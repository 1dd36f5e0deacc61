# SPDX-License-Identifier: Apache-2.0
"""Starts the compiling process (compile_programs.py) and hears what it says. No JAX here."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from experiments.checks.compile.messages import (
    AnyEvent,
    Compiled,
    Compiling,
    Devices,
    Refused,
    Request,
    Unfit,
)

Heard = Devices | Compiling | Compiled | Unfit
ROOT = Path(__file__).resolve().parents[3]
MODULE = "experiments.checks.compile.compile_programs"
# XLA moved an array to another layout by way of a whole copy on every device.
REMATERIALIZATION = "nvoluntary full rematerialization"


def interpreter(topology: str | None) -> str:
    """The Python that can compile: this one, or for a topology one that has libtpu.

    Raises:
      ValueError: if there is none.
    """
    if topology is None or importlib.util.find_spec("libtpu") is not None:
        return sys.executable
    other = ROOT / ".venv-tpu" / "bin" / "python"
    if (ROOT / ".venv-tpu" / ".ready").exists():
        return str(other)
    raise ValueError(
        f"--topology {topology}: compiling for TPUs needs jax[tpu], which this Python lacks. "
        "`make .venv-tpu/.ready` makes an environment with it (2 GB; no TPU is needed)."
    )


def compile_programs(python: str, request: Request, log: Path) -> Iterator[Heard]:
    """Events of the compiling process; those of compiled programs tell the warnings about them.

    Args:
      python: the interpreter.
      log: gets what the compiler writes.

    Raises:
      ValueError: if the process refuses the request, or ends otherwise than it should.
    """
    environ = dict(os.environ)
    if request.topology:
        environ["JAX_PLATFORMS"] = "cpu"  # What is here is not asked.
    command = [python, "-m", MODULE]
    with (
        log.open("w") as errors,
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        try:
            yield from _events(process, request, log)
        finally:
            process.kill()  # Of one that has ended: nothing.
    if process.returncode:
        raise ValueError(
            f"the compiling process ended with {process.returncode}: {_last_line(log)} ({log})"
        )


def _events(process: subprocess.Popen, request: Request, log: Path) -> Iterator[Heard]:
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin as stdin:
        stdin.write(msgspec.json.encode(request).decode())
    n_warnings = 0
    for line in process.stdout:
        event = msgspec.json.decode(line, type=AnyEvent)
        if isinstance(event, Refused):
            raise ValueError(event.reason)
        if isinstance(event, Compiled):
            n_before, n_warnings = n_warnings, log.read_text().count(REMATERIALIZATION)
            event = msgspec.structs.replace(event, n_rematerializations=n_warnings - n_before)
        yield event
    process.wait()


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text().splitlines() if line.strip() and "---" not in line]
    # JAX ends a traceback with a remark of its own.
    told = [line for line in lines if not line.startswith("For simplicity, JAX")]
    return told[-1] if told else "it said nothing"

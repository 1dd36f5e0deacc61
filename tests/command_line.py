# SPDX-License-Identifier: Apache-2.0
"""isoflop as users start it, in processes of its own."""

import os
import subprocess
import sys
from pathlib import Path

ON_THE_WAY = (
    *("reading ", "training ", "fitting ", "planned "),
    *("left out at ", "cannot answer: ", "may not answer: "),
)
COMMAND = (sys.executable, "-m", "experiments.cli.main")


def environment(cache: Path) -> dict[str, str]:
    """Of a process that is not to know that it is tested; compiled programs are kept in a cache."""
    names = {name: value for name, value in os.environ.items() if "JAX" not in name}
    return names | {
        "JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""
    }  # fmt: skip


def isoflop(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    """A command that has ended; options of `subprocess.run`."""
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, **options)


def without_notices(err: str) -> str:
    """What else stands on stderr than how a study goes on."""
    return "".join(line for line in err.splitlines(True) if not line.startswith(ON_THE_WAY))


def is_one_line(err: str) -> bool:
    """Whether a refusal is what users see of their mistakes, after what was told on the way."""
    err = without_notices(err)
    return err.startswith("isoflop: ") and err.count("\n") == 1 and "Traceback" not in err

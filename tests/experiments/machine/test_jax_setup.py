# SPDX-License-Identifier: Apache-2.0
"""What a shell asks of JAX: it moves no number, and a device that is not there is refused."""

import os
import subprocess
import sys

DRAW = """
from experiments.machine.jax_setup import start_jax
start_jax((), None)
import jax
print(jax.random.normal(jax.random.key(7), (5, 3)).tolist(), jax.numpy.arange(3.0).dtype)
"""
# Each of them alone changes what is drawn, or in what type (jax 0.10.2).
SHELL = {
    "JAX_DEFAULT_PRNG_IMPL": "rbg",
    "JAX_THREEFRY_PARTITIONABLE": "0",
    "JAX_RANDOM_SEED_OFFSET": "3",
    "JAX_ENABLE_X64": "1",
}
LOOK = """
import jax
from experiments.machine.jax_setup import require_devices
for name in ("cuda", "abacus", "cpu"):
    jax.config.update("jax_platforms", name)
    try:
        require_devices()
        print(name, "is here")
    except ValueError as error:
        print(error)
"""

COUNT = """
import os
from experiments.machine.jax_setup import start_jax
start_jax({cores}, None, {n_threads}, {n_devices})
import jax
print(jax.device_count(), "multi_thread_eigen=false" in os.environ["XLA_FLAGS"])
"""


def said(code, **variables):
    """By a process of its own: JAX reads variables once."""
    names = {name: value for name, value in os.environ.items() if "JAX" not in name}
    names |= {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "", "XLA_FLAGS": ""} | variables
    found = subprocess.run([sys.executable, "-c", code], env=names, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_the_shell_does_not_move_what_a_seed_draws():
    plain = said(DRAW)
    assert "float32" in plain
    assert said(DRAW, **SHELL) == plain


def test_a_device_that_is_not_there_is_refused_in_a_line():
    lines = said(LOOK).splitlines()
    assert len(lines) == 3
    for line, name in zip(lines, ("cuda", "abacus"), strict=False):
        assert line.startswith(f"JAX_PLATFORMS={name}: ")
        assert line.endswith("Unset it to take what this machine has, or set it to cpu.")
    assert lines[-1] == "cpu is here"


def test_the_cpus_of_a_process_are_shared_out_to_the_devices_of_its_mesh():
    core = min(os.sched_getaffinity(0))
    count = lambda cores, n_threads, n_devices, **variables: said(  # noqa: E731
        COUNT.format(cores=cores, n_threads=n_threads, n_devices=n_devices), **variables
    ).split()
    assert count([], 4, 2) == ["2", "False"]
    assert count([], 2, 2) == ["2", "True"]
    # A mesh of more devices than there are CPUs is refused where it is made.
    assert count([core], 0, 16) == ["1", "True"]
    assert count([], 2, 2, XLA_FLAGS="--xla_force_host_platform_device_count=8") == ["8", "True"]

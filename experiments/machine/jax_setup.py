# SPDX-License-Identifier: Apache-2.0
"""How JAX starts: fits run on the CPU, seeds mean the same everywhere, programs are kept."""

import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path


def prepare_to_fit() -> None:
    """Asking JAX for the CPU later would still wake every accelerator.

    In this process alone: a variable would send the workers of the next runs to the CPU, too.
    """
    import jax

    jax.config.update("jax_platforms", "cpu")
    try:
        cache_folder().mkdir(parents=True, exist_ok=True)
    except OSError:
        return  # Every fit compiles its program, a second.
    _keep_programs(cache_folder())


def cache_folder() -> Path:
    """Where compiled programs are kept between runs."""
    if chosen := os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "isoflop" / "jax"


def _keep_programs(cache: Path) -> None:
    import jax

    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


# Of one run id there is one set of weights: a variable of the shell must not give others.
_NUMBERS = {
    "jax_default_prng_impl": "threefry2x32",
    "jax_threefry_partitionable": True,
    "jax_random_seed_offset": 0,
    "jax_high_dynamic_range_gumbel": False,
    "jax_enable_x64": False,
}


def pin_numbers() -> None:
    """Sets what seeds and types mean in this process, whatever JAX_... variables ask for."""
    import jax

    for name, value in _NUMBERS.items():
        jax.config.update(name, value)


def require_devices() -> None:
    """Raises ValueError where JAX finds no device of the kind that it is told to use."""
    import jax

    try:
        jax.devices()
    except Exception as error:  # JAX 0.10 asserts, or raises RuntimeError: it depends on the kind.
        cause = next(iter(str(error).splitlines()), "") or "JAX finds no such device here"
        asked = jax.config.values["jax_platforms"] or ""
        raise ValueError(
            f"JAX_PLATFORMS={asked}: {cause.rstrip('.')}. Unset it to take what this machine has, "
            "or set it to cpu."
        ) from None


# A fifth less time to compile than the default level, and the same speed (d_model 32 to 96).
CPU_FLAGS = ("--xla_backend_optimization_level=1",)


def quick_flags() -> list[str]:
    """XLA flags for a CPU: a third less time to compile, as many steps per second.

    On the quickstart: 105 s of compiling instead of 157. Last bits move at d_model 8 to 24. Not for
    GELU: see `compile_program`.
    """
    flags = ["--xla_cpu_parallel_codegen_split_count=1"]
    # XLA dropped it after jaxlib 0.10; a flag that it does not know ends the process.
    if version("jaxlib").startswith("0.10."):
        flags.append("--xla_cpu_use_fusion_emitters=false")
    return flags


_CPU_DEVICES = "--xla_force_host_platform_device_count"
# A device that waits 40 s for another ends the process: too soon for a machine that is suspended.
_PATIENCE = "--xla_cpu_collective_call_terminate_timeout_seconds=3600"


def start_jax(
    cores: Sequence[int], cache: Path | None, n_threads: int = 0, n_devices: int = 1
) -> None:
    """Pins this process to its cores before JAX sizes its thread pools, pins what seeds mean, and
    caches compilation.

    Whatever starts a worker on a CPU, the program is the same: the flags move the last bits.

    Args:
      cores: to be pinned to; empty leaves it free.
      cache: folder of compiled programs.
      n_threads: CPUs that an engine gives instead of naming them; 0 without, and on accelerators.
      n_devices: of a mesh that this process has by itself. Its CPUs are shared out to so many
        devices, if there are as many: batches that devices split take two cores better than the
        products and loops of one device do (results/benchmarks/notes/two_devices.md).
    """
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    if n_threads := len(cores) or n_threads:
        flags = [os.environ.get("XLA_FLAGS", ""), *CPU_FLAGS, *quick_flags()]
        flags += ["--xla_cpu_multi_thread_eigen=false"] * (n_threads <= n_devices)
        if n_devices > 1 and _CPU_DEVICES not in flags[0]:
            flags += [f"{_CPU_DEVICES}={min(n_devices, n_threads)}", _PATIENCE]
        os.environ["XLA_FLAGS"] = " ".join(flags).strip()
    pin_numbers()
    if cache:
        _keep_programs(cache)

# SPDX-License-Identifier: Apache-2.0
"""What every test runs under. Environment variables, so that tests without JAX never import it."""

import importlib.util
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from experiments.machine.jax_setup import quick_flags

# Before JAX is imported: it reads these once.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most of what tests take is compiling; `make test-all` compiles as fits do.
quick = [] if "TEST_OPTIMISED" in os.environ else quick_flags()
os.environ["XLA_FLAGS"] = " ".join(
    [os.environ.get("XLA_FLAGS", ""), "--xla_force_host_platform_device_count=8", *quick]
).strip()
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
os.environ.setdefault("JAX_NUMPY_DTYPE_PROMOTION", "strict")
# What one test compiles, no other of this session does, in whatever process: most of what they
# take. Gone with the session: a warning of the compiler is seen again with the next.
if "PYTEST_XDIST_WORKER" not in os.environ:
    compiled = tempfile.TemporaryDirectory(prefix="isoflop-compiled-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = compiled.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

# Shapes in the signatures of `model` are checked while tracing, those of `scaling` at every call;
# modules that declare none are left as they are, for planning takes five times as long in them.
# The parity environment may lack beartype; the comparison with Hugging Face does not need it.
if importlib.util.find_spec("beartype"):
    from jaxtyping import install_import_hook

    top = Path(__file__).parents[1]
    for room, checker in (("model", "beartype.beartype"), ("scaling", "shape_check.shapes")):
        files = [f for f in (top / room).rglob("*.py") if "jaxtyping" in f.read_text()]
        names = [".".join(f.relative_to(top).with_suffix("").parts) for f in files]
        install_import_hook(names, checker)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("filterwarnings", "error")
    # Flax declares nnx.State over typing.Hashable; beartype warns of it wherever it checks one.
    config.addinivalue_line("filterwarnings", "ignore:.*typing.Hashable deprecated by PEP 585")
    # A program that another process is just writing is compiled here, too.
    config.addinivalue_line("filterwarnings", "ignore:Error reading persistent compilation cache")


@pytest.fixture(scope="module")
def quick_to_compile() -> Iterator[None]:
    """XLA optimises for longer than these tests run: `make test-all` alone waits for it.

    Programs compiled so are no other module's: their last bits differ.
    """
    with without_optimising():
        yield


@pytest.fixture(scope="session")
def quickly() -> Callable[[], AbstractContextManager[None]]:
    """The same for a part of a fixture that lives longer than a module."""
    return without_optimising


@contextmanager
def without_optimising() -> Iterator[None]:
    import jax

    from model.training import compile_program

    name = "jax_disable_most_optimizations"
    before = jax.config.values[name]
    compile_program._program.cache_clear()
    jax.config.update(name, "TEST_OPTIMISED" not in os.environ)
    try:
        yield
    finally:
        jax.config.update(name, before)
        compile_program._program.cache_clear()


@pytest.fixture(scope="session")
def compile_cache(request: pytest.FixtureRequest) -> Path:
    """Programs that the processes of tests compile, kept until pytest's cache is cleared.

    Compiling them is most of what such tests take; the key of a program holds all that it depends
    on, the version of its compiler among it.
    """
    return request.config.cache.mkdir("compiled")

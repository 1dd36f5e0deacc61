# SPDX-License-Identifier: Apache-2.0
"""Small networks (small_networks.py), and a way to run them."""

import functools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from filled_networks import outline
from flax import nnx
from jax.sharding import NamedSharding
from jax.typing import DTypeLike
from small_networks import CONFIGS, ENCODED, IMAGES, LLAMA, OTHERS, RECURRENCES, vary

from model.network.config import ModelConfig
from model.network.sharding import make_mesh

ONE = (1, 1, 1, 1)


@pytest.fixture(autouse=True, scope="module")
def all_quick_to_compile(quick_to_compile: None) -> None:
    """None of these tests waits for XLA's optimisations."""


@pytest.fixture(scope="session")
def llama() -> ModelConfig:
    """The first of them, to be varied."""
    return LLAMA


@pytest.fixture(params=CONFIGS)
def config(request: pytest.FixtureRequest) -> ModelConfig:
    """Every network with attention in turn, or those that a test names (``indirect=True``)."""
    return vary(LLAMA, **(CONFIGS | OTHERS | RECURRENCES | ENCODED | IMAGES)[request.param])


@pytest.fixture
def one_device() -> Iterator[jax.sharding.Mesh]:
    mesh = make_mesh(ONE)
    with jax.set_mesh(mesh):
        yield mesh


@pytest.fixture
def network() -> Callable:
    """``build`` below; its mesh must be the one in context."""
    return build


@functools.cache
def build(
    config: ModelConfig, compute_dtype: DTypeLike = jnp.float32, mesh: tuple[int, ...] = ONE
) -> tuple[Callable, nnx.State]:
    """(jitted function of parameters and tokens to logits, parameters).

    The parameters come from NumPy, the same on every mesh: compiling the initialisation costs
    seconds, and gains of one and biases of zero would hide that one of them is missing.
    """
    graphdef, abstract = outline(config, compute_dtype)
    rng, devices = np.random.default_rng(1), make_mesh(mesh)

    def fill(path: tuple, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        is_gain = "gain" in jax.tree_util.keystr(path)
        value = (is_gain + rng.normal(scale=0.3, size=leaf.shape)).astype(leaf.dtype)
        return jax.device_put(value, NamedSharding(devices, leaf.sharding.spec))

    params = jax.tree_util.tree_map_with_path(fill, abstract)
    return jax.jit(lambda params, tokens: nnx.merge(graphdef, params)(tokens)[0]), params


@pytest.fixture
def tokens(config: ModelConfig) -> np.ndarray:
    """int32[8, seq_len]."""
    rng = np.random.default_rng(0)
    return rng.integers(config.vocab_size, size=(8, config.seq_len), dtype=np.int32)

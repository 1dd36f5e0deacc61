# SPDX-License-Identifier: Apache-2.0
"""The convolution against a loop in NumPy float64, and what an output depends on."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
import pytest
from one_layer import Arrays, check_against_loop, lone_layer, stream
from small_networks import LLAMA, vary

from model.network.context import Context
from model.network.counts.convolution import ConvolutionConfig, ConvolutionRule
from model.network.execution import PLAIN

pytestmark = pytest.mark.usefixtures("one_device")

SIZES = ConvolutionConfig(d_hidden=6, taps=3, dilation=2)
X = np.random.default_rng(0).normal(size=(2, 9, 16))
SEGMENTS = np.array([[0, 0, 0, 1, 1, 1, 1, 1, 2], [5, 5, 5, 5, 5, 5, 3, 3, 3]])


def by_loop(x: np.ndarray, w: Arrays, segments: np.ndarray) -> np.ndarray:
    """Position by position, tap by tap: the last is the position itself."""
    out = np.empty_like(x)
    for b, t in np.ndindex(x.shape[:2]):
        z = w["hidden_bias"].copy()
        for tap in range(3):
            source = t - 2 * (2 - tap)
            if source >= 0 and segments[b, source] == segments[b, t]:
                z += x[b, source] @ w["taps_cdh"][tap]
        gelu = 0.5 * z * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)))
        out[b, t] = gelu @ w["output_hd"] + w["output_bias"]
    return out


@pytest.mark.parametrize("segments", [None, SEGMENTS], ids=["one segment", "segments"])
def test_outputs_and_slopes_are_those_of_a_loop_over_positions_and_taps(segments):
    check_against_loop(SIZES, by_loop, X, segments)


def test_an_output_depends_on_the_positions_of_its_taps_and_exactly_nothing_else():
    layer, _ = lone_layer(SIZES)
    slope = jax.jit(jax.jacrev(lambda x: jnp.sum(layer(x, Context())[0], -1)))(stream(X))
    depends = np.any(np.asarray(slope) != 0, axis=-1)
    ahead = np.arange(9)[:, None] - np.arange(9)
    expected = np.einsum("bc,lm->blcm", np.eye(2, dtype=bool), np.isin(ahead, (0, 2, 4)))
    np.testing.assert_array_equal(depends, expected)


def taps(n: int, *dilations: int) -> tuple[ConvolutionConfig, ...]:
    return tuple(ConvolutionConfig(d_hidden=8, taps=n, dilation=each) for each in dilations)


WINDOW = msgspec.structs.replace(LLAMA.blocks[0].mixer, window=5)
# Mixers of the pattern, layers, positions: 1 + sum of (taps - 1) dilation and window - 1 by hand.
FIELDS = [
    (taps(2, 1), 2, 3),
    (taps(2, 1, 2, 4), 3, 8),
    (taps(3, 1, 3), 4, 17),
    (taps(1, 5), 2, 1),
    ((WINDOW, *taps(3, 2)), 4, 17),
]


@pytest.mark.parametrize(("mixers", "n_layers", "expected"), FIELDS)
def test_the_tokens_that_move_the_last_logits_are_those_that_the_layers_reach(
    network, mixers, n_layers, expected
):
    config = vary(LLAMA, mixers=mixers, n_layers=n_layers, seq_len=24)
    apply, params = network(config)
    tokens = jnp.zeros((24, 24), jnp.int32)
    # Row t has another token at position t: which of them move the last logits?
    last, same = (
        np.asarray(apply(params, tokens + other))[:, -1]
        for other in (jnp.eye(24, dtype=jnp.int32), jnp.zeros_like(tokens))
    )
    seen = np.flatnonzero(np.any(last != same, axis=-1))
    assert (seen[-1], 24 - seen[0]) == (23, expected)


def test_positions_that_are_split_are_refused_in_one_line(llama):
    SIZES.check(llama, PLAIN)
    with pytest.raises(ValueError, match=r"layout='fsdp_context' splits positions.*Say") as error:
        SIZES.check(llama, replace(PLAIN, layout="fsdp_context"))
    assert "\n" not in str(error.value)


def test_a_rule_makes_the_hidden_units_of_a_width():
    rule = ConvolutionRule(hidden_ratio=1.5, hidden_multiple=8, taps=3, dilation=4)
    sizes = {d: rule.config(d_model=d, n_layers=2).d_hidden for d in (2, 16, 20, 64)}
    assert sizes == {2: 8, 16: 24, 20: 32, 64: 96}
    assert rule.config(d_model=16, n_layers=2) == ConvolutionConfig(d_hidden=24, taps=3, dilation=4)

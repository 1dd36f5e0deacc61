# SPDX-License-Identifier: Apache-2.0
"""The masked convolution against a loop over pixels, and which pixels a logit depends on."""

import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
import pytest
from one_layer import Arrays, check_against_loop, lone_layer, stream
from small_networks import LLAMA, vary

from model.network.context import Context
from model.network.counts.masked_convolution import (
    MaskedConvolutionConfig,
    MaskedConvolutionRule,
)
from model.network.execution import PLAIN

pytestmark = pytest.mark.usefixtures("one_device")

HEIGHT, WIDTH = 3, 4
SIZES = {
    mask: MaskedConvolutionConfig(d_hidden=6, kernel=3, width=WIDTH, mask=mask) for mask in "AB"
}
WIDE = MaskedConvolutionConfig(d_hidden=6, kernel=5, width=WIDTH, mask="B")
X = np.random.default_rng(0).normal(size=(2, HEIGHT * WIDTH, 16))


def before(sizes: MaskedConvolutionConfig, r: int, c: int) -> list[tuple[int, int]]:
    """The pixels that a kernel takes in, in their order; its own with mask "B"."""
    half = sizes.kernel // 2
    square = itertools.product(range(r - half, r + 1), range(c - half, c + half + 1))
    own = (r, c + (sizes.mask == "B"))
    return [pixel for pixel in square if pixel < own]


@pytest.mark.parametrize("sizes", [*SIZES.values(), WIDE], ids=["A", "B", "5x5"])
def test_outputs_and_slopes_are_those_of_a_loop_over_pixels(sizes: MaskedConvolutionConfig) -> None:
    shift = sizes.mask == "A"

    def by_loop(x: np.ndarray, w: Arrays, segments: np.ndarray) -> np.ndarray:
        """With mask "A" a pixel lies one position later, behind what begins the image."""
        out = np.empty_like(x)
        for b, r, c in np.ndindex(len(x), HEIGHT, WIDTH):
            z = w["hidden_bias"].copy()
            for tap, (row, column) in enumerate(before(sizes, r, c)):
                if row >= 0 and 0 <= column < WIDTH:
                    z += x[b, row * WIDTH + column + shift] @ w["taps_cdh"][tap]
            gelu = 0.5 * z * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)))
            out[b, r * WIDTH + c] = gelu @ w["output_hd"] + w["output_bias"]
        return out

    check_against_loop(sizes, by_loop, X, None)


@pytest.mark.parametrize("mask", SIZES)
def test_an_output_depends_on_the_pixels_of_its_mask_and_exactly_nothing_else(mask: str) -> None:
    layer, _ = lone_layer(SIZES[mask])
    slope = jax.jit(jax.jacrev(lambda x: jnp.sum(layer(x, Context())[0], -1)))(stream(X))
    depends = np.any(np.asarray(slope) != 0, axis=-1)
    expected = np.zeros((HEIGHT * WIDTH,) * 2, bool)
    for r, c in np.ndindex(HEIGHT, WIDTH):
        for row, column in before(SIZES[mask], r, c):
            if row >= 0 and 0 <= column < WIDTH:
                expected[r * WIDTH + c, row * WIDTH + column + (mask == "A")] = True
    np.testing.assert_array_equal(
        depends, np.einsum("bc,lm->blcm", np.eye(2, dtype=bool), expected)
    )


def test_two_layers_see_what_two_masks_reach_and_have_their_blind_spot(network) -> None:
    """Pixels that are above on the right by more columns than rows are never seen (van den Oord et
    al. 2016, arXiv:1606.05328, sec. 2.1). The residual stream has the pixel before, too."""
    config = vary(LLAMA, mixers=tuple(SIZES.values()))
    apply, params = network(config)
    n = HEIGHT * WIDTH
    tokens = jnp.zeros((n, n), jnp.int32)
    one, same = (
        np.asarray(apply(params, tokens + other)) for other in (jnp.eye(n, dtype=jnp.int32), tokens)
    )
    moved = np.any(one != same, axis=-1)  # [the token changed, the position]
    for r, c in np.ndindex(HEIGHT, WIDTH):
        at = {r * WIDTH + c}
        for mask in "BA":
            reached = set()
            for place in at:
                found = before(SIZES[mask], *divmod(place, WIDTH))
                inside = [(y, x) for y, x in found if y >= 0 and 0 <= x < WIDTH]
                reached |= {y * WIDTH + x + (mask == "A") for y, x in inside}
            at |= reached
        assert set(np.flatnonzero(moved[:, r * WIDTH + c])) == at
    # From the first pixel of the second row that on its upper right is seen, and not the next.
    assert moved[2, WIDTH]
    assert not moved[3, WIDTH]


def test_sizes_that_cannot_be_are_refused_in_one_line(llama) -> None:
    for changes, words in {
        "kernel": (4, r"kernel=4: must be odd, from 3 to 7, as rows of 4"),
        "mask": ("C", r"mask='C'"),
    }.items():
        value, said = words if isinstance(words, tuple) else (None, words)
        with pytest.raises(ValueError, match=said) as error:
            msgspec.structs.replace(SIZES["A"], **{changes: value})
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"layout='fsdp_context' splits positions.*Say"):
        SIZES["A"].check(llama, replace(PLAIN, layout="fsdp_context"))


def test_a_rule_makes_the_hidden_units_of_a_width() -> None:
    rule = MaskedConvolutionRule(
        hidden_ratio=1.5, hidden_multiple=8, kernel=3, width=WIDTH, mask="A"
    )
    made = rule.config(d_model=16, n_layers=2)
    assert made == msgspec.structs.replace(SIZES["A"], d_hidden=24)
    assert (len(made.steps_back), made.reach) == (4, 4)
    assert (len(SIZES["B"].steps_back), SIZES["B"].reach) == (5, 5)

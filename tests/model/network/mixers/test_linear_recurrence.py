# SPDX-License-Identifier: Apache-2.0
"""The linear recurrence against its definition, one position after the other in NumPy float64."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from one_layer import Arrays, slopes_along
from traced_products import dot_flops

from model.network.counts.linear_recurrence import (
    LONGEST_CHUNK,
    chunk_length,
    recurrence_flops,
)
from model.network.mixers.linear_recurrence import linear_recurrence

pytestmark = pytest.mark.usefixtures("one_device")

B, G, Q, K, P = 2, 2, 3, 5, 4
# Which of the arguments there are; whether a head has one decay; whether its group has one key.
FORMS = {
    "mamba2": {"erases": "nothing", "is_scalar": True, "is_shared": True},
    "delta": {"erases": "key", "is_scalar": True, "is_shared": False},
    "gated delta": {"erases": "key", "is_scalar": True, "is_shared": True},
    "rwkv7": {"erases": "other", "is_scalar": False, "is_shared": False},
}
EVERY = pytest.mark.parametrize("form", FORMS)
AS_OTHERS = pytest.mark.slow(reason="2 s of compiling each, as the others")
SOME = pytest.mark.parametrize(
    "form", [pytest.param(f, marks=AS_OTHERS) if "delta" in f else f for f in FORMS]
)


def inputs(form: str, length: int) -> tuple[Arrays, np.ndarray]:
    """(arguments in float64, where documents begin)."""
    rng, of = np.random.default_rng(0), FORMS[form]
    shared = 1 if of["is_shared"] else Q

    def unit(n_heads: int) -> np.ndarray:
        x = rng.normal(size=(B, length, G, n_heads, K))
        return x / np.linalg.norm(x, axis=-1, keepdims=True)

    found = {
        "r": unit(shared),
        # Of some heads nothing is left after a few positions.
        "log_w": -rng.exponential(size=(B, length, G, Q, 1))
        * rng.choice([0.01, 0.1, 1], (G, Q, 1)),
        "k": unit(shared),
        "v": rng.normal(size=(B, length, G, Q, P)),
        "state": rng.normal(size=(B, G, Q, K, P)),
    }
    if not of["is_scalar"]:
        found["log_w"] = -np.exp(-0.5) * rng.uniform(size=(B, length, G, Q, K))
    if of["erases"] != "nothing":
        rate = rng.uniform(size=(B, length, G, Q, 1))
        found["a"] = -unit(Q) if of["erases"] == "other" else -np.exp(found["log_w"]) * found["k"]
        if of["erases"] == "other":
            found["b"] = -rate * found["a"]
        else:
            found["a"], found["v"] = rate * found["a"], rate * found["v"]
    return found, rng.uniform(size=(B, length)) < 0.1


def by_position(at: Arrays, is_first: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    wide = np.broadcast_shapes(at["k"].shape, (*at["v"].shape[:-1], 1))
    r, w, k = (np.broadcast_to(x, wide) for x in (at["r"], np.exp(at["log_w"]), at["k"]))
    v, a = at["v"], at.get("a")
    b = at.get("b", k)
    state, out = at["state"].copy(), np.empty_like(v)
    for t in range(v.shape[1]):
        for i, g, q in np.ndindex(B, G, Q):
            s = state[i, g, q]
            if is_first is not None and is_first[i, t]:
                s = np.zeros_like(s)
            new = np.diag(w[i, t, g, q]) @ s + np.outer(k[i, t, g, q], v[i, t, g, q])
            if a is not None:
                new += np.outer(b[i, t, g, q], a[i, t, g, q] @ s)
            state[i, g, q], out[i, t, g, q] = new, r[i, t, g, q] @ new
    return out, state


def ours(at: dict[str, Any], is_first: np.ndarray | None) -> tuple[jax.Array, jax.Array]:
    arrays = {name: jnp.asarray(x, jnp.float32) for name, x in at.items()}
    flags = None if is_first is None else jnp.asarray(is_first)
    return jax.jit(lambda arrays: linear_recurrence(**arrays, is_first=flags))(arrays)


@EVERY
@pytest.mark.parametrize("apart", [False, True], ids=["one document", "documents"])
def test_in_chunks_it_is_what_it_is_position_by_position(form, apart):
    # Two chunks and a part of a third, which is filled up.
    at, is_first = inputs(form, 2 * LONGEST_CHUNK + 3)
    told = is_first if apart else None
    for found, expected in zip(ours(at, told), by_position(at, told), strict=True):
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@SOME
def test_its_slopes_are_differences_of_the_loop(form):
    at, is_first = inputs(form, LONGEST_CHUNK + 6)
    rng = np.random.default_rng(2)
    ways = {name: rng.normal(size=x.shape) / np.sqrt(x.size) for name, x in at.items()}

    def total(arrays):
        out, state = linear_recurrence(**arrays, is_first=jnp.asarray(is_first))
        return jnp.sum(jnp.sin(out)) + jnp.sum(jnp.sin(state))

    arrays = {name: jnp.asarray(x, jnp.float32) for name, x in at.items()}
    found = jax.jit(jax.grad(total))(arrays)
    loop = lambda at: sum(np.sum(np.sin(x)) for x in by_position(at, is_first))  # noqa: E731
    for name, slope in slopes_along(loop, at, ways).items():
        assert np.sum(np.asarray(found[name]) * ways[name]) == pytest.approx(slope, abs=1e-5), name


@SOME
def test_a_state_is_handed_on_and_the_parts_are_the_whole(form):
    at, _ = inputs(form, 20)
    whole, last = ours(at, None)
    state, parts = at["state"], []
    for first, end in ((0, 9), (9, 10), (10, 20)):
        here = {n: x[:, first:end] for n, x in at.items() if n != "state"}
        out, state = ours(here | {"state": state}, None)
        parts.append(out)
    np.testing.assert_allclose(jnp.concatenate(parts, axis=1), whole, rtol=0, atol=1e-5)
    np.testing.assert_allclose(state, last, rtol=0, atol=1e-5)


def test_decays_that_leave_nothing_of_one_position_for_the_next_are_finite_and_have_slopes():
    at, is_first = inputs("gated delta", 20)
    at["log_w"] = 300 * at["log_w"]
    # Their sums reach 1e3, where float32 steps by 6e-5.
    expected = by_position(at, is_first)[0]
    np.testing.assert_allclose(ours(at, is_first)[0], expected, rtol=0, atol=2e-4)
    total = lambda **arrays: jnp.sum(linear_recurrence(**arrays)[0])  # noqa: E731
    arrays = {name: jnp.asarray(x, jnp.float32) for name, x in at.items()}
    slopes = jax.jit(jax.grad(lambda arrays: total(**arrays, is_first=jnp.asarray(is_first))))
    assert all(np.all(np.isfinite(slope)) for slope in slopes(arrays).values())


@SOME
def test_not_a_bit_of_a_document_depends_on_another(form):
    at, _ = inputs(form, 2 * LONGEST_CHUNK)
    other, _ = inputs(form, 2 * LONGEST_CHUNK)
    is_first = np.zeros((B, 2 * LONGEST_CHUNK), bool)
    is_first[:, [20, LONGEST_CHUNK + 7]] = True
    for name, x in other.items():
        x *= 0.5
        if name != "state":
            x[:, 20 : LONGEST_CHUNK + 7] = at[name][:, 20 : LONGEST_CHUNK + 7]
    inside = slice(20, LONGEST_CHUNK + 7)
    found, again = ours(at, is_first)[0], ours(other, is_first)[0]
    np.testing.assert_array_equal(found[:, inside], again[:, inside])
    assert np.abs(found - again).max() > 0.1


def saved_numbers(length: int) -> int:
    """Of the largest array that a backward pass keeps, for each sequence and head."""
    at, _ = inputs("rwkv7", length)
    arrays = {name: jnp.asarray(x, jnp.float32) for name, x in at.items()}
    _, pull = jax.eval_shape(
        lambda arrays: jax.vjp(lambda x: linear_recurrence(**x), arrays), arrays
    )
    return max(leaf.size for leaf in jax.tree.leaves(pull)) // (B * G * Q)


def test_the_backward_pass_keeps_a_state_for_each_chunk_and_none_for_a_position():
    n_chunks, length = 4, 4 * LONGEST_CHUNK
    assert saved_numbers(length) == max(n_chunks * K * P, length * LONGEST_CHUNK, length * (K + P))


@EVERY
@pytest.mark.parametrize("length", [1, 12, LONGEST_CHUNK, 3 * LONGEST_CHUNK])
def test_its_flops_are_those_of_the_traced_program(form, length):
    at, of = inputs(form, length)[0], FORMS[form]
    arrays = {name: jnp.asarray(x, jnp.float32) for name, x in at.items()}
    jaxpr = jax.make_jaxpr(lambda arrays: linear_recurrence(**arrays))(arrays)
    sizes = {
        "n_groups": G if of["is_shared"] else G * Q,
        "n_heads": G * Q,
        "d_key": K,
        "d_value": P,
        "erases": of["erases"],
    }
    full = recurrence_flops(length, **sizes, is_causal=False)
    assert dot_flops(jaxpr.jaxpr) == B * length * full
    in_chunks = full - recurrence_flops(length, **sizes, is_causal=True)
    assert 0 < in_chunks < full / 2


def test_chunks_are_as_few_and_as_even_as_can_be():
    lengths = [1, 12, 64, 65, 100, 128, 4096]
    assert [chunk_length(length) for length in lengths] == [1, 12, 32, 22, 25, 32, 32]

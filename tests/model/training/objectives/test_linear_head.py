# SPDX-License-Identifier: Apache-2.0
"""The loss of the head in parts against JAX's own derivative of the cross-entropy by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from model.network.counts.layer import Weight
from model.network.sharding import FSDP_TENSOR, LAYOUTS, Layout, make_mesh
from model.training.objectives.linear_head import LinearHead, placed_like

B, L, D, V = 8, 12, 16, 24
RNG = np.random.default_rng(0)
X = RNG.normal(size=(B, L, D)).astype(np.float32)
W = RNG.normal(size=(D, V)).astype(np.float32)
TARGETS = RNG.integers(V, size=(B, L), dtype=np.int32)
MULTIPLIER, Z = 0.7, 0.02


def by_hand(x: jax.Array, w: jax.Array) -> tuple[jax.Array, jax.Array]:
    log_p = jax.nn.log_softmax(MULTIPLIER * (x @ w))
    plain = -jnp.sum(log_p * jax.nn.one_hot(TARGETS, V)) / (B * L)
    log_z = jnp.log(jnp.sum(jnp.exp(MULTIPLIER * (x @ w)), axis=-1))
    return plain + Z * jnp.mean(log_z**2), plain


def head_dims(layout: Layout) -> tuple:
    return layout.weight(Weight(axes="dv", shape=(D, 1), role="output", n_in=1))


def on(mesh: jax.sharding.Mesh, layout: Layout) -> list[jax.Array]:
    dims = (layout.act("btd"), head_dims(layout), layout.act("bt"))
    values = zip((X, W, TARGETS), dims, strict=True)
    return [jax.device_put(value, NamedSharding(mesh, P(*d))) for value, d in values]


@functools.cache
def slopes_by_hand() -> tuple:
    return jax.jit(jax.value_and_grad(by_hand, argnums=(0, 1), has_aux=True))(X, W)


ONE, ALL = (1, 1, 1, 1), (1, 2, 2, 2)
QUICK = [(ONE, "fsdp_tensor", 1), (ALL, "fsdp_tensor", 6), (ALL, "fsdp_context", 6)]
OTHERS = [
    (ONE, "fsdp_tensor", 6),
    (ALL, "fsdp_tensor", 1),
    (ALL, "fsdp_context", 1),
    *((mesh, layout, 3) for mesh, layout, _ in QUICK),
]


@pytest.mark.parametrize(
    ("mesh", "layout", "n_chunks"),
    [
        *QUICK,
        *(
            pytest.param(*case, marks=pytest.mark.slow(reason="as in one part and in six"))
            for case in OTHERS
        ),
    ],
)
def test_loss_and_both_gradients_equal_the_cross_entropy_by_hand(mesh, layout, n_chunks):
    expected, slopes = slopes_by_hand()
    devices, table = make_mesh(mesh), LAYOUTS[layout]
    head = LinearHead(MULTIPLIER, n_chunks, table)
    with jax.set_mesh(devices):
        x, w, targets = on(devices, table)

        def loss(x, w):
            total, plain = head.loss(x, w, targets, jnp.float32(Z))
            return 3 * total, plain

        (total, plain), found = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(
            x, w
        )
        nats = jax.jit(head.nats)(x, w, targets)
    assert float(total) == pytest.approx(3 * float(expected[0]), rel=1e-6)
    assert float(plain) == pytest.approx(float(expected[1]), rel=1e-6)
    assert float(np.mean(nats)) == pytest.approx(float(expected[1]), rel=1e-6)
    for ours, theirs in zip(found, slopes, strict=True):
        np.testing.assert_allclose(ours, 3 * np.asarray(theirs), rtol=0, atol=2e-6)


@pytest.mark.parametrize(("mesh", "n_chunks"), [((1, 1, 1, 1), 1), ((1, 2, 2, 2), 6)])
def test_positions_have_weights_and_the_mask_no_probability(mesh, n_chunks):
    weights = RNG.uniform(size=(B, L)).astype(np.float32)
    is_mask, one_hot = np.arange(V) == 7, jax.nn.one_hot(np.where(TARGETS == 7, 3, TARGETS), V)

    def by_hand(x, w):
        logits = jnp.where(is_mask[None, None], -jnp.inf, MULTIPLIER * (x @ w))
        log_z = jnp.log(jnp.sum(jnp.exp(logits), axis=-1))
        nats = log_z - jnp.sum(jnp.where(one_hot > 0, logits, 0.0), axis=-1)
        return jnp.mean(weights * (nats + Z * log_z**2)), jnp.mean(weights * nats)

    expected, slopes = jax.jit(jax.value_and_grad(by_hand, argnums=(0, 1), has_aux=True))(X, W)
    devices = make_mesh(mesh)
    head = LinearHead(MULTIPLIER, n_chunks, FSDP_TENSOR, mask_id=7)
    with jax.set_mesh(devices):
        x, w, targets = on(devices, FSDP_TENSOR)
        targets = jnp.where(targets == 7, 3, targets)
        weights_there = placed_like(jnp.asarray(weights), x)
        loss = lambda x, w: head.loss(x, w, targets, jnp.float32(Z), weights_there)  # noqa: E731
        losses, found = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(x, w)
    np.testing.assert_allclose(losses, expected, rtol=1e-6)
    for ours, theirs in zip(found, slopes, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)
    assert np.all(np.asarray(found[1])[:, 7] == 0)


def test_bfloat16_features_give_float32_losses_and_near_gradients():
    head = LinearHead(MULTIPLIER, 2, FSDP_TENSOR)
    mesh = make_mesh((1, 1, 1, 1))
    with jax.set_mesh(mesh):
        x, w, targets = on(mesh, FSDP_TENSOR)
        loss = lambda x: head.loss(x, w, targets, jnp.float32(Z))[0]  # noqa: E731
        both = jax.jit(jax.value_and_grad(loss))
        exact, coarse = both(x), both(x.astype(jnp.bfloat16))
    assert coarse[0].dtype == jnp.float32
    assert coarse[1].dtype == jnp.bfloat16
    assert float(coarse[0]) == pytest.approx(float(exact[0]), rel=5e-3)
    # bfloat16 keeps 8 bits: 0.4 % per rounding; x, W, the slope and their product are rounded.
    error = np.asarray(coarse[1], np.float32) - np.asarray(exact[1])
    assert np.linalg.norm(error) < 0.02 * np.linalg.norm(exact[1])


def test_the_logits_of_a_large_vocabulary_never_exist_at_once():
    """XLA's own count of temporaries, for the gradient at V = 32768."""
    vocab, length, mesh = 2**15, 512, make_mesh((1, 1, 1, 1))

    def array(shape, dtype, dims):
        return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, P(*dims)))

    x = array((4, length, D), jnp.float32, FSDP_TENSOR.act("btd"))
    w = array((D, vocab), jnp.float32, head_dims(FSDP_TENSOR))
    targets = array((4, length), jnp.int32, FSDP_TENSOR.act("bt"))

    def temporary_bytes(n_chunks):
        head = LinearHead(1.0, n_chunks, FSDP_TENSOR)
        loss = lambda x, w, t: head.loss(x, w, t, jnp.float32(0))[0]  # noqa: E731
        compiled = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(x, w, targets).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    logits = 4 * 4 * length * vocab
    with jax.set_mesh(mesh):
        assert temporary_bytes(1) >= logits
        assert temporary_bytes(16) < logits / 4

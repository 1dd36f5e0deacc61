# SPDX-License-Identifier: Apache-2.0
"""Attention against loops in NumPy float64."""

import itertools
import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from jax._src.cudnn import fused_attention_stablehlo
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from one_layer import lone_layer
from small_networks import attention, vary

from model.network.context import PLAIN_CONTEXT, Context
from model.network.mixers.attention_kernels import (
    Where,
    check_kernel,
    choose_kernel,
    cudnn_attention,
    splash_attention,
)
from model.network.mixers.blocked_attention import Seen, block_size, blocked_attention
from model.network.mixers.plain_attention import attend_to, plain_attention
from model.network.sharding import FSDP_TENSOR, make_mesh

pytestmark = pytest.mark.usefixtures("one_device")

B, L, K = 2, 7, 5
HEADS = [(1, 1), (3, 1), (1, 3), (2, 3)]


def inputs(G: int, R: int, dtype: jnp.dtype = jnp.float32) -> tuple[jax.Array, ...]:
    rng = np.random.default_rng(0)
    shapes = (B, L, G, R, K), (B, L, G, K), (B, L, G, K)
    return tuple(jnp.asarray(2 * rng.normal(size=shape), dtype) for shape in shapes)


def one_position(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """softmax(q K^T / sqrt(K)) V of one query over the keys it may see."""
    weights = np.exp(k @ q / np.sqrt(len(q)))
    return weights @ v / np.sum(weights)


@pytest.mark.parametrize(("G", "R"), HEADS)
def test_attention_equals_a_loop_over_heads_and_positions(G, R):
    q, k, v = (np.asarray(x, np.float64) for x in inputs(G, R))
    expected = np.empty_like(q)
    for b, l, g, r in np.ndindex(B, L, G, R):
        past = slice(0, l + 1)
        expected[b, l, g, r] = one_position(q[b, l, g, r], k[b, past, g], v[b, past, g])
    np.testing.assert_allclose(plain_attention(*inputs(G, R)), expected, rtol=0, atol=3e-6)


def test_blocks_of_a_long_sequence_equal_the_whole_masked_matrix():
    rng = np.random.default_rng(0)
    q, k, v = rng.normal(size=(3, 2, 256, 2, 5))
    scores = np.einsum("blgk,bmgk->bglm", q, k) / np.sqrt(5)
    weights = np.exp(scores) * np.tril(np.ones((256, 256)))
    expected = np.einsum("bglm,bmgk->blgk", weights / weights.sum(-1, keepdims=True), v)
    ours = plain_attention(*(jnp.asarray(x, jnp.float32) for x in (q[:, :, :, None], k, v)))
    np.testing.assert_allclose(ours[:, :, :, 0], expected, rtol=0, atol=3e-6)


SEGMENTS = np.array([[0, 0, 0, 1, 1, 2, 2], [5, 5, 5, 5, 5, 5, 3]])


@pytest.mark.parametrize("window", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("segments", [None, SEGMENTS], ids=["one segment", "segments"])
def test_a_window_equals_a_loop_over_what_lies_in_it(window, segments):
    """Windows that divide the seven positions, that do not, that cover most of them, or all."""
    q, k, v = (np.asarray(x, np.float64) for x in inputs(2, 3))
    told = np.zeros((B, L)) if segments is None else segments
    expected = np.empty_like(q)
    for b, l, g, r in np.ndindex(B, L, 2, 3):
        past = [p for p in range(L) if l - window < p <= l and told[b, p] == told[b, l]]
        expected[b, l, g, r] = one_position(q[b, l, g, r], k[b, past, g], v[b, past, g])
    context = Context(segments=None if segments is None else jnp.asarray(segments))
    mixed = jax.jit(lambda q, k, v: plain_attention(q, k, v, context, window))(*inputs(2, 3))
    np.testing.assert_allclose(mixed, expected, rtol=0, atol=3e-6)


@pytest.mark.parametrize("window", [48, 200])
def test_a_window_over_a_long_sequence_equals_the_whole_masked_matrix(window):
    q, k, v = np.random.default_rng(0).normal(size=(3, 1, 256, 1, 5))
    scores = np.einsum("blgk,bmgk->bglm", q, k) / np.sqrt(5)
    band = np.tril(np.ones((256, 256))) - np.tril(np.ones((256, 256)), -window)
    weights = np.exp(scores) * band
    expected = np.einsum("bglm,bmgk->blgk", weights / weights.sum(-1, keepdims=True), v)
    q, k, v = (jnp.asarray(x, jnp.float32) for x in (q[:, :, :, None], k, v))
    ours = plain_attention(q, k, v, window=window)
    np.testing.assert_allclose(ours[:, :, :, 0], expected, rtol=0, atol=3e-6)


def test_what_a_window_remembers_does_not_grow_with_the_text(llama):
    for window, lengths in ((None, {3: 3, 9: 9}), (4, {3: 3, 9: 4})):
        layer, _ = lone_layer(attention(vary(llama, window=window)))
        for length, held in lengths.items():
            state = layer.init_state(2, length, jnp.float32)
            assert {value.shape[:2] for value in state.values()} == {(2, held)}


@pytest.mark.parametrize(("n", "G", "Q"), [(7, 1, 1), (1, 1, 2), (7, 2, 1)])
def test_axes_of_one_entry_stay_split_as_they_were(n, G, Q):
    """Of one sequence with one head, or one position at a time: which axis is which is not to be
    seen from their lengths, and products of JAX 0.12 refuse axes that have lost their split."""
    shapes = {"btgqk": (1, n, G, Q, K), "btgk": (1, 7, G, K)}
    q, k = (
        jax.device_put(jnp.ones(shape), P(*FSDP_TENSOR.whole(letters)))
        for letters, shape in shapes.items()
    )
    mixed = jax.jit(lambda q, k: attend_to(q, k, k, None))(q, k)
    assert jax.typeof(mixed).sharding.spec == jax.typeof(q).sharding.spec
    assert jax.typeof(q).sharding.spec[2] == "tensor"


def test_the_first_position_returns_its_own_value():
    q, k, v = inputs(2, 3)
    first = plain_attention(q, k, v)[:, 0]
    np.testing.assert_array_equal(first, np.broadcast_to(v[:, 0, :, None], first.shape))


def test_scores_and_softmax_are_float32_under_bfloat16_inputs():
    jaxpr = jax.make_jaxpr(plain_attention)(*inputs(2, 3, jnp.bfloat16))
    exponentials = [e for e in jaxpr.eqns if e.primitive.name in ("exp", "reduce_max")]
    inner = [e for e in jaxpr.eqns if "jaxpr" in e.params]
    exponentials += [
        e
        for outer in inner
        for e in outer.params["jaxpr"].jaxpr.eqns
        if e.primitive.name in ("exp", "reduce_max")
    ]
    assert exponentials
    assert {e.outvars[0].aval.dtype for e in exponentials} == {jnp.dtype("float32")}
    scores = next(e for e in jaxpr.eqns if e.primitive.name == "dot_general")
    assert scores.params["preferred_element_type"] == jnp.float32


def test_heads_that_do_not_match_are_refused():
    q, _, _ = inputs(2, 3)
    _, k, v = inputs(3, 1)
    with pytest.raises(jaxtyping.TypeCheckError):
        plain_attention(q, k, v)


@pytest.mark.parametrize(
    ("mesh", "window"), [((1, 1, 1, 1), None), ((1, 1, 1, 1), 40), ((1, 2, 1, 2), None)]
)
def test_the_kernel_for_tpus_equals_plain_attention_forward_and_backward(mesh, window):
    """Interpreted here; its float32 sums are taken in another order."""
    devices = make_mesh(mesh)
    rng = np.random.default_rng(0)
    shapes = {"q": (2, 128, 2, 2, 16), "k": (2, 128, 2, 16), "v": (2, 128, 2, 16)}
    with jax.set_mesh(devices):
        inputs = []
        for name, shape in shapes.items():
            dims = FSDP_TENSOR.whole("btgqk" if name == "q" else "btgk")
            value = rng.normal(size=shape).astype(np.float32)
            inputs.append(jax.device_put(value, NamedSharding(devices, P(*dims))))

        def value_and_slopes(kernel):
            def total(q, k, v):
                return jnp.sum(jnp.sin(3 * kernel(q, k, v, window=window)))

            return jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2)))(*inputs)

        plain, fast = value_and_slopes(plain_attention), value_and_slopes(splash_attention)
    assert float(fast[0]) == pytest.approx(float(plain[0]), abs=1e-2)
    for ours, theirs in zip(fast[1], plain[1], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=5e-5)


DOCUMENTS = np.cumsum(np.random.default_rng(1).random((2, 256)) < 0.02, axis=1)
SEEN = {
    "all before": ((1, 1, 1, 1), {}, None),
    "all before, on four devices": ((1, 2, 1, 2), {}, None),
    "both sides": ((1, 1, 1, 1), {"is_causal": False}, None),
    "a window": ((1, 1, 1, 1), {}, 90),
    "documents": ((1, 1, 1, 1), {"segments": DOCUMENTS}, None),
    "a window of documents, on four devices": ((1, 2, 1, 2), {"segments": DOCUMENTS}, 90),
}


@pytest.mark.parametrize(("mesh", "told", "window"), SEEN.values(), ids=SEEN)
def test_attention_in_blocks_equals_plain_attention_forward_and_backward(mesh, told, window):
    """Of three runs in a pack, too. Float32 sums are taken in another order."""
    devices = make_mesh(mesh)
    rng = np.random.default_rng(0)
    with jax.set_mesh(devices):
        told = {
            name: value if name == "is_causal" else jax.device_put(value, P(("data", "fsdp"), None))
            for name, value in told.items()
        }
        context = PLAIN_CONTEXT._replace(**told)
        inputs = [
            jax.device_put(rng.normal(size=shape).astype(np.float32), P(*FSDP_TENSOR.whole(dims)))
            for dims, shape in (
                ("btgqk", (2, 256, 2, 2, 16)),
                ("btgk", (2, 256, 2, 16)),
                ("btgk", (2, 256, 2, 16)),
            )
        ]

        def value_and_slopes(kernel):
            def total(q, k, v):
                return jnp.sum(jnp.sin(3 * kernel(q, k, v, context, window)))

            return jax.value_and_grad(total, argnums=(0, 1, 2))

        value, slopes = jax.jit(value_and_slopes(plain_attention))(*inputs)
        blocked = value_and_slopes(blocked_attention)
        pack = [jnp.stack([x, -x, 2 * x]) for x in inputs]
        alone, packed = jax.jit(blocked)(*inputs), jax.jit(jax.vmap(blocked))(*pack)
        first = jax.tree.map(lambda x: x[0], packed)
    for found in (alone, first):
        assert float(found[0]) == pytest.approx(float(value), abs=1e-2)
        for ours, theirs in zip(found[1], slopes, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-5)


def test_only_blocks_that_are_seen_are_computed():
    assert block_size(255) == block_size(192) is None
    assert (block_size(256), block_size(512)) == (64, 128)
    assert len(Seen(512, 128, True, None).pairs) == 10
    assert len(Seen(512, 128, False, None).pairs) == 16
    # A position sees itself alone, its block and one of the block before, all of the block before.
    for window, n in ((1, 4), (2, 7), (129, 7), (130, 9)):
        assert len(Seen(512, 128, True, window).pairs) == n, window


def test_scores_in_blocks_are_float32_under_bfloat16_and_stored_nowhere():
    shapes = (1, 512, 1, 2, 8), (1, 512, 1, 8), (1, 512, 1, 8)
    inputs = [jnp.ones(shape, jnp.bfloat16) for shape in shapes]
    slopes = jax.grad(lambda *x: jnp.sum(blocked_attention(*x).astype(jnp.float32)), (0, 1, 2))
    text = str(jax.make_jaxpr(slopes)(*inputs))
    assert "exp" in text
    assert not [line for line in text.splitlines() if " exp " in line and "bf16" in line]
    assert max(
        np.prod([*map(int, re.split(",", s))]) for s in re.findall(r"\[([\d,]+)\]", text)
    ) <= (2 * 128 * 128)


@pytest.mark.parametrize("window", [None, 3])
def test_the_kernel_for_gpus_is_cudnns_flash_attention_both_ways(monkeypatch, window):
    """Lowered for a GPU that is not here: what it computes has not been seen."""
    monkeypatch.setattr(fused_attention_stablehlo, "check_cudnn_version", lambda: 91000)
    monkeypatch.setattr(fused_attention_stablehlo, "check_compute_capability", lambda _: True)
    monkeypatch.setattr(
        fused_attention_stablehlo, "is_cuda_compute_capability_equal", lambda _: False
    )
    q, k, v = inputs(2, 3, jnp.bfloat16)
    q, k, v = (jnp.concatenate([x, x[..., :3]], axis=-1)[:, :6] for x in (q, k, v))

    def total(q, k, v):
        return jnp.sum(cudnn_attention(q, k, v, window=window).astype(jnp.float32))

    def packed(q, k, v):
        return jnp.sum(jax.vmap(total)(q, k, v))

    # One run, and a pack of three: one call serves all of it.
    for function, arrays in ((total, (q, k, v)), (packed, [jnp.stack([x] * 3) for x in (q, k, v)])):
        traced = jax.jit(jax.grad(function, argnums=(0, 1, 2))).trace(*arrays)
        text = traced.lower(lowering_platforms=("cuda",)).as_text()
        assert text.count("@__cudnn$fmhaSoftmax(") == 1
        assert text.count("@__cudnn$fmhaSoftmaxBackward(") == 1
        # As cuDNN counts them: the position itself is one.
        assert text.count(rf"\22sliding_window_length\22: {window or 0}") == 2


def where(**changes):
    given = {"compute_capability": "", "compute_dtype": "bfloat16", "n_runs": 1, **changes}
    return Where(**given)


HOPPER = {"platform": "gpu", "compute_capability": "9.0"}
AMPERE = {"platform": "gpu", "compute_capability": "8.0"}
CHOICES = [
    (HOPPER, {}, "cudnn"),
    (HOPPER | {"compute_dtype": "float32"}, {}, "xla"),
    (HOPPER | {"n_runs": 2}, {}, "cudnn"),
    (HOPPER, {"d_head": 12}, "xla"),
    (HOPPER, {"d_head": 256}, "cudnn"),
    (HOPPER, {"d_head": 264}, "xla"),
    (HOPPER, {"seq_len": 255}, "cudnn"),
    (AMPERE, {"d_head": 128}, "cudnn"),
    (AMPERE, {"d_head": 136}, "xla"),
    ({"platform": "gpu", "compute_capability": "10.0"}, {"d_head": 256}, "cudnn"),
    ({"platform": "gpu", "compute_capability": "7.5"}, {}, "xla"),
    ({"platform": "gpu", "compute_capability": "gfx942"}, {}, "xla"),
    ({"platform": "tpu"}, {}, "splash"),
    ({"platform": "tpu", "compute_dtype": "float32"}, {}, "splash"),
    ({"platform": "tpu"}, {"seq_len": 192}, "xla"),
    ({"platform": "tpu", "n_runs": 2}, {}, "xla"),
    ({"platform": "cpu", "compute_dtype": "float32"}, {}, "blocked"),
    ({"platform": "cpu"}, {"seq_len": 320}, "blocked"),
    ({"platform": "cpu"}, {"seq_len": 192}, "xla"),
    ({"platform": "cpu"}, {"seq_len": 300}, "xla"),
    ({"platform": "cpu", "n_runs": 2}, {"separator": 0}, "blocked"),
]


@pytest.mark.parametrize("config", ["llama"], indirect=True)
@pytest.mark.parametrize(("there", "changes", "expected"), CHOICES, ids=str)
def test_the_kernel_is_chosen_by_device_type_and_shape(config, there, changes, expected):
    config = vary(config, **{"d_head": 64, "seq_len": 256, **changes})
    assert choose_kernel(config, where(**there)) == expected
    check_kernel(expected, config, where(**there))


@pytest.mark.parametrize("config", ["llama"], indirect=True)
@pytest.mark.parametrize(("there", "name"), [({"platform": "tpu"}, "splash"), (AMPERE, "cudnn")])
def test_kernels_that_cannot_keep_documents_apart_are_neither_chosen_nor_taken(config, there, name):
    config = vary(config, d_head=64, seq_len=256)
    assert choose_kernel(config, where(**there)) == name
    apart = replace(config, separator=0)
    assert choose_kernel(apart, where(**there)) == "xla"
    with pytest.raises(ValueError, match=f"'{name}' cannot keep documents apart .* or 'xla'"):
        check_kernel(name, apart, where(**there))


@pytest.mark.parametrize("config", ["llama"], indirect=True)
@pytest.mark.parametrize("capability", ["8.0", "8.9", "9.0", "12.0"])
def test_cudnn_is_taken_for_what_jax_says_that_it_takes(config, capability, monkeypatch):
    here = tuple(map(int, capability.split(".")))
    at_least = lambda asked: here >= tuple(map(int, asked.split(".")))  # noqa: E731
    monkeypatch.setattr(fused_attention_stablehlo, "check_compute_capability", at_least)
    is_it = lambda asked: asked == capability  # noqa: E731
    monkeypatch.setattr(fused_attention_stablehlo, "is_cuda_compute_capability_equal", is_it)
    there = where(platform="gpu", compute_capability=capability)
    taken = []
    for d_head, length in itertools.product((8, 12, 128, 136, 256, 264), (255, 256)):
        x = jax.ShapeDtypeStruct((2, length, 4, d_head), jnp.bfloat16)
        layout = fused_attention_stablehlo.AttentionLayout.BTNH.value
        try:
            fused_attention_stablehlo.check_is_flash_attention(
                x, x, x, layout, 91100, has_bias=False, is_training=True
            )
            expected = "cudnn"
        except NotImplementedError:
            expected = "xla"
        taken.append(expected)
        network = vary(config, d_head=d_head, seq_len=length)
        assert choose_kernel(network, there) == expected, (d_head, length)
    assert set(taken) == {"cudnn", "xla"}


@pytest.mark.parametrize("config", ["llama"], indirect=True)
@pytest.mark.parametrize(
    ("name", "there", "message"),
    [
        ("blocked", {"platform": "cpu"}, "4 or more blocks of 64 or 128 positions, here are 128"),
        ("splash", {"platform": "tpu", "n_runs": 2}, "takes one run at a time, here is a pack"),
        (
            "cudnn",
            {"platform": "gpu", "compute_capability": "gfx942"},
            "an NVIDIA GPU .*here are a gpu gfx942 and bfloat16",
        ),
        ("cudnn", AMPERE, "a multiple of 8 up to 128 on a gpu 8.0, d_head=256"),
    ],
)
def test_a_kernel_that_does_not_take_the_network_is_refused_in_words(config, name, there, message):
    config = vary(config, d_head=256, seq_len=128)
    with pytest.raises(ValueError, match=f"'{name}' .*{message}"):
        check_kernel(name, config, where(**there))

# SPDX-License-Identifier: Apache-2.0
"""The mixture of experts against loops over tokens and experts in NumPy float64."""

import functools
from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from small_networks import CONFIGS, LLAMA, vary

from model.network.channel_mixers import moe
from model.network.context import PLAIN_CONTEXT
from model.network.counts.moe import MoEConfig, MoERule
from model.network.execution import PLAIN
from model.network.layers import Layer
from model.network.sharding import FSDP_TENSOR, make_mesh
from model.network.stack import implementation
from model.network.transformer import Transformer

MOE = vary(LLAMA, **CONFIGS["moe"])
SIZES = MOE.blocks[0].channel_mixer
ONE = (1, 1, 1, 1)
X = np.random.default_rng(0).normal(size=(2, 5, MOE.d_model)).astype(np.float32)


def layer(net=MOE) -> tuple[Callable, nnx.State, dict[str, np.ndarray]]:
    """(jitted function of parameters and x, parameters from NumPy, those in float64 by name)."""
    sizes, rng = net.blocks[0].channel_mixer, np.random.default_rng(1)
    graphdef, shapes = nnx.split(nnx.eval_shape(lambda: build(net)))
    weights = {name: rng.normal(scale=0.5, size=w.shape) for name, w in sizes.weights(net).items()}
    weights = {name: value.astype(np.float32) for name, value in weights.items()}
    params = filled(shapes, weights)
    apply = jax.jit(lambda params, x: nnx.merge(graphdef, params)(x, PLAIN_CONTEXT)[::2])
    return apply, params, {name: value.astype(np.float64) for name, value in weights.items()}


def build(net) -> Layer:
    sizes, rngs = net.blocks[0].channel_mixer, nnx.Rngs(params=3)
    kind = implementation(sizes)
    return kind(sizes, net, execution=PLAIN, layout=FSDP_TENSOR, rngs=rngs)


def filled(shapes: nnx.State, weights: dict[str, np.ndarray]) -> nnx.State:
    mesh = jax.sharding.get_mesh()

    def put(path, leaf):
        return jax.device_put(weights[path[0].key], NamedSharding(mesh, leaf.sharding.spec))

    return jax.tree_util.tree_map_with_path(put, shapes)


def swiglu(x, gate, up, down):
    hidden = x @ gate
    return (hidden / (1 + np.exp(-hidden)) * (x @ up)) @ down


def softmax(logits):
    raised = np.exp(logits)
    return raised / np.sum(raised, axis=-1, keepdims=True)


def by_hand(x, w, sizes):
    """Token by token, expert by expert."""
    out = np.zeros_like(x)
    for at in np.ndindex(x.shape[:2]):
        shares = softmax(x[at] @ w["router_de"])
        chosen = sorted(range(sizes.n_experts), key=lambda e: -shares[e])[: sizes.n_active]
        total = sum(shares[e] for e in chosen) if sizes.is_renormalized else 1.0
        for e in chosen:
            own = (w[f"{name}_{axes}"][e] for name, axes in zip(*NAMES, strict=True))
            out[at] += shares[e] / total * swiglu(x[at], *own)
        if sizes.d_ff_shared:
            out[at] += swiglu(x[at], w["gate_df"], w["up_df"], w["down_fd"])
    return out


NAMES = ("gate", "up", "down"), ("edf", "edf", "efd")


@pytest.mark.usefixtures("one_device")
@pytest.mark.parametrize("renormalized", [True, False])
@pytest.mark.parametrize(("k", "shared"), [(3, 24), (1, 0), (8, 0)])
def test_each_token_goes_through_its_experts_and_the_shared_one(k, shared, renormalized):
    net = vary(MOE, n_active=k, d_ff_shared=shared, is_renormalized=renormalized)
    apply, params, weights = layer(net)
    found, _ = apply(params, jnp.asarray(X))
    expected = by_hand(X.astype(np.float64), weights, net.blocks[0].channel_mixer)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.usefixtures("one_device")
def test_no_token_is_dropped_where_all_choose_the_same_expert():
    net = vary(MOE, n_active=1)
    apply, params, weights = layer(net)
    weights["router_de"][:, 5] = 4.0
    x, router = np.abs(X), jnp.asarray(weights["router_de"], jnp.float32)
    params["router_de"] = params["router_de"].replace(router)
    found, said = apply(params, jnp.asarray(x))
    assert said["balance"] == pytest.approx(SIZES.n_experts, rel=0.1), "one expert has everything"
    expected = by_hand(x.astype(np.float64), weights, net.blocks[0].channel_mixer)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def losses_by_hand(x, w, sizes):
    """(balance, z), and their gradients by the router.

    d balance / d logit_nj = E / N P_nj (f_j - sum_e f_e P_ne), for f is a count;
    d z / d logit_nj = 2 / N log Z_n P_nj.
    """
    x = x.reshape(-1, x.shape[-1])
    logits = x @ w["router_de"]
    shares, log_z = softmax(logits), np.log(np.sum(np.exp(logits), axis=-1))
    chosen = np.argsort(-shares, axis=-1)[:, : sizes.n_active]
    load = np.bincount(chosen.ravel(), minlength=sizes.n_experts) / len(x)
    E, N = sizes.n_experts, len(x)
    by_logit = E / N * shares * (load - shares @ load[:, None])
    values = E * np.sum(load * np.mean(shares, axis=0)), np.mean(log_z**2)
    return values, (x.T @ by_logit, x.T @ (2 / N * log_z[:, None] * shares))


@pytest.mark.usefixtures("one_device")
def test_balance_and_z_loss_and_their_gradients_are_those_of_the_papers():
    apply, params, weights = layer()
    values, gradients = losses_by_hand(X.astype(np.float64), weights, SIZES)
    for name, value, gradient in zip(("balance", "router_z"), values, gradients, strict=True):
        said = lambda params: apply(params, jnp.asarray(X))[1][name]  # noqa: B023, E731
        found, slopes = jax.value_and_grad(said)(params)
        assert found == pytest.approx(value, rel=1e-6)
        np.testing.assert_allclose(slopes.router_de[...], gradient, rtol=0, atol=1e-5)
        assert not np.any(slopes.gate_edf[...]), "experts do not move by it"


@pytest.mark.parametrize("layers", ["unrolled", "scanned"])
def test_losses_are_summed_over_the_layers_and_weighted_by_the_configuration(layers, one_device):
    assert SIZES.loss_weights() == {"balance": 0.01, "router_z": 1e-3}
    config, execution = replace(MOE, n_layers=3), replace(PLAIN, layers=layers)
    graphdef, params = nnx.split(nnx.eval_shape(lambda: transformer(config, execution)))
    rng = np.random.default_rng(1)

    def fill(path, leaf):
        # Without outputs every block is the identity: each router is given the normed embedding.
        last = path[-2].key
        value = {"down_efd": 0.0, "down_fd": 0.0, "o_gqkd": 0.0, "gain": 1.0}.get(last)
        value = rng.normal(size=leaf.shape) if value is None else np.full(leaf.shape, value)
        return jax.device_put(np.float32(value), NamedSharding(one_device, leaf.sharding.spec))

    params = jax.tree_util.tree_map_with_path(fill, params)
    tokens = jnp.asarray([[3, 1, 4, 1, 5]])
    said = jax.jit(lambda params: nnx.merge(graphdef, params)(tokens)[1])(params)
    x = np.asarray(params["embedding"]["tokens_vd"][...], np.float64)[tokens]
    x /= np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + config.norm_eps)
    routers = np.asarray(params["blocks"][0]["channel_mixer"]["router_de"][...], np.float64)
    each = [losses_by_hand(x, {"router_de": router}, SIZES)[0] for router in routers]
    balance, z = np.sum(each, axis=0)
    assert said["balance"] == pytest.approx(balance, rel=1e-5)
    assert said["router_z"] == pytest.approx(z, rel=1e-5)


def transformer(config, execution) -> Transformer:
    rngs = nnx.Rngs(params=0)
    return Transformer(config, compute_dtype=jnp.float32, rngs=rngs, execution=execution)


@functools.cache
def value_and_gradients(config, mesh_shape, execution=PLAIN):
    """Of something that depends on all logits and on what the routers have to say."""
    mesh = make_mesh(mesh_shape)
    tokens = np.random.default_rng(0).integers(config.vocab_size, size=(8, config.seq_len))
    with jax.set_mesh(mesh):
        graphdef, shapes = nnx.split(nnx.eval_shape(lambda: transformer(config, execution)))
        rng = np.random.default_rng(1)

        def fill(leaf):
            value = rng.normal(scale=0.3, size=leaf.shape).astype(np.float32)
            return jax.device_put(value, NamedSharding(mesh, leaf.sharding.spec))

        params = jax.tree.map(fill, shapes)
        inputs = jax.device_put(tokens, NamedSharding(mesh, P(("data", "fsdp"), None)))

        def loss(params):
            logits, said = nnx.merge(graphdef, params)(inputs)
            own = jnp.mean(jax.nn.logsumexp(logits, axis=-1)) + jnp.mean(jnp.sin(3 * logits))
            return own + 0.1 * said["balance"] + 0.01 * said["router_z"]

        value, gradients = jax.jit(jax.value_and_grad(loss))(params)
        named = nnx.to_flat_state(gradients)
        return float(value), {"/".join(map(str, p)): np.asarray(g[...]) for p, g in named}


AS_OTHERS = pytest.mark.slow(reason="7 s of compiling each; two meshes are quick")


@pytest.mark.parametrize(
    ("mesh", "changes"),
    [
        ((1, 2, 2, 2), {"layers": "scanned", "remat": "dots"}),
        pytest.param((1, 1, 1, 8), {}, marks=AS_OTHERS),
        pytest.param((1, 1, 8, 1), {"remat": "block"}, marks=AS_OTHERS),
        pytest.param((1, 2, 2, 2), {"layout": "fsdp_context"}, marks=AS_OTHERS),
    ],
    ids=str,
)
def test_losses_and_gradients_on_eight_devices_equal_those_on_one(mesh, changes):
    config = vary(MOE, n_layers=1, n_heads=8, n_kv_heads=8)
    value, gradients = value_and_gradients(config, ONE)
    split, split_gradients = value_and_gradients(config, mesh, replace(PLAIN, **changes))
    assert split == pytest.approx(value, rel=0, abs=1e-5)
    for name, gradient in gradients.items():
        assert np.max(np.abs(gradient)) > 1e-5, f"{name}: nothing to compare"
        atol = 1e-6 + 1e-5 * np.max(np.abs(gradient))
        np.testing.assert_allclose(split_gradients[name], gradient, atol=atol, err_msg=name)


@pytest.mark.parametrize("mesh", [ONE, (1, 2, 2, 2)], ids=str)
def test_gradients_of_experts_are_float32_sums_of_bfloat16_slopes(mesh):
    """As those of dense weights in test_layers.py, whatever device the rows lie on."""
    rng, dims = np.random.default_rng(0), (None, "fsdp", None)
    n, n_in, n_out, group_sizes = 4096, 4, 6, np.int32([1000, 0, 3096])
    x, slopes = (
        rng.normal(1.0, 1.0, size=(8, n, width)).astype(jnp.bfloat16) for width in (n_in, n_out)
    )
    weight = rng.normal(size=(3, n_in, n_out)).astype(np.float32)
    rows, sizes = P(("data", "fsdp")), jnp.asarray(group_sizes)

    def local(x, weight, slopes):
        def product(weight):
            y = moe._grouped_product(dims, ("data", "fsdp"), x.reshape(-1, n_in), weight, sizes)
            return jnp.sum(y.astype(jnp.float32) * slopes.reshape(-1, n_out).astype(jnp.float32))

        return jax.grad(product)(weight)

    with jax.set_mesh(make_mesh(mesh)):
        n_rows = mesh[1] * mesh[2]
        x, slopes = x[:n_rows], slopes[:n_rows]
        arguments = (
            jax.device_put(array, NamedSharding(jax.sharding.get_mesh(), spec))
            for array, spec in ((x, rows), (weight, P(*dims)), (slopes, rows))
        )
        mapped = jax.shard_map(local, in_specs=(rows, P(*dims), rows), out_specs=P(*dims))
        found = jax.jit(mapped)(*arguments)
    assert found.dtype == jnp.float32
    x, slopes = x.astype(np.float64), slopes.astype(np.float64)
    groups = np.split(np.arange(n), np.cumsum(group_sizes)[:-1])
    expected = [np.einsum("bni,bno->io", x[:, rows], slopes[:, rows]) for rows in groups]
    error = np.linalg.norm(np.asarray(found) - expected) / np.linalg.norm(expected)
    assert error < 1e-5


@pytest.mark.usefixtures("one_device")
def test_the_router_begins_small_and_every_expert_as_a_matrix_of_its_own():
    net = vary(MOE, d_model=96, d_ff=160, n_experts=8, router_init_gain=0.7)
    sizes = net.blocks[0].channel_mixer
    made = build(net)
    stds = {"router_de": 0.7 / 96, "gate_edf": 0.8 / 96**0.5, "down_efd": 0.8 / 160**0.5}
    for name, std in stds.items():
        value = np.asarray(getattr(made, name)[...], np.float64)
        assert np.std(value) == pytest.approx(std, rel=5 / np.sqrt(2 * value.size)), name
    roles = {name: weight.role for name, weight in sizes.weights(net).items()}
    assert set(roles.values()) == {"hidden"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_active": 9}, "n_active=9 is above n_experts=8"),
        ({"n_experts": 0}, "n_experts=0:"),
        ({"d_ff_shared": -1}, "d_ff_shared=-1"),
        ({"is_renormalized": 1}, "is_renormalized=1"),
        ({"balance_loss_weight": -0.1}, "balance_loss_weight=-0.1"),
    ],
)
def test_bad_fields_are_refused_by_name(changes, words):
    with pytest.raises(ValueError, match=words):
        vary(MOE, **changes)


def test_experts_have_no_biases_and_say_so():
    net = replace(MOE, use_bias=True)
    with pytest.raises(ValueError, match="use_bias=True: experts have no biases"):
        SIZES.weights(net)


def test_the_rule_of_a_recipe_makes_the_widths():
    fields = {name: getattr(SIZES, name) for name in MoEConfig.__struct_fields__}
    del fields["d_ff"], fields["d_ff_shared"]
    rule = MoERule(**fields, ff_ratio=2.0, shared_ratio=0.9, ff_multiple=4)
    made = rule.config(d_model=24, n_layers=2)
    assert made == MoEConfig(**fields, d_ff=48, d_ff_shared=20)
    without = replace(rule, shared_ratio=0.0)
    assert without.config(d_model=24, n_layers=2).d_ff_shared == 0
    with pytest.raises(ValueError, match="n_active=3 is above n_experts=2"):
        replace(rule, n_experts=2)

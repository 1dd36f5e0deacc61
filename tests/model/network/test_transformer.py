# SPDX-License-Identifier: Apache-2.0
"""The trunk: what may depend on what, and what each field of the configuration does."""

import itertools
from dataclasses import replace
from typing import ClassVar

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from filled_networks import with_params
from flax import nnx
from small_networks import CONFIGS, OTHERS, RECURRENCES, attention, vary

from model.network.channel_mixers.mlp import SwiGLU
from model.network.config import ModelConfig
from model.network.context import PLAIN_CONTEXT, Context
from model.network.counts.kinds import BlockConfig
from model.network.counts.mlp import GELUConfig, SwiGLUConfig
from model.network.execution import PLAIN
from model.network.sharding import FSDP_TENSOR
from model.network.stack import implementation
from model.network.transformer import Transformer

pytestmark = pytest.mark.usefixtures("one_device")

only = pytest.mark.parametrize
# All of them are in one network; each alone says which it was.
ALONE = [
    pytest.param(kind, marks=pytest.mark.slow(reason="as 'recurrences', one mixer alone"))
    for kind in RECURRENCES
]
EVERY_MIXER = [*OTHERS, *ALONE]
MOST_MIXERS = [
    *(kind for kind in OTHERS if kind != "recurrences"),
    pytest.param("recurrences", marks=pytest.mark.slow(reason="5 s of compiling, as others")),
    *ALONE,
]


def rounding(config: ModelConfig) -> int:
    """How many times as far as in other networks rounding may lead: heads of a linear recurrence
    are divided by their own size, and there are those that are nearly zero."""
    kinds = {sizes.kind for block in RECURRENCES.values() for sizes in block["mixers"]}
    return 5 if kinds & {block.mixer.kind for block in config.blocks} else 1


def arrays(params: nnx.State) -> dict[str, np.ndarray]:
    """Name ("blocks/0/mixer/q_dgqk") -> array; those of blocks are stacked, [n_repeats, ...]."""
    flat = nnx.to_flat_state(params)
    return {"/".join(map(str, path)): np.asarray(leaf[...]) for path, leaf in flat}


def with_arrays(params: nnx.State, values: dict[str, np.ndarray]) -> nnx.State:
    """``params`` where the named arrays are replaced."""
    assert values.keys() <= arrays(params).keys()

    def put(path: tuple, leaf: nnx.Param) -> nnx.Param:
        value = values.get("/".join(map(str, path)))
        return leaf if value is None else leaf.replace(jax.device_put(value, leaf[...].sharding))

    return nnx.from_flat_state((path, put(path, leaf)) for path, leaf in nnx.to_flat_state(params))


def normal(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


@only("config", [*CONFIGS, *MOST_MIXERS], indirect=True)
def test_a_logit_depends_on_all_of_its_past_and_exactly_nothing_else(config, network, tokens):
    """Another token at one place moves the logits from there on, and not a bit of any other."""
    apply, params = network(config)
    logits = np.asarray(apply(params, tokens))
    for place in range(config.seq_len):
        other = tokens.copy()
        other[0, place] = (other[0, place] + 1) % config.vocab_size
        moved = np.any(np.asarray(apply(params, other)) != logits, axis=-1)
        # Of five positions windows and kernels see the first from the last, too.
        assert moved[0, place:5].all()
        assert moved[0, place]
        assert not moved[0, :place].any()
        assert not moved[1:].any()


@only("config", ["qwen3", "gpt2"], indirect=True)
def test_a_shorter_sequence_gets_the_logits_of_the_longer_one(config, network, tokens):
    apply, params = network(config)
    short = apply(params, tokens[:, :5])
    np.testing.assert_allclose(short, apply(params, tokens)[:, :5], rtol=0, atol=1e-5)


@only("config", ["llama_gqa", "llama_mqa_tied", "qwen3", "everything"], indirect=True)
def test_grouped_queries_equal_full_heads_with_repeated_keys_and_values(config, network, tokens):
    apply, params = network(config)
    heads = attention(config)
    full, own = network(vary(config, n_kv_heads=heads.n_heads))
    repeats, H, K = heads.queries_per_kv_head, heads.n_heads, heads.d_head
    shapes = {
        "q_dgqk": (-1, H, 1, K),
        "o_gqkd": (H, 1, K, config.d_model),
        "q_bias": (H, 1, K),
    }
    values = {}
    for name, value in arrays(params).items():
        last = name.split("/")[-1]
        if last in shapes:
            value = value.reshape(len(value), *shapes[last])
        elif last in ("k_dgk", "v_dgk", "k_bias", "v_bias"):
            value = np.repeat(value, repeats, axis=-2)
        values[name] = value
    grouped, repeated = apply(params, tokens), full(with_arrays(own, values), tokens)
    np.testing.assert_allclose(grouped, repeated, rtol=0, atol=1e-5)


@only("config", ["llama", "gpt2"], indirect=True)
def test_residual_multiplier_equals_scaled_output_projections(config, network, tokens):
    plain, params = network(replace(config, residual_multiplier=1.0))
    scaled, _ = network(replace(config, residual_multiplier=0.37))
    outputs = ("mixer/o_gqkd", "mixer/o_bias", "down_fd", "down_bias")
    values = {n: 0.37 * v for n, v in arrays(params).items() if n.endswith(outputs)}
    assert len(values) == (4 if config.use_bias else 2)
    expected = plain(with_arrays(params, values), tokens)
    np.testing.assert_allclose(scaled(params, tokens), expected, rtol=0, atol=1e-5)


@only("config", ["llama", "gpt2"], indirect=True)
def test_logit_multiplier_multiplies_the_logits(config, network, tokens):
    plain, params = network(replace(config, logit_multiplier=1.0))
    scaled, _ = network(replace(config, logit_multiplier=0.25))
    np.testing.assert_array_equal(scaled(params, tokens), 0.25 * plain(params, tokens))


@only(
    "config",
    ["gpt2", pytest.param("llama", marks=pytest.mark.slow(reason="4 s of compiling, as gpt2"))],
    indirect=True,
)
def test_tied_head_is_the_transposed_embedding_and_collects_both_gradients(config, network, tokens):
    tied, params = network(replace(config, tie_embeddings=True))
    untied, own = network(replace(config, tie_embeddings=False))
    assert set(arrays(own)) - set(arrays(params)) == {"head_dv"}
    values = arrays(params)
    same = with_arrays(own, {**values, "head_dv": values["embedding/tokens_vd"].T})
    np.testing.assert_allclose(tied(params, tokens), untied(same, tokens), rtol=0, atol=1e-6)

    def gradients(apply, params):
        loss = lambda p: jnp.mean(jax.nn.logsumexp(apply(p, tokens), -1))  # noqa: E731
        return arrays(jax.jit(jax.grad(loss))(params))

    both, apart = gradients(tied, params), gradients(untied, same)
    expected = apart["embedding/tokens_vd"] + apart["head_dv"].T
    np.testing.assert_allclose(both["embedding/tokens_vd"], expected, rtol=0, atol=1e-6)


WIDE = {"vocab_size": 512, "seq_len": 64, "d_model": 96, "d_ff": 160, "d_head": 20}
# The name of an array ends in -> its standard deviation, by the docstring of ModelConfig.
INITIAL_STD = {
    "embedding/tokens_vd": 0.5,
    "embedding/positions_td": 0.5,
    "mixer/q_dgqk": 0.8 / 96**0.5,
    "mixer/k_dgk": 0.8 / 96**0.5,
    "mixer/v_dgk": 0.8 / 96**0.5,
    "mixer/o_gqkd": 0.8 / (4 * 20) ** 0.5,
    "gate_df": 0.8 / 96**0.5,
    "up_df": 0.8 / 96**0.5,
    "down_fd": 0.8 / 160**0.5,
    "head_dv": 0.3,
    "bias": 0.0,
    "gain": 0.0,
}


@only("config", ["gpt2_untied_swiglu"], indirect=True)
def test_every_array_starts_with_the_declared_mean_and_standard_deviation(config):
    config = vary(config, use_qk_norm=True, **WIDE)
    build = lambda: Transformer(config, compute_dtype=jnp.float32, rngs=nnx.Rngs(params=3))  # noqa: E731
    params, seen = jax.jit(lambda: nnx.state(build()))(), set()
    for name, value in arrays(params).items():
        (ending,) = [ending for ending in INITIAL_STD if name.endswith(ending)]
        value, std = np.asarray(value, np.float64), INITIAL_STD[ending]
        mean = 1.0 if ending == "gain" else 0.0
        # Five standard errors of a normal sample of this size.
        assert np.std(value) == pytest.approx(std, rel=5 / np.sqrt(2 * value.size)), name
        assert np.mean(value) == pytest.approx(mean, abs=5 * std / np.sqrt(value.size)), name
        if std:
            assert value.ravel()[0] not in seen, f"{name} repeats the numbers of another array"
            seen.add(value.ravel()[0])


@only("config", ["llama_gqa", "qwen3", "gpt2", *MOST_MIXERS], indirect=True)
def test_parameters_and_logits_are_float32_and_bfloat16_compute_stays_near(config, network, tokens):
    exact, params = network(config)
    coarse, _ = network(config, jnp.bfloat16)
    logits, near = np.asarray(exact(params, tokens)), np.asarray(coarse(params, tokens))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    assert logits.dtype == near.dtype == np.float32
    # bfloat16 keeps 8 bits: 0.4 % per rounding, a few dozen roundings deep. Four recurrences in a
    # row, each of which divides heads by their size, were seen 4.2 % off.
    relative = np.sqrt(np.mean((near - logits) ** 2) / np.mean(logits**2))
    assert 1e-4 < relative < 0.02 * min(rounding(config), 2.5)


@only("config", ["llama"], indirect=True)
@only(
    "bad",
    [np.zeros(12, np.int32), np.zeros((2, 12, 1), np.int32), np.zeros((2, 12), np.float32)],
    ids=["one axis", "three axes", "not integers"],
)
def test_tokens_of_a_wrong_shape_or_type_are_refused_while_tracing(config, network, bad):
    apply, params = network(config)
    with pytest.raises(jaxtyping.TypeCheckError, match="tokens"):
        apply(params, bad)


def layer(config, place):
    """The channel mixer at a place of the pattern."""
    sizes = config.blocks[place % len(config.blocks)].channel_mixer
    kind, rngs = implementation(sizes), nnx.Rngs(params=0)
    return kind(sizes, config, execution=PLAIN, layout=FSDP_TENSOR, rngs=rngs)


@only("config", ["llama", "everything"], indirect=True)
def test_swiglu_is_silu_of_the_gate_times_up_through_down(config):
    mlp = layer(config, 0)
    x = normal(2, 3, config.d_model)
    w = {n: np.asarray(v, np.float64) for n, v in arrays(nnx.state(mlp)).items()}
    gate, up = x @ w["gate_df"], x @ w["up_df"]
    expected = (gate / (1 + np.exp(-gate)) * up) @ w["down_fd"]
    np.testing.assert_allclose(mlp(x, PLAIN_CONTEXT)[0], expected, rtol=0, atol=1e-5)


@only("config", ["everything"], indirect=True)
def test_gelu_has_the_tanh_form_of_gpt2(config):
    mlp = layer(config, 1)
    x = 3 * normal(2, 3, config.d_model)
    w = {n: np.asarray(v, np.float64) for n, v in arrays(nnx.state(mlp)).items()}
    up = x @ w["up_df"]
    gelu = 0.5 * up * (1 + np.tanh(np.sqrt(2 / np.pi) * (up + 0.044715 * up**3)))
    np.testing.assert_allclose(mlp(x, PLAIN_CONTEXT)[0], gelu @ w["down_fd"], rtol=0, atol=1e-5)


class TellingConfig(SwiGLUConfig, frozen=True, kw_only=True, tag="telling"):
    implementation: ClassVar[str] = f"{__name__}:Telling"


class Telling(SwiGLU):
    """A channel mixer that says how large its input is, by two names, and leaves it for others."""

    def __call__(self, x, context):
        size, seen = jnp.mean(jnp.abs(x)), context.shared["sizes"]
        assert context.segments is not None
        draw = jax.random.uniform(context.key)
        context = context._replace(shared={"sizes": seen + size})
        out = super().__call__(x, context)[0]
        return out, context, {"size": size, "layers": jnp.float32(1), "seen": seen, "draw": draw}

    def shared_values(self, x):
        return {"sizes": jnp.float32(0)}


@only("layers", ["unrolled", "scanned"])
def test_blocks_hear_and_say_and_leave_the_same_scanned_or_not(llama, layers):
    """Unrolled, only the last block was heard; scanned, every layer apart."""
    telling, gelu = TellingConfig(d_ff=40), GELUConfig(d_ff=40)
    mixer = llama.blocks[0].mixer
    blocks = tuple(BlockConfig(mixer=mixer, channel_mixer=mlp) for mlp in (telling, gelu))
    model = Transformer(
        replace(llama, n_layers=4, blocks=blocks),
        compute_dtype=jnp.float32,
        rngs=nnx.Rngs(0),
        execution=replace(PLAIN, layers=layers),
    )
    key, segments = jax.random.key(7), jnp.zeros((2, 5), jnp.int32)
    context = Context(key=key, segments=segments)
    said = jax.jit(lambda tokens: model(tokens, context)[1])(jnp.zeros((2, 5), jnp.int32))
    # Two of the four layers say something, of inputs that a norm has made as large as 1.
    assert said["layers"].shape == said["size"].shape == ()
    assert said["layers"] == 2.0
    assert 1.0 < said["size"] < 2.0
    # The second has seen what the first left, and the first nothing.
    assert 0.5 < said["seen"] < 1.0
    draws = [jax.random.uniform(jax.random.fold_in(key, depth)) for depth in (0, 2)]
    assert said["draw"] == pytest.approx(float(sum(draws)))


@only("config", ["qwen3", *EVERY_MIXER], indirect=True)
def test_tokens_of_other_segments_are_as_if_they_were_not_there(config, network, tokens):
    _, params = network(config)
    model = with_params(config, params)
    tokens = jnp.asarray(tokens[:2, :10])
    segments = jnp.asarray([[0] * 5 + [1] * 5] * 2)
    alone = jax.jit(lambda tokens: model(tokens)[0])
    apart = [alone(part) for part in (tokens[:, :5], tokens[:, 5:])]
    positions = jnp.asarray([[*range(5), *range(5)]])
    context = Context(segments=segments, positions=positions)
    logits = jax.jit(lambda tokens: model(tokens, context)[0])(tokens)
    # Products of other shapes sum in another order: 3.2e-6 is seen with JAX 0.12.
    atol = 6e-6 * rounding(config)
    np.testing.assert_allclose(logits, jnp.concatenate(apart, axis=1), rtol=0, atol=atol)


@only("config", ["qwen3", "gpt2", "moe", *MOST_MIXERS], indirect=True)
def test_documents_behind_separators_are_as_if_they_were_alone(config, network, tokens):
    _, params = network(config)
    model = with_params(replace(config, separator=3), params)
    tokens = np.where(tokens[:2, :12] == 3, 4, tokens[:2, :12])
    tokens[0, [2, 5, 6]] = tokens[1, [0, 8]] = 3
    apart = jax.jit(lambda tokens: model(tokens)[0])
    alone = jax.jit(lambda tokens: with_params(config, params)(tokens)[0])
    found = np.asarray(apart(jnp.asarray(tokens)))
    for row, ends in ((0, (0, 2, 5, 6, 12)), (1, (0, 8, 12))):
        for first, end in itertools.pairwise(ends):
            # What follows a token moves nothing of it: one length is compiled for all.
            document = np.zeros((1, 12), np.int32)
            document[0, : end - first] = tokens[row, first:end]
            expected = alone(jnp.asarray(document))[0, : end - first]
            # Products of other shapes sum in another order.
            atol = 6e-6 * rounding(config)
            np.testing.assert_allclose(found[row, first:end], expected, rtol=0, atol=atol)
    # Not a bit of a document depends on those beside it.
    other = np.where(np.isin(tokens, (0, 3)), tokens, 47 - tokens)
    other[0, 6:], other[1, :8] = tokens[0, 6:], tokens[1, :8]
    again = np.asarray(apart(jnp.asarray(np.where(other == 3, tokens, other))))
    np.testing.assert_array_equal(again[0, 6:], found[0, 6:])
    np.testing.assert_array_equal(again[1, :8], found[1, :8])
    assert np.abs(again[0, :6] - found[0, :6]).max() > 1e-3


@only("config", ["llama"], indirect=True)
def test_without_a_mask_every_position_sees_all_others(config, network, tokens):
    _, params = network(config)
    model = with_params(config, params)
    tokens = jnp.asarray(tokens[:1])
    other = tokens.at[0, -1].set((tokens[0, -1] + 1) % config.vocab_size)
    logits = jax.jit(lambda tokens: model(tokens, Context(is_causal=False))[0])
    assert np.all(np.any(logits(tokens) != logits(other), axis=-1))


@only("config", ["gpt2", "everything", "moe", *EVERY_MIXER], indirect=True)
def test_step_by_step_the_logits_are_those_of_the_whole_sequence(config, network, tokens):
    apply, params = network(config)
    model = with_params(config, params)
    state, parts = model.init_state(2, config.seq_len), []
    step = jax.jit(lambda tokens, state: model.step(tokens, state))
    for first, end in ((0, 5), (5, 6), (6, 7), (7, 12)):
        logits, state = step(tokens[:2, first:end], state)
        parts.append(logits)
    whole = apply(params, tokens)[:2]
    atol = 1e-5 * rounding(config)
    np.testing.assert_allclose(jnp.concatenate(parts, axis=1), whole, rtol=0, atol=atol)


@only("config", [*OTHERS, *RECURRENCES], indirect=True)
def test_a_mixer_that_never_looks_ahead_says_so_where_it_is_asked_to(config):
    def both_sides():
        model = Transformer(config, compute_dtype=jnp.float32, rngs=nnx.Rngs(0))
        return model(jnp.zeros((1, 4), jnp.int32), Context(is_causal=False))

    with pytest.raises(ValueError, match="sees only what is before a position"):
        nnx.eval_shape(both_sides)

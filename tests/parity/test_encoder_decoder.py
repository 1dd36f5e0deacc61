# SPDX-License-Identifier: Apache-2.0
"""Encoders and their decoders against torch's layers, live; frozen in tests/model/fixtures."""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
import pytest
from flax import nnx
from frozen_networks import assert_frozen
from small_networks import ENCODED, LLAMA, vary

from model.network.config import EncoderConfig, ModelConfig
from model.network.counts.kinds import BlockConfig
from model.network.counts.mlp import GELUConfig
from model.network.sharding import make_mesh
from model.network.transformer import Transformer
from model.training.objectives.linear_head import next_token_nats

torch = pytest.importorskip("torch", reason="make test-parity installs it")
pytestmark = pytest.mark.parity

FIXTURES = Path(__file__).parents[1] / "model" / "fixtures"
Tensors = dict[str, "torch.Tensor"]
ATTENTION = msgspec.structs.replace(LLAMA.blocks[0].mixer, rope_theta=None, d_head=4)
CROSS = msgspec.structs.replace(
    ENCODED["cross_attention"]["mixers"][1], n_kv_heads=4, d_head=4, use_qk_norm=False
)
FROM_BOTH_ENDS = tuple(
    msgspec.structs.replace(block, channel_mixer=None)
    for block in ENCODED["attending_gru"]["encoder"].blocks
)
# torch.nn.Transformer: LayerNorm before each branch and behind each stack, biases everywhere.
TRANSFORMER = vary(
    LLAMA,
    norm="layernorm",
    positions="learned",
    use_bias=True,
    n_layers=4,
    mixers=(ATTENTION, CROSS),
    channel_mixers=(None, "gelu"),
    encoder=EncoderConfig(
        source_len=5,
        blocks=(BlockConfig(mixer=ATTENTION, channel_mixer=GELUConfig(d_ff=40)),),
    ),
)


def rows(weight: "torch.Tensor") -> "torch.Tensor":
    """[16, ...] as torch's [out, 16]."""
    return weight.reshape(16, -1).T


def attention_of(w: Tensors, ours: str, layer: int, theirs: str) -> Tensors:
    """torch stacks queries, keys and values."""
    parts = [w[f"{ours}/{name}"][layer] for name in ("q_dgqk", "k_dgk", "v_dgk")]
    biases = [w[f"{ours}/{name}_bias"][layer].reshape(-1) for name in "qkv"]
    return {
        f"{theirs}.in_proj_weight": torch.cat([rows(part) for part in parts]),
        f"{theirs}.in_proj_bias": torch.cat(biases),
        f"{theirs}.out_proj.weight": w[f"{ours}/o_gqkd"][layer].reshape(16, 16).T,
        f"{theirs}.out_proj.bias": w[f"{ours}/o_bias"][layer],
    }


def rest_of(w: Tensors, ours: str, layer: int, theirs: str, norms: tuple[str, str]) -> Tensors:
    """Of the block with a channel mixer its norms and that."""
    names = zip(("mixer_norm", "channel_mixer_norm"), norms, strict=True)
    found = {
        f"{theirs}.{norm}.{kind}": w[f"{ours}/{name}/{own}"][layer]
        for name, norm in names
        for kind, own in (("weight", "gain"), ("bias", "bias"))
    }
    return found | {
        f"{theirs}.linear1.weight": w[f"{ours}/channel_mixer/up_df"][layer].T,
        f"{theirs}.linear1.bias": w[f"{ours}/channel_mixer/up_bias"][layer],
        f"{theirs}.linear2.weight": w[f"{ours}/channel_mixer/down_fd"][layer].T,
        f"{theirs}.linear2.bias": w[f"{ours}/channel_mixer/down_bias"][layer],
    }


def torch_transformer(w: Tensors, source: "torch.Tensor", target: "torch.Tensor") -> "torch.Tensor":
    sizes = {
        "d_model": 16,
        "nhead": 4,
        "dim_feedforward": 40,
        "dropout": 0.0,
        "activation": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
        "layer_norm_eps": TRANSFORMER.norm_eps,
        "batch_first": True,
        "norm_first": True,
    }
    layer, norm = torch.nn.TransformerEncoderLayer(**sizes), torch.nn.LayerNorm(16, eps=1e-5)
    encoder = torch.nn.TransformerEncoder(layer, 2, norm, enable_nested_tensor=False)
    model = torch.nn.Transformer(num_decoder_layers=2, custom_encoder=encoder, **sizes)
    theirs: Tensors = {}
    for layer in range(2):
        encoder, decoder = f"encoder.layers.{layer}", f"decoder.layers.{layer}"
        theirs |= attention_of(w, "encoder/blocks/0/mixer", layer, f"{encoder}.self_attn")
        theirs |= rest_of(w, "encoder/blocks/0", layer, encoder, ("norm1", "norm2"))
        theirs |= attention_of(w, "blocks/0/mixer", layer, f"{decoder}.self_attn")
        theirs[f"{decoder}.norm1.weight"] = w["blocks/0/mixer_norm/gain"][layer]
        theirs[f"{decoder}.norm1.bias"] = w["blocks/0/mixer_norm/bias"][layer]
        theirs |= attention_of(w, "blocks/1/mixer", layer, f"{decoder}.multihead_attn")
        theirs |= rest_of(w, "blocks/1", layer, decoder, ("norm2", "norm3"))
    for ours, name in (("encoder/norm", "encoder.norm"), ("norm", "decoder.norm")):
        theirs |= {f"{name}.weight": w[f"{ours}/gain"], f"{name}.bias": w[f"{ours}/bias"]}
    mask = model.generate_square_subsequent_mask(target.shape[1])
    return torch.func.functional_call(model, theirs, (source, target), {"tgt_mask": mask})


# The GRUs of an encoder, torch's own in both directions, and a decoder with additive attention.
RECURRENT = vary(
    LLAMA,
    **ENCODED["attending_gru"]
    | {"channel_mixers": (None,), "encoder": EncoderConfig(source_len=5, blocks=FROM_BOTH_ENDS)},
    norm="layernorm",
    n_layers=1,
)


def cell_of(w: Tensors, ours: str, n_in: int) -> Tensors:
    """torch's gates are reset, update, candidate; of its two biases that of the input is ours."""
    of_input = [w[f"{ours}/input_adh"][0, gate].T for gate in (1, 2, 0)]
    of_state = [w[f"{ours}/recurrent_auh"][0, gate].T for gate in range(3)]
    if f"{ours}/told_adh" in w:
        told = [w[f"{ours}/told_adh"][0, gate].T for gate in (1, 2, 0)]
        of_input = [torch.cat(both, dim=1) for both in zip(of_input, told, strict=True)]
    bias = [w[f"{ours}/gate_bias"][0, gate] for gate in (1, 2, 0)]
    found = {
        "weight_ih": torch.cat(of_input),
        "weight_hh": torch.cat(of_state),
        "bias_ih": torch.cat(bias),
        "bias_hh": torch.cat([torch.zeros(48), w[f"{ours}/candidate_bias"][0]]),
    }
    assert found["weight_ih"].shape[1] == n_in
    return found


def normed(w: Tensors, ours: str, x: "torch.Tensor", layer: int | None = None) -> "torch.Tensor":
    gain, bias = (w[f"{ours}/{name}"] for name in ("gain", "bias"))
    gain, bias = (gain, bias) if layer is None else (gain[layer], bias[layer])
    return torch.nn.functional.layer_norm(x, (16,), gain, bias, LLAMA.norm_eps)


def torch_recurrent(w: Tensors, source: "torch.Tensor", target: "torch.Tensor") -> "torch.Tensor":
    """Bahdanau et al. 2014, app. A.1.2: at each position the state before asks the annotations."""
    encoder, ends = "encoder/blocks/0", ("ahead", "behind")
    cells = [cell_of(w, f"{encoder}/mixer/{end}", 16) for end in ends]
    theirs = {
        f"{name}_l0{suffix}": value
        for cell, suffix in zip(cells, ("", "_reverse"), strict=True)
        for name, value in cell.items()
    }
    gru = torch.nn.GRU(16, 24, batch_first=True, bidirectional=True)
    x = normed(w, f"{encoder}/mixer_norm", source, 0)
    both, _ = torch.func.functional_call(gru, theirs, (x,))
    out = torch.cat([w[f"{encoder}/mixer/{end}/output_hd"][0] for end in ends])
    bias = sum(w[f"{encoder}/mixer/{end}/output_bias"][0] for end in ends)
    memory = normed(w, "encoder/norm", source + both @ out + bias)

    ours = "blocks/0/mixer"
    cell, weights = torch.nn.GRUCell(32, 24), cell_of(w, ours, 32)
    x, said = normed(w, "blocks/0/mixer_norm", target, 0), []
    h = torch.tanh(memory[:, 0] @ w[f"{ours}/begin_dh"][0])
    keys = memory @ w[f"{ours}/key_dk"][0]
    for t in range(target.shape[1]):
        query = h @ w[f"{ours}/query_uk"][0]
        scores = torch.tanh(keys + query[:, None]) @ w[f"{ours}/score_k"][0]
        c = (torch.softmax(scores, dim=-1)[:, :, None] * memory).sum(dim=1)
        h = torch.func.functional_call(cell, weights, (torch.cat([x[:, t], c], dim=1), h))
        said.append(h)
    mixed = torch.stack(said, dim=1) @ w[f"{ours}/output_hd"][0] + w[f"{ours}/output_bias"][0]
    return normed(w, "norm", target + mixed)


NETWORKS: dict[str, tuple[ModelConfig, Callable]] = {
    "attending_gru": (RECURRENT, torch_recurrent),
    "encoder_decoder": (TRANSFORMER, torch_transformer),
}


def abstract(config: ModelConfig) -> tuple[nnx.GraphDef, nnx.State]:
    build = lambda: Transformer(config, compute_dtype=jnp.float32, rngs=nnx.Rngs(0))  # noqa: E731
    return nnx.split(nnx.eval_shape(build))


def compute_theirs(name: str) -> dict[str, np.ndarray]:
    """Logits and gradients of torch's network, of weights from NumPy under our names."""
    config, theirs = NETWORKS[name]
    rng, n_source = np.random.default_rng(0), config.seq_len - config.n_positions
    with jax.set_mesh(make_mesh((1, 1, 1, 1))):
        flat = nnx.to_flat_state(abstract(config)[1])
    arrays = {}
    for path, leaf in flat:
        is_gain = str(path[-1]) == "gain"
        value = is_gain + rng.normal(scale=0.3, size=leaf.shape)
        arrays["/".join(map(str, path))] = value.astype(np.float32)
    tokens = rng.integers(config.vocab_size, size=(2, config.seq_len))
    targets = rng.integers(config.vocab_size, size=(2, config.n_positions))
    w = {key: torch.tensor(value, requires_grad=True) for key, value in arrays.items()}
    x = w["embedding/tokens_vd"][torch.tensor(tokens)]
    if config.learned_positions:
        x = x + w["embedding/positions_td"]
    out = theirs(w, x[:, :n_source], x[:, n_source:])
    logits = out @ w["head_dv"]
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.tensor(targets).flatten())
    loss.backward()
    return {
        "config": np.array(msgspec.json.encode(config).decode()),
        "tokens": tokens.astype(np.int32),
        "targets": targets.astype(np.int32),
        "logits": logits.detach().numpy(),
        "loss": loss.detach().numpy(),
        **{f"weights:{key}": value for key, value in arrays.items()},
        **{f"gradients:{key}": tensor.grad.numpy() for key, tensor in w.items()},
    }


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_loss_and_gradients_are_torchs(name: str) -> None:
    saved, config = compute_theirs(name), NETWORKS[name][0]
    with jax.set_mesh(make_mesh((1, 1, 1, 1))):
        graphdef, params = abstract(config)
        names = ["/".join(map(str, path)) for path, _ in nnx.to_flat_state(params)]
        weights = [jnp.asarray(saved[f"weights:{key}"]) for key in names]

        def loss_and_logits(weights: list) -> tuple[jax.Array, jax.Array]:
            filled = jax.tree.unflatten(jax.tree.structure(params), weights)
            logits = nnx.merge(graphdef, filled)(jnp.asarray(saved["tokens"]))[0]
            return jnp.mean(next_token_nats(logits, jnp.asarray(saved["targets"]))[0]), logits

        both = jax.jit(jax.value_and_grad(loss_and_logits, has_aux=True))
        (loss, logits), gradients = both(weights)
    np.testing.assert_allclose(logits, saved["logits"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(loss, saved["loss"], rtol=0, atol=1e-6)
    for key, gradient in zip(names, gradients, strict=True):
        expected = saved[f"gradients:{key}"]
        # A bias on all keys shifts all scores of a query: softmax drops it.
        assert key.endswith("k_bias") or np.max(np.abs(expected)) > 1e-3, key
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-5, err_msg=key)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_frozen_fixture_is_what_torch_computes(name: str) -> None:
    assert_frozen(FIXTURES / f"{name}.npz", compute_theirs(name))

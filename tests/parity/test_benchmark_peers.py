# SPDX-License-Identifier: Apache-2.0
"""The benchmark's peers do our work: from the same weights the same losses, step after step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments.benchmarks.speed import networks
from model.network.counts.total import count_params
from model.network.execution import Execution
from model.training.optimizer import hyper_arrays
from model.training.program import compile_program

torch = pytest.importorskip("torch", reason="make test-parity installs it")
pytest.importorskip("transformers", reason="make test-parity installs it")
torch_model = pytest.importorskip("experiments.benchmarks.speed.torch_model")
torch_speed = pytest.importorskip("experiments.benchmarks.speed.theirs")
pytestmark = pytest.mark.parity


def our_losses(setting, step_weights):
    """Losses of the setting's steps, and the weights before them, by name."""
    train = networks.train_config(setting.batch_size, setting.dtype)
    execution = Execution(steps_per_dispatch=setting.n_steps)
    program = compile_program(setting.model, train, (1, 1, 1, 1), execution)
    with jax.set_mesh(program.mesh):
        hyper = hyper_arrays(train)
        state = program.init(jax.random.key(3), hyper)
        # No gain stays one and no bias zero: what is left out or swapped must show.
        params = jax.tree.map(step_weights, state.params)
        flat = {"/".join(map(str, path)): np.array(x[...]) for path, x in nnx.to_flat_state(params)}
        batches = program.put(networks.tokens(setting))
        state = state._replace(params=params)
        _, losses, _ = program.train_chunk(
            state, hyper, batches, jnp.int32(0), jnp.int32(setting.n_steps)
        )
    return np.array(losses), flat


def plain_weights(c, w):
    """Our weights under the names of the plain peer, [out, in]."""
    ours = {"tokens.weight": w["embedding/tokens_vd"], "norm.weight": w["norm/gain"]}
    if c.learned_positions:
        ours |= {"positions.weight": w["embedding/positions_td"], "norm.bias": w["norm/bias"]}
    for i in range(c.n_layers):
        layer = {name[9:]: x[i] for name, x in w.items() if name.startswith("blocks/0/")}
        matrix = lambda name, layer=layer: layer[name].reshape(c.d_model, -1).T  # noqa: E731
        qkv = [matrix(f"mixer/{name}") for name in ("q_dgqk", "k_dgk", "v_dgk")]
        rises = networks.layers(c)[1].inputs
        found = {
            "mixer_norm.weight": layer["mixer_norm/gain"],
            "channel_norm.weight": layer["channel_mixer_norm/gain"],
            "qkv.weight": np.concatenate(qkv),
            "out.weight": layer["mixer/o_gqkd"].reshape(-1, c.d_model).T,
            "up.weight": np.concatenate([matrix(f"channel_mixer/{r}_df") for r in rises]),
            "down.weight": layer["channel_mixer/down_fd"].T,
        }
        if c.use_bias:
            qkv = [layer[f"mixer/{name}_bias"].reshape(-1) for name in "qkv"]
            found |= {
                "mixer_norm.bias": layer["mixer_norm/bias"],
                "channel_norm.bias": layer["channel_mixer_norm/bias"],
                "qkv.bias": np.concatenate(qkv),
                "out.bias": layer["mixer/o_bias"],
                "up.bias": layer["channel_mixer/up_bias"],
                "down.bias": layer["channel_mixer/down_bias"],
            }
        ours |= {f"blocks.{i}.{name}": x for name, x in found.items()}
    return {name: torch.tensor(np.ascontiguousarray(x)) for name, x in ours.items()}


def hugging_face_weights(c, plain):
    """The plain peer's weights under the names of GPT-2 ([in, out]) or Llama ([out, in])."""
    if c.positions == "rope":
        return {their: x for name, x in plain.items() for their, x in _llama(c, name, x)}
    names = {
        "tokens.weight": "transformer.wte.weight",
        "positions.weight": "transformer.wpe.weight",
        "norm.weight": "transformer.ln_f.weight",
        "norm.bias": "transformer.ln_f.bias",
    }
    parts = {
        "mixer_norm": "ln_1",
        "channel_norm": "ln_2",
        "qkv": "attn.c_attn",
        "out": "attn.c_proj",
        "up": "mlp.c_fc",
        "down": "mlp.c_proj",
    }
    found = {}
    for name, x in plain.items():
        if name in names:
            found[names[name]] = x
        else:
            _, i, part, kind = name.split(".")
            found[f"transformer.h.{i}.{parts[part]}.{kind}"] = x.T if x.ndim == 2 else x
    return found


def _llama(c, name, x):
    whole = {"tokens.weight": "model.embed_tokens.weight", "norm.weight": "model.norm.weight"}
    if name in whole:
        return [(whole[name], x)]
    _, i, part, _ = name.split(".")
    theirs = {
        "mixer_norm": ("input_layernorm",),
        "channel_norm": ("post_attention_layernorm",),
        "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        "out": ("self_attn.o_proj",),
        "up": ("mlp.gate_proj", "mlp.up_proj"),
        "down": ("mlp.down_proj",),
    }[part]
    chunks = x.chunk(len(theirs))
    return [
        (f"model.layers.{i}.{their}.weight", chunk)
        for their, chunk in zip(theirs, chunks, strict=True)
    ]


@pytest.mark.parametrize("family", ["plain", "hugging-face"])
@pytest.mark.parametrize("setting", networks.TINY, ids=lambda s: s.name)
def test_a_peer_has_our_losses_step_after_step(setting, family):
    keys = iter(jax.random.split(jax.random.key(5), 100))
    ours, weights = our_losses(
        setting, lambda x: x + 0.2 * jax.random.normal(next(keys), x.shape, out_sharding=x.sharding)
    )
    state = plain_weights(setting.model, weights)
    model = torch_model.Transformer(setting.model)
    if family == "hugging-face":
        model = torch_model.hugging_face(setting.model)
        state = hugging_face_weights(setting.model, state)
    left, unknown = model.load_state_dict(state, strict=False)
    assert not unknown
    assert set(left) <= {"lm_head.weight"}, left  # Tied: it is the embedding.
    step = torch_speed.train_step(model, torch.device("cpu"), "float32", is_compiled=False)
    tokens = torch.from_numpy(networks.tokens(setting)).long()
    theirs = [float(step(batch)) for batch in tokens]
    # The second step's loss depends on the first one's gradients, clipping, rate and decay.
    np.testing.assert_allclose(theirs, ours, rtol=1e-5)
    assert abs(theirs[0] - theirs[1]) > 1e-2


@pytest.mark.parametrize("setting", [*networks.CPU, *networks.LARGE], ids=lambda s: s.name)
def test_the_peers_have_our_parameters(setting):
    expected = count_params(setting.model).total
    for make in (torch_model.Transformer, torch_model.hugging_face):
        with torch.device("meta"):
            model = make(setting.model)
        assert sum(weight.numel() for weight in model.parameters()) == expected

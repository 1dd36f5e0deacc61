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
from model.network.hugging_face import weights_of
from model.network.weight_names import tensors
from model.training.compile_program import compile_program
from model.training.optimizers.optimizer import hyper_arrays

torch = pytest.importorskip("torch", reason="make test-parity installs it")
pytest.importorskip("transformers", reason="make test-parity installs it")
torch_model = pytest.importorskip("experiments.benchmarks.speed.torch_model")
torch_speed = pytest.importorskip("experiments.benchmarks.speed.theirs")
pytestmark = pytest.mark.parity


def our_losses(setting, step_weights):
    """Losses of the setting's steps, and the weights before them, by path and layer by layer."""
    train = networks.train_config(setting.batch_size, setting.dtype)
    execution = Execution(steps_per_dispatch=setting.n_steps)
    program = compile_program(setting.model, train, (1, 1, 1, 1), execution)
    with jax.set_mesh(program.mesh):
        hyper = hyper_arrays(train)
        state = program.init(jax.random.key(3), hyper)
        # No gain stays one and no bias zero: what is left out or swapped must show.
        params = jax.tree.map(step_weights, state.params)
        flat = {"/".join(map(str, path)): np.array(x[...]) for path, x in nnx.to_flat_state(params)}
        named = {}
        for group, leaf in zip(tensors(params), jax.tree.leaves(params), strict=True):
            parts = np.reshape(np.asarray(leaf), (len(group), *group[0].shape))
            named |= {tensor.name: part for tensor, part in zip(group, parts, strict=True)}
        batches = program.put(networks.tokens(setting))
        state = state._replace(params=params)
        _, metrics = program.train_chunk(
            state, hyper, batches, jnp.int32(0), jnp.int32(setting.n_steps)
        )
    return np.array(metrics["loss_nats"]), flat, named


def mixer_weights(c, layer):
    """Of one layer, under the peer's names."""
    mixer = networks.layers(c)[0].kind
    if mixer == "attention":
        qkv = [
            layer[f"mixer/{name}"].reshape(c.d_model, -1).T for name in ("q_dgqk", "k_dgk", "v_dgk")
        ]
        out = layer["mixer/o_gqkd"].reshape(-1, c.d_model)
        return {"mixer.qkv.weight": np.concatenate(qkv), "mixer.out.weight": out.T}
    out = {"mixer.out.weight": layer["mixer/output_hd"].T}
    if mixer == "convolution":
        return out | {"mixer.taps.weight": layer["mixer/taps_cdh"].transpose(2, 1, 0)}
    names = {"weight_ih_l0": "input_adh", "weight_hh_l0": "recurrent_auh"}
    return out | {
        f"mixer.lstm.{theirs}": np.concatenate([gate.T for gate in layer[f"mixer/{ours}"]])
        for theirs, ours in names.items()
    }


def plain_weights(c, w):
    """Our weights under the names of the plain peer, [out, in]."""
    ours = {"tokens.weight": w["embedding/tokens_vd"], "norm.weight": w["norm/gain"]}
    if c.learned_positions:
        ours |= {"positions.weight": w["embedding/positions_td"], "norm.bias": w["norm/bias"]}
    for i in range(c.n_layers):
        layer = {name[9:]: x[i] for name, x in w.items() if name.startswith("blocks/0/")}
        matrix = lambda name, layer=layer: layer[name].reshape(c.d_model, -1).T  # noqa: E731
        rises = networks.layers(c)[1].inputs
        found = {
            "mixer_norm.weight": layer["mixer_norm/gain"],
            "channel_norm.weight": layer["channel_mixer_norm/gain"],
            **mixer_weights(c, layer),
            "up.weight": np.concatenate([matrix(f"channel_mixer/{r}_df") for r in rises]),
            "down.weight": layer["channel_mixer/down_fd"].T,
        }
        if c.use_bias:
            qkv = [layer[f"mixer/{name}_bias"].reshape(-1) for name in "qkv"]
            found |= {
                "mixer_norm.bias": layer["mixer_norm/bias"],
                "channel_norm.bias": layer["channel_mixer_norm/bias"],
                "mixer.qkv.bias": np.concatenate(qkv),
                "mixer.out.bias": layer["mixer/o_bias"],
                "up.bias": layer["channel_mixer/up_bias"],
                "down.bias": layer["channel_mixer/down_bias"],
            }
        ours |= {f"blocks.{i}.{name}": x for name, x in found.items()}
    return {name: torch.tensor(np.ascontiguousarray(x)) for name, x in ours.items()}


def families(setting):
    is_known = networks.layers(setting.model)[0].kind == "attention"
    return ("plain", "hugging-face") if is_known else ("plain",)


@pytest.mark.parametrize(
    ("setting", "family"),
    [(setting, family) for setting in networks.TINY for family in families(setting)],
    ids=lambda one: getattr(one, "name", one),
)
def test_a_peer_has_our_losses_step_after_step(setting, family):
    keys = iter(jax.random.split(jax.random.key(5), 100))
    ours, weights, named = our_losses(
        setting, lambda x: x + 0.2 * jax.random.normal(next(keys), x.shape, out_sharding=x.sharding)
    )
    state, model = plain_weights(setting.model, weights), torch_model.Transformer(setting.model)
    if family == "hugging-face":
        model = torch_model.hugging_face(setting.model)
        theirs = weights_of(setting.model, named)
        state = {name: torch.tensor(np.ascontiguousarray(x)) for name, x in theirs.items()}
    left, unknown = model.load_state_dict(state, strict=False)
    assert not unknown
    assert set(left) <= {"lm_head.weight"}, left  # Tied: it is the embedding.
    step = torch_speed.train_step(model, torch.device("cpu"), "float32", is_compiled=False)
    tokens = torch.from_numpy(networks.tokens(setting)).long()
    theirs = [float(step(batch)) for batch in tokens]
    # The second step's loss depends on the first one's gradients, clipping, rate and decay.
    np.testing.assert_allclose(theirs, ours, rtol=1e-5)
    assert abs(theirs[0] - theirs[1]) > 1e-2


@pytest.mark.parametrize(
    "setting", [*networks.CPU, *networks.MIXERS, *networks.LARGE], ids=lambda s: s.name
)
def test_the_peers_have_our_parameters(setting):
    expected = count_params(setting.model).total
    makes = {"plain": torch_model.Transformer, "hugging-face": torch_model.hugging_face}
    for family in families(setting):
        make = makes[family]
        with torch.device("meta"):
            model = make(setting.model)
        assert sum(weight.numel() for weight in model.parameters()) == expected

# SPDX-License-Identifier: Apache-2.0
"""Mixers of a linear recurrence against Hugging Face's, and RWKV-7 against the paper's loop over
positions, forward and backward, live; the values of RWKV-7 against the package of its authors.

What torch computes is frozen in tests/model/fixtures/mixers, which the quick tests read.
"""

import math
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
import pytest
from flax import nnx
from one_layer import behind, lone_layer, output_and_gradients
from small_networks import LLAMA, vary

from model.network.counts.delta_net import DeltaNetConfig, GatedDeltaNetConfig
from model.network.counts.layer import LayerConfig
from model.network.counts.mamba2 import Mamba2Config
from model.network.counts.rwkv7 import RWKV7ChannelConfig, RWKV7Config
from model.network.sharding import make_mesh
from model.network.transformer import Transformer

torch = pytest.importorskip("torch", reason="make test-parity installs it")
transformers = pytest.importorskip("transformers", reason="make test-parity installs it")
from torch.nn.functional import silu  # noqa: E402
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer  # noqa: E402
from transformers.models.qwen3_next import modeling_qwen3_next as qwen  # noqa: E402

pytestmark = pytest.mark.parity

FIXTURES = Path(__file__).parents[1] / "model" / "fixtures" / "mixers"
# 37 positions are two chunks of 19, of which the second is filled up.
X = np.random.default_rng(0).normal(size=(2, 37, 16)).astype(np.float32)
Tensors = dict[str, "torch.Tensor"]
MAMBA2 = Mamba2Config(n_heads=4, n_groups=2, d_head=8, d_state=10, taps=3)
DELTA = DeltaNetConfig(n_heads=4, n_key_heads=2, d_key=5, d_value=6, taps=3)
GATED = GatedDeltaNetConfig(n_heads=4, n_key_heads=2, d_key=5, d_value=6, taps=3)


RWKV7 = RWKV7Config(n_heads=4, d_head=6, rank_decay=3, rank_rate=5, rank_value=7, rank_gate=9)
CHANNEL = RWKV7ChannelConfig(d_ff=20)
FIRST_VALUE = np.random.default_rng(5).normal(size=(2, 37, 4, 6)).astype(np.float32)


def rows(*weights: "torch.Tensor") -> "torch.Tensor":
    """[16, ...] each, as one of torch's [out, 16]."""
    return torch.cat([weight.reshape(16, -1) for weight in weights], dim=1).T


def flat(*vectors: "torch.Tensor") -> "torch.Tensor":
    return torch.cat([vector.reshape(-1) for vector in vectors])


def channels(*taps: "torch.Tensor") -> "torch.Tensor":
    """[3, ...] each, as torch's [channels, 1, 3]."""
    return torch.cat([each.reshape(3, -1) for each in taps], dim=1).T[:, None]


def mamba2(w: Tensors) -> "torch.Tensor":
    config = transformers.Mamba2Config(
        hidden_size=16,
        num_heads=4,
        head_dim=8,
        expand=2,
        state_size=10,
        n_groups=2,
        conv_kernel=3,
        use_bias=True,
        use_conv_bias=True,
        chunk_size=8,
        num_hidden_layers=1,
        layer_norm_epsilon=LLAMA.norm_eps,
    )
    names = ("z_dgqp", "x_dgqp", "b_dgk", "c_dgk", "dt_dgq")
    theirs = {
        "in_proj.weight": rows(*(w[name] for name in names)),
        "in_proj.bias": flat(*(w[f"{n}_bias"] for n in "zxbc"), torch.zeros(4)),
        "conv1d.weight": channels(w["x_taps"], w["b_taps"], w["c_taps"]),
        "conv1d.bias": flat(*(w[f"{n}_taps_bias"] for n in "xbc")),
        "A_log": flat(w["log_a"]),
        "dt_bias": flat(w["dt_bias"]),
        "D": flat(w["skip"]),
        "norm.weight": flat(w["gain"]),
        "out_proj.weight": w["output_gqpd"].reshape(32, 16).T,
        "out_proj.bias": w["output_bias"],
    }
    return torch.func.functional_call(Mamba2Mixer(config, layer_idx=0), theirs, (w["x"],))


def delta_net(w: Tensors) -> "torch.Tensor":
    """The layer written out; the rule is Qwen3-Next's, one position after the other, no decay."""

    def convolved(name: str, width: int) -> "torch.Tensor":
        weight = next(value for key, value in w.items() if key.startswith(f"{name}_d"))
        y = w["x"] @ weight.reshape(16, -1) + flat(w[f"{name}_bias"])
        y = torch.nn.functional.pad(y.mT, (2, 0))
        taps = channels(w[f"{name}_taps"])
        y = torch.nn.functional.conv1d(y, taps, groups=len(taps))
        return silu(y).mT.reshape(*w["x"].shape[:2], -1, width)

    q, k, v = convolved("q", 5), convolved("k", 5), convolved("v", 6)
    beta = torch.sigmoid(w["x"] @ w["beta_dgq"].reshape(16, -1) + flat(w["beta_bias"]))
    rule = qwen.torch_recurrent_gated_delta_rule
    o, _ = rule(q, k, v, torch.zeros_like(beta), beta, use_qk_l2norm_in_kernel=True)
    y = o * torch.rsqrt(o.pow(2).mean(-1, keepdim=True) + LLAMA.norm_eps) * w["gain"]
    return y.flatten(2) @ w["output_gqpd"].reshape(24, 16) + w["output_bias"]


def gated_delta_net(w: Tensors) -> "torch.Tensor":
    """Qwen3-Next has no biases, but in dt."""
    config = transformers.Qwen3NextConfig(
        hidden_size=16,
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        linear_key_head_dim=5,
        linear_value_head_dim=6,
        linear_conv_kernel_dim=3,
        rms_norm_eps=LLAMA.norm_eps,
        num_hidden_layers=1,
    )
    by_group = [
        [w[name][:, group] for name in ("q_dgk", "k_dgk", "v_dgqp", "gate_dgqp")]
        for group in range(2)
    ]
    small = [[w[name][:, group] for name in ("beta_dgq", "dt_dgq")] for group in range(2)]
    theirs = {
        "in_proj_qkvz.weight": torch.cat([rows(*each) for each in by_group]),
        "in_proj_ba.weight": torch.cat([rows(*each) for each in small]),
        "conv1d.weight": channels(w["q_taps"], w["k_taps"], w["v_taps"]),
        "dt_bias": flat(w["dt_bias"]),
        "A_log": flat(w["log_a"]),
        "norm.weight": w["gain"],
        "out_proj.weight": w["output_gqpd"].reshape(24, 16).T,
    }
    layer = qwen.Qwen3NextGatedDeltaNet(config, layer_idx=0)
    return torch.func.functional_call(layer, theirs, (w["x"],))


def before(x: "torch.Tensor") -> "torch.Tensor":
    return torch.nn.functional.pad(x, (0, 0, 1, -1))


def rwkv7(w: Tensors) -> "torch.Tensor":
    """Peng et al. 2025 (arXiv:2503.14456), sec. 4.1, of a layer behind the first: one position
    after the other, the state [value, key]."""
    x = w["x"]
    r, d, k, v, a, g = (x + w[f"{n}_mix"] * (before(x) - x) for n in "rwkvag")

    def low(name: str, x: "torch.Tensor", between: Callable = lambda y: y) -> "torch.Tensor":
        y = between(x @ w[f"{name}_down_dl"])
        return torch.einsum("btl,lgk->btgk", y, w[f"{name}_up_lgk"])

    share = torch.sigmoid(w["share_base"] + low("share", v))
    r, k, v = (
        torch.einsum("btd,dgk->btgk", x, w[f"{n}_dgk"]) + w[f"{n}_bias"]
        for n, x in zip("rkv", (r, k, v), strict=True)
    )
    v = v + (torch.from_numpy(FIRST_VALUE) - v) * share
    decay = torch.exp(-torch.sigmoid(w["w_base"] + low("w", d, torch.tanh)) / math.e**0.5)
    a = torch.sigmoid(w["a_base"] + low("a", a))
    removed = torch.nn.functional.normalize(k * w["erased"], dim=-1)
    k = k * (1 + (a - 1) * w["replaced"])
    state, out = torch.zeros(2, 4, 6, 6), []
    for t in range(x.shape[1]):
        erase = -removed[:, t, :, :, None] * (a * removed)[:, t, :, None, :]
        state = state * decay[:, t, :, None] + state @ erase + v[:, t, ..., None] * k[:, t, :, None]
        out.append((state @ r[:, t, ..., None])[..., 0])
    y = torch.stack(out, dim=1)
    y = torch.nn.functional.layer_norm(y, (6,), eps=64e-5) * w["norm_gain"] + w["norm_bias"]
    y = y + (r * k * w["bonus"]).sum(-1, keepdim=True) * v
    y = y * low("g", g, torch.sigmoid)
    return y.flatten(2) @ w["output_gkd"].reshape(24, 16) + w["output_bias"]


def rwkv7_channel(w: Tensors) -> "torch.Tensor":
    """Sec. 4.2."""
    x = w["x"] + w["mix"] * (before(w["x"]) - w["x"])
    up = torch.relu(x @ w["up_df"] + w["up_bias"]) ** 2
    return up @ w["down_fd"] + w["down_bias"]


CASES = [
    *((MAMBA2, mamba2), (DELTA, delta_net), (GATED, gated_delta_net)),
    *((RWKV7, rwkv7), (CHANNEL, rwkv7_channel)),
]


@pytest.mark.parametrize(("sizes", "theirs"), CASES, ids=[sizes.kind for sizes, _ in CASES])
def test_outputs_and_gradients_are_hugging_faces_and_the_frozen_ones(
    sizes: LayerConfig, theirs: Callable
) -> None:
    is_biased = sizes.kind != "gated_delta_net"
    # Behind two products and a norm, the slopes of RWKV-7's vectors are small with small arrays.
    scale = 0.3 if sizes.kind == "rwkv7" else 0.2
    with jax.set_mesh(make_mesh((1, 1, 1, 1))):
        layer, arrays = lone_layer(sizes, use_bias=is_biased, scale=scale)
        output, gradients = output_and_gradients(layer, X, behind(FIRST_VALUE))
    at = {name: np.float32(value) for name, value in arrays.items()} | {"x": X}
    w = {name: torch.tensor(value, requires_grad=True) for name, value in at.items()}
    expected = theirs(w)
    # A mean, so that the gradients of all arrays are of order one, as the outputs are.
    torch.sin(expected).sum(-1).mean().backward()
    found = {name: value.grad.numpy() for name, value in w.items()}
    np.testing.assert_allclose(output, expected.detach().numpy(), rtol=0, atol=1e-5)
    assert gradients.keys() == found.keys()
    for name, gradient in gradients.items():
        assert np.max(np.abs(found[name])) > 1e-3, name
        np.testing.assert_allclose(gradient, found[name], rtol=0, atol=1e-5, err_msg=name)
    frozen = {
        "sizes": np.array(msgspec.json.encode(sizes).decode()),
        "first_value": FIRST_VALUE,
        "output": expected.detach().numpy(),
        **{f"arrays:{name}": value for name, value in at.items()},
        **{f"gradients:{name}": value for name, value in found.items()},
    }
    path = FIXTURES / f"{sizes.kind}.npz"
    if not path.exists():
        np.savez_compressed(path, **frozen)
    saved = np.load(path, allow_pickle=False)
    assert set(saved) == set(frozen)
    assert str(saved["sizes"]) == str(frozen["sizes"])
    for name in set(frozen) - {"sizes"}:
        np.testing.assert_allclose(saved[name], frozen[name], rtol=0, atol=1e-5, err_msg=name)


def their_block(layer: int, w: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays of a block under their names; matrices [out, in]."""
    ours = {"att.receptance": "r_dgk", "att.key": "k_dgk", "att.value": "v_dgk"}
    z = {f"{name}.weight": w[f"mixer/{ours[name]}"].reshape(16, 16).T for name in ours}
    z["att.output.weight"] = w["mixer/output_gkd"].reshape(16, 16).T
    z |= {f"att.x_{name}": w[f"mixer/{name}_mix"] for name in "rwkvag"}
    for theirs, name in (("w", "w"), ("a", "a"), ("v", "share"), ("g", "g")):
        z[f"att.{theirs}1"] = w[f"mixer/{name}_down_dl"]
        z[f"att.{theirs}2"] = w[f"mixer/{name}_up_lgk"].reshape(-1, 16)
        if theirs != "g":
            z[f"att.{theirs}0"] = w[f"mixer/{name}_base"].reshape(16)
    vectors = {"k_k": "erased", "k_a": "replaced", "ln_x.weight": "norm_gain"}
    for theirs, name in (vectors | {"ln_x.bias": "norm_bias"}).items():
        z[f"att.{theirs}"] = w[f"mixer/{name}"].reshape(16)
    z["att.r_k"] = w["mixer/bonus"]
    for theirs, name in (("ln1", "mixer_norm"), ("ln2", "channel_mixer_norm")):
        z |= {f"{theirs}.weight": w[f"{name}/gain"], f"{theirs}.bias": w[f"{name}/bias"]}
    z["ffn.x_k"] = w["channel_mixer/mix"]
    z["ffn.key.weight"] = w["channel_mixer/up_df"].T
    z["ffn.value.weight"] = w["channel_mixer/down_fd"].T
    return {f"blocks.{layer}.{name}": value for name, value in z.items()}


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
def test_logits_of_rwkv7_are_those_of_its_authors_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two layers, so that the second has the value of the first."""
    for name, value in (("RWKV_V7_ON", "1"), ("RWKV_JIT_ON", "0"), ("RWKV_CUDA_ON", "0")):
        monkeypatch.setenv(name, value)
    package = pytest.importorskip("rwkv.model", reason="make test-parity installs it")
    config = vary(
        LLAMA,
        mixers=(msgspec.structs.replace(RWKV7, d_head=4),),
        channel_mixers=("rwkv7_channel",),
        norm="layernorm",
        use_bias=True,
    )
    rng, tokens = np.random.default_rng(3), [*range(12)]
    with jax.set_mesh(make_mesh((1, 1, 1, 1))):
        build = lambda: Transformer(config, compute_dtype=jnp.float32, rngs=nnx.Rngs(0))  # noqa: E731
        graphdef, params = nnx.split(nnx.eval_shape(build))
        flat, w = nnx.to_flat_state(params), {}
        for path, leaf in flat:
            name = "/".join(map(str, path))
            # Their linear maps have no biases; their norms have.
            is_none = name.endswith(("r_bias", "k_bias", "v_bias", "output_bias", "up_bias"))
            is_none |= name.endswith("down_bias")
            value = ("gain" in name) + rng.normal(scale=0.3, size=leaf.shape)
            w[name] = np.float32(0 * value if is_none else value)
        # Their first norm is of the embedding, once for all; ours begins behind it.
        raw, gain, bias = (rng.normal(size=n).astype(np.float32) for n in ((48, 16), 16, 16))
        centred = raw - raw.mean(1, keepdims=True)
        spread = np.sqrt(np.mean(centred**2, axis=1, keepdims=True) + 1e-5)
        w["embedding/tokens_vd"] = centred / spread * gain + bias
        state = nnx.from_flat_state(
            (path, leaf.replace(jnp.asarray(w["/".join(map(str, path))]))) for path, leaf in flat
        )
        logits = nnx.merge(graphdef, state)(jnp.asarray([tokens]))[0][0]
    z = {"emb.weight": raw, "head.weight": w["head_dv"].T}
    z |= {"blocks.0.ln0.weight": gain, "blocks.0.ln0.bias": bias}
    z |= {"ln_out.weight": w["norm/gain"], "ln_out.bias": w["norm/bias"]}
    for layer in range(2):
        z |= their_block(layer, {k[9:]: v[layer] for k, v in w.items() if k[:9] == "blocks/0/"})
    tensors = {name: torch.tensor(value) for name, value in z.items()}
    monkeypatch.setattr(package.torch, "load", lambda *_, **__: dict(tensors))
    theirs, _ = package.RWKV_x070("none", "cpu fp32").forward(tokens, None, full_output=True)
    np.testing.assert_allclose(logits, theirs.numpy(), rtol=0, atol=2e-5)

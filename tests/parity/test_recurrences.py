# SPDX-License-Identifier: Apache-2.0
"""Mixers of a linear recurrence against Hugging Face's, forward and backward, live.

What torch computes is frozen in tests/model/fixtures/mixers, which the quick tests read.
"""

from collections.abc import Callable
from pathlib import Path

import jax
import msgspec
import numpy as np
import pytest
from one_layer import lone_layer, output_and_gradients
from small_networks import LLAMA

from model.network.counts.delta_net import DeltaNetConfig, GatedDeltaNetConfig
from model.network.counts.kinds import Mixer
from model.network.counts.mamba2 import Mamba2Config
from model.network.sharding import make_mesh

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


CASES = [(MAMBA2, mamba2), (DELTA, delta_net), (GATED, gated_delta_net)]


@pytest.mark.parametrize(("sizes", "theirs"), CASES, ids=[sizes.kind for sizes, _ in CASES])
def test_outputs_and_gradients_are_hugging_faces_and_the_frozen_ones(
    sizes: Mixer, theirs: Callable
) -> None:
    is_biased = sizes.kind != "gated_delta_net"
    with jax.set_mesh(make_mesh((1, 1, 1, 1))):
        layer, arrays = lone_layer(sizes, use_bias=is_biased)
        output, gradients = output_and_gradients(layer, X)
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

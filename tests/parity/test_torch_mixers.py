# SPDX-License-Identifier: Apache-2.0
"""Mixers against torch's own, forward and backward (``make test-parity``)."""

from collections.abc import Callable

import jax
import numpy as np
import pytest
from one_layer import lone_layer, output_and_gradients

from model.network.counts.convolution import ConvolutionConfig
from model.network.counts.gru import GRUConfig
from model.network.counts.layer import LayerConfig
from model.network.counts.lstm import LSTMConfig
from model.network.counts.masked_convolution import MaskedConvolutionConfig
from model.network.sharding import make_mesh

torch = pytest.importorskip("torch", reason="make test-parity installs it")
pytestmark = pytest.mark.parity

X = np.random.default_rng(0).normal(size=(3, 12, 16)).astype(np.float32)
LSTM = LSTMConfig(d_state=24, use_gate_bias=True, forget_bias=0.7)
GRU = GRUConfig(d_state=24, use_gate_bias=True)
CONVOLUTION = ConvolutionConfig(d_hidden=24, taps=3, dilation=2)
MASK_A, MASK_B = (
    MaskedConvolutionConfig(d_hidden=24, kernel=5, width=6, mask=mask) for mask in ("A", "B")
)


def torch_lstm(w: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """torch's two biases are halves of ours, with what the forget gate's begins with."""
    bias = (w["gate_bias"] + 0.7 * torch.tensor([[0.0], [1.0], [0.0], [0.0]])).reshape(-1)
    lstm = torch.nn.LSTM(16, 24, batch_first=True)
    theirs = {
        "weight_ih_l0": w["input_adh"].transpose(1, 2).reshape(96, 16),
        "weight_hh_l0": w["recurrent_auh"].transpose(1, 2).reshape(96, 24),
        "bias_ih_l0": bias / 2,
        "bias_hh_l0": bias / 2,
    }
    h, _ = torch.func.functional_call(lstm, theirs, (x,))
    return h @ w["output_hd"] + w["output_bias"]


def torch_gru(w: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """torch's gates are reset, update, candidate. What its second bias adds to the first two is in
    our first."""
    of_input = [w["input_adh"][gate].T for gate in (1, 2, 0)]
    bias = [w["gate_bias"][gate] for gate in (1, 2, 0)]
    gru = torch.nn.GRU(16, 24, batch_first=True)
    theirs = {
        "weight_ih_l0": torch.cat(of_input),
        "weight_hh_l0": w["recurrent_auh"].transpose(1, 2).reshape(72, 24),
        "bias_ih_l0": torch.cat(bias),
        "bias_hh_l0": torch.cat([torch.zeros(48), w["candidate_bias"]]),
    }
    h, _ = torch.func.functional_call(gru, theirs, (x,))
    return h @ w["output_hd"] + w["output_bias"]


def torch_convolution(w: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    convolution = torch.nn.Conv1d(16, 24, kernel_size=3, dilation=2)
    padded = torch.nn.functional.pad(x.transpose(1, 2), (4, 0))
    theirs = {"weight": w["taps_cdh"].permute(2, 1, 0), "bias": w["hidden_bias"]}
    hidden = torch.func.functional_call(convolution, theirs, (padded,)).transpose(1, 2)
    hidden = torch.nn.functional.gelu(hidden, approximate="tanh")
    return hidden @ w["output_hd"] + w["output_bias"]


def torch_masked_convolution(w: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Conv2d with 5 x 5 taps of which the mask leaves twelve, or thirteen with one's own pixel."""
    has_own = len(w["taps_cdh"]) == 13
    # With mask "A" pixel t is the input of position t + 1: the last one is none.
    pixels = x if has_own else torch.nn.functional.pad(x[:, 1:], (0, 0, 0, 1))
    image = pixels.reshape(3, 2, 6, 16).permute(0, 3, 1, 2)
    taps = torch.nn.functional.pad(w["taps_cdh"], (0, 0, 0, 0, 0, 12 if has_own else 13))
    convolution = torch.nn.Conv2d(16, 24, kernel_size=5, padding=2)
    theirs = {"weight": taps.reshape(5, 5, 16, 24).permute(3, 2, 0, 1), "bias": w["hidden_bias"]}
    hidden = torch.func.functional_call(convolution, theirs, (image,))
    hidden = hidden.permute(0, 2, 3, 1).reshape(3, 12, 24)
    hidden = torch.nn.functional.gelu(hidden, approximate="tanh")
    return hidden @ w["output_hd"] + w["output_bias"]


@pytest.mark.parametrize(
    ("sizes", "theirs"),
    [
        (LSTM, torch_lstm),
        (GRU, torch_gru),
        (CONVOLUTION, torch_convolution),
        (MASK_A, torch_masked_convolution),
        (MASK_B, torch_masked_convolution),
    ],
    ids=["lstm", "gru", "convolution", "mask A", "mask B"],
)
def test_outputs_and_gradients_are_torchs(sizes: LayerConfig, theirs: Callable) -> None:
    with jax.set_mesh(make_mesh((1, 1, 1, 1))):
        layer, arrays = lone_layer(sizes)
        output, gradients = output_and_gradients(layer, X)
    at = {name: np.float32(value) for name, value in arrays.items()} | {"x": X}
    w = {name: torch.tensor(value, requires_grad=True) for name, value in at.items()}
    expected = theirs(w, w["x"])
    np.testing.assert_allclose(output, expected.detach().numpy(), rtol=0, atol=1e-5)
    # A mean, so that the gradients of all arrays are of order one, as the outputs are.
    torch.sin(expected).sum(-1).mean().backward()
    assert gradients.keys() == w.keys()
    for name, gradient in gradients.items():
        found = w[name].grad.numpy()
        assert np.max(np.abs(found)) > 1e-2, name
        np.testing.assert_allclose(gradient, found, rtol=0, atol=1e-5, err_msg=name)

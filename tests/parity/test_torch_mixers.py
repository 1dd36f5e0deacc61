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
from model.network.sharding import make_mesh

torch = pytest.importorskip("torch", reason="make test-parity installs it")
pytestmark = pytest.mark.parity

X = np.random.default_rng(0).normal(size=(3, 11, 16)).astype(np.float32)
LSTM = LSTMConfig(d_state=24, use_gate_bias=True, forget_bias=0.7)
GRU = GRUConfig(d_state=24, use_gate_bias=True)
CONVOLUTION = ConvolutionConfig(d_hidden=24, taps=3, dilation=2)


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


@pytest.mark.parametrize(
    ("sizes", "theirs"),
    [(LSTM, torch_lstm), (GRU, torch_gru), (CONVOLUTION, torch_convolution)],
    ids=["lstm", "gru", "convolution"],
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

# SPDX-License-Identifier: Apache-2.0
"""Gated recurrent units against a loop in NumPy float64."""

from dataclasses import replace

import numpy as np
import pytest
from one_layer import Arrays, check_against_loop

from model.network.counts.gru import GRUConfig, GRURule
from model.network.execution import PLAIN

pytestmark = pytest.mark.usefixtures("one_device")

SIZES = GRUConfig(d_state=6, use_gate_bias=True)
X = np.random.default_rng(0).normal(size=(2, 7, 16))
SEGMENTS = np.array([[0, 0, 0, 1, 1, 2, 2], [5, 5, 5, 5, 5, 5, 3]])


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def by_loop(x: np.ndarray, w: Arrays, segments: np.ndarray) -> np.ndarray:
    """One sequence after the other, one position after the other."""
    out = np.empty_like(x)
    bias = w.get("gate_bias", np.zeros((3, 6))), w.get("candidate_bias", np.zeros(6))
    for b, t in np.ndindex(x.shape[:2]):
        if t == 0 or segments[b, t] != segments[b, t - 1]:
            h = np.zeros(6)
        candidate, reset, update = (x[b, t] @ w["input_adh"][a] + bias[0][a] for a in range(3))
        by_state = [h @ w["recurrent_auh"][a] for a in range(3)]
        r, z = sigmoid(reset + by_state[0]), sigmoid(update + by_state[1])
        h = (1 - z) * np.tanh(candidate + r * (by_state[2] + bias[1])) + z * h
        out[b, t] = h @ w["output_hd"] + w["output_bias"]
    return out


@pytest.mark.parametrize(
    ("sizes", "segments"),
    [(SIZES, SEGMENTS), (GRUConfig(d_state=6, use_gate_bias=False), None)],
    ids=["segments", "one segment, no bias"],
)
def test_outputs_and_slopes_are_those_of_a_loop_over_positions(sizes, segments):
    check_against_loop(sizes, by_loop, X, segments)


def test_positions_that_are_split_are_refused_in_one_line(llama):
    SIZES.check(llama, PLAIN)
    with pytest.raises(ValueError, match=r"layout='fsdp_context' splits positions.*Say") as error:
        SIZES.check(llama, replace(PLAIN, layout="fsdp_context"))
    assert "\n" not in str(error.value)


def test_a_rule_makes_the_state_of_a_width():
    rule = GRURule(state_ratio=1.5, state_multiple=8, use_gate_bias=False)
    sizes = {d: rule.config(d_model=d, n_layers=2).d_state for d in (2, 16, 20, 64)}
    assert sizes == {2: 8, 16: 24, 20: 32, 64: 96}

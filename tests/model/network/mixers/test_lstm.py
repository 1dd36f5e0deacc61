# SPDX-License-Identifier: Apache-2.0
"""The LSTM against a loop in NumPy float64."""

from collections.abc import Iterator
from dataclasses import replace

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
from one_layer import Arrays, check_against_loop, lone_layer, stream

from model.network.context import Context
from model.network.counts.lstm import LSTMConfig, LSTMRule
from model.network.execution import PLAIN

pytestmark = pytest.mark.usefixtures("one_device")

SIZES = LSTMConfig(d_state=6, use_gate_bias=True, forget_bias=0.7)
X = np.random.default_rng(0).normal(size=(2, 7, 16))
SEGMENTS = np.array([[0, 0, 0, 1, 1, 2, 2], [5, 5, 5, 5, 5, 5, 3]])


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def by_loop(x: np.ndarray, w: Arrays, segments: np.ndarray) -> np.ndarray:
    """One sequence after the other, one position after the other."""
    out = np.empty_like(x)
    for b, t in np.ndindex(x.shape[:2]):
        if t == 0 or segments[b, t] != segments[b, t - 1]:
            h = c = np.zeros(6)
        z = [x[b, t] @ w["input_adh"][a] + h @ w["recurrent_auh"][a] for a in range(4)]
        i, f, g, o = (z[a] + w["gate_bias"][a] for a in range(4))
        c = sigmoid(f + 0.7) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        out[b, t] = h @ w["output_hd"] + w["output_bias"]
    return out


@pytest.mark.parametrize("segments", [None, SEGMENTS], ids=["one segment", "segments"])
def test_outputs_and_slopes_are_those_of_a_loop_over_positions(segments):
    check_against_loop(SIZES, by_loop, X, segments)


def test_state_and_scan_are_float32_under_bfloat16_inputs():
    layer, _ = lone_layer(SIZES)
    x = stream(X, jnp.bfloat16)
    state = layer.init_state(2, 7, x.dtype).values()
    out, found = layer(x, Context())[0], jax.make_jaxpr(lambda x: layer(x, Context())[0])(x)
    assert out.dtype == jnp.bfloat16
    (scan,) = scans_in(found.jaxpr)
    values = [*scan.invars, *scan.outvars]
    assert len(values) == 4 + 6
    assert {v.aval.dtype for v in values} == {v.dtype for v in state} == {jnp.dtype("float32")}


def scans_in(jaxpr: jax.extend.core.Jaxpr) -> Iterator[jax.extend.core.JaxprEqn]:
    for equation in jaxpr.eqns:
        if equation.primitive.name == "scan":
            yield equation
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            yield from scans_in(inner)


def test_positions_that_are_split_are_refused_in_one_line(llama):
    SIZES.check(llama, PLAIN)
    with pytest.raises(ValueError, match=r"layout='fsdp_context' splits positions.*Say") as error:
        SIZES.check(llama, replace(PLAIN, layout="fsdp_context"))
    assert "\n" not in str(error.value)


def test_a_rule_makes_the_state_of_a_width():
    rule = LSTMRule(state_ratio=1.5, state_multiple=8, use_gate_bias=False, forget_bias=1.0)
    sizes = {d: rule.config(d_model=d, n_layers=2).d_state for d in (2, 16, 20, 64)}
    assert sizes == {2: 8, 16: 24, 20: 32, 64: 96}
    assert rule.config(d_model=16, n_layers=2) == LSTMConfig(
        d_state=24, use_gate_bias=False, forget_bias=1.0
    )

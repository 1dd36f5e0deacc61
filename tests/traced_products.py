# SPDX-License-Identifier: Apache-2.0
"""The products of a traced program, counted one by one."""

import math
from collections.abc import Iterator

import jax


def dot_flops(jaxpr: jax.extend.core.Jaxpr) -> int:
    """2 x (size of the result) x (contracted size) of every product, as often as scans repeat it:
    an exact oracle."""
    total = 0
    for eqn in jaxpr.eqns:
        assert eqn.primitive.name not in ("while", "cond", "remat2")
        if eqn.primitive.name == "dot_general":
            contracted, _ = eqn.params["dimension_numbers"][0]
            left, out = eqn.invars[0].aval, eqn.outvars[0].aval
            total += 2 * out.size * math.prod(left.shape[i] for i in contracted)
        if eqn.primitive.name == "ragged_dot_general":
            # Rows with one matrix each: forward [m, k] by [g, k, n], backward [m, k] by [m, n].
            left, right, _ = (var.aval.shape for var in eqn.invars)
            total += 2 * math.prod(left) * right[-1]
        n_trips = eqn.params["length"] if eqn.primitive.name == "scan" else 1
        total += n_trips * sum(dot_flops(inner) for inner in inner_jaxprs(eqn.params))
    return total


def inner_jaxprs(params: dict) -> Iterator[jax.extend.core.Jaxpr]:
    for value in params.values():
        inner = getattr(value, "jaxpr", value)
        if hasattr(inner, "eqns"):
            yield inner

# SPDX-License-Identifier: Apache-2.0
"""One damped Newton step of a batch of rows, as a program that JAX compiles.

Steps solve (H + damping M) s = -g. H is the exact Hessian; M is the majoriser of iteratively
reweighted least squares (Holland and Welsch 1977), which knows how many kinks of a robust
objective a step would cross. Both transform alike under linear changes of the parameters, so the
units of the data and the correlation of an amplitude with its exponent do not matter. Where
H + damping M is not positive definite, M alone gives the step, which descends.

A coordinate at a bound that the step would leave is held, and the others step without it.
Constant terms (E) are moved themselves, not their logarithms: their steps are relative, dE/E. In
log E the valley along which E makes room for the other terms is so bent that Newton's steps creep.
"""

from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import version
from typing import Any

import numpy as np

from scaling.laws.law import Law
from scaling.laws.objectives import huber
from scaling.solve.problem import AT_BOUND

# State of a row whose next step is its last.
_LAST = 0.5


# In any coordinate: logarithms of positive parameters, the others as they are. Further than this
# second derivatives mean nothing, and a term may be thrown away for good.
LONGEST_STEP = 3.0
# Relative step of a constant term that is all but gone.
_NEARLY_ALL = -1.0 + 1e-12


@lru_cache(maxsize=64)
def newton_steps(law: Law, kind: str, is_log: bool) -> Callable[..., Any]:
    """Up to `limit` steps for a chunk of rows; compiled once per number of points."""
    import jax
    import jax.numpy as jnp

    expand_row = _expansion(law, kind, is_log)

    def advance(state: Any, data: Any, shared: Any) -> Any:
        """One step of every row that is still going: evaluate the trial point, propose another."""
        theta, f, g, h, m, damping, reach, step, decrement, iterations, going = state
        lower, upper, is_constant = shared["lower"], shared["upper"], shared["is_constant"]
        moved = jnp.where(is_constant, jnp.log1p(jnp.maximum(step, _NEARLY_ALL)), step)
        trial = jnp.clip(theta + moved, lower, upper)
        there = jax.vmap(expand_row, in_axes=(0, 0, None))(trial, data, shared)
        is_last, is_going = going == _LAST, going > 0
        # The last step is judged by its gradient: the objective no longer resolves the gain.
        no_higher = there[0] <= f + 1e-12 * jnp.abs(f) + shared["floor"]
        flatter = _steepness(jnp, there[1], h, m) < _steepness(jnp, g, h, m)
        better = is_going & ((there[0] < f) & ~is_last | is_last & no_higher & flatter)
        pick = lambda new, old: jnp.where(  # noqa: E731
            better.reshape((-1,) + (1,) * (old.ndim - 1)), new, old
        )
        theta = pick(trial, theta)
        f, g, h, m = (pick(new, old) for new, old in zip(there, (f, g, h, m), strict=True))
        worse = jnp.maximum(damping * 6.0, 1e-4)
        damping = jnp.where(is_going, jnp.where(better, damping * 0.15, worse), damping)
        # A failed step is shortened as well: across many kinks damping alone shortens too slowly.
        length = _length(jnp, step, is_constant)
        reach = jnp.where(better, jnp.minimum(4.0 * reach, LONGEST_STEP), 0.3 * length)
        step, decrement = jax.vmap(_proposal, in_axes=(0, 0, 0, 0, 0, 0, None, None, None))(
            theta, g, h, m, damping, reach, lower, upper, is_constant
        )
        small = decrement <= shared["stop"] * jnp.abs(f) + shared["floor"]
        going = jnp.where(is_last | (damping > 1e12), 0.0, jnp.where(small, _LAST, 1.0) * is_going)
        damping = jnp.where(going == _LAST, 0.0, damping)
        counted = iterations + is_going
        return theta, f, g, h, m, damping, reach, step, decrement, counted, going

    def run(state: Any, data: Any, shared: Any, limit: Any) -> Any:
        def body(carry: Any) -> Any:
            state, k = carry
            return advance(state, data, shared), k + 1

        def more(carry: Any) -> Any:
            return (carry[1] < limit) & jnp.any(carry[0][-1] > 0)

        return jax.lax.while_loop(more, body, (tuple(state), 0))[0]

    # A third less time to compile, with the same bits and steps per second. XLA dropped the option
    # after jaxlib 0.10, and refuses what it does not know.
    is_known = version("jaxlib").startswith("0.10.")
    return jax.jit(run, compiler_options={"xla_cpu_use_fusion_emitters": False} if is_known else {})


def _expansion(law: Law, kind: str, is_log: bool) -> Callable[..., Any]:
    """(z, data, shared) -> objective, gradient, exact Hessian and majoriser of one row.

    Derivatives of the law are taken point by point, each point with coordinates of its own, and
    the points summed by products of matrices: half the time of a Hessian that JAX sums itself.
    """
    import jax
    import jax.numpy as jnp

    n_law = len(law.parameters)
    has_scale = kind == "student_t"
    # Of symmetric matrices the upper half is summed, K numbers, and put at both its places.
    upper = np.triu_indices(n_law)
    places = np.zeros((n_law, n_law), int)
    places[upper] = places[upper[::-1]] = np.arange(len(upper[0]))

    def predicted(coordinates: Any, x: Any) -> Any:
        """Of one point, in the objective's space."""
        both = zip(law.parameters, coordinates, strict=True)
        value = law.value(jnp, [jnp.exp(c) if p.is_positive else c for p, c in both], x)
        return jnp.log(value) if is_log else value

    def expand_row(z: Any, data: Any, shared: Any) -> Any:
        y, w, offset, delta = data
        x, nu, expand = shared["x"], shared["parameter"], shared["expand"]
        full = expand @ z + offset
        at_points = [jnp.broadcast_to(c, y.shape) for c in full[:n_law]]
        s, bend = jax.linearize(lambda c: jax.vmap(jax.grad(predicted))(c, x), at_points)
        along = jax.vmap(lambda axis: jnp.stack(bend([jnp.broadcast_to(a, y.shape) for a in axis])))
        # First derivatives of the predictions [P, n], their products and second ones [K, n].
        slopes, bends = jnp.stack(s), along(jnp.eye(n_law))[upper]
        products = slopes[upper[0]] * slopes[upper[1]]
        r = y - jax.vmap(predicted)(at_points, x)
        # The objective, its first and second derivative by each residual, and Huber's weights.
        if has_scale:
            precision = jnp.exp(-2.0 * full[n_law])
            t = r**2 * precision / nu
            loss = full[n_law] + 0.5 * (nu + 1.0) * jnp.log1p(t)
            reweighted = (nu + 1.0) * precision / (nu * (1.0 + t))
            pull, stiffness = reweighted * r, reweighted * (1.0 - t) / (1.0 + t)
        else:
            w = w * jnp.where(r > 0, shared["tails"][0], shared["tails"][1])
            loss, pull = huber(jnp, r, delta), jnp.clip(r, -delta, delta)
            stiffness, reweighted = jnp.abs(r) < delta, delta / jnp.maximum(jnp.abs(r), delta)
        g = -slopes @ (w * pull)
        h = (products @ (w * stiffness) - bends @ (w * pull))[places]
        m = (products @ (w * reweighted))[places]
        if has_scale:
            # One more coordinate, the logarithm of the scale.
            across = 2.0 * slopes @ (w * pull / (1.0 + t))
            of_scale = 2.0 * jnp.sum(w * pull * r / (1.0 + t))
            h = jnp.block([[h, across[:, None]], [across[None], of_scale]])
            g = jnp.append(g, jnp.sum(w * (1.0 - pull * r)))
            m = jnp.pad(m, (0, 1)).at[-1, -1].set(2.0 * jnp.sum(w) * nu / (nu + 3.0))
        h, m = (expand.T @ matrix @ expand for matrix in (h, m))
        return jnp.sum(w * loss), expand.T @ g, h, m

    return expand_row


def _steepness(jnp: Any, g: Any, h: Any, m: Any) -> Any:
    """Squared gradient [R] in units of the curvature along each coordinate."""
    curvature = jnp.abs(jnp.diagonal(h, axis1=1, axis2=2)) + jnp.diagonal(m, axis1=1, axis2=2)
    return jnp.sum(g**2 / (curvature + 1e-300), axis=1)


def _length(jnp: Any, step: Any, is_constant: Any) -> Any:
    """The longest of the steps in all coordinates [..., F]; in a relative one that of its log."""
    size = jnp.abs(step)
    return jnp.max(jnp.where(is_constant, jnp.log1p(size), size), axis=-1)


def _proposal(
    theta: Any, g: Any, h: Any, m: Any, damping: Any, reach: Any,
    lower: Any, upper: Any, is_constant: Any,
) -> tuple[Any, Any]:  # fmt: skip
    """The damped step in the coordinates not held at a bound, and the undamped decrement."""
    import jax
    import jax.numpy as jnp

    # From second derivatives by log E to those by E, times E squared.
    h = h - jnp.diag(jnp.where(is_constant, g, 0.0))
    diagonal = jnp.diagonal(m) + jnp.abs(jnp.diagonal(h))
    scale = 1.0 / jnp.sqrt(diagonal + 1e-30 * jnp.max(diagonal) + 1e-300)
    eye = jnp.eye(len(theta))
    h, m = (matrix * scale[:, None] * scale[None, :] for matrix in (h, m))
    ridge = 1e-14 * eye
    # Damped, reweighted, and undamped for the decrement: solved as one, the program is smaller.
    systems = jnp.stack([h + damping * m + ridge, (1.0 + damping) * m + 1e-10 * eye, h + ridge])
    at_lower, at_upper = theta <= lower + AT_BOUND, theta >= upper - AT_BOUND

    def solved(carry: Any) -> Any:
        n_rounds, free, _, known = carry
        pull = jnp.where(free, g * scale, 0.0)
        of_free = jnp.where(free[:, None] & free[None, :], systems, eye)
        steps, is_definite = jax.vmap(_descend, in_axes=(0, None))(of_free, pull)
        step = jnp.where(is_definite[0], steps[0], steps[1]) * scale
        gain = jnp.where(is_definite[2], -0.5 * jnp.dot(steps[2], pull), jnp.inf)
        leaves = (at_lower & (step < 0)) | (at_upper & (step > 0))
        held = free & ~leaves
        # Where no step leaves the box a second round would be the first again.
        n_rounds = jnp.where(jnp.all(held == free), 2, n_rounds + 1)
        return n_rounds, held, jnp.where(held, step, 0.0), jnp.maximum(known, gain)

    # Held: at a bound that the gradient presses against, or, in a second round, the step would.
    # The decrement is the larger one, so that no row ends where only such a step is short.
    free = ~((at_lower & (g > 0)) | (at_upper & (g < 0)))
    first = (0, free, jnp.zeros_like(theta), 0.0)
    _, _, step, decrement = jax.lax.while_loop(lambda carry: carry[0] < 2, solved, first)
    # A constant term that would fall below its bound ends there, and the others on the way.
    room = jnp.where(is_constant & (step < 0), jnp.expm1(lower - theta), -jnp.inf)
    step = step * jnp.min(jnp.minimum(1.0, room / jnp.minimum(step, -1e-300)))
    return step * jnp.minimum(1.0, reach / (_length(jnp, step, is_constant) + 1e-300)), decrement


def _descend(matrix: Any, gradient: Any) -> tuple[Any, Any]:
    """-matrix^-1 gradient, and whether the matrix is positive definite.

    Elimination (Gauss and Jordan) without exchange of rows, which definite matrices do not need:
    the pivots tell whether it is one. LAPACK's calls take longer for matrices this small, and load
    all of scipy.linalg.
    """
    import jax.numpy as jnp

    rows = jnp.column_stack([matrix, gradient])
    pivots = []
    for k in range(len(gradient)):
        pivots.append(rows[k, k])
        row = rows[k] / rows[k, k]
        rows = (rows - rows[:, k, None] * row).at[k].set(row)
    step = -rows[:, -1]
    is_definite = jnp.all(jnp.stack(pivots) > 0.0) & jnp.all(jnp.isfinite(step))
    return jnp.where(is_definite, step, 0.0), is_definite

# SPDX-License-Identifier: Apache-2.0
"""The losses of an isoFLOP grid as one law: minima free, their place and curvature powers of C.

Along a budget the additive law, for C = 6ND, is its minimum and

    kappa h(x - x*),    h(z) = z^2 ((1 - a) phi(-g z/a) + a phi(g z/(1 - a))),
    phi(u) = (e^u - 1 - u)/u^2,

where x = ln N, a = beta/(alpha + beta), g = alpha beta/(alpha + beta) and kappa = alpha beta
(L* - E), which goes as C^-g: the sum A N^-alpha + B D^-beta about its minimum. So none of a
parabola's bias arises. The minima and the size of kappa are free here; h with g = 0 is a parabola.
Over ln D in place of ln N the same holds, with b for a.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from scaling.tables.arrays import Array

# What settings and stored curves call it.
JOINT = "joint"
# Coordinates that the solver moves: x* at the reference budget, a, g.
NAMES = ("ln N* at the reference", "a", "g")
# Of a and of g: beyond them h has a shape that no table of runs has shown.
A_RANGE, G_RANGE = (0.05, 0.95), (-0.5, 1.0)
# Below this phi is summed, for e^u - 1 - u leaves nothing but rounding error there.
_SMALL = 0.05
# 1/2 + u/6 + u^2/24 + ..., the highest power first.
_SERIES = 1.0 / np.cumprod(np.arange(1.0, 10.0))[:0:-1]
# Beyond it e^u is kept finite: no trial step of a fit overflows.
_FAR = 60.0


def excess(z: Array, a: Array | float, g: Array | float) -> Array:
    """h(z): the loss above the minimum over its curvature there; z = x - x*."""
    return excess_and_slopes(z, a, g)[0]


def excess_and_slopes(
    z: Array, a: Array | float, g: Array | float
) -> tuple[Array, Array, Array, Array]:
    """h(z), and its derivatives by z, a and g."""
    (low, of_low), (high, of_high) = _phi(-g * z / a), _phi(g * z / (1.0 - a))
    # Of the two terms by their arguments.
    of_low, of_high = z**2 * (1.0 - a) * of_low, z**2 * a * of_high
    mixed = (1.0 - a) * low + a * high
    by_z = 2.0 * z * mixed + g * (of_high / (1.0 - a) - of_low / a)
    by_a = z**2 * (high - low) + g * z * (of_low / a**2 + of_high / (1.0 - a) ** 2)
    by_g = z * (of_high / (1.0 - a) - of_low / a)
    return z**2 * mixed, by_z, by_a, by_g


def _phi(u: Array) -> tuple[Array, Array]:
    """phi and its derivative."""
    u = np.clip(u, -_FAR, _FAR)
    is_small = np.abs(u) < _SMALL
    far = np.where(is_small, 1.0, u)
    ratio = np.expm1(far) / far
    value = (ratio - 1.0) / far
    near = np.where(is_small, u, 0.0)
    return (
        np.where(is_small, np.polyval(_SERIES, near), value),
        np.where(is_small, np.polyval(np.polyder(_SERIES), near), (ratio - 2.0 * value) / far),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Grid:
    """Where the runs of a grid lie.

    Fields:
      x: ln size over its mean, [n]. label: number of each run's budget, [n]. scale: ln C of each
        budget over its mean, [B].
    """

    x: Float[Array, " n"]
    label: Int[Array, " n"]
    scale: Float[Array, " B"]

    @property
    def is_at(self) -> Float[Array, "n B"]:
        """1 where a run is of a budget."""
        return (self.label[:, None] == np.arange(len(self.scale))).astype(float)

    def places(self, theta: Float[Array, "R 3"]) -> Float[Array, "R B"]:
        """x* of each budget."""
        return theta[:, :1] + theta[:, 1:2] * self.scale

    def curvatures(self, theta: Float[Array, "R 3"]) -> Float[Array, "R B"]:
        """Of each budget over kappa: C^-g."""
        return np.exp(-theta[:, 2:] * self.scale)

    def rises(self, theta: Float[Array, "R 3"]) -> Float[Array, "R n"]:
        """Loss of each run above its budget's minimum over kappa."""
        return self._risen(theta)[0]

    def slopes(self, theta: Float[Array, "R 3"]) -> Float[Array, "R n 3"]:
        """Of `rises` by the coordinates."""
        rises, by_z, by_a, by_g = self._risen(theta)
        scale = self.scale[self.label]
        return np.stack([-by_z, by_a - scale * by_z, by_g - scale * rises], axis=-1)

    def _risen(self, theta: Array) -> list[Array]:
        """Rises, and their slopes by z, a and g in h."""
        z = self.x - self.places(theta)[:, self.label]
        curvature = self.curvatures(theta)[:, self.label]
        return [curvature * v for v in excess_and_slopes(z, theta[:, 1:2], theta[:, 2:])]

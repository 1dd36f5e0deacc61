# SPDX-License-Identifier: Apache-2.0
"""The known bias of Approach 2, measured on a surface without noise (arXiv:2603.22339).

A parabola is symmetric about its vertex, an isoFLOP line of a loss surface is not unless
alpha = beta and the grid is centred. So even without noise the vertices lie beside the optima, by
more the wider the grid. The bias depends on the surface and on the grid alone and can be
calculated for both. The joint fit has the shape of the additive law and no bias on one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from scaling.approaches.approach2 import approach2
from scaling.approaches.isoflop.law import JOINT
from scaling.approaches.surface.optimum import chord_exponents, optimal_log_params
from scaling.fit import Fit, FitError
from scaling.laws.law import Law
from scaling.laws.registry import law_named
from scaling.laws.size_ladder import Ladder
from scaling.tables.arrays import Array
from scaling.tables.runs import Runs
from scaling.tables.units import power


@dataclass(frozen=True, slots=True, kw_only=True)
class Approach2Bias:
    """Approach 2 on the noise-free losses of a surface, against the surface itself.

    Fields:
      flops: the budget at which N* and D* are compared.
      exponent_a, exponent_b, n_params_opt, n_tokens_opt: (found by Approach 2, exact).
    """

    flops: float
    exponent_a: tuple[float, float]
    exponent_b: tuple[float, float]
    n_params_opt: tuple[float, float]
    n_tokens_opt: tuple[float, float]

    @property
    def of_a(self) -> float:
        return self.exponent_a[0] - self.exponent_a[1]

    @property
    def of_b(self) -> float:
        return self.exponent_b[0] - self.exponent_b[1]

    @property
    def of_n_params(self) -> float:
        """Relative: 0.01 is 1 % too many parameters."""
        return self.n_params_opt[0] / self.n_params_opt[1] - 1.0

    @property
    def of_n_tokens(self) -> float:
        """Relative: 0.01 is 1 % too many tokens."""
        return self.n_tokens_opt[0] / self.n_tokens_opt[1] - 1.0

    @property
    def sentence(self) -> str:
        return (
            "bias of this estimator, without any noise, on the fitted surface and this grid: "
            f"a {self.of_a:+.4f}, b {self.of_b:+.4f}, N* {100 * self.of_n_params:+.2f} % and D* "
            f"{100 * self.of_n_tokens:+.2f} % at {power(self.flops)} FLOPs; no interval holds it."
        )


def approach2_bias(
    law: str | Law,
    parameters: Float[Array, " P"] | Sequence[float],
    runs: Runs,
    flops: float,
    *,
    curve: str = JOINT,
    tokens: str = "ladder",
) -> Approach2Bias:
    """What Approach 2 finds on a surface's own losses at the points of a grid, against the truth.

    Args:
      law: a surface. parameters: of it, in the order of its names, [P].
      runs: the grid; their losses are not used. Budgets whose curve has no minimum on these
        losses are left out.
      flops: where N* and D* are compared, in the convention of the runs.
      curve, tokens: as in `approach2`.

    Raises:
      FitError: when fewer than two budgets have a minimum, or the surface has none at `flops`.
      ValueError: for a law that is no surface.
    """
    law = law_named(law) if isinstance(law, str) else law
    values = np.asarray(parameters, float)
    clean = replace(runs, loss_nats=law.loss(values, runs.n_params, runs.n_tokens))
    every = {"accept": "any"} if curve != JOINT else {}
    fit = approach2(clean, curve=curve, tokens=tokens, n_bootstrap=0, **every)
    a, b = chord_exponents(law, values[None], clean)
    ladder, log_c = Ladder.from_runs(clean), np.log(float(flops))
    log_n = float(optimal_log_params(law, values[None], ladder, np.array([log_c]))[0, 0])
    if not np.isfinite(log_n):
        raise FitError(
            f"the {law.name} surface has no compute-optimal size at {power(flops)} FLOPs within "
            "six decades of the grid; ask for a budget nearer to the runs."
        )
    x = log_c - np.log(fit.parameters["flops_ref"])
    n_params = fit.parameters["n_params_ref"] * np.exp(fit.exponent_a * x)
    n_tokens = fit.parameters["n_tokens_ref"] * np.exp(fit.exponent_b * x)
    exact = (np.exp(log_n), np.exp(log_c - ladder.log_cost(np.array(log_n))))
    return Approach2Bias(
        flops=float(flops),
        exponent_a=(fit.exponent_a, float(a[0])),
        exponent_b=(fit.exponent_b, float(b[0])),
        n_params_opt=(float(n_params), float(exact[0])),
        n_tokens_opt=(float(n_tokens), float(exact[1])),
    )


def bias_of(isoflop: Fit, surface: Fit) -> Approach2Bias:
    """The bias of a fit by Approach 2 at the largest budget, a fitted surface being the truth.

    Args:
      isoflop: from `approach2`; its curve, its tokens and the runs that it used are taken over.
      surface: from `fit_surface`, on runs of the same conventions.

    Raises:
      ValueError: for fits of other kinds.
      FitError: as `approach2_bias`.
    """
    if isoflop.approach != "isoflop" or surface.approach != "surface":
        raise ValueError(
            f"bias of Approach 2 needs an isoflop fit and a surface, not {isoflop.name} and "
            f"{surface.name}"
        )
    runs, law = isoflop.fitted_runs, law_named(surface.law)
    return approach2_bias(
        law,
        np.array([surface.parameters[name] for name in law.names]),
        runs,
        float(runs.budget.max()),
        curve=isoflop.settings["curve"],
        tokens=isoflop.settings["tokens"],
    )


def with_bias(isoflop: Fit, surface: Fit) -> Fit:
    """The isoflop fit with a finding on its bias; as it was where the surface is not certified."""
    if not surface.is_certified:
        return isoflop
    try:
        sentence = bias_of(isoflop, surface).sentence
    except FitError as error:
        sentence = f"the bias of Approach 2 cannot be told here: {error}"
    return replace(isoflop, findings=(*isoflop.findings, sentence))

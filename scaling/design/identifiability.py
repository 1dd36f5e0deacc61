# SPDX-License-Identifier: Apache-2.0
"""What planned runs will tell of a law, before any of them is trained.

Losses are taken to follow laws like those of public tables (`prior.Prior.published`), linearised
about draws of them, and to scatter as theirs do. The answer is how wide intervals will be, not
where they will lie.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import stdtrit

from scaling.design.outlook import outlook
from scaling.design.posterior import LawPosterior, fit_posterior
from scaling.design.prior import N_ADDITIVE, Prior
from scaling.design.target import Target
from scaling.tables.arrays import Array
from scaling.tables.runs import Runs
from scaling.tables.units import power
from scaling.uncertainty.groups import configurations

# Runs that leave more than this share of the prior's width tell little of a quantity.
_TELLS = 0.5
# Of the information about the additive form's parameters; grids whose tokens per parameter differ
# tenfold at each budget have some hundred, those on one ray more than 1e4 (2605.08541).
_ILL_CONDITIONED = 3e3


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """Half-widths of the intervals that are expected, the median over draws of the law.

    Fields:
      flops: the budget at which N* and L* are asked for. level: of the intervals.
      exponent_a: of a. log_n_params: of ln N*. log_loss: of ln L*.
      tokens_per_param: the least and the most.
      condition: of the information about the additive form's five parameters, scaled to a unit
        diagonal.
      findings: what the runs will not tell, each with the way out.
    """

    flops: float
    level: float
    exponent_a: float
    log_n_params: float
    log_loss: float
    tokens_per_param: tuple[float, float]
    condition: float
    findings: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """One line of numbers."""
        low, high = self.tokens_per_param
        return (
            f"expected, if the law is like published ones: a +- {self.exponent_a:.2f}; at "
            f"{power(self.flops)} FLOPs N* within x{power(np.exp(self.log_n_params))} and the loss "
            f"+- {100 * self.log_loss:.2g} % ({100 * self.level:g} %); tokens per parameter "
            f"{low:.3g} to {high:.3g}, condition {self.condition:.2g}"
        )


def expected_intervals(planned: Runs, flops: float, *, level: float = 0.95) -> Expected:
    """How wide the intervals of a law fitted to planned runs will be.

    Args:
      planned: their losses are not read. flops: see `Expected`; above the lowest budget.

    Raises:
      ValueError: for a budget that is none, or at which the law has no optimum.
    """
    prior = Prior.published(planned)
    posterior = fit_posterior(planned.select(np.zeros(len(planned), bool)), prior)
    asked = [Target(name=name, flops=flops, low=float(planned.budget.min()))
             for name in ("exponent", "n_params_opt", "loss")]  # fmt: skip
    widths = [_widths(posterior, target, planned, level) for target in asked]
    ratio = planned.n_tokens / planned.n_params
    condition = _condition(prior.slopes(prior.mean, planned)[:, :N_ADDITIVE])
    return Expected(
        flops=flops,
        level=level,
        exponent_a=widths[0][1],
        log_n_params=widths[1][1],
        log_loss=widths[2][1],
        tokens_per_param=(float(ratio.min()), float(ratio.max())),
        condition=condition,
        findings=tuple(_findings(widths, condition, flops)),
    )


def _widths(
    posterior: LawPosterior, target: Target, planned: Runs, level: float
) -> tuple[float, float]:
    """Half-widths of the target's interval, before the runs and after them."""
    now = outlook(posterior, target, planned)
    then = now.given(np.arange(len(planned)))
    n_spare = len(np.unique(configurations(planned))) - N_ADDITIVE
    quantile = float(stdtrit(max(n_spare, 1), (1 + level) / 2))
    before, after = (float(np.median(np.sqrt(one.target[:, 0, 0]))) for one in (now, then))
    return float(stdtrit(1e6, (1 + level) / 2)) * before, quantile * after


def _condition(slopes: Float[Array, "n P"]) -> float:
    scaled = slopes / np.linalg.norm(slopes, axis=0)
    singular = np.linalg.svd(scaled, compute_uv=False)
    return float((singular[0] / singular[-1]) ** 2)


def _findings(widths: list[tuple[float, float]], condition: float, flops: float) -> list[str]:
    found = []
    names = ("the exponent a", f"N* at {power(flops)} FLOPs", f"the loss at {power(flops)} FLOPs")
    untold = [name for name, (before, after) in zip(names, widths, strict=True)
              if after > _TELLS * before]  # fmt: skip
    if untold:
        found.append(
            f"of {' and '.join(untold)} these runs tell little that published laws do not; ask "
            "for more budgets, further apart, or more sizes"
        )
    if condition > _ILL_CONDITIONED:
        found.append(
            "parameters and tokens hardly move apart, so that A, B and their exponents will be "
            "known only together; ask for sizes further apart at each budget"
        )
    return found

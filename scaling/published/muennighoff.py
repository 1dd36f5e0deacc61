# SPDX-License-Identifier: Apache-2.0
"""Muennighoff et al. 2023: what repeated data are worth, and how little the runs determine it.

Law `laws.DATA_CONSTRAINED` with E, A, B, alpha = beta kept at the paper's values, so that R_D* and
R_N* alone are fitted. The published pair is a local minimum; two lower ones exist, and the profile
in R_D* is flat over an order of magnitude.
"""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from scaling.laws.loss_laws import ADDITIVE, DATA_CONSTRAINED
from scaling.laws.objectives import HUBER
from scaling.plots.style import caption, new_figure, styled
from scaling.published.case import Case, Comparison, Reproduction, compare
from scaling.published.tables import Table, doubts, minimum, named, read_table
from scaling.solve.newton import solve
from scaling.solve.problem import Constraints
from scaling.solve.regression import Estimate
from scaling.tables.arrays import Array
from scaling.tables.units import count

TABLE = "muennighoff_data_constrained.csv"
FIXED = {
    "E": float(np.exp(0.6254804)),
    "A": float(np.exp(6.255414)),
    "B": float(np.exp(7.3049974)),
    "alpha": 0.3526596,
    "beta": 0.3526596,
}
PUBLISHED = (15.387756, 5.309743)
PROFILE = np.geomspace(5.0, 400.0, 45)


def objective_at(table: Table, R_D_star: float, R_N_star: float) -> float:
    """Sum over runs of Huber(1e-3) on log loss, at given R_D* and R_N*."""
    parameters = np.array([*FIXED.values(), R_D_star, R_N_star])
    predicted = DATA_CONSTRAINED.predict(parameters, table)
    return float(np.sum(HUBER.rho(np.log(table["loss_nats"]) - np.log(predicted))))


def local_minimum(found: Estimate, R_D_star: float, R_N_star: float) -> tuple[Array, float, bool]:
    """(R_D*, R_N*), objective and certificate of the minimum that a start leads to."""
    end = solve(found.problem, np.log([[R_D_star, R_N_star]]), stop=0.0)
    return np.exp(end.theta[0]), float(end.objective[0]), bool(end.is_certified[0])


def profile(table: Table, values: Array = PROFILE) -> tuple[Array, Array]:
    """Lowest objective and its R_N* with R_D* held at each value."""
    rows = []
    for value in values:
        constraints = Constraints(fixed=FIXED | {"R_D_star": float(value)})
        own = named(minimum(table, DATA_CONSTRAINED, constraints=constraints))
        rows.append((own["objective"], own["R_N_star"]))
    objectives, sizes = np.array(rows).T
    return objectives, sizes


def r_squared_without_decay(table: Table) -> float:
    """R^2 of the loss when repeated tokens count as new ones: the additive law with D as it is."""
    parameters = np.array([FIXED[name] for name in ADDITIVE.names])
    loss = table["loss_nats"]
    misfit = np.sum((loss - ADDITIVE.predict(parameters, table)) ** 2)
    return float(1 - misfit / np.sum((loss - loss.mean()) ** 2))


def _minima(table: Table, found: Estimate) -> list[Comparison]:
    (R_D, R_N), local, _ = local_minimum(found, *PUBLISHED)
    (other_D, other_N), other, _ = local_minimum(found, 47.0, 2.33)
    own, note = named(found), "published: a local minimum, not the lowest"
    return [
        compare("published point, objective", "0.0158259353", objective_at(table, *PUBLISHED)),
        # Given elsewhere as 15.371759; with 40 digits it is 15.3717584743.
        compare("local minimum near it, R_D*", "15.37176", R_D),
        compare("local minimum near it, R_N*", "5.315126", R_N),
        compare("local minimum near it, objective", "0.0158259321", local),
        compare("second minimum, R_D*", "46.99", other_D),
        compare("second minimum, R_N*", "2.3296", other_N),
        compare("second minimum, objective", "0.0158073786", other),
        compare("lowest minimum, R_D*", "95.365", own["R_D_star"]),
        compare("lowest minimum, R_N*", "1.7059", own["R_N_star"]),
        compare("lowest minimum, objective", "0.0158046625", own["objective"], kind="not higher"),
        compare("R_D* as published", "15.387756", own["R_D_star"], kind="published", note=note),
        compare("R_N* as published", "5.309743", own["R_N_star"], kind="published", note=note),
    ]


def _run(folder: Path) -> Reproduction:
    table = read_table(folder / TABLE)
    found = minimum(table, DATA_CONSTRAINED, constraints=Constraints(fixed=FIXED))
    along, sizes = profile(table)
    inside = (PROFILE >= 15) & (PROFILE <= 150)
    lowest = found.certificate.objective
    rise = 100 * (along[inside].max() / lowest - 1)
    certificates = [local_minimum(found, *p)[2] for p in (PUBLISHED, (47.0, 2.33))]
    without = compare("R^2 without decay", "0.44517", r_squared_without_decay(table))
    return Reproduction(
        comparisons=(*_minima(table, found), without),
        figure=_figure(table, found, along, sizes),
        findings=(
            *doubts("R_D*, R_N*", found),
            f"{sum(certificates)} of 2 further minima are certified.",
            f"R_D* is not determined: from 15 to 150 the profile stays within {rise:.2g} % of the "
            "lowest objective, and R_N* moves from "
            f"{sizes[inside][0]:.2f} to {sizes[inside][-1]:.2f} along it.",
        ),
    )


@styled()
def _figure(table: Table, found: Estimate, along: Array, sizes: Array) -> Figure:
    """Profile of the objective in R_D*, and R_N* along it."""
    drawn, (left, right) = new_figure(2, width=9.0, height=3.6)
    lowest = found.certificate.objective
    published = 100 * (objective_at(table, *PUBLISHED) / lowest - 1)
    best = named(found)
    left.axvspan(15, 150, color="#eeeeee", zorder=0)
    left.plot(PROFILE, 100 * (along / lowest - 1), color="#0072b2")
    left.plot(PUBLISHED[0], published, "D", color="#d55e00", label="published")
    left.plot(best["R_D_star"], 0.0, "o", color="#0072b2", label="lowest minimum")
    left.set(xscale="log", xlabel="R_D*", ylabel="objective above the lowest (%)", ylim=(-0.05, 2))
    left.legend()
    right.plot(PROFILE, sizes, color="#0072b2")
    right.plot(*PUBLISHED, "D", color="#d55e00")
    right.plot(best["R_D_star"], best["R_N_star"], "o", color="#0072b2")
    right.set(xscale="log", yscale="log", xlabel="R_D*", ylabel="best R_N* at that R_D*")
    for axis in (left.xaxis, right.xaxis, right.yaxis):
        axis.set_major_formatter(count)
    caption(drawn, ["182 runs; E, A, B, alpha = beta as in the paper. Grey: 15 to 150."])
    return drawn


CASE = Case(
    name="muennighoff",
    title="Repeated data: a published local minimum and a flat profile",
    paper="Muennighoff et al. 2023, arXiv:2305.16264",
    run=_run,
)

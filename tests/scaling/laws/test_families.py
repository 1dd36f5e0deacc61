# SPDX-License-Identifier: Apache-2.0
"""Laws of further columns: what each must be in a case that has a closed form of its own."""

from dataclasses import dataclass

import numpy as np
import pytest

from scaling.approaches.columns import Way, fit_columns
from scaling.laws import registry
from scaling.laws.mixture_laws import MIXTURE_LAWS
from scaling.laws.objectives import objective_named
from scaling.laws.rate_laws import RATES
from scaling.laws.registry import law_named

RNG = np.random.default_rng(5)
N = np.array([3e7, 1e8, 4e8, 1e9, 3e9])
D = np.array([1e9, 4e9, 2e10, 6e10, 3e11])


def additive(E, A, B, alpha, beta):
    return E + A / N**alpha + B / D**beta


# Law, parameters, columns, and the loss by a formula written anew.
SPECIAL = {
    "one stream is a network of its size": (
        "parallel", (1.2, 30.0, 0.2, 0.4), {"n_params": N, "n_streams": np.ones(5)},
        1.2 + 30.0 / N**0.2,
    ),
    "e streams count as 1 + k times the parameters": (
        "parallel", (1.2, 30.0, 0.2, 0.4), {"n_params": N, "n_streams": np.full(5, np.e)},
        1.2 + 30.0 / (1.4 * N) ** 0.2,
    ),
    "a power of streams": (
        "parallel_power", (1.2, 30.0, 0.2, 0.05), {"n_params": N, "n_streams": np.full(5, 8.0)},
        1.2 + 30.0 / N**0.2 / 8**0.05,
    ),
    "a vocabulary of e": (
        "vocabulary", (5.0, 90.0, 0.5, 300.0, 0.3, 1.0, 0.25),
        {"n_params": N, "vocab_size": np.full(5, np.e), "n_characters": D},
        90.0 / N**0.3 + 0.5 / np.e + 300.0 / D**0.25 - 5.0,
    ),
    "without slopes of the third term it is Tao's": (
        "vocabulary_crossed", (5.0, 90.0, 0.5, 300.0, 0.3, 1.0, 0.25, 0.0, 0.0, 1e-6),
        {"n_params": N, "vocab_size": np.full(5, np.e), "n_characters": D},
        90.0 / N**0.3 + 0.5 / np.e + 300.0 / D**0.25 - 5.0,
    ),
    "all of domain 2": (
        "data_mixing:3", (1.5, 0.3, -0.7, 0.2),
        {f"proportion_domain_{i}": np.full(5, float(i == 2)) for i in (1, 2, 3)},
        np.full(5, 1.5 + np.exp(-0.7)),
    ),
    "half of domains 1 and 3": (
        "effective_mixing:3", (1.5, 0.5, 4.0, 9.0, 2.0),
        {f"proportion_domain_{i}": np.full(5, 0.5 * (i != 2)) for i in (1, 2, 3)},
        np.full(5, 1.5 + 1 / np.sqrt(3.0)),
    ),
    "one expert counts as E_start": (
        "routed", (-0.08, -0.1, 0.003, 2.5, 2.0, 300.0), {"n_params": N, "n_experts": np.ones(5)},
        np.exp(2.5) * N**-0.08 * 2.0**-0.1 * np.exp(0.003 * np.log(N) * np.log(2.0)),
    ),
    "endless experts count as E_max": (
        "routed", (-0.08, -0.1, 0.003, 2.5, 2.0, 300.0),
        {"n_params": N, "n_experts": np.full(5, 1e14)},
        np.exp(2.5) * N**-0.08 * 302.0**-0.1 * np.exp(0.003 * np.log(N) * np.log(302.0)),
    ),
    "a dense network of the routed law with a floor": (
        "routed_floor", (1.1, 20.0, 0.2, 0.1, 0.004, 1.0, 300.0),
        {"n_params": N, "n_experts": np.ones(5)}, 1.1 + 20.0 / N**0.2,
    ),
    "a dense network of the joint law": (
        "joint_experts", (1.1, 20.0, 0.3, 0.2, 0.1, 0.4, 0.004),
        {"n_params": N, "n_experts": np.ones(5)}, 1.1 + 20.0 / N**0.2 + 0.3,
    ),
    "no sparsity": (
        "upcycled", (1.1, 20.0, 0.2, 0.1, 0.01), {"n_params_active": N, "sparsity": np.ones(5)},
        1.1 + 20.0 / N**0.2,
    ),
    "no sparsity, added": (
        "upcycled_additive", (1.1, 20.0, 0.2, 0.1),
        {"n_params_active": N, "sparsity": np.full(5, np.e)}, 1.1 + 20.0 / N**0.2 - 0.1,
    ),
    "one pass does not wear": (
        "worn_data", (1.7, 400.0, 410.0, 0.34, 0.28, 15.0),
        {"n_params": N, "n_tokens": D, "unique_tokens": D}, additive(1.7, 400.0, 410.0, 0.34, 0.28),
    ),
    "endless passes are worth R* more": (
        "worn_data", (1.7, 400.0, 410.0, 0.34, 0.28, 15.0),
        {"n_params": N, "n_tokens": 1e6 * D, "unique_tokens": D},
        1.7 + 400.0 / N**0.34 + 410.0 / (16.0 * D) ** 0.28,
    ),
    "two passes of the penalty": (
        "overfitting", (1.7, 400.0, 410.0, 0.34, 0.28, 0.5, 0.7, 0.4),
        {"n_params": N, "n_tokens": D, "unique_tokens": D / 2},
        additive(1.7, 400.0, 410.0, 0.34, 0.28) + 0.5 * (2 * N / D) ** 0.4,
    ),
    "one pass of wear and penalty": (
        "repeated", (1.7, 400.0, 410.0, 0.34, 0.28, 1.0, 15.0, 0.5, 0.7, 0.4),
        {"n_params": N, "n_tokens": D, "unique_tokens": D}, additive(1.7, 400.0, 410.0, 0.34, 0.28),
    ),
    "Farseer without bends": (
        "farseer", (0.0, np.log(0.3), 0.1, 0.0, np.log(40.0), 0.1, 0.0, np.log(1.7), 0.1),
        {"n_params": N, "n_tokens": D}, 1.7 + 40.0 / D**0.3,
    ),
    "Farseer's floor": (
        "farseer", (0.0, 0.0, 0.1, 0.0, -300.0, 0.1, -0.2, 1.0, 0.1),
        {"n_params": N, "n_tokens": D}, np.exp(1.0 - 0.2 * N**0.1),
    ),
    "an interaction": (
        "interaction", (1.7, 400.0, 410.0, 3.0, 0.34, 0.28, 0.1, 0.2),
        {"n_params": N, "n_tokens": D},
        additive(1.7, 400.0, 410.0, 0.34, 0.28) + 3.0 * N**-0.1 * D**-0.2,
    ),
    "endless bits": (
        "precision", (1.7, 400.0, 410.0, 0.34, 0.28, 2.0),
        {"n_params": N, "n_tokens": D, "bits": np.full(5, 1e4)},
        additive(1.7, 400.0, 410.0, 0.34, 0.28),
    ),
    "bits that keep half of each of three": (
        "precision", (1.7, 400.0, 410.0, 0.34, 0.28, 2.0),
        {"n_params": N, "n_tokens": D, "bits": np.full(5, 2.0 * np.log(2.0))},
        1.7 + 400.0 / (N / 8) ** 0.34 + 410.0 / D**0.28,
    ),
    "a teacher of loss 1 at the student's own scale": (
        "distillation", (400.0, 410.0, 0.34, 0.28, 1.0, 2.0, 3.0, 0.5, 0.5),
        {"n_params": N, "n_tokens": D, "teacher_loss": np.ones(5),
         "supervised_loss": np.full(5, 2.0)},
        1.0 + 2.0**-1.5 * (400.0 / N**0.34 + 410.0 / D**0.28),
    ),
    "one loss from another": (
        "loss_to_loss", (0.5, 1.2, 1.0, 2.0), {"loss_nats": np.array([1.5, 2.0, 3.0])},
        np.array([0.8, 1.7, 5.3]),
    ),
    "half right": (
        "accuracy", (0.3 * np.log(1e20) + np.log(np.log(2.0)), 0.3),
        {"flops": np.array([1e20])}, np.array([0.5]),
    ),
    "the best rate and batch": (
        "rates",
        (1.7, 400.0, 410.0, 0.34, 0.28, 1.0, -6.0, -0.5, 0.2, 12.0, 0.1, 0.5, 0.3, 0.1, 0.2,
         0.1, -0.1, 0.5, 0.2),
        {"n_params": N, "n_tokens": D,
         "learning_rate": np.exp(-6.0) * (N / 1e9) ** -0.5 * (D / 1e10) ** 0.2,
         "batch_size": np.exp(12.0) * (N / 1e9) ** 0.1 * (D / 1e10) ** 0.5},
        additive(1.7, 400.0, 410.0, 0.34, 0.28),
    ),
    "a rate e times the best, straight": (
        "rates",
        (1.7, 400.0, 410.0, 0.34, 0.28, 1.0, -6.0, -0.5, 0.2, 12.0, 0.1, 0.5, 0.3, 0.1, 0.2,
         0.0, 0.0, 0.0, 0.0),
        {"n_params": N, "n_tokens": D,
         "learning_rate": np.exp(-5.0) * (N / 1e9) ** -0.5 * (D / 1e10) ** 0.2,
         "batch_size": np.exp(12.0) * (N / 1e9) ** 0.1 * (D / 1e10) ** 0.5},
        additive(1.7, 400.0, 410.0, 0.34, 0.28) + 0.09,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SPECIAL.values(), ids=SPECIAL)
def test_a_law_is_its_closed_form_where_it_has_one(case):
    name, parameters, columns, expected = case
    np.testing.assert_allclose(law_named(name).predict(parameters, columns), expected, rtol=1e-12)


def test_every_further_law_is_tried_in_such_a_case():
    tried = {name.partition(":")[0] for name, *_ in SPECIAL.values()}
    others = {"additive", "curved", "kaplan", "over_training", "width_depth", "data_constrained"}
    # Other tests register laws of their own.
    ours = [one for one in vars(registry).values() if isinstance(one, tuple)]
    names = [law.name for laws in ours for law in laws] + [RATES.name, *MIXTURE_LAWS]
    listed = {name.partition(":")[0] for name in names}
    left = {name for name in listed if not name.startswith(("power_", "broken_", "error_"))}
    assert left - others == tried


@dataclass(frozen=True, kw_only=True)
class Planted:
    law: str
    parameters: tuple[float, ...]
    columns: dict[str, np.ndarray]
    objective: str = "huber"


def spread(n, **ranges):
    """Columns spread evenly in logarithms, each by itself."""
    return {name: np.exp(RNG.uniform(*np.log(ends), n)) for name, ends in ranges.items()}


def mixtures(n, m):
    return dict(zip([f"proportion_domain_{i + 1}" for i in range(m)],
                    RNG.dirichlet(np.ones(m), n).T, strict=True))  # fmt: skip


OF_RATES = spread(240, n_params=(6e7, 1e9), n_tokens=(2e9, 1e11))
OF_RATES |= {
    "learning_rate": np.exp(-6.0 + RNG.uniform(-1.5, 1.5, 240))
    * (OF_RATES["n_params"] / 1e9) ** -0.5,
    "batch_size": np.exp(12.0 + RNG.uniform(-1.5, 1.5, 240)) * (OF_RATES["n_tokens"] / 1e10) ** 0.5,
}
PLANTED = (
    Planted(law="parallel", parameters=(1.2, 30.0, 0.2, 0.4),
            columns=spread(18, n_params=(5e8, 5e9)) | {"n_streams": np.tile([1.0, 2.0, 4.0], 6)}),
    Planted(law="vocabulary_crossed", objective="raw-huber:0.1",
            parameters=(5.5, 90.0, 20.0, 300.0, 0.25, 0.4, 0.3, 0.1, 0.02, 1e8),
            columns=spread(96, n_params=(3e7, 1e9), vocab_size=(4e3, 1e5),
                           n_characters=(1e8, 1e11))),
    Planted(law="data_mixing:3", parameters=(1.5, 0.3, -0.7, 0.2), columns=mixtures(24, 3)),
    Planted(law="effective_mixing:3", parameters=(1.5, 0.4, 4.0, 0.9, 0.2),
            columns=mixtures(32, 3)),
    Planted(law="routed", parameters=(-0.08, -0.1, 0.003, 2.5, 2.0, 300.0),
            columns=spread(64, n_params=(1e7, 1e9), n_experts=(1.0, 512.0))),
    Planted(law="joint_experts", parameters=(1.1, 20.0, 0.3, 0.2, 0.1, 0.4, 0.004),
            columns=spread(64, n_params=(1e7, 1e9), n_experts=(1.0, 64.0))),
    Planted(law="upcycled", parameters=(1.1, 20.0, 0.2, 0.1, 0.01),
            columns=spread(32, n_params_active=(1e8, 1e9), sparsity=(1.0, 16.0))),
    Planted(law="overfitting", parameters=(1.7, 400.0, 410.0, 0.34, 0.28, 0.02, 0.7, 0.4),
            columns=spread(96, n_params=(1e7, 3e9), unique_tokens=(1e8, 1e10),
                           n_tokens=(2e10, 2e11))),
    Planted(law="farseer",
            parameters=(-0.01, -1.0, 0.15, 0.05, 4.0, 0.15, -0.02, 1.3, 0.15),
            columns=spread(96, n_params=(1e8, 6e9), n_tokens=(2e9, 1e11))),
    Planted(law="precision", parameters=(1.7, 400.0, 410.0, 0.34, 0.28, 2.0),
            columns=spread(64, n_params=(1e7, 1e9), n_tokens=(1e9, 1e11), bits=(3.0, 16.0))),
    Planted(law="loss_to_loss", parameters=(0.5, 1.2, 1.0, 1.4),
            columns=spread(32, loss_nats=(1.5, 4.0))),
    Planted(law="accuracy", parameters=(13.0, 0.3), columns=spread(16, flops=(1e18, 1e21))),
    Planted(law="rates",
            parameters=(1.7, 400.0, 410.0, 0.34, 0.28, 1.0, -6.0, -0.5, 0.1, 12.0, 0.05, 0.5,
                        0.1, 0.02, 0.08, 0.05, -0.1, 0.3, 0.2), columns=OF_RATES),
)  # fmt: skip


@pytest.mark.slow  # Each law compiles a program of its own.
@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.law)
def test_a_planted_law_is_predicted_beyond_its_rows(planted):
    """Parameters themselves need not be told apart; what the law says must be."""
    law = law_named(planted.law)
    table = planted.columns | {"y": law.predict(planted.parameters, planted.columns)}
    way = Way(law=law, objective=objective_named(planted.objective))
    fit = fit_columns(table, way, targets=("y",))
    is_mixture = "mixing" in law.name
    further = {k: v if is_mixture else 2.0 * v for k, v in planted.columns.items()}
    expected = law.predict(planted.parameters, further)
    np.testing.assert_allclose(fit.predict(further)[:, 0], expected, rtol=1e-4)

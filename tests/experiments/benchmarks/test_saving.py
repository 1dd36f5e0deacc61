# SPDX-License-Identifier: Apache-2.0
"""The page of make bench-saving from a record that was made up."""

import math

import pytest

from experiments.benchmarks.saving import MARGINS, page


def way(device_seconds, *, n_params=2e4, loss=2.0, law="curved"):
    top = {"value": n_params, "lower": 0.9 * n_params, "upper": 1.1 * n_params}
    nats = {"value": loss, "lower": loss - 0.01, "upper": loss + 0.01}
    found = {name: {"n_params_opt": top, "loss": nats} for name in ("top", "target")}
    other = {"n_params_opt": {**top, "value": 1.0}, "loss": {**nats, "value": 9.0}}
    return {
        "runs": 12,
        "device_seconds": device_seconds,
        "flops_spent": 1e12,
        "wall_seconds": 2 * device_seconds,
        "law": law,
        "answers": {
            "curved": {"status": "CONVERGED", **found},
            "additive": {"status": "CONVERGED", "top": other, "target": other},
        },
    }


def row(name, **changed):
    """Cells of a way that is set beside 100 device-seconds of runs trained alone."""
    record = {
        "command": "make bench-saving",
        "study": "trunks",
        "device": "an abacus",
        "cores": 2,
        "python": "3.11.2",
        "version_jax": "0.10",
        "git_commit": "0123456789",
        "margins": MARGINS,
        "target_factor": 10.0,
        "ways": {"alone": way(100.0), "until": way(50.0, law="additive", **changed)},
    }
    (line,) = [line for line in page(record).splitlines() if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, "yes (0.0000 nats, 0.000)"),
        ({"loss": 2.02}, "NO (0.0200 nats, 0.000)"),
        ({"n_params": 2.5e4}, f"NO (0.0000 nats, {math.log(1.25):.3f})"),
        ({"n_params": 1.9e4, "loss": 1.995}, f"yes (0.0050 nats, {math.log(2 / 1.9):.3f})"),
    ],
)
def test_answers_are_equal_within_both_margins_by_the_law_that_judged_alone(changed, said):
    assert row("until", **changed)[8] == said


def test_costs_are_set_against_runs_trained_alone():
    assert row("until")[3:6] == ["50", "2.00x", "20,000 (18,000 to 22,000)"]
    assert row("alone")[4] == "1.00x"
    assert row("alone")[8] == ""

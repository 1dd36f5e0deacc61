# SPDX-License-Identifier: Apache-2.0
"""The page of make bench-saving from a record that was made up."""

import copy
import math

import pytest

from experiments.benchmarks.saving_page import draw, draw_frontiers, evidence_per_second, page


def way(device_seconds, *, n_params=2e4, loss=2.0, width=2.0, digest="a"):
    target = {"value": 1e5, "lower": 1e5 / math.sqrt(width), "upper": 1e5 * math.sqrt(width)}
    top = {"value": n_params, "lower": 0.9 * n_params, "upper": 1.1 * n_params}
    nats = {"value": loss, "lower": loss - 0.01, "upper": loss + 0.01}
    band = {"value": [1e4, 2e4], "lower": [9e3, 1.8e4], "upper": [1.1e4, 2.2e4]}
    return {
        "runs": 12,
        "trunks": 0,
        "device_seconds": device_seconds,
        "flops_per_second": {"1e+08": 3e9, "2e+08": 5e9},
        "flops_attributed": 2e12,
        "flops_spent": 1e12,
        "table_sha256": digest,
        "wall_seconds": 2 * device_seconds,
        "budgets": [1e10, 2e10],
        "forecaster": "curved",
        "answers": {
            "curved": {
                "status": "CONVERGED",
                "top": {"n_params_opt": top, "loss": nats},
                "target": {"n_params_opt": target, "loss": nats},
                "exponent_a": {"value": 0.5, "lower": 0.4, "upper": 0.6},
                "frontier": {"n_params_opt": band, "loss": band},
            },
            "additive": {
                "status": "CONVERGED",
                "top": {"n_params_opt": top, "loss": nats},
                "target": {"n_params_opt": top, "loss": nats},
                "exponent_a": {"value": 0.3, "lower": 0.2, "upper": 0.4},
                "frontier": {"n_params_opt": band, "loss": band},
            },
        },
    }


@pytest.fixture
def record():
    return {
        "command": "make bench-saving",
        "device": "an abacus",
        "cores": 2,
        "python": "3.11.2",
        "version_jax": "0.10",
        "margins": {"loss_nats": 0.01, "log_n_params": 0.1},
        "target_factor": 10.0,
        "ways": {
            "trunks:cosine": way(100.0, loss=1.98, digest="c"),
            "trunks:alone": way(100.0),
            "trunks:trunks": way(50.0),
            "trunks:next": way(50.0, n_params=2.5e4, width=4.0, digest="n"),
        },
    }


def row(text, which, law="curved"):
    start = f"| text | {which} | {law} |"
    text = text.split("## Three frontiers")[0]
    (line,) = [line for line in text.splitlines() if line.startswith(start)]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_answers_are_equal_within_the_margins_and_only_then(record):
    text = page(record)
    assert row(text, "trunks")[12] == "yes (0.0000, 0.000)"
    assert row(text, "cosine")[12] == "NO (0.0200, 0.000)"
    assert row(text, "next")[12] == f"NO (0.0000, {math.log(1.25):.3f})"
    assert row(text, "alone")[12] == ""
    assert row(text, "trunks")[7] == "2.00x"
    assert row(text, "next", "additive")[8] == "0.300 (0.200 to 0.400)"
    assert "the tables of runs of *alone* and *trunks* are the same bytes" in text
    other = copy.deepcopy(record)
    other["ways"]["trunks:next"]["answers"]["curved"]["status"] = "MAX_ITER"
    assert row(page(other), "next", "curved, not certified")[0] == "text"
    other["ways"]["trunks:trunks"]["table_sha256"] = "b"
    assert "are NOT the same bytes" in page(other)


def test_how_the_speed_of_the_machine_changed_is_shown(record):
    assert row(page(record), "trunks")[8] == "1.00x"
    # Of what both trained: twice and eight times as fast.
    record["ways"]["trunks:next"]["flops_per_second"] = {"1e+08": 6e9, "2e+08": 4e10, "4e+08": 1.0}
    assert row(page(record), "next")[8] == "4.00x"


def test_differences_are_bold_where_intervals_part(record):
    ours = record["ways"]["trunks:cosine"]["answers"]["curved"]["frontier"]
    ours["loss"] = {"value": [9e3, 2e4], "lower": [8e3, 1.8e4], "upper": [8.9e3, 2.2e4]}
    ours["n_params_opt"] = {"value": [2e4, 2e4], "lower": [1.9e4, 1e4], "upper": [3e4, 3e4]}
    words = page(record).split("Differences from")[1]
    line = "| text | cosine | curved | **+0.69**, +0.00 | **-1000.0000**, +0.0000 |"
    assert line in words
    assert "| text | trunks | curved | +0.00, +0.00 | +0.0000, +0.0000 |" in words


def test_evidence_is_that_of_independent_runs(record):
    ways = record["ways"]
    base = evidence_per_second(ways["trunks:alone"], "curved")
    assert evidence_per_second(ways["trunks:trunks"], "curved") / base == pytest.approx(2.0)
    # Twice the width of the logarithm is a quarter of the evidence, in half of the time.
    assert evidence_per_second(ways["trunks:next"], "curved") / base == pytest.approx(0.5)


def test_figures_are_drawn_of_what_is_there(record, tmp_path):
    draw(record, tmp_path)
    draw_frontiers(record, tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        f"{stem}.{kind}" for stem in ("saving", "saving_frontiers") for kind in ("png", "svg")
    }

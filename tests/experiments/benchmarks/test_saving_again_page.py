# SPDX-License-Identifier: Apache-2.0
"""The page of make bench-saving-again from a record that was made up."""

import json
import math

import numpy as np
import pytest

from experiments.benchmarks.saving_again import begin, correlation_by_ratio, noise_by_size, pooled
from experiments.benchmarks.saving_again_page import (
    are_equal,
    differences,
    draw,
    draw_evidence,
    evidence,
    of_loop,
    page,
    repeats,
    rms,
)

MARGINS = {"loss_nats": 0.01, "log_n_params": 0.1}


def way(log_n=10.0, loss=2.0, device_seconds=100.0):
    def band(value):
        return {"value": value, "lower": 0.9 * value, "upper": 1.1 * value}

    def answers(shift):
        top = {"n_params_opt": band(math.exp(log_n + shift)), "loss": band(loss)}
        return {"status": "CONVERGED", "top": top, "target": top}

    return {
        "runs": 12,
        "flops_spent": 1e12,
        "device_seconds": device_seconds,
        "wall_seconds": 3 * device_seconds,
        "forecaster": "curved",
        "answers": {"curved": answers(0.0), "additive": answers(1.0)},
    }


@pytest.fixture
def record():
    sets = {
        "0,1,2": {"alone": way(), "next": way(log_n=19.0)},
        "5,6,7": {"alone": way(10.0), "next": way(1.0)},
        "45,46,47": {"alone": way(10.0, 2.0), "next": way(10.04, 2.001, 50.0)},
        "30,31,32": {"alone": way(10.2, 2.01), "next": way(10.18, 2.017, 25.0)},
        "35,36,37": {"alone": way(9.9, 1.99)},
    }
    facts = {
        "command": "make",
        "device": "an abacus",
        "cores": 2,
        "python": "3",
        "version_jax": "0",
    }
    return facts | {"margins": MARGINS, "sets": {"trunks": sets}}


def row(text, *start):
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {' | '.join(start)} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_new_sets_count_and_those_that_shaped_the_protocol_do_not(record):
    sets = record["sets"]["trunks"]
    assert differences(sets, "next", "curved") == pytest.approx(
        np.array([[0.04, 0.001], [-0.02, 0.007]])
    )
    between = np.array([[0.2, 0.01], [-0.1, -0.01], [-0.3, -0.02]])
    assert repeats(sets, "curved") == pytest.approx(between)
    text = page(record)
    assert row(text, "text", "curved", "next")[3:] == [
        "2", "2.83x", "2.83x", "2.83x", "", "+0.010", "0.032", "+0.0040", "0.0050", "2 of 2", "yes",
    ]  # fmt: skip
    # By the noise of all runs: a quarter of the variance in half of the time, and no change in a
    # quarter.
    record["worth"] = {"trunks": {
        "45,46,47": {"alone": 0.2, "next": 0.1}, "30,31,32": {"alone": 0.2, "next": 0.2},
        "5,6,7": {"alone": 0.2, "next": 0.01},
    }}  # fmt: skip
    told = page(record)
    assert row(told, "text", "curved", "next")[6:8] == ["2.83x", f"{math.sqrt(8 * 4):.2f}x"]
    assert row(told, "text", "45,46,47", "next")[-1] == "0.100"
    # The other surface is shown and judges nothing.
    assert row(text, "text", "additive", "next")[-1] == ""
    assert row(text, "text", "curved", "alone, other seeds")[4:] == [
        *[""] * 5, f"{math.sqrt(0.14 / 3):.3f}", "", f"{math.sqrt(0.0002):.4f}", "0 of 3", "",
    ]  # fmt: skip
    assert row(text, "text", "45,46,47", "next")[11:13] == ["+0.040", "+0.0010"]


def test_sets_of_the_loop_before_have_a_table_of_their_own(record):
    sets = record["sets"]["trunks"]
    sets["10,11,12"] = {"alone": way(10.0, 2.0), "next": way(9.5, 2.0, 40.0)}
    lines = page(record).splitlines()
    now, before = (line for line in lines if line.startswith("| text | curved | next |"))
    assert ("2.83x" in now, "2 of 2" in now) == (True, True)
    assert ("2.50x" in before, "-0.500" in before, "NO" in before) == (True, True, True)
    assert lines.index(now) < lines.index("The sets before, chosen per FLOP:") < lines.index(before)
    # Grids trained alone are compared whatever loop came after them.
    (control,) = (line for line in lines if line.startswith("| text | curved | alone,"))
    assert "6 pairs" in control
    assert len(evidence(of_loop(sets, is_before=False))["next"]) == 2


def test_answers_within_half_of_the_time_are_of_all_sets_that_count(record):
    sets = record["sets"]["trunks"]
    sets["10,11,12"] = {"alone": way(10.0, 2.0), "next": way(9.0, 3.0)}
    record["half"] = {"trunks": {
        "0,1,2": {"next": way(1.0, 1.0, 1.0)},
        "10,11,12": {"next": way(10.02, 2.002, 25.0)},
        "45,46,47": {"next": way(9.96, 2.004, 50.0)},
    }}  # fmt: skip
    lines = page(record).splitlines()
    begin = lines.index("## Within half of the time")
    (found,) = (line for line in lines[begin:] if line.startswith("| text | curved | next | 2 |"))
    for words in ("2.83x", "-0.010", "+0.0030", "2 of 2", "yes"):
        assert words in found


def test_equal_answers_have_no_bias_and_no_more_scatter_than_grids_of_other_seeds():
    control = np.array([[0.06, 0.006], [-0.06, -0.006]])
    assert rms(control) == pytest.approx([0.06, 0.006])
    assert are_equal(np.array([[0.08, 0.008], [0.08, -0.008]]), control, MARGINS)
    # One quantity beyond its margin on average, though no more scattered than the control's.
    wide = 10 * control
    assert not are_equal(np.array([[0.11, 0.0], [0.11, 0.0]]), wide, MARGINS)
    assert not are_equal(np.array([[0.0, 0.011], [0.0, 0.011]]), wide, MARGINS)
    # On average nothing, each time too much.
    assert not are_equal(np.array([[0.095, 0.0], [-0.095, 0.0]]), control, MARGINS)
    assert not are_equal(np.array([[0.0, 0.0095], [0.0, -0.0095]]), control, MARGINS)


def test_the_figure_is_drawn_of_what_is_there(record, tmp_path):
    draw(record, tmp_path)
    draw_evidence(record, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        f"saving_again{part}.{kind}" for part in ("", "_evidence") for kind in ("png", "svg")
    }


def test_evidence_of_a_set_is_over_that_of_runs_alone_of_its_seeds(record):
    sets = record["sets"]["trunks"]
    sets["0,1,2"]["trunks"] = way(device_seconds=80.0)
    wide = way(device_seconds=50.0)
    band = wide["answers"]["curved"]["target"]["n_params_opt"]
    # Twice the width of the logarithm: a quarter of the evidence, in half of the time.
    band["lower"], band["upper"] = band["value"] * (0.9 / 1.1), band["value"] * (1.1 / 0.9)
    sets["45,46,47"]["next"] = wide
    found = evidence(sets)
    assert list(found) == ["alone", "trunks", "next"]
    assert found["alone"] == [1.0]
    assert found["trunks"] == pytest.approx([1.25])
    assert found["next"] == pytest.approx([0.5, 4.0])


def test_runs_of_all_ways_are_pooled_and_must_be_the_same_in_each(tmp_path):
    for name, rows in (("a", "r2,2.0\nr1,1.5\n"), ("b", "r2,2.0\nr3,1.0\n")):
        (tmp_path / f"{name}.csv").write_text(f"run_id,loss_nats\n{rows}")
    rows = pooled(tmp_path.glob("*.csv"))
    assert [row["run_id"] for row in rows] == ["r1", "r2", "r3"]
    (tmp_path / "c.csv").write_text("run_id,loss_nats\nr1,1.6\n")
    with pytest.raises(ValueError, match="run r1 differs"):
        pooled(tmp_path.glob("*.csv"))


def row_of(n, d, seed, loss):
    known = {"status": "ok", "n_params": str(n), "n_tokens": str(d), "loss_nats": str(loss)}
    return known | {"cluster_id": f"{n} {seed}"}


def test_what_runs_of_a_seed_share_is_told_by_ratio_of_tokens():
    """Planted: 0.9 at a ratio of 1.5, 0.3 at 4, nothing between two sizes."""
    rng = np.random.default_rng(0)
    n_seeds = 4000
    z, one, two, other = rng.standard_normal((4, n_seeds))
    near, far = (r * z + math.sqrt(1 - r**2) * e for r, e in ((0.9, one), (0.3, two)))
    tables = {(10, 100): z, (10, 150): near, (10, 400): far, (20, 100): other}
    rows = [
        row_of(n, d, seed, math.exp(1.0 + 0.01 * d / 100 * value))
        for (n, d), values in tables.items()
        for seed, value in enumerate(values)
    ]
    rows += [row_of(10, 800, seed, 2.0 + seed) for seed in range(3)]  # Too few.
    found = correlation_by_ratio(rows)
    assert [round(ratio, 2) for ratio, _, _ in found] == [1.41, 2.83, 4.0]
    expected = [0.9, 0.27, 0.3]
    assert [r for _, r, _ in found] == pytest.approx(expected, abs=0.05)
    assert {n for _, _, n in found} == {n_seeds}


def test_noise_of_repeats_is_pooled_by_size():
    losses = {(10, 1): (1.0, 1.2), (10, 2): (2.0, 2.0, 2.1), (20, 1): (3.0,), (30, 1): (1.0, 9.0)}
    rows = [
        row_of(n, d, seed, loss)
        for (n, d), values in losses.items()
        for seed, loss in enumerate(values)
    ]
    rows[-1]["status"] = "diverged"
    logs = [np.log(losses[10, 1]), np.log(losses[10, 2])]
    expected = math.sqrt(sum(((v - v.mean()) ** 2).sum() for v in logs) / 3)
    assert noise_by_size(rows) == [[10, pytest.approx(expected), 3]]


def test_the_page_has_the_noise(record):
    record["noise"] = {"trunks": [[6612, 0.0109, 26]]}
    record["in_common"] = {"trunks": [[1.41421, 0.875, 30]]}
    assert "- text: 6,612: 10.9 (26)" in page(record)
    assert "- text: 1.41: 0.88 (30)" in page(record)


def test_it_begins_with_the_ways_that_were_measured_of_each_study(tmp_path):
    """And shows what is in saving.json now, however often that was measured again."""
    names = ("trunks:alone", "trunks:packed", "trunks:next", "trunks_zipf:alone")
    first = {"margins": MARGINS, "ways": {name: way() for name in names}}
    (tmp_path / "saving.json").write_text(json.dumps(first))
    record = begin(tmp_path)
    assert list(record["sets"]["trunks"]["0,1,2"]) == ["alone", "packed", "next"]
    assert list(record["sets"]["trunks_zipf"]["0,1,2"]) == ["alone"]
    record["sets"]["trunks"]["30,31,32"] = {"alone": way()}
    (tmp_path / "saving_again.json").write_text(json.dumps(record))
    first["ways"]["trunks:alone"]["device_seconds"] = 7.0
    (tmp_path / "saving.json").write_text(json.dumps(first))
    again = begin(tmp_path)
    assert again["sets"]["trunks"]["0,1,2"]["alone"]["device_seconds"] == 7.0
    assert again["sets"]["trunks"]["30,31,32"] == record["sets"]["trunks"]["30,31,32"]

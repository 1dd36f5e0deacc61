# SPDX-License-Identifier: Apache-2.0
"""Runs per hour of packs by hand, on both kinds of device, and what was not measured."""

import pytest

from experiments.benchmarks.speed import packs, processes
from experiments.benchmarks.speed.page import page

# At 20 tokens per parameter: d 32 of a CPU has 4 layers of 4 x 32^2 + 3 x 32 x 96 weights, 9 norms
# and 512 x 32 embeddings, and 8 x 128 tokens a step.
N_PARAMS = 4 * (4 * 32**2 + 3 * 32 * 96) + 9 * 32 + 512 * 32
N_STEPS = -(-20 * N_PARAMS // 1024)
FACTS = {"python": "3.11", "git_commit": "0123456789"}


@pytest.fixture
def measure(monkeypatch):
    """(speeds, device) -> (the record, its page), of width 32, on two cores of 6 steps/s each."""
    monkeypatch.setattr(packs.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)

    def measure(speeds, device):
        def lines(module, *words, **_):
            assert (module, *words[:2]) == ("packs", device, "32")
            where = {"device": f"a {device}", "versions": {"jax": "0.0"}}
            if "--core" in words:
                return [{"n_runs": 1, "run_steps_per_second": 6.0, **where}], ""
            found = [{"n_runs": n, "run_steps_per_second": s, **where} for n, s in speeds.items()]
            return found, "" if found else "JAX sees no gpu here."

        monkeypatch.setattr(processes, "lines", lines)
        (record,) = packs.measured(device, [32], 60.0)
        shown = {"device": "none", "versions": {}, **record, **FACTS}
        return record, page({device: {"packs": shown}})

    return measure


def test_runs_per_hour_on_a_cpu(measure):
    record, text = measure({1: 10.0, 2: 9.0, 4: 8.0}, "cpu")
    (row,) = record["rows"]
    assert (row["n_params"], row["n_steps"]) == (N_PARAMS, N_STEPS)
    assert row["one_at_a_time"] == pytest.approx(3600 * 10 / N_STEPS, rel=1e-3)
    assert row["pack"] == pytest.approx(3600 * 9 / N_STEPS, rel=1e-3)
    assert (row["pack_runs"], row["pack_gain"]) == (2, 0.9)
    assert row["one_process_per_core"] == pytest.approx(3600 * 12 / N_STEPS, rel=1e-3)
    assert row["per_core_gain"] == 1.2
    assert "one process per core" in text


def test_on_a_gpu_the_fastest_pack_counts_and_cores_do_not(measure):
    record, text = measure({1: 10.0, 2: 19.0, 4: 30.0, 8: 29.0}, "gpu")
    (row,) = record["rows"]
    assert (row["pack_runs"], row["pack_gain"], row["one_process_per_core"]) == (4, 3.0, None)
    assert "a gpu; Python 3.11, jax 0.0" in text
    assert "per core" not in text


def test_a_process_that_says_nothing_is_not_measured_with_its_reason(measure):
    record, text = measure({}, "gpu")
    assert record["rows"] == [{"d_model": 32, "not_measured": "JAX sees no gpu here."}]
    assert "- d 32: not measured, JAX sees no gpu here." in text


def test_a_process_of_a_pack_prints_its_speed(monkeypatch, capsys):
    monkeypatch.setattr("experiments.speed.measure_pack.measure", lambda *_: 7.0)
    monkeypatch.setattr("experiments.machine.jax_setup.start_jax", lambda *_: None)
    monkeypatch.setattr("sys.argv", ["packs", "cpu", "32", "1", "2"])
    packs.main()
    assert [
        line.count('"run_steps_per_second": 7.0') for line in capsys.readouterr().out.splitlines()
    ] == [1, 1]

# SPDX-License-Identifier: Apache-2.0
"""The page of the packs: runs per hour by hand, both kinds of device, and what was not measured."""

import json
from pathlib import Path

import pytest

from experiments.benchmarks.speed import packs, processes

# At 20 tokens per parameter: d 32 of a CPU has 4 layers of 4 x 32^2 + 3 x 32 x 96 weights, 9 norms
# and 512 x 32 embeddings, and 8 x 128 tokens a step.
N_PARAMS = 4 * (4 * 32**2 + 3 * 32 * 96) + 9 * 32 + 512 * 32
N_STEPS = -(-20 * N_PARAMS // 1024)


def answers(speeds: dict[int, float], per_core: float, device: str):
    """Stands for the measuring processes."""

    def lines(module: str, *arguments: str, **_: object) -> tuple[list[dict], str]:
        assert module == "packs"
        where = {"device": device, "jax": "0.0"}
        if "--core" in arguments:
            return [{"n_runs": 1, "run_steps_per_second": per_core, **where}], ""
        found = [{"n_runs": n, "run_steps_per_second": s, **where} for n, s in speeds.items()]
        return found, "" if found else "JAX sees no gpu here."

    return lines


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """(speeds, options) -> (record, page) of the command."""
    monkeypatch.setattr(packs.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)

    def run(speeds: dict[int, float], device: str, per_core: float = 0.0) -> tuple[dict, str]:
        monkeypatch.setattr(processes, "lines", answers(speeds, per_core, f"a {device}"))
        arguments = ["packs", "--device", device, "--widths", "32", "--out", str(tmp_path)]
        monkeypatch.setattr("sys.argv", arguments)
        packs.main()
        return json.loads((tmp_path / "packs.json").read_text()), (
            tmp_path / "packs.md"
        ).read_text()

    return run


def test_runs_per_hour_on_a_cpu_and_what_no_gpu_has_measured(run):
    record, page = run({1: 10.0, 2: 9.0, 4: 8.0}, "cpu", per_core=6.0)
    (row,) = record["cpu"]["rows"]
    assert (row["n_params"], row["n_steps"]) == (N_PARAMS, N_STEPS)
    assert row["one_at_a_time"] == pytest.approx(3600 * 10 / N_STEPS, rel=1e-3)
    assert row["pack"] == pytest.approx(3600 * 9 / N_STEPS, rel=1e-3)
    assert (row["pack_runs"], row["pack_gain"]) == (2, 0.9)
    assert row["one_process_per_core"] == pytest.approx(3600 * 12 / N_STEPS, rel=1e-3)
    assert row["per_core_gain"] == 1.2
    assert "on a cpu, 2 cores" in page
    assert "jax 0.0" in page
    # Every width of the GPU's table says so.
    assert page.count("| not measured on a GPU | not measured on a GPU |") >= len(packs.WIDTHS)


def test_a_gpu_joins_what_a_cpu_has_measured(run):
    run({1: 10.0, 2: 9.0}, "cpu", per_core=6.0)
    record, page = run({1: 10.0, 2: 19.0, 4: 30.0, 8: 29.0}, "gpu")
    assert record["cpu"]["rows"][0]["pack_gain"] == 0.9
    (row,) = record["gpu"]["rows"]
    assert (row["pack_runs"], row["pack_gain"], row["one_process_per_core"]) == (4, 3.0, None)
    assert "on a gpu;" in page
    assert "not measured" not in page


def test_a_process_that_says_nothing_is_not_measured_with_its_reason(run):
    record, page = run({}, "gpu")
    assert record["gpu"]["rows"] == [{"d_model": 32, "not_measured": "JAX sees no gpu here."}]
    assert "not measured on a GPU" in page
    assert "not measured on a CPU" in page

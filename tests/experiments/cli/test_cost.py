# SPDX-License-Identifier: Apache-2.0
"""What a study costs, at the command line: refusals in one line, before anything is trained."""

import platform
import re

import pytest
from command_line import is_one_line
from small_studies import mine

from experiments.cli import run
from experiments.cost import planned_cost
from experiments.ledger.ledger import Ledger
from experiments.speed import calibration
from experiments.speed.calibration import Calibration

# 2 runs of 3e8 FLOPs each, with evaluations, at 1e5 FLOP/s: some two hours.
SLOW = Calibration(
    device="abacus", flops_per_second={1e6: 1e5}, peak_flops_per_second=1e6, compile_seconds=1.0
)


@pytest.fixture
def isoflop(isoflop, tmp_path):
    """Runs a command on that study."""
    (tmp_path / "mine.py").write_text(mine())
    anyway = {"run": ("--anyway",)}
    return lambda command, *rest: isoflop(command, "mine.py", *anyway.get(command, ()), *rest)


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "results", "mine")


@pytest.fixture
def trained(monkeypatch):
    """Stands for the training of what is missing; whether it was asked for."""
    asked = []
    monkeypatch.setattr(run, "answer_study", lambda *arguments: asked.append(arguments))
    return asked


MISTAKES = (
    ("an unknown device", ("--device", "h300"), "H200 SXM; H200 NVL; B200"),
    ("a name that three devices have", ("--device", "h100"), "H100 SXM; H100 PCIe; H100 NVL"),
    ("a share of no device", ("--mfu", "0.3"), "--device"),
    ("more than the peak", ("--device", "h200", "--mfu", "1.1"), "at most 1"),
    ("a price of nothing", ("--price", "0"), "--price"),
    ("a price without end", ("--price", "inf"), "--price"),
    ("a word for a price", ("--price", "cheap"), "'cheap'"),
    ("a site that saves power", ("--pue", "0.9"), "--pue"),
    ("no devices", ("--n-devices", "0"), "--n-devices"),
    ("half a device", ("--n-devices", "1.5"), "--n-devices"),
    ("negative carbon", ("--carbon", "-3"), "--carbon"),
    ("a limit without a price", ("--max-cost", "3"), "--price"),
    ("a limit on the unknown", ("--max-cost", "3", "--price", "1"), "isoflop calibrate"),
    (
        "more than allowed",
        ("--device", "h200", "--mfu", "1e-9", "--price", "1000", "--max-cost", "1"),
        "more than --max-cost 1",
    ),
    (
        "devices that make no whole mesh",
        ("mesh=1,2,1,1", "recipe.batch.multiple=2", "--n-devices", "3"),
        "--n-devices 3",
    ),
)


@pytest.mark.parametrize(
    ("arguments", "words"), [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES]
)
def test_a_refusal_is_one_line_with_exit_code_two_and_nothing_is_trained(
    isoflop, trained, ledger, arguments, words
):
    for command in ("plan", "run"):
        code, _, err = isoflop(command, *arguments)
        assert code == 2
        assert is_one_line(err), err
        assert words in err
    assert not trained
    assert not ledger.storage.exists("cost.json")
    assert not ledger.storage.exists("plan.jsonl")


def test_a_plan_within_its_limit_is_shown_and_run_and_its_cost_kept(isoflop, trained, ledger):
    arguments = ("--device", "h200", "--price", "2.5", "--max-cost", "10")
    code, out, _ = isoflop("plan", *arguments)
    assert code == 0
    assert "ASSUMED, as nothing was measured" in out
    assert "700 W per device" in out
    assert not ledger.storage.exists("cost.json")
    assert isoflop("run", *arguments)[0] == 0
    assert len(trained) == 1
    planned = planned_cost.read(ledger)
    assert (planned.device, planned.terms.price) == ("NVIDIA H200", 2.5)


def test_this_machines_speeds_are_used_where_no_device_is_named(isoflop, tmp_path):
    code, out, _ = isoflop("plan")
    assert code == 0
    assert "unknown: `isoflop calibrate" in out
    calibration.store(tmp_path / "results", SLOW)
    _, out, _ = isoflop("plan", "--price", "1", "--n-devices", "1")
    assert "measured on abacus, 1 size of step from" in out
    total = next(line for line in out.splitlines() if line.split()[:1] == ["total"]).split()
    # 6e8 FLOPs of training at 1e5 FLOP/s are 1.67 hours; evaluations come on top.
    assert 1.67 < float(total[2]) < 1.67 * 1.2
    assert float(total[3]) == pytest.approx(float(total[2]), rel=0.01)
    assert total[4:6] == ["unknown", "unknown"]
    _, out, _ = isoflop("plan", "--watts", "1000", "--pue", "1")
    total = next(line for line in out.splitlines() if line.split()[:1] == ["total"]).split()
    assert float(total[4]) == pytest.approx(float(total[2]), rel=0.01)


def test_speeds_of_a_named_device_come_from_whatever_host_has_one(isoflop, tmp_path, monkeypatch):
    monkeypatch.setattr(platform, "node", lambda: "with-a-gpu")
    gpu = Calibration(
        device="NVIDIA H200",
        flops_per_second={1e6: 1e9},
        peak_flops_per_second=1e15,
        compile_seconds=1.0,
    )
    calibration.store(tmp_path / "results", gpu)
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    _, out, _ = isoflop("plan", "--device", "h200")
    assert "speed: measured on NVIDIA H200" in " ".join(out.split())
    _, out, _ = isoflop("plan", "--device", "b200")
    assert "ASSUMED that a step uses it as on NVIDIA H200" in " ".join(out.split())


def test_a_finished_study_is_not_refused_for_what_it_has_cost(
    isoflop, trained, ledger, tmp_path, record
):
    calibration.store(tmp_path / "results", SLOW)
    arguments = ("--price", "1", "--max-cost", "0.1")
    assert isoflop("run", *arguments)[0] == 2
    assert isoflop("run", "--price", "1")[0] == 0
    grid = trained.pop()[0].grid
    ledger.write_plan("{}", list(grid))
    for point in grid:
        ledger.write_result(point.id, record())
    assert isoflop("run", *arguments)[0] == 0


def test_a_plan_says_what_is_trained_and_what_is_left(isoflop, trained, ledger, tmp_path, record):
    calibration.store(tmp_path / "results", SLOW)
    assert "left:" not in isoflop("plan", "seeds=0,1")[1]
    isoflop("run", "seeds=0,1")
    grid = trained.pop()[0].grid
    ledger.write_plan("{}", list(grid))
    hours = {}
    for n, point in enumerate(grid, 1):
        ledger.write_result(point.id, record())
        out = isoflop("plan", "seeds=0,1")[1]
        said = re.search(rf"trained: {n} of 4 runs of the grid; left: ([0-9.]+) device-hours", out)
        hours[n] = float(said[1])
        whole = float(re.search(r"planned: ([0-9.]+) device-hours", out)[1])
    # Two runs of a size: each of the four has the same FLOPs, and evaluations besides.
    assert hours[4] == 0
    assert whole > hours[1] > hours[2] > hours[3] > 0
    assert hours[1] == pytest.approx(0.75 * whole, rel=0.1)


def test_another_engine_does_not_run_at_this_machines_speed(isoflop, trained, ledger, tmp_path):
    calibration.store(tmp_path / "results", SLOW)
    assert isoflop("run", "--on", "slurm")[0] == 0
    assert planned_cost.read(ledger).basis == ""
    assert isoflop("run", "--on", "slurm", "--device", "h200")[0] == 0
    assert "NVIDIA H200" in planned_cost.read(ledger).basis

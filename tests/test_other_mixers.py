# SPDX-License-Identifier: Apache-2.0
"""Studies of networks without attention, from their file to an exported table, by the command."""

import csv
import json
import os
import signal
import subprocess
import time

import pytest
from command_line import COMMAND, environment, isoflop
from small_studies import mine, tiny

from experiments.ledger.ledger import Ledger

BLOCKS = """
from experiments.study.recipe import BlockRule
from model.network.counts.convolution import ConvolutionRule
from model.network.counts.lstm import LSTMRule
from model.network.counts.mlp import MLPRule
attention = STUDY.recipe.shape.blocks[0].mixer
mlp = MLPRule(activation="swiglu", ff_ratio=8 / 3, ff_multiple=4)
lstm = LSTMRule(state_ratio=1.0, state_multiple=8, use_gate_bias=True, forget_bias=1.0)
wave = [
    ConvolutionRule(hidden_ratio=1.0, hidden_multiple=8, taps=2, dilation=d) for d in (1, 2)
]
"""
# Mixers and channel mixer of the blocks, the pattern in the table, its columns.
PATTERNS = {
    "lstm": ("[lstm]", "None", "lstm", {"d_state"}),
    "convolution": ("wave", "mlp", "convolution+swiglu convolution+swiglu", {"d_hidden", "taps"}),
    "hybrid": ("[attention, lstm]", "mlp", "attention+swiglu lstm+swiglu", {"n_heads", "d_state"}),
}


@pytest.fixture
def study(tmp_path, request):
    """The file of a study of these blocks, of two sizes and three lengths, trained in seconds."""
    mixers, mlp, *_ = PATTERNS[request.param]
    blocks = f"tuple(BlockRule(mixer=m, channel_mixer={mlp}) for m in {mixers})"
    changes = (
        "sizes=Ladder(d_models=(8, 16), tokens_per_param=(0.1, 1e5)), budgets=(1e8, 3e8, 9e8), "
        f"recipe=STUDY.recipe.with_(name='other', shape__blocks={blocks})"
    )
    text = mine()
    (tmp_path / "mine.py").write_text(f"{text}{BLOCKS}STUDY = replace(STUDY, {changes})\n")
    return request.param, tmp_path


@pytest.mark.slow(reason="half a minute of processes and compiling")
@pytest.mark.parametrize("study", PATTERNS, indirect=True)
def test_a_study_is_planned_checked_trained_fitted_and_exported(study, compile_cache):
    kind, folder = study
    _, _, pattern, columns = PATTERNS[kind]

    def go(*arguments: str) -> str:
        command, *rest = arguments
        done = isoflop(
            *(command, str(folder / "mine.py"), "--results", str(folder), *rest),
            env=environment(compile_cache),
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "6 runs" in go("plan")
    go("check")
    answers = json.loads((folder / "mine" / "check.json").read_text())
    assert answers
    go("run", "--anyway")
    assert "6 done" in go("status")
    go("fit")
    go("export", "--out", str(folder / "all.csv"))
    for table in (folder / "mine" / "table.csv", folder / "all.csv"):
        rows = list(csv.DictReader(table.read_text().splitlines()))
        assert len(rows) == 6
        assert {row["blocks"] for row in rows} == {pattern}
        assert columns <= rows[0].keys()
        assert all(float(row["loss_nats"]) > float(row["oracle_loss_nats"]) > 0 for row in rows)


FAMILIES = """
from experiments.recipes.families import FAMILIES
from experiments.study.study import Axis
families = tuple(replace(recipe, batch=batch) for recipe in FAMILIES.values())
STUDY = replace(STUDY, recipe=families[0], axes=(Axis(field="recipe", values=families),))
"""


@pytest.mark.slow(
    reason="three minutes of processes; test_resume.py has one mixer in the quick suite"
)
def test_every_family_killed_in_its_training_has_the_bytes_of_undisturbed_ones(
    tmp_path, compile_cache
):
    sizes = "sizes=Ladder(d_models=(16,), tokens_per_param=(0.1, 1e5))"
    (tmp_path / "tiny.py").write_text(tiny(f"budgets=(1e9,), seeds=(0,), {sizes}") + FAMILIES)

    def run(results: str) -> subprocess.Popen:
        options = ("--anyway", "--checkpoint-seconds", "0", "--results", str(tmp_path / results))
        return subprocess.Popen(
            [*COMMAND, "run", str(tmp_path / "tiny.py"), *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env=environment(compile_cache),
        )

    assert run("calm").wait(timeout=600) == 0
    calm, killed = (Ledger(tmp_path / results, "tiny") for results in ("calm", "killed"))
    struck: set[str] = set()
    process = run("killed")
    while process.poll() is None:
        saved = {path.parts[-3] for path in killed.folder.glob("jobs/*/checkpoints/*.sha256")}
        if new := {job for job in saved - struck if not killed.has_result(job)}:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            struck |= new
            process = run("killed")
        time.sleep(0.005)
    assert process.returncode == 0
    points = killed.read_plan()
    resumed = [killed.read_result(point.id).provenance.resumed_at_steps[-1] for point in points]
    assert len(points) == len(struck) >= 10
    assert min(resumed) > 0
    assert killed.table.read_bytes() == calm.table.read_bytes()
    assert killed.curves.read_bytes() == calm.curves.read_bytes()
    before = {point.id: calm.read_result(point.id).params_sha256 for point in points}
    assert before == {point.id: killed.read_result(point.id).params_sha256 for point in points}

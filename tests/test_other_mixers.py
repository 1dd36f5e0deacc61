# SPDX-License-Identifier: Apache-2.0
"""Studies of networks without attention, from their file to an exported table, by the command."""

import csv
import json

import pytest
from command_line import environment, isoflop
from small_studies import mine

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

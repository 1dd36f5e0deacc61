# SPDX-License-Identifier: Apache-2.0
"""Compiling for TPUs that are not here: needs libtpu, no TPU (make test-tpu)."""

import importlib.util
import json

import pytest

from experiments.cli import main

pytestmark = [
    pytest.mark.tpu,
    pytest.mark.skipif(
        importlib.util.find_spec("libtpu") is None, reason="needs libtpu: make test-tpu"
    ),
]
STUDY = """
import dataclasses
from experiments.studies.large_1b import STUDY
from experiments.study.study import Ladder
from model.data.source import Zipf
STUDY = dataclasses.replace(
    STUDY, name="tiny", budgets=(1e15,), seq_len=256, mesh=(1, 1, 4, 1),
    data=Zipf(alpha=0.5, epsilon=0.1, base=255, n_digits=1, n_answers=2, language_seed=0),
    sizes=Ladder(d_models=(512,), tokens_per_param=(0.001, 1000.0)),
    recipe=STUDY.recipe.with_(batch__reference_tokens=4096.0),
)
"""


def check(tmp_path, *arguments: str) -> tuple[int, dict | None]:
    study = tmp_path / "tiny.py"
    study.write_text(STUDY)
    options = ["check", str(study), "--results", str(tmp_path), "--topology", "v5e:2x2"]
    try:
        main.main([*options, *arguments])
        status = 0
    except SystemExit as error:
        status = error.code
    path = tmp_path / "tiny" / "check.json"
    return status, json.loads(path.read_text()) if path.exists() else None


def test_a_small_study_fits_on_four_chips(tmp_path):
    status, record = check(tmp_path, "execution.remat=none")
    assert status == 0
    assert record["device"]["kind"] == "TPU v5 lite"
    assert record["device"]["links"]["fsdp"] == 2
    (program,) = record["programs"]
    assert 0 < program["needed_bytes"] < record["usable_bytes"]
    assert program["collectives"]["compiled_indicative"]
    assert program["tried"][0]["n_rematerializations"] == 0


def test_a_batch_that_is_too_large_is_told_in_figures(tmp_path, capsys):
    status, record = check(
        tmp_path, "recipe.batch.reference_tokens=8388608", "budgets=1e18", "execution.remat=none",
        "execution.n_microbatches=1", "execution.attention=xla",
    )  # fmt: skip
    assert status == 1
    (program,) = record["programs"]
    assert program["needed_bytes"] > record["usable_bytes"]
    assert "over" in capsys.readouterr().out


def test_a_mesh_of_other_products_is_refused_in_one_line(tmp_path, capsys):
    status, record = check(tmp_path, "mesh=1,1,2,1")
    assert (status, record) == (2, None)
    assert capsys.readouterr().err.count("\n") == 1

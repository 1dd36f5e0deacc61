# SPDX-License-Identifier: Apache-2.0
"""Runs with different tokens are compared in bits per byte, and the best vocabulary is told."""

import dataclasses
import io
import math

import pytest
from rich.console import Console

from experiments.plan.plan import plan
from experiments.report.answer import as_object, details, print_answer
from experiments.report.build import gather
from experiments.report.figures import drawing
from experiments.report.fits.analysis import analyse
from experiments.report.fits.sweeps import VOCABULARY
from experiments.report.page.page import page
from experiments.report.setting_rows import setting_rows
from experiments.study.study import Axis, Ladder
from model.data.source import source_to_dict
from model.data.tokenizer import TrainedBPE
from model.training.config import EvalConfig
from model.training.outcome import CurvePoint, Loss

FIELD = "data.tokenizer"
BY_DOCUMENT = EvalConfig(n_bytes=4096, curve_bytes=1024, n_points=2, seed=0)
# By vocabulary: bytes per token, and what is added to the bits per byte at the two budgets.
TOKENS = {256: (1.0, (0.1, 0.3)), 512: (2.0, (0.0, 0.1)), 2048: (3.0, (0.2, 0.0))}


@pytest.fixture
def asked(study):
    values = (None, TrainedBPE(vocab_size=512), TrainedBPE(vocab_size=2048))
    return dataclasses.replace(
        study,
        budgets=(1e11, 4e11),
        sizes=Ladder(d_models=(16, 32, 64), tokens_per_param=(1e-3, 1e4)),
        seeds=(0,),
        evaluation=BY_DOCUMENT,
        axes=(Axis(field=FIELD, values=values, labels=("bytes", "512", "2048")),),
    )


@pytest.fixture
def three(asked, make_manifest):
    """The manifest of three vocabularies."""

    def one(vocab_size, **changes):
        tokenizer = TrainedBPE(vocab_size=vocab_size) if vocab_size > 256 else None
        known = {"sha256": f"{vocab_size:064}", "separator": "<end>", "separator_id": 0}
        return make_manifest(
            vocab_size=vocab_size,
            fingerprint=f"{vocab_size:064}",
            bytes_per_token=TOKENS[vocab_size][0],
            source=source_to_dict(dataclasses.replace(asked.data, tokenizer=tokenizer)),
            tokenizer=known if tokenizer else None,
            **changes,
        )

    return one(256, variants=(one(512), one(2048)))


@pytest.fixture
def compared(ledger, asked, three, record):
    """Study, points, report."""
    points = list(plan(asked, three).points)
    ledger.write_plan("{}", points)
    for point in points:
        model = point.spec.model
        per_token, added = TOKENS[model.vocab_size]
        bits = 2 + added[point.budget > 2e11] + 0.05 * math.log2(model.d_model / 32) ** 2
        nats = bits * math.log(2) * per_token
        loss = Loss(
            nats=nats, se_nats=nats / 100, n_units=900, n_bytes=900 * per_token, is_bound=False
        )
        curve = (CurvePoint(step=1, n_tokens=9, loss_nats=2 * nats, bits_per_byte=2 * bits),)
        ledger.write_result(point.id, record(losses={"all": loss}, curve=curve))
    return asked, points, gather(ledger, points, analyse(ledger, asked, points), "token")


def test_vocabularies_count_in_parameters_and_flops(asked, three):
    """An embedding and a head have d_model weights a token each; here they are one."""
    points = {p.spec.model.vocab_size: p for p in plan(asked, three).points
              if (p.budget, p.spec.model.d_model) == (1e11, 32)}  # fmt: skip
    n = {vocab_size: point.params.total for vocab_size, point in points.items()}
    assert (n[512] - n[256], n[2048] - n[256]) == (32 * 256, 32 * 1792)
    cost = {v: p.flops["matmul_full"] / p.n_tokens for v, p in points.items()}
    assert cost[2048] - cost[256] == pytest.approx(6 * 32 * 1792)


def test_nats_per_token_of_different_vocabularies_are_refused(asked, three, study):
    tokens = dataclasses.replace(asked, evaluation=study.evaluation)
    with pytest.raises(ValueError, match="give 3 vocabularies, and nats per token are of another"):
        plan(tokens, three)


def test_bits_per_byte_are_fitted_and_told_everywhere(compared, three, ledger):
    study, points, report = compared
    runs = report.analysis.runs
    assert runs.loss_unit == report.loss_unit == "bits per byte"
    # In nats per token bytes have the lowest loss by far.
    assert set(runs.extra[FIELD]) == {"2048"}
    assert runs.loss_nats.min() == pytest.approx(2.0)
    assert report.analysis.curves.loss_nats.min() == pytest.approx(4.0)
    low, high = setting_rows(report.analysis.sweeps[VOCABULARY])
    assert (low["best"], high["best"]) == ("512", "2048, at the edge")
    assert [low[name] for name in ("256", "512", "2048")] == ["2.1000", "2.0000", "2.2000"]
    console = Console(file=io.StringIO(), width=80)
    print_answer(console, report)
    shown = console.file.getvalue()
    html = page(study, points=points, manifest=three, report=report, images={})
    for told in (shown, details(report), html, str(as_object(report))):
        assert "nats per" not in told.lower()
    assert "bits per byte" in shown
    header, first = ledger.table.read_text().splitlines()[:2]
    row = dict(zip(header.split(","), first.split(","), strict=True))
    assert float(row["context_bytes"]) == study.seq_len * TOKENS[int(row["vocab_size"])][0]


def test_the_figure_has_a_line_per_budget_and_a_star_at_its_best_vocabulary(compared):
    figure = drawing.drawn(compared[2])["vocabulary"]
    [axes] = figure.axes
    assert axes.get_ylabel() == "loss (bits per byte)"
    stars = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "*"]
    assert stars == [512, 2048]

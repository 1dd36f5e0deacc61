# SPDX-License-Identifier: Apache-2.0
"""Losses of one tokenizer are told in bits per byte, too; of tokens of unknown length never."""

import dataclasses
import math
import re

import msgspec
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from experiments.report import rows
from experiments.report.answer import as_object, sentence
from experiments.report.build import gather
from experiments.report.figures.drawing import drawn
from experiments.report.fits.analysis import analyse
from experiments.report.frontier_table import frontier_rows
from experiments.report.page.page import page
from scaling.intervals import Estimated, Interval
from scaling.shown import loss_text

BYTES_PER_TOKEN = 4.0
FIGURES = ("isoflop", "curves", "forecast")
BITS_PER_NAT = 1 / BYTES_PER_TOKEN / math.log(2)


@pytest.fixture(params=[BYTES_PER_TOKEN, None], ids=["text", "tokens"])
def bytes_per_token(request):
    return request.param


@pytest.fixture
def record(record, bytes_per_token):
    """Losses of tokens so long."""

    def make(*given, **changes):
        made = record(*given, **changes)
        n_bytes = None if bytes_per_token is None else 512 * bytes_per_token
        losses = {
            name: dataclasses.replace(loss, n_bytes=n_bytes) for name, loss in made.losses.items()
        }
        return msgspec.structs.replace(made, losses=losses)

    return make


def test_bits_per_byte_stand_beside_nats_per_token(
    ledger, planted, quick_fits, manifest, bytes_per_token
):
    study, points = planted
    report = gather(ledger, points, analyse(ledger, study, points), "token")
    is_known = bytes_per_token is not None
    factor = pytest.approx(BITS_PER_NAT) if is_known else None
    assert report.bits_per_nat == as_object(report)["bits_per_nat"] == factor
    assert report.loss_unit == as_object(report)["loss_unit"] == "nats per token"
    front = report.analysis.frontiers[report.main]
    shown = frontier_rows(front, report.unit, report.loss_unit, report.bits_per_nat)
    html = page(study, manifest, points, report, {})
    lead = f"Nats per token times {BITS_PER_NAT:.4g} are bits per byte."
    assert (lead in html) == ("bits per byte" in shown[0]) == is_known
    assert (" nats per token, " in sentence(report)) == is_known
    (judged,) = report.forecasts
    (told,) = rows.forecast_rows(judged, report.unit, report.bits_per_nat)
    said = f". In bits per byte: {told.get('bits per byte')}"
    assert ("bits per byte" in told) == (said in told["sentence"]) == is_known
    if is_known:
        nats = f"{told['forecast']} ({told['95% interval']})"
        assert numbers(told["bits per byte"]) == pytest.approx(
            [one * BITS_PER_NAT for one in numbers(nats)], abs=6e-4
        )
    cells = [row["bits per byte"] for row in rows.run_rows(points, report.verdicts)]
    if is_known:
        band = front.loss_opt
        value, *ends = (side[-1] * BITS_PER_NAT for side in (band.value, band.lower, band.upper))
        interval = Interval(lower=ends[0], upper=ends[1])
        bits = loss_text(Estimated(value=value, interval=interval))
        assert shown[-1]["bits per byte"] == bits
        assert f" nats per token, {bits} bits per byte. N* grows" in sentence(report)
        assert len(set(cells)) > 10
    else:
        assert set(cells) == {""}
        assert "0.0000" not in ledger.table.read_text()
    told = f"loss, nats per token (times {BITS_PER_NAT:.4g}: bits per byte)"
    labels = [label for label in axis_labels(html) if label.startswith("loss")]
    assert labels == [told if is_known else "loss, nats per token"] * 3


def numbers(text: str) -> list[float]:
    return [float(one) for one in re.findall(r"[0-9.]+", text)]


def axis_labels(html: str) -> list[str]:
    """Of the figures that are explored."""
    text = html[html.index('id="explorable">') :]
    return [one.split('"')[0] for one in text.split('"axis_label": "')[1:]]


def test_figures_have_a_second_axis_in_bits_per_byte(ledger, planted, quick_fits, bytes_per_token):
    study, points = planted
    made = drawn(gather(ledger, points, analyse(ledger, study, points), "token"))
    for name in FIGURES:
        figure = made[name]
        FigureCanvasAgg(figure).draw()
        left = figure.axes[0]
        assert left.get_ylabel() == "loss (nats per token)"
        assert len(left.child_axes) == (bytes_per_token is not None)
        for right in left.child_axes:
            assert right.get_ylabel() == "loss (bits per byte)"
            expected = [loss * BITS_PER_NAT for loss in left.get_ylim()]
            assert right.get_ylim() == pytest.approx(expected)
            legend = left.get_legend()
            if name != "forecast":  # There it lies below both panels.
                assert legend.get_window_extent().x0 > right.get_tightbbox().x1 - 1

# SPDX-License-Identifier: Apache-2.0
"""Losses of images are told in nats per pixel and bits per dimension, and D is in pixels."""

import csv
import dataclasses
import math

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


@pytest.fixture
def record(record):
    """Losses of pixels."""

    def make(*given, **changes):
        made = record(*given, **changes)
        losses = {
            name: dataclasses.replace(loss, n_bytes=None) for name, loss in made.losses.items()
        }
        about = msgspec.structs.replace(made.provenance, data_kind="mesh")
        return msgspec.structs.replace(
            made, losses=losses, provenance=about, oracle_loss_nats=math.log(2)
        )

    return make


def test_bits_per_dimension_stand_beside_nats_per_pixel_on_every_axis(
    ledger, planted, quick_fits, manifest
):
    study, points = planted
    report = gather(ledger, points, analyse(ledger, study, points), "pixel")
    (row, *_) = csv.DictReader(ledger.table.read_text().splitlines())
    assert row["loss_per"] == "pixel"
    assert float(row["bits_per_dim"]) * math.log(2) == pytest.approx(float(row["loss_nats"]))
    assert float(row["oracle_bits_per_dim"]) == 1.0
    assert row["bits_per_byte"] == ""
    assert as_object(report)["loss_unit"] == "nats per pixel"
    assert report.bits_per_nat == pytest.approx(1 / math.log(2))
    front = report.analysis.frontiers[report.main]
    shown = frontier_rows(front, report.unit, report.loss_unit, report.bits_per_nat)[0]
    assert {"pixels D*", "nats per pixel", "bits per dimension"} <= shown.keys()
    assert "nats per pixel, " in sentence(report)
    assert "bits per dimension. N*" in sentence(report)
    (judged,) = report.forecasts
    (told,) = rows.forecast_rows(judged, report.unit, report.bits_per_nat)
    assert "In bits per dimension: " in told["sentence"]
    html = page(study, manifest, points, report, {})
    assert "Nats per pixel times 1.443 are bits per dimension." in html
    made = drawn(report)
    for name in ("isoflop", "curves", "forecast"):
        figure = made[name]
        FigureCanvasAgg(figure).draw()
        assert figure.axes[0].get_ylabel() == "loss (nats per pixel)"
        (right,) = figure.axes[0].child_axes
        assert right.get_ylabel() == "loss (bits per dimension)"
    assert made["surface"].axes[0].get_ylabel() == "training pixels"
    assert made["frontier"].axes[1].get_ylabel() == "compute-optimal training pixels"
    assert made["residuals"].axes[1].get_xlabel() == "training pixels"

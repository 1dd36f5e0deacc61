# SPDX-License-Identifier: Apache-2.0
"""A small study and the description of data that do not exist: planning needs no more."""

import dataclasses
from pathlib import Path

import pytest
from command_line import without_notices
from small_studies import mine

from experiments.cli import main
from experiments.ledger.forecasts import Forecast
from experiments.ledger.ledger import Ledger
from experiments.ledger.result import VERSION, Costs, Provenance, Result, Trunk
from experiments.plan.jobs import alone
from experiments.plan.plan import plan
from experiments.plan.point import Point
from experiments.recipes.tiny_bytes import TINY_BYTES
from experiments.study import changes
from experiments.study.study import Ladder, Study
from model.data.manifest import Manifest
from model.data.source import StdlibText, source_to_dict
from model.network.counts.total import FLOP_CONVENTIONS
from model.training.config import EvalConfig
from model.training.outcome import CurvePoint, Loss

PROVENANCE = {
    **{name: "" for name, kind in Provenance.__annotations__.items() if kind is str},
    **{"device": "abacus", "pack_size": 1, "attempt": 1, "attempts": (), "resumed_at_steps": (0,)},
    **{"n_devices": 1, "n_processes": 1, "n_cores": 1},
}
COSTS = {
    **dict.fromkeys(Costs.__struct_fields__, 0.0),
    **dict.fromkeys(("resumed_at", "flops_per_second", "peak_flops_per_second"), 0),
    **dict.fromkeys(("peak_flops_source", "joules_source"), ""),
    **dict.fromkeys(("mfu_matmul_full", "mfu_matmul_causal", "joules")),
    **{"wall_seconds": 1.0, "train_seconds": 0.5},
}
NO_FLOPS = dict.fromkeys(FLOP_CONVENTIONS, 0.0)
# The numbers that the tests worked out by hand follow from it.
RECIPE = TINY_BYTES.with_(
    name="of-the-tests", optimizer__beta2_halflife_tokens=7e3, optimizer__weight_decay_timescale=0.5
)


def describe(data: StdlibText, **changes) -> Manifest:
    same = {
        "kind": data.kind,
        "fingerprint": "ab" * 32,
        "vocab_size": 256,
        "n_documents": 100,
        "n_train_documents": 98,
        "n_validation_documents": 2,
        "n_bytes": 100_000_000,
        "n_train_tokens": 98_000_000,
        "n_validation_tokens": 2_000_000,
        "bytes_per_token": 1.0,
        "entropy_nats": None,
        "window_multiple": 1,
        "notes": ("Tokens are bytes.",),
        "source": source_to_dict(data),
    }
    return Manifest(**same | changes)


@pytest.fixture
def study() -> Study:
    return Study(
        name="small",
        question="Which size?",
        budgets=(1e11, 4e11),
        sizes=Ladder(d_models=(16, 32, 64), tokens_per_param=(1.0, 500.0)),
        seeds=(0, 1),
        data=StdlibText(validation_fraction=0.02),
        seq_len=128,
        evaluation=EvalConfig(n_tokens=4096, curve_tokens=1024, n_points=4, seed=0),
        max_epochs=1.0,
        flops="matmul_full",
        recipe=RECIPE,
    )


@pytest.fixture
def branched(study) -> Study:
    """Three budgets, each twice the one before, of two sizes and seeds; decays of a fifth."""
    recipe = RECIPE.with_(
        batch__exponent=0.0,
        optimizer__warmup_fraction=0.01,
        optimizer__decay_fraction=0.2,
        optimizer__decay="one_minus_sqrt",
        horizon_tokens_per_param=20.0,
    )
    return dataclasses.replace(
        study,
        budgets=(1e11, 2e11, 4e11),
        sizes=Ladder(d_models=(16, 32), tokens_per_param=(1.0, 1e4)),
        recipe=recipe,
        trunks=True,
    )


@pytest.fixture
def make_manifest(study):
    """Manifest of the study's data with some fields changed."""
    return lambda **changes: describe(study.data, **changes)


@pytest.fixture
def manifest(make_manifest) -> Manifest:
    return make_manifest()


@pytest.fixture
def points(study, manifest):
    return list(plan(study, manifest).points)


@pytest.fixture
def planned(ledger, points):
    """The points, to be trained each by itself."""
    ledger.write_plan("{}", points, [alone(point).job for point in points])
    return points


@pytest.fixture
def ledger(tmp_path, study) -> Ledger:
    return Ledger(tmp_path / "results", study.name)


def loss_of(nats: float) -> Loss:
    """On 512 bytes."""
    return Loss(nats=nats, se_nats=None, n_units=512, n_bytes=512.0, is_bound=False)


@pytest.fixture
def record():
    """A result as a worker writes it, as a function of loss and status, and of what differs."""

    def make(loss=2.5, *, status="ok", reason="", costs=None, provenance=None, **changes) -> Result:
        fields = {
            "version": VERSION,
            "status": status,
            "reason": reason,
            "losses": {} if loss is None else {"all": loss_of(loss)},
            "oracle_loss_nats": None,
            "curve": tuple(
                CurvePoint(step=s, n_tokens=100 * s, loss_nats=3.0 + 1 / s) for s in (1, 2)
            ),
            "params_sha256": "00",
            "weights_sha256": "",
            "notes": (),
            "flags": (),
            "flops": NO_FLOPS,
            "flops_spent": NO_FLOPS,
            "costs": Costs(**COSTS | (costs or {})),
            "provenance": Provenance(**PROVENANCE | (provenance or {})),
        }
        return Result(**fields | changes)

    return make


@pytest.fixture
def trunk_record():
    """The record of a trunk, as a function of the clusters of the points that begin with it."""

    def make(*clusters: str, step=3, reasons=("",), costs=None, **changes) -> Trunk:
        fields = {
            "version": VERSION,
            "step": step,
            "clusters": clusters,
            "reasons": reasons,
            "notes": (),
            "flops_spent": NO_FLOPS,
            "costs": Costs(**COSTS | (costs or {})),
            "provenance": Provenance(**PROVENANCE),
        }
        return Trunk(**fields | changes)

    return make


@pytest.fixture
def forecast():
    """A forecast of a point, as a function of it and of what differs."""

    def make(point: Point, **changes) -> Forecast:
        same = {"budget": 1e12, "level": 0.95, "forecasts": {}, "n_runs_fitted": 9}
        optimum = {"n_params_opt": 1e5, "n_tokens_opt": 1e6}
        return Forecast(**{"version": VERSION, "point": point} | same | optimum | changes)

    return make


@pytest.fixture
def changed():
    """A nested frozen dataclass with the field at a dotted path replaced."""

    return lambda node, path, value: changes.changed(node, [(path, value)])


@pytest.fixture
def no_drawing(monkeypatch):
    """Figures are made, and their files stay empty: to draw them takes seconds."""

    def savefig(figure, path, **settings):
        Path(path).touch()

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", savefig)


@pytest.fixture
def mine_file(tmp_path):
    """A study of three budgets and five sizes on a planted language."""
    path = tmp_path / "mine.py"
    path.write_text(
        mine(
            "budgets=(3e8, 1.2e9, 4.8e9), seeds=(0, 1), "
            "sizes=Ladder(d_models=(8, 12, 16, 24, 32), tokens_per_param=(0.1, 1e5))"
        )
    )
    return path


@pytest.fixture
def isoflop(tmp_path, capsys, monkeypatch):
    """Runs a command in this process, in a folder of its own: (exit code, output, error)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = 0
        try:
            main.main(list(arguments))
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
        return code, out, without_notices(err)

    return run


@pytest.fixture
def refused(capsys):
    """Runs a command that must be refused with one line; gives the line."""

    def command(*arguments):
        with pytest.raises(SystemExit) as caught:
            main.main(list(map(str, arguments)))
        assert caught.value.code == 2
        line = capsys.readouterr().err
        assert line.count("\n") == 1
        return line

    return command

# SPDX-License-Identifier: Apache-2.0
"""A small study and the description of data that do not exist: planning needs no more."""

import dataclasses

import pytest

from experiments.ledger.ledger import Ledger
from experiments.plan.plan import plan
from experiments.study.recipe import BatchRule
from experiments.study.recipes import TINY_BYTES
from experiments.study.study import Ladder, Study
from model.data.manifest import Manifest
from model.data.source import StdlibText, source_to_dict
from model.training.config import EvalConfig

# The numbers that the tests worked out by hand follow from it.
RECIPE = dataclasses.replace(
    TINY_BYTES,
    name="of-the-tests",
    optimizer=dataclasses.replace(
        TINY_BYTES.optimizer, beta2_halflife_tokens=7e3, weight_decay_timescale=0.5
    ),
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
    optimizer = dataclasses.replace(
        RECIPE.optimizer, warmup_fraction=0.01, decay_fraction=0.2, decay="one_minus_sqrt"
    )
    recipe = dataclasses.replace(
        RECIPE,
        optimizer=optimizer,
        batch=BatchRule(reference_tokens=512.0, reference_run=8e5, exponent=0.0, multiple=1),
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
def ledger(tmp_path, study) -> Ledger:
    return Ledger(tmp_path / "results", study.name)


@pytest.fixture
def record():
    """A result as a worker writes it, as a function of loss and status."""

    def make(loss: float | None = 2.5, *, status: str = "ok", reason: str = "") -> dict:
        curve = [{"step": s, "n_tokens": 100 * s, "loss_nats": 3.0 + 1 / s} for s in (1, 2)]
        return {
            "status": status,
            "reason": reason,
            "loss_nats": loss,
            "bits_per_byte": loss,
            "oracle_loss_nats": None,
            "curve": curve,
            "params_sha256": "00",
            "notes": [],
            "costs": {"wall_seconds": 1.0, "train_seconds": 0.5},
            "provenance": {"device": "abacus", "attempts": [], "resumed_at_steps": [0]},
        }

    return make


@pytest.fixture
def changed():
    """A nested frozen dataclass with the field at a dotted path replaced."""

    def change(node, path: str, value):
        name, _, rest = path.partition(".")
        new = change(getattr(node, name), rest, value) if rest else value
        return dataclasses.replace(node, **{name: new})

    return change


_MINE = """
import dataclasses
from experiments.studies.quickstart import STUDY
from experiments.study.study import Ladder
from model.data.source import Zipf
from model.training.config import EvalConfig
zipf = Zipf(alpha=0.5, epsilon=0.1, base=8, n_digits=2, n_answers=1, language_seed=0)
STUDY = dataclasses.replace(
    STUDY, name="mine", budgets=(3e8, 1.2e9, 4.8e9), seeds=(0, 1), data=zipf, seq_len=16,
    forecast_budgets=(), sizes=Ladder(d_models=(8, 12, 16, 24, 32), tokens_per_param=(0.1, 1e5)),
    evaluation=EvalConfig(n_tokens=512, curve_tokens=256, n_points=2, seed=0),
)
"""


@pytest.fixture
def mine_file(tmp_path):
    """A study of three budgets and five sizes on a planted language, as a user writes one."""
    path = tmp_path / "mine.py"
    path.write_text(_MINE)
    return path

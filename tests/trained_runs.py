# SPDX-License-Identifier: Apache-2.0
"""Runs that are really trained, in this process and in seconds, with all that the ledger keeps."""

from dataclasses import replace
from pathlib import Path

from stand_in_training import session

from experiments.ledger.ledger import Ledger
from experiments.plan.jobs import alone
from experiments.plan.plan import plan
from experiments.plan.point import Point, to_json
from experiments.recipes.named import recipe_named
from experiments.study.recipe import Recipe
from experiments.study.study import Ladder, Study
from experiments.train.attempt import run_job
from model.data.corpus import open_corpus
from model.data.prepare import prepare
from model.data.source import TextFiles
from model.training.config import EvalConfig
from model.training.loop import train_pack

SEQ_LEN = 16


def tiny_bytes(**changes: object) -> Recipe:
    """The small recipe with few, short steps."""
    batch = {"batch__reference_tokens": 128.0, "batch__exponent": 0.0}
    return recipe_named("tiny-bytes").recipe.with_(name="of-the-tests", **batch | changes)


def trained(
    folder: Path, recipe: Recipe, *, seeds: tuple[int, ...] = (0,)
) -> tuple[Ledger, tuple[Point, ...]]:
    """A study "small" of one width on a text of letters, below ``folder``/results, and its runs."""
    texts = folder / "texts"
    texts.mkdir(parents=True)
    for i in range(40):
        (texts / f"{i}.txt").write_text(f"document {i}: " + "so it goes on and on. " * (1 + i % 3))
    data = TextFiles(paths=(str(texts),), validation_fraction=0.3)
    ledger = Ledger(folder / "results", "small")
    ledger.data.mkdir(parents=True)
    manifest = prepare(data, ledger.data)
    manifest.write(ledger.manifest)
    # Every window of the validation split, so that its text is the validation set.
    n_tokens = (manifest.n_validation_tokens - 1) // SEQ_LEN * SEQ_LEN
    study = Study(
        name="small",
        question="What is kept of a run?",
        budgets=(1e9,),
        sizes=Ladder(d_models=(16,), tokens_per_param=(1e-3, 1e4)),
        seeds=seeds,
        data=data,
        seq_len=SEQ_LEN,
        evaluation=EvalConfig(n_tokens=n_tokens, curve_tokens=SEQ_LEN, n_points=1, seed=0),
        max_epochs=1e3,
        flops="matmul_full",
        recipe=recipe,
    )
    points = plan(study, manifest).points
    ledger.write_plan(to_json(study), list(points), [alone(point).job for point in points])
    corpus = open_corpus(manifest, ledger.data)
    at_work = replace(session(train_pack, manifest), corpora={manifest.fingerprint: corpus})
    for point in points:
        run_job(ledger, point.id, at_work)
    return ledger, points

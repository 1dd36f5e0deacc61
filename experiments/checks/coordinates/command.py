# SPDX-License-Identifier: Apache-2.0
"""isoflop coordinate-check: whether activations and their updates keep their size with the network.

If they do, the recipe's rates serve every width and depth (Yang et al. 2022, arXiv:2203.03466,
appendix D; Dey et al. 2025, arXiv:2505.01618, for depth). Every width is trained at the recipe's
base depth, and every depth at its base width, for a few steps at the peak rate, without warm-up.
"""

import argparse
import dataclasses
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments.checks.coordinates.cases import N_SEQUENCES, QUANTITIES, Case, Measure, axis_shapes
from experiments.executors.local_devices import cache_folder, local_workers
from experiments.ledger.ledger import Ledger
from experiments.machine.provenance import device_facts, software_facts
from experiments.plan.plan import plan
from experiments.plan.point import Spec
from experiments.plan.resolve import resolve_tokens
from experiments.study.study import Study
from experiments.terminal.argument_types import seeds, whole_number, whole_numbers
from model.data.manifest import Manifest
from model.training.parameterization import PARAMETERIZATIONS, Parameterization


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    text = "at the recipe's base depth (32,64,128,256)"
    add("--widths", type=whole_numbers, default=(32, 64, 128, 256), metavar="LIST", help=text)
    text = "at the recipe's base width (2,4,8,16)"
    add("--depths", type=whole_numbers, default=(2, 4, 8, 16), metavar="LIST", help=text)
    text = "steps of each network (10)"
    add("--steps", type=whole_number, default=10, metavar="N", help=text)
    add("--seeds", type=seeds, default=(0, 1, 2), metavar="LIST", help="of each network (0,1,2)")
    text = "folder of coordinate_check.json, .md and .png (that of the study)"
    add("--out", type=Path, default=None, metavar="DIR", help=text)


def run_cases(study: Study, manifest: Manifest, options: Any, measure: Measure) -> Iterator[Case]:
    """Measures every network of both axes under every parameterisation.

    Raises:
      ValueError: if the recipe has no network of such a width or depth.
    """
    n_tokens = statistics.median_low(point.n_tokens for point in plan(study, manifest).points)
    asked = dict.fromkeys(shape for line in axis_shapes(study, options).values() for shape in line)
    planned: list[tuple[Parameterization, int, int, tuple[Spec, ...]]] = []
    for parameterization in PARAMETERIZATIONS:
        for d_model, n_layers in asked:
            changed = _with_depth(study, n_layers, parameterization)
            specs = tuple(
                _few_steps(changed, manifest, n_tokens, d_model, seed, options.steps)
                for seed in options.seeds
            )
            planned.append((parameterization, d_model, n_layers, specs))
    # Only now: what cannot be trained is refused before anything is.
    for parameterization, d_model, n_layers, specs in planned:
        found = [measure(spec) for spec in specs]
        yield Case(
            parameterization=parameterization,
            d_model=d_model,
            n_layers=n_layers,
            specs=specs,
            means={name: [means[name] for means in found] for name in QUANTITIES},
        )


def _with_depth(study: Study, n_layers: int, parameterization: Parameterization) -> Study:
    shape = dataclasses.replace(study.recipe.shape, min_layers=n_layers, max_layers=n_layers)
    recipe = dataclasses.replace(study.recipe, shape=shape, parameterization=parameterization)
    return dataclasses.replace(study, recipe=recipe)


def _few_steps(
    study: Study, manifest: Manifest, n_tokens: int, d_model: int, seed: int, n_steps: int
) -> Spec:
    """The first steps of a run of so many tokens, at its peak rate.

    All networks get the same tokens, and so the same batch and moments.
    """
    point = resolve_tokens(study, manifest, n_tokens=n_tokens, d_model=d_model, seed=seed, axes={})
    train = point.spec.train
    schedule = dataclasses.replace(train.schedule, n_steps=n_steps, warmup_steps=0, decay_steps=0)
    return dataclasses.replace(point.spec, train=dataclasses.replace(train, schedule=schedule))


def coordinate_check(
    options: Any, study: Study, ledger: Ledger, manifest: Manifest, console: Console
) -> None:
    """Measures, prints the verdicts, and writes the table, the page and the figure."""
    began = time.monotonic()
    axis_shapes(study, options)
    from experiments.machine.jax_setup import start_jax

    start_jax(list(local_workers(1, 1, 1).cores[0]), str(cache_folder()))
    from experiments.checks.coordinates.measure import measure
    from experiments.checks.coordinates.page import Answer, show, write
    from model.data.corpus import open_corpus

    corpus = open_corpus(manifest, ledger.data)
    cases = []
    for case in run_cases(study, manifest, options, lambda s: measure(s, corpus, N_SEQUENCES)):
        console.print(f"{case.parameterization}, width {case.d_model}, depth {case.n_layers}: done")
        cases.append(case)
    answer = Answer(study, options, cases)
    show(answer, console)
    about = {
        "command": _command(options),
        "seconds": round(time.monotonic() - began),
        "device": device_facts()["device"],
        **software_facts(),
    }
    for path in write(answer, options.out or ledger.folder, about):
        console.print(str(path))


def _command(options: Any) -> str:
    """What gives the same answer again, whatever the defaults will be."""
    said = " ".join(["isoflop coordinate-check", options.study, *options.overrides])
    said += f" --steps {options.steps}"
    for name in ("widths", "depths", "seeds"):
        said += f" --{name} {','.join(map(str, getattr(options, name)))}"
    return said

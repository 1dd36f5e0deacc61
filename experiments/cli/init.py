# SPDX-License-Identifier: Apache-2.0
"""isoflop init: a study to begin from."""

import argparse
import re
import shlex
from pathlib import Path

from rich.console import Console

from experiments.cli.options.argument_types import file_path

HELP = "write a commented study to begin from"

_STUDY = '''"""STUDY says what is asked; `isoflop plan {file}` shows what it means and costs."""

from experiments.recipes.dense import DENSE_MUON
from experiments.study.study import Ladder, Study
from model.data.source import TextFiles
from model.training.config import EvalConfig

# A recipe says how to train: every number of it, and why, `isoflop recipe dense-muon` prints.
# Yours is one of `isoflop recipe` with some of its fields changed.
RECIPE = DENSE_MUON.with_(name="{name}-recipe", optimizer__learning_rate=1.0)

STUDY = Study(
    name="{name}",  # Of the folder below results/.
    question="How large a model, on how much of my text?",
    # FLOPs of each isoFLOP curve; these are minutes on two cores of a CPU.
    budgets=(2e10, 6e10, 2e11, 6e11),
    # At each budget, those of these widths that get so many tokens per parameter.
    sizes=Ladder(
        d_models=(8, 12, 16, 24, 32, 40, 48, 56, 64, 80), tokens_per_param=(1.0, 130.0)
    ),
    # For all budgets, or as here a tuple for each: where runs are short their losses vary more.
    seeds=((0, 1, 2), (0, 1, 2), (0, 1), (0,)),
    # Files or folders beside this one: plain text, JSON lines, CSV, Parquet (text_field= names the
    # column). A document is held out, or not, by its hash; a single one is cut into blocks. A few
    # documents may all fall on one side: validation_paths= instead says what is held out, which
    # must have the tokens of evaluation= below. Tokens are bytes; others by tokenizer=, as
    # STUDIES.md says: TrainedBPE(vocab_size=4096), from model.data.tokenizer.
    data=TextFiles(paths=("my_text",), validation_fraction=0.05),
    seq_len=128,
    # Of the final loss, and of the curve of each run: its points and their tokens.
    evaluation=EvalConfig(n_tokens=32768, curve_tokens=8192, n_points=6, seed=0),
    max_epochs=1.0,
    flops="matmul_full",
    recipe=RECIPE,
    # Forecast from the others, then trained, and never fitted.
    forecast_budgets=(2e12,),
)
'''


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=file_path, metavar="FILE.py", help="to be written")


def run(options: argparse.Namespace, console: Console) -> None:
    path: Path = options.file
    if path.suffix != ".py":
        raise ValueError(f"{path}: a study is a Python file; give a name that ends in .py.")
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", path.stem)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(_STUDY.format(file=shlex.quote(path.name), name=name))
    except FileNotFoundError:
        raise ValueError(f"{path}: there is no folder {path.parent}. Make it first.") from None
    except FileExistsError:
        raise ValueError(f"{path} is there already; nothing was written. Name another.") from None
    console.print(
        f"{path}: give it your text (data=), then `isoflop plan {shlex.quote(str(path))}`."
    )

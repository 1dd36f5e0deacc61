# SPDX-License-Identifier: Apache-2.0
"""isoflop sample: what a trained network writes after a prompt."""

import argparse
import functools
import sys
from typing import TYPE_CHECKING

from rich.console import Console

from experiments.cli.opening.open_run import add_run, open_run
from experiments.cli.options.argument_types import whole_number
from model.field_checks import MAX_SEED
from model.training.objectives.kinds import KINDS

if TYPE_CHECKING:
    from experiments.weights.draw import Sampled

HELP = "what a trained network writes after a prompt"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    text = "how a document begins; of a run on token ids these, comma separated (nothing)"
    parser.add_argument("--prompt", default="", metavar="TEXT", help=text)
    text = "at most so many more (what a window of its training has room for)"
    parser.add_argument("--tokens", type=whole_number, metavar="N", help=text)
    add = parser.add_argument_group("draws").add_argument
    text = "divides the logits; 0 takes the most probable token"
    add("--temperature", type=float, default=1.0, metavar="T", help=text)
    text = "draw from the K most probable tokens alone (from all)"
    add("--top-k", type=whole_number, metavar="K", help=text)
    text = "of these, from the fewest that hold this share of their probability (all)"
    add("--top-p", type=float, metavar="P", help=text)
    seed = functools.partial(whole_number, low=0, high=MAX_SEED)
    add("--seed", type=seed, default=0, metavar="N", help="of the draws")


def run(options: argparse.Namespace, console: Console) -> None:
    if not 0 <= options.temperature <= 1e6:
        raise ValueError(f"--temperature {options.temperature:g}: must be 0 to 1e6.")
    if options.top_p is not None and not 0 < options.top_p <= 1:
        raise ValueError(f"--top-p {options.top_p:g}: must be above 0, at most 1.")
    model = open_run(options)
    spec = model.point.spec
    vocabulary = spec.model.vocab_size - KINDS[spec.train.objective].has_mask
    if (options.top_k or 1) > vocabulary:
        raise ValueError(f"--top-k {options.top_k}: the run has {vocabulary} tokens.")
    from experiments.weights.draw import Sampling
    from experiments.weights.sample import continue_text

    sampling = Sampling(
        n_tokens=options.tokens,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        seed=options.seed,
    )
    text, sampled = continue_text(model, options.prompt, sampling)
    console.print(text)
    print(_speed(sampled), file=sys.stderr)


def _speed(sampled: "Sampled") -> str:
    """How fast, in a line."""
    n_others = len(sampled.tokens) - 1
    first = f"{1e3 * sampled.first_seconds:.1f} ms to the first token"
    return f"{first}, then {n_others / sampled.other_seconds:,.0f} tokens/s" if n_others else first

# SPDX-License-Identifier: Apache-2.0
"""isoflop sample: what a trained network writes after a prompt."""

import argparse
import functools

from rich.console import Console

from experiments.cli.argument_types import whole_number
from experiments.cli.open_run import add_run, open_run
from model.field_checks import MAX_SEED

HELP = "what a trained network writes after a prompt"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    text = "how a document begins; of a run on token ids these, comma separated (nothing)"
    parser.add_argument("--prompt", default="", metavar="TEXT", help=text)
    text = "at most so many more (what a window of its training has room for)"
    parser.add_argument("--tokens", type=whole_number, metavar="N", help=text)
    text = "divides the logits; 0 takes the most probable token (1)"
    parser.add_argument("--temperature", type=float, default=1.0, metavar="T", help=text)
    seed = functools.partial(whole_number, low=0, high=MAX_SEED)
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="of the draws (0)")


def run(options: argparse.Namespace, console: Console) -> None:
    if not 0 <= options.temperature <= 1e6:
        raise ValueError(f"--temperature {options.temperature:g}: must be 0 to 1e6.")
    model = open_run(options)
    from experiments.weights.sample import continue_text

    wanted = (options.prompt, options.tokens, options.temperature, options.seed)
    console.print(continue_text(model, *wanted))

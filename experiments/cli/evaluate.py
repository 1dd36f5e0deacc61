# SPDX-License-Identifier: Apache-2.0
"""isoflop evaluate: the loss of a trained network on files of one's own."""

import argparse
import json
from dataclasses import asdict

from rich.console import Console

from experiments.cli.opening.open_run import add_run, open_run

HELP = "the loss of a trained network on a file or folder of yours"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    text = "file or folder of text, or of token ids, as the run's own data"
    parser.add_argument("--data", required=True, metavar="PATH", help=text)
    text = "key or column of the text (that of the run's own data)"
    parser.add_argument("--text-field", metavar="NAME", help=text)
    parser.add_argument("--json", action="store_true", help="the answer as one JSON object")


def run(options: argparse.Namespace, console: Console) -> None:
    model = open_run(options)
    from experiments.weights.evaluate import evaluate_file

    found = evaluate_file(model, options.data, options.text_field)
    if options.json:
        console.print(json.dumps({"run_id": model.point.id} | asdict(found)))
        return
    error, bits = found.loss_se_nats, found.bits_per_byte
    bound = ", upper bound" * found.is_bound
    spread = f" +- {error:.4f}" if error else ""
    console.print(f"nats per {found.unit:<7} {found.loss_nats:.4f}{spread}{bound}")
    console.print(f"bits per byte    {'unknown' if bits is None else f'{bits:.4f}{bound}'}")
    console.print(f"perplexity       {found.perplexity:.4g}")
    if found.n_documents is not None:
        console.print(f"documents        {found.n_documents:,} of {found.n_bytes:,} bytes")
    left = f", {found.n_left_out:,} left over" if found.n_left_out else ""
    console.print(f"{found.unit + 's':<16} {found.n_tokens:,} in {found.n_windows:,} windows{left}")

# SPDX-License-Identifier: Apache-2.0
"""isoflop export-model: a trained network in the form of Hugging Face's transformers."""

import argparse

from rich.console import Console

from experiments.cli.opening.open_run import add_run, run_name
from experiments.cli.options.argument_types import file_path

HELP = "a trained network as config.json and model.safetensors of Hugging Face"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    text = "folder to write"
    parser.add_argument("--to", type=file_path, required=True, metavar="DIR", help=text)


def run(options: argparse.Namespace, console: Console) -> None:
    name = run_name(options)
    from experiments.weights.export_model import export_model

    loads = export_model(name, options.to, results=options.results)
    console.print(f'{loads}: AutoModelForCausalLM.from_pretrained("{options.to}")')

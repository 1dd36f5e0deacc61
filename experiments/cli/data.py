# SPDX-License-Identifier: Apache-2.0
"""isoflop data: read the source once and write its manifest and tokens."""

import argparse

from rich.console import Console

from experiments.cli.open_study import add_study, open_manifest, open_study
from model.data.token_files import SPLITS, open_array, token_path

HELP = "read the source once and write its manifest and tokens"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    parser.add_argument(
        "--overlap",
        action="store_true",
        help="also how much of the validation split training holds word for word",
    )


def run(options: argparse.Namespace, console: Console) -> None:
    study, ledger = open_study(options)
    manifest = open_manifest(study, ledger, console, again=True)
    if manifest.n_train_tokens is None:
        console.print(f"unlimited tokens, true entropy {manifest.entropy_nats:.5f} nats per token")
    else:
        console.print(
            f"{manifest.n_documents} documents, {manifest.n_train_tokens:,} training and "
            f"{manifest.n_validation_tokens:,} validation tokens"
        )
    for note in manifest.notes:
        console.print(f"- {note}")
    if options.overlap and manifest.n_train_tokens is not None:
        from model.data.overlap import STRING, overlap

        train, validation = (open_array(token_path(ledger.data, split)) for split in SPLITS)
        console.print(
            f"{overlap(train, validation):.1%} of the validation tokens lie in a string of "
            f"{STRING} tokens that training holds, too"
        )
    console.print(f"fingerprint {manifest.fingerprint}\nmanifest {ledger.manifest}")

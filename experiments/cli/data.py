# SPDX-License-Identifier: Apache-2.0
"""isoflop data: read the source once and write its manifest and tokens."""

import argparse

from rich.console import Console

from experiments.cli.open_study import add_study, open_manifest, open_study

HELP = "read the source once and write its manifest and tokens"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)


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
    console.print(f"fingerprint {manifest.fingerprint}\nmanifest {ledger.manifest}")

# SPDX-License-Identifier: Apache-2.0
"""The study that a command line names, its ledger, its data and its plan."""

import argparse
import shlex
from pathlib import Path

from rich.console import Console

from experiments.cli.opening.load_study import load_study, study_names
from experiments.cli.opening.overrides import overridden
from experiments.cli.options.argument_types import file_path
from experiments.files.hold import hold
from experiments.ledger.ledger import Ledger
from experiments.plan.plan import Plan, plan
from experiments.plan.settings import sources
from experiments.study.study import Study
from model.data.manifest import Manifest
from model.data.source import source_from_dict

RESULTS = Path("results")


def add_study(parser: argparse.ArgumentParser) -> None:
    """The study, changes to it, and where its results are."""
    parser.add_argument(
        "study", help=f"a name ({', '.join(study_names())}, one with results) or a Python file"
    )
    parser.add_argument(
        "overrides", nargs="*", default=[], help="field=value: seeds=0,1 recipe=dense"
    )
    parser.add_argument("--results", type=file_path, default=RESULTS, help="folder of results")


def called(options: argparse.Namespace, *more: str) -> str:
    """The study as this command line names it, for commands that are suggested; more overrides
    of it may be added."""
    words = [options.study, *options.overrides, *more]
    if options.results != RESULTS:
        words += ["--results", str(options.results)]
    return shlex.join(words)


def open_study(options: argparse.Namespace) -> tuple[Study, Ledger]:
    """Raises OtherVersion where another version of isoflop wrote the study's folder."""
    study = overridden(load_study(options.study, options.results), options.overrides)
    ledger = Ledger(options.results, study.name)
    ledger.require_version()
    return study, ledger


def open_manifest(
    study: Study, ledger: Ledger, console: Console, *, again: bool = False
) -> Manifest:
    """The manifest of the study's data, written when it is missing."""
    asked = sources(study)
    if ledger.manifest.exists() and not again:
        manifest = Manifest.read(ledger.manifest)
        found = [source_from_dict(one.source) for one in (manifest, *manifest.variants)]
        if set(asked) <= set(found):
            return manifest
        if ledger.has_runs():
            raise ValueError(
                f"{ledger.manifest} describes other data than the study asks for. `isoflop data` "
                "with the same study and changes prepares these; finished runs stay."
            )
        console.print(f"{study.name} asks for other data now; nothing was trained on the former")
        again = True
    from experiments.ledger.prepared import prepare_study

    with hold(ledger.folder / ".lock"):  # Of two runners one prepares, the other waits and reads.
        if ledger.manifest.exists() and not again:
            return open_manifest(study, ledger, console)
        with console.status("reading data ...") as status:

            def progress(n_done: int, n_files: int, n_bytes: int) -> None:
                status.update(f"{n_done} of {n_files} files, {n_bytes / 1e6:,.0f} MB of text")

            return prepare_study(ledger, asked, lambda said: console.print(said), progress)


def open_plan(study: Study, ledger: Ledger, console: Console) -> tuple[Plan, Manifest]:
    manifest = open_manifest(study, ledger, console)
    return plan(study, manifest), manifest

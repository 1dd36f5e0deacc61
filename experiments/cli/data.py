# SPDX-License-Identifier: Apache-2.0
"""isoflop data: what the data of a study are, by source and split; prepares what is missing."""

import argparse
from collections.abc import Iterator

import numpy as np
from rich.console import Console

from experiments.cli.opening.open_study import add_study, open_manifest, open_study
from experiments.cli.options.argument_types import whole_number
from experiments.ledger.ledger import Ledger
from experiments.terminal.table import fitting_tables
from model.data.manifest import Manifest
from model.data.tokens.token_files import SPLITS, open_array, token_path, tokens_folder

HELP = "what the data are, by source; reads what is missing or has changed"
_SAMPLE_TOKENS = 100
# Of tokens: what is compared in seconds, without being asked.
_SMALL = 2**24


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    text = "how much of the validation split training holds word for word, of large data, too"
    parser.add_argument("--overlap", action="store_true", help=text)
    text = "beginnings of N documents of each"
    parser.add_argument("--show", type=whole_number, default=0, metavar="N", help=text)


def run(options: argparse.Namespace, console: Console) -> None:
    study, ledger = open_study(options)
    manifest = open_manifest(study, ledger, console, again=True)
    every = (manifest, *manifest.variants)
    leaves = {leaf.fingerprint: leaf for one in every for leaf in one.parts or (one,)}
    if rows := [row for leaf in leaves.values() for row in _rows(leaf)]:
        console.print(fitting_tables(rows, console.width, n_keys=2))
    for one in every:
        for note in one.notes:
            console.print(f"- {note}")
        if one.entropy_nats is not None:
            console.print(f"unlimited tokens, true entropy {one.entropy_nats:.5f} nats per token")
        console.print(f"fingerprint {one.fingerprint}")
    for leaf in leaves.values():
        if leaf.n_train_tokens is not None:
            console.print(_overlap(leaf, ledger, is_asked=options.overlap))
            for line in _samples(leaf, ledger, options.show):
                console.print(line, soft_wrap=True)
    console.print(f"manifest {ledger.manifest}")


def _rows(leaf: Manifest) -> Iterator[dict[str, str]]:
    if leaf.n_train_tokens is None:
        return
    name = leaf.source.get("paths", [leaf.kind])
    n_bytes: tuple[int | None, int | None] = (None, None)
    if leaf.n_bytes is not None and (with_ends := leaf.n_validation_bytes) is not None:
        held_out = with_ends - (leaf.n_validation_documents or 0)
        n_bytes = (leaf.n_bytes - held_out, held_out)
    documents = (leaf.n_train_documents, leaf.n_validation_documents)
    tokens = (leaf.n_train_tokens, leaf.n_validation_tokens)
    for split, *counts in zip(SPLITS, documents, n_bytes, tokens, strict=True):
        yield {
            "source": name[0] if isinstance(name, list) else str(name),
            "split": split,
            **{
                what: "" if count is None else f"{count:,}"
                for what, count in zip(("documents", "bytes", "tokens"), counts, strict=True)
            },
        }


def _overlap(leaf: Manifest, ledger: Ledger, *, is_asked: bool) -> str:
    from model.data.overlap import STRING, overlap, texts
    from model.data.tokens.encoding import open_encoding

    train, validation = _arrays(leaf, ledger)
    if not is_asked and len(train) + len(validation) > _SMALL:
        return (
            f"{leaf.kind}: --overlap says how much of the validation split training holds word for "
            f"word (told without it up to {_SMALL:,} tokens)"
        )
    unit = "tokens" if leaf.n_bytes is None else "bytes"
    if leaf.tokenizer is not None:
        encoding = open_encoding(leaf, ledger.data)
        train, validation = (texts(tokens, encoding) for tokens in (train, validation))
    return (
        f"{leaf.kind}: {overlap(train, validation):.1%} of the validation {unit} lie in a string "
        f"of {STRING} {unit} that training holds, too"
    )


def _samples(leaf: Manifest, ledger: Ledger, n: int) -> Iterator[str]:
    """The beginnings of documents that lie at equal distances, without what a terminal obeys."""
    from model.data.tokens.encoding import open_encoding

    encoding = open_encoding(leaf, ledger.data)
    for split, tokens in zip(SPLITS, _arrays(leaf, ledger), strict=True):
        for place in range(n):
            start = len(tokens) * place // n
            if place:
                start += int(np.argmax(tokens[start:] == encoding.separator)) + 1
            some = tokens[start : start + _SAMPLE_TOKENS]
            if (ends := np.flatnonzero(some == encoding.separator)).size:
                some = some[: ends[0]]
            text = encoding.decode(some.tolist()).decode(errors="replace")
            yield f"{leaf.kind} {split} at token {start:,}: {text!r}"


def _arrays(leaf: Manifest, ledger: Ledger) -> list[np.ndarray]:
    folder = tokens_folder(ledger.data, leaf.fingerprint)
    return [open_array(token_path(folder, split)) for split in SPLITS]

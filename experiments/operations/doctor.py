# SPDX-License-Identifier: Apache-2.0
"""isoflop doctor: verifies every file of a study, names what is damaged and what to do about it."""

import io
import os
from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.progress import track

from experiments.ledger.ledger import Ledger
from experiments.operations.verify import Finding, check_file, check_jobs, check_plan
from experiments.operations.verify_weights import check_weights
from model.data.manifest import Manifest

_MOST_NOTES = 20
_DATA_AGAIN = "`isoflop data STUDY` prepares the data again."


def doctor(study_name: str, ledger: Ledger, console: Console) -> int:
    """Prints what was found; returns how many files are damaged.

    Raises:
      ValueError: if the study was never run.
    """
    keys = sorted(_keys(ledger))
    if not any(key.startswith(("runs/", "jobs/", "plan.jsonl")) for key in keys):
        raise ValueError(f"{ledger.folder} has no runs. `isoflop run {study_name}` makes them.")
    found: dict[Finding, None] = {}
    for key in track(
        keys,
        description="verifying",
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ):
        found |= dict.fromkeys(check_file(ledger, key))
    checks = (check_jobs, check_weights, check_plan, check_data)
    for findings in (check(ledger) for check in checks):
        found |= dict.fromkeys(findings)
    return _report(list(found), len(keys), console)


def _keys(ledger: Ledger) -> Iterator[str]:
    """Every file but those of checkpoints, which are verified as one."""
    for folder, folders, files in os.walk(ledger.folder):
        folders[:] = sorted(name for name in folders if name != "checkpoints")
        for name in files:
            yield os.path.relpath(os.path.join(folder, name), ledger.folder).replace(os.sep, "/")


def _report(found: list[Finding], n_files: int, console: Console) -> int:
    damages = [one for one in found if one.is_damage]
    notes = [one for one in found if not one.is_damage]
    for one in damages:
        console.print(f"DAMAGED {one.key}: {one.what}. {one.way_out}".rstrip())
    for one in notes[:_MOST_NOTES]:
        console.print(f"note: {one.key} {one.what}. {one.way_out}".rstrip())
    if len(notes) > _MOST_NOTES:
        console.print(f"and {len(notes) - _MOST_NOTES} more notes")
    n_damaged = len({one.key for one in damages})
    console.print(f"{n_files} files verified, {n_damaged or 'none'} damaged.")
    return n_damaged


def check_data(ledger: Ledger) -> Iterator[Finding]:
    """The manifest, and token files against it."""
    if (data := ledger.storage.read("manifest.json")) is None:
        return
    try:
        manifest = Manifest.from_json(data.decode("utf-8"))
    except ValueError as error:
        yield Finding(key="manifest.json", what=str(error).rstrip("."), way_out="")
        return
    if b'"sha256"' not in data:
        what = "has no digest: an earlier version wrote it"
        yield Finding(key="manifest.json", what=what, way_out=_DATA_AGAIN, is_damage=False)
    elif data != manifest.to_json().encode():
        yield Finding(key="manifest.json", what="is not what was written", way_out=_DATA_AGAIN)
    yield from _tokens(ledger, manifest)


def _tokens(ledger: Ledger, manifest: Manifest) -> Iterable[Finding]:
    from model.data.corpus import open_corpus
    from model.data.tokens.token_files import SPLITS

    names = [f"data/{split}.npy" for split in SPLITS if manifest.n_train_tokens is not None]
    for name in names:
        if (what := _header_problem(ledger, name, manifest)) is not None:
            return [Finding(key=name, what=what, way_out=_DATA_AGAIN)]
    try:
        open_corpus(manifest, ledger.data)
    except ValueError:
        what = "are not the tokens that the manifest describes"
        key = " or ".join(names) or "manifest.json"
        return [Finding(key=key, what=what, way_out=_DATA_AGAIN)]
    return []


def _header_problem(ledger: Ledger, name: str, manifest: Manifest) -> str | None:
    """What is wrong with the head of a token file, to the byte: numpy reads several as one."""
    import numpy as np

    from model.data.tokens.token_files import open_array, token_dtype

    path = ledger.folder / name
    try:
        array = open_array(path)
    except ValueError as error:
        return str(error).rstrip(".")
    expected = io.BytesIO()
    head = {"descr": token_dtype(manifest.vocab_size).str, "fortran_order": False}
    np.lib.format.write_array_header_1_0(expected, head | {"shape": array.shape})
    with path.open("rb") as file:
        is_head = file.read(expected.tell()) == expected.getvalue()
    is_whole = path.stat().st_size == expected.tell() + array.nbytes
    return None if is_head and is_whole else "is not the token file that was written"

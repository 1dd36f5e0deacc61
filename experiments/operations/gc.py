# SPDX-License-Identifier: Apache-2.0
"""isoflop gc: what lies in a study's folder and nobody needs any more.

That is: checkpoints of jobs whose points all have their result; files that were being written when
their process was killed, and worker logs, both a day old by the storage's clock. Results, specs,
claims, endings and metrics are never among it, nor checkpoints that a run may still need. Trunks
whose points all have their result go only where that is asked: longer runs could begin from them.
So do the weights of runs that are no longer asked for, and prepared data that no study of the
results folder names any more.
"""

import os
import re
import shutil
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console

from experiments.files.checked_json import intact
from experiments.files.storage import Storage
from experiments.ledger.asked_points import Asked, asked_points
from experiments.ledger.claims import JobFolder, Limits
from experiments.ledger.ledger import Ledger, weights_key
from experiments.ledger.verdict import Judge
from experiments.plan.jobs import TRUNK
from model.data.manifest import Manifest

DAY_SECONDS = 86400.0
# Names of the storage (32 digits), of a manifest (8) and of a folder of `isoflop data`.
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}|\..+\.[0-9a-f]{8}\.tmp|\.prepare-.+")
_LOG = re.compile(r"worker-(\d+)-\d+\.log")
_MOST_NAMED = 20
Option = Literal["", "others", "trunks", "data"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Leftover:
    """A file or folder that can go.

    Attributes:
      path: of it.
      what: it is, in the plural.
      n_bytes: of all its files.
      option: of gc, without which it stays: "others" where its run is no longer asked for, "data"
        where it lies in the folder that studies share.
    """

    path: Path
    what: str
    n_bytes: int
    option: Option


def _leftover(path: Path, what: str, option: Option = "") -> Leftover:
    return Leftover(path=path, what=what, n_bytes=_n_bytes(path), option=option)


def gc(
    study_name: str,
    ledger: Ledger,
    console: Console,
    *,
    delete: bool = False,
    options: Collection[str] = (),
    limits: Limits,
) -> None:
    """Shows what can go, and removes it where asked.

    Args:
      delete: whether to.
      options: of Leftover, those that were given.
      limits: by which jobs are judged.

    Raises:
      ValueError: if the study was never run.
    """
    points = asked_points(ledger, study_name)
    asked = {point.id for point in points}
    found = list(leftovers(ledger, points, limits))
    chosen = [one for one in found if not one.option or one.option in options]
    for what in dict.fromkeys(one.what for one in chosen):
        _show([one for one in chosen if one.what == what], console)
    if delete:
        for one in chosen:
            _remove(one.path)
    n_bytes = _size(sum(one.n_bytes for one in chosen))
    if not chosen:
        console.print(f"Nothing in {ledger.folder} can go.")
    elif delete:
        console.print(f"{n_bytes} removed.")
    else:
        words = " ".join((study_name, *(f"--{option}" for option in sorted(options)), "--delete"))
        console.print(f"{n_bytes} can go: `isoflop gc {words}` removes it.")
    left = [one for one in found if one not in chosen]
    _show_others(ledger, asked, [one for one in left if one.option == "others"], console)
    for option in ("trunks", "data"):
        if stay := [one for one in left if one.option == option]:
            size = _size(sum(one.n_bytes for one in stay))
            console.print(f"{len(stay)} {stay[0].what}, {size}, go with --{option}.")


def leftovers(ledger: Ledger, points: Sequence[Asked], limits: Limits) -> Iterator[Leftover]:
    """What can go, found without a change; ``points`` are those of the plan."""
    is_anyone_alive = False
    judge = Judge(ledger, limits)
    asked = {point.id for point in points}
    needed = {p.cluster_id for p in points if not ledger.has_intact_result(p.id)}
    for name in ledger.job_ids():
        job, path = ledger.job(name), ledger.checkpoints(name)
        trunk = ledger.read_trunk(name) if name.startswith(TRUNK) else None
        if trunk is not None:
            if needed.isdisjoint(trunk.clusters) and path.is_dir():
                yield _leftover(path, "ends of trunks whose points are done", "trunks")
            continue
        members = _members(job)
        is_finished = bool(members) and all(map(ledger.has_intact_result, members))
        is_of_others = not any(member in asked for member in members)
        if not is_finished and judge.job(job, job.newest())[0] == "running":
            is_anyone_alive = True
        elif members and (is_finished or is_of_others) and path.is_dir():
            what = f"checkpoints of {'finished' if is_finished else 'unfinished'} runs"
            what += " that are no longer asked for" if is_of_others else ""
            yield _leftover(path, what, "others" if is_of_others else "")
    yield from _weights_of_others(ledger, asked)
    yield from _unnamed_data(ledger)
    yield from _temporary_files(ledger)
    if not is_anyone_alive:
        yield from _logs(ledger)


def _weights_of_others(ledger: Ledger, asked: Collection[str]) -> Iterator[Leftover]:
    for run_id in ledger.other_runs(asked):
        path = ledger.folder / weights_key(run_id)
        if path.is_file():
            yield _leftover(path, "weights of runs that are no longer asked for", "others")


def _unnamed_data(ledger: Ledger) -> Iterator[Leftover]:
    """Of the folder that all studies share, what the manifest of none names; locks stay."""
    storage = Storage(ledger.results / ".data")
    manifests = [path.read_text() for path in ledger.results.glob("*/manifest.json")]
    for path in sorted(storage.root.glob("*")):
        if path.suffix != ".lock" and not _is_named(path, manifests) and _is_old(storage, path):
            yield _leftover(path, "prepared data that no study names", "data")


def _is_named(path: Path, manifests: Sequence[str]) -> bool:
    """By the fingerprint of the data, or the name of a vocabulary that was trained for several."""
    name = path.name
    if path.is_dir():
        try:
            name = Manifest.read(path / "manifest.json").fingerprint
        except ValueError:
            return False  # A call was killed, or something was deleted.
    return any(name in text for text in manifests)


def _members(job: JobFolder) -> tuple[str, ...]:
    """The points that get a result from a job; none where its record cannot be read."""
    record = intact(job.job)
    return record.results if record else ()


def _temporary_files(ledger: Ledger) -> Iterator[Leftover]:
    for folder, folders, files in os.walk(ledger.folder):
        for name in [name for name in (*folders, *files) if _TEMPORARY.fullmatch(name)]:
            path = Path(folder) / name
            if _is_old(ledger.storage, path):
                yield _leftover(path, "files of killed writes")
        # What lies among checkpoints is for the training code to judge.
        folders[:] = [n for n in folders if n != "checkpoints" and not _TEMPORARY.fullmatch(n)]


def _logs(ledger: Ledger) -> Iterator[Leftover]:
    """Logs of local runners that are gone from this host; nobody is alive elsewhere either."""
    for path in sorted(ledger.logs.glob("worker-*.log")):
        name = _LOG.fullmatch(path.name)
        if name and not Path(f"/proc/{name[1]}").exists() and _is_old(ledger.storage, path):
            yield _leftover(path, "logs of ended workers")


def _is_old(storage: Storage, path: Path) -> bool:
    """Whether it and all below it were last written a day ago, by the storage's clock."""
    below = path.rglob("*") if path.is_dir() else ()
    keys = [p.relative_to(storage.root).as_posix() for p in (path, *below)]
    ages = [storage.age_seconds(key) for key in keys]
    return all(age is not None and age > DAY_SECONDS for age in ages)


def _n_bytes(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else (path,)
    return sum(file.lstat().st_size for file in files if file.is_file())


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _show(found: list[Leftover], console: Console) -> None:
    total = _size(sum(one.n_bytes for one in found))
    console.print(f"{len(found)} {found[0].what}, {total}:")
    for one in found[:_MOST_NAMED]:
        console.print(f"  {_size(one.n_bytes):>9}  {one.path}")
    if len(found) > _MOST_NAMED:
        console.print(f"  and {len(found) - _MOST_NAMED} more")


def _show_others(
    ledger: Ledger, asked: Collection[str], left: list[Leftover], console: Console
) -> None:
    """Runs that are no longer asked for: their results stay, in case they are again."""
    others = ledger.other_runs(asked)
    if not others:
        return
    size = _size(sum(_n_bytes(ledger.folder / "runs" / name) for name in others))
    more = f" and {len(others) - _MOST_NAMED} more" if len(others) > _MOST_NAMED else ""
    console.print(
        f"{len(others)} runs are no longer asked for, {size}; they stay: "
        f"{', '.join(others[:_MOST_NAMED])}{more}"
    )
    if left:
        size = _size(sum(one.n_bytes for one in left))
        console.print(f"Their checkpoints and weights, {size}, go with --others.")


def _size(n_bytes: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:,.3g} TB"

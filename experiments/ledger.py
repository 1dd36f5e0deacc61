# SPDX-License-Identifier: Apache-2.0
"""Where things lie under results/<study>/, and how they are written: folders, no server.

  study.json  manifest.json  plan.jsonl  data/         what was asked, of what
  jobs/<point id>/{attempts/, checkpoints/}            how it goes
  runs/<point id>/{spec.json, metrics/, result.json}   what came out; create-once
  forecasts/<budget>-<key>.json                        predicted before the run; create-once
  table.csv  curves.csv  costs.csv  fits/  figures/  report.html   derived; may be deleted

A result is linked into place whole or not at all, carries its own sha256, and is never replaced.
``table.csv`` and ``curves.csv`` hold only what follows from the specs, so that an interrupted study
gives the same bytes as an undisturbed one; seconds, hosts and versions are in ``costs.csv``.
"""

import contextlib
import csv
import fcntl
import hashlib
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiments.point import Point, point_from_json, to_json
from model.counts.total import FLOP_CONVENTIONS


class Damaged(ValueError):
    """A file of the ledger is not what was written."""


class Ledger:
    """The folder of one study."""

    def __init__(self, results: Path, study: str):
        self.results = Path(results)
        self.folder = self.results / study
        self.manifest = self.folder / "manifest.json"
        self.data = self.folder / "data"
        self.table = self.folder / "table.csv"
        self.curves = self.folder / "curves.csv"
        self.costs = self.folder / "costs.csv"
        self.report = self.folder / "report.html"
        self.figures = self.folder / "figures"
        self.fits = self.folder / "fits"
        self.logs = self.folder / "logs"

    def run(self, point_id: str) -> Path:
        return self.folder / "runs" / point_id

    def checkpoints(self, point_id: str) -> Path:
        return self.folder / "jobs" / point_id / "checkpoints"

    def has_result(self, point_id: str) -> bool:
        return (self.run(point_id) / "result.json").exists()

    def write_plan(self, study_json: str, points: list[Point]) -> None:
        """Records what is asked now, and creates the spec of every new point."""
        replace_text(self.folder / "study.json", study_json)
        replace_text(self.folder / "plan.jsonl", "".join(to_json(p) + "\n" for p in points))
        for point in points:
            create_text(self.run(point.id) / "spec.json", to_json(point))

    def read_plan(self) -> list[Point]:
        """The points asked for last; empty when none were."""
        path = self.folder / "plan.jsonl"
        if not path.exists():
            return []
        return [_read_point(line, path) for line in path.read_text().splitlines()]

    def read_point(self, point_id: str) -> Point:
        path = self.run(point_id) / "spec.json"
        return _read_point(path.read_text(), path)

    def other_runs(self, points: list[Point]) -> list[str]:
        """Ids of runs in the folder that ``points`` do not ask for."""
        asked = {point.id for point in points}
        runs = self.folder / "runs"
        return (
            sorted(p.name for p in runs.iterdir() if p.name not in asked) if runs.exists() else []
        )

    def write_result(self, point_id: str, record: dict[str, Any]) -> bool:
        """Creates result.json with its own digest; False when there was one already."""
        text = json.dumps(record, sort_keys=True, allow_nan=False)
        digest = hashlib.sha256(text.encode()).hexdigest()
        sealed = f'{{"sha256": "{digest}", "record": {text}}}\n'
        return create_text(self.run(point_id) / "result.json", sealed)

    def read_result(self, point_id: str) -> dict[str, Any] | None:
        """The record of a finished point, or None.

        Raises:
          Damaged: if the file does not match its digest.
        """
        path = self.run(point_id) / "result.json"
        if not path.exists():
            return None
        try:
            sealed = json.loads(path.read_text())
            text = json.dumps(sealed["record"], sort_keys=True, allow_nan=False)
            is_good = hashlib.sha256(text.encode()).hexdigest() == sealed["sha256"]
        except (ValueError, KeyError, TypeError):
            is_good = False
        if not is_good:
            raise Damaged(f"{path} is damaged. Move it away and run the study again.")
        return sealed["record"]

    def write_attempt(self, point_id: str, record: dict[str, Any]) -> int:
        """Records how an attempt failed; returns how many have."""
        folder = self.folder / "jobs" / point_id / "attempts"
        number = len(list(folder.glob("*.json"))) + 1 if folder.exists() else 1
        create_text(folder / f"{number:06d}.json", json.dumps(record))
        return number

    def metrics(self, point_id: str) -> Path:
        """A new metrics file for one attempt: one writer per file."""
        folder = self.run(point_id) / "metrics"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{len(list(folder.iterdir())) + 1:06d}.jsonl"

    def forecast_path(self, budget: float, key: str) -> Path:
        return self.folder / "forecasts" / f"{budget:.6e}-{key}.json"

    def read_forecasts(self) -> list[dict[str, Any]]:
        """Every forecast made, by budget.

        Raises:
          Damaged: if a file is not JSON.
        """
        paths = sorted((self.folder / "forecasts").glob("*.json"))
        return sorted((read_forecast(path) for path in paths), key=lambda r: r["budget"])

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Held by the runner of this study; the kernel drops it with the process.

        Raises:
          ValueError: if another process holds it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(
                    f"another process is running {self.folder}. Wait for it, or stop it first."
                ) from None
            yield

    def collate(self, points: list[Point]) -> None:
        """Writes table.csv, curves.csv and costs.csv of the finished points, in plan order."""
        table, curves, costs = [], [], []
        for point in points:
            if (record := self.read_result(point.id)) is None:
                continue
            table.append(_table_row(point, record))
            curves += _curve_rows(point, record)
            costs.append({"run_id": point.id} | record["costs"])
        for path, rows in ((self.table, table), (self.curves, curves), (self.costs, costs)):
            replace_text(path, _csv(rows))


def read_forecast(path: Path) -> dict[str, Any]:
    """The record of experiments/forecast.py in a file; raises Damaged if it is not JSON."""
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise Damaged(f"{path} is damaged: {error} Delete it and run the study again.") from None


def _table_row(point: Point, record: dict[str, Any]) -> dict[str, Any]:
    model, train = point.spec.model, point.spec.train
    return {
        "run_id": point.id,
        "role": point.role,
        "status": record["status"],
        "reason": record["reason"],
        "budget": point.budget,
        "convention": point.convention,
        "n_params": point.params.total,
        "n_params_non_embedding": point.params.non_embedding,
        "n_params_active": point.params.active,
        "n_tokens": point.n_tokens,
        **{f"flops_{c}": point.flops[c] for c in FLOP_CONVENTIONS},
        "loss_nats": record["loss_nats"],
        "bits_per_byte": record["bits_per_byte"],
        "oracle_loss_nats": record["oracle_loss_nats"],
        "d_model": model.d_model,
        "n_layers": model.n_layers,
        "n_heads": model.n_heads,
        "d_ff": model.d_ff,
        "seq_len": model.seq_len,
        "batch_size": train.batch_size,
        "n_steps": train.schedule.n_steps,
        "hidden_learning_rate": train.optimizer.hidden.learning_rate,
        "epochs": point.epochs,
        "seed": point.seed,
        **point.axes,
        "cluster_id": point.cluster_id,
        "params_sha256": record["params_sha256"],
    }


def _curve_rows(point: Point, record: dict[str, Any]) -> list[dict[str, Any]]:
    per_token = {c: point.flops[c] / point.n_tokens for c in FLOP_CONVENTIONS}
    return [
        {
            "run_id": point.id,
            "role": point.role,
            "step": row["step"],
            "n_tokens": row["n_tokens"],
            **{f"flops_{c}": per_token[c] * row["n_tokens"] for c in FLOP_CONVENTIONS},
            "loss_nats": row["loss_nats"],
        }
        for row in record["curve"]
    ]


def _csv(rows: list[dict[str, Any]]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    file = io.StringIO()
    writer = csv.DictWriter(file, columns, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _read_point(text: str, path: Path) -> Point:
    try:
        return point_from_json(text)
    except ValueError as error:
        raise Damaged(f"{path}: {error} Delete it and run `isoflop run` again.") from None


def replace_text(path: Path, text: str) -> None:
    """Writes a derived file; readers see the old one or the new one, never half of it."""
    temporary = _written(path, text)
    temporary.replace(path)


def create_text(path: Path, text: str) -> bool:
    """Creates a file whole, once; False when it existed: it is then left as it was."""
    if path.exists():
        return False
    temporary = _written(path, text)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink()
    return True


def _written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        temporary.unlink(missing_ok=True)  # A full disk gets back what was half written.
        raise
    return temporary

# SPDX-License-Identifier: Apache-2.0
"""What came out of an attempt, as the records that the ledger keeps of it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from experiments.ledger.claims import Ending
from experiments.ledger.flags import flags
from experiments.ledger.metrics import Spent
from experiments.ledger.result import VERSION, Costs, Provenance, Result, Trunk
from experiments.machine.peak import Peak
from experiments.plan.jobs import PlannedJob
from experiments.plan.point import Point
from experiments.train.session import Session
from model.hardware import mfu
from model.training.outcome import TrainResult

_ACCOUNTS = ("compile", "train", "stall", "evaluate", "checkpoint")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came out of an attempt at a job.

    Attributes:
      planned_job: the job.
      results: of its runs; empty where nothing was trained, as the trunk had diverged.
      lost: then the reasons, of each run.
      session: of the worker.
      weights: digests of the files of final weights, by run id.
      attempt: its number; ``endings``: of the attempts before.
      earlier: what those cost.
      reports: rows of metrics of each run, of all attempts.
      wall_seconds: of this attempt.
      energy, facts: of the machine (experiments/machine/provenance.py).
    """

    planned_job: PlannedJob
    results: Sequence[TrainResult]
    lost: Sequence[str]
    session: Session
    weights: Mapping[str, str]
    attempt: int
    endings: Mapping[int, Ending]
    earlier: Spent
    reports: Sequence[Sequence[Mapping[str, Any]]]
    wall_seconds: float
    energy: Mapping[str, object]
    facts: Mapping[str, object]

    def run_results(self, notes: Sequence[Sequence[str]]) -> list[Result]:
        """The records of the runs, in order; ``notes``: what is to be said of each besides."""
        points, reports = self.planned_job.points, self.reports
        if not self.results:
            return [self._lost(*one) for one in zip(points, self.lost, notes, strict=True)]
        each = zip(points, self.results, notes, reports, strict=True)
        return [self._result(*one) for one in each]

    def trunk(self) -> Trunk:
        """The record of a trunk."""
        notes = [note for result in self.results for note in result.notes]
        reasons = [result.reason for result in self.results] or self.lost
        return Trunk(
            version=VERSION,
            step=self.planned_job.job.steps[1],
            clusters=tuple(sorted({point.cluster_id for point in self.planned_job.points})),
            reasons=tuple(reasons),
            notes=tuple(dict.fromkeys(notes)),
            flops_spent=self.planned_job.flops,
            costs=self._costs(1),
            provenance=self._provenance({}),
        )

    def _result(
        self,
        point: Point,
        trained: TrainResult,
        notes: Sequence[str],
        reports: Sequence[Mapping[str, Any]],
    ) -> Result:
        n_steps = point.spec.train.schedule.n_steps
        n_own = self.planned_job.n_steps
        if trained.status == "stopped":
            n_own -= n_steps - trained.n_steps
        return msgspec.structs.replace(
            self._lost(point, trained.reason, [*trained.notes, *notes]),
            status=trained.status,
            flops_spent={name: flops * n_own / n_steps for name, flops in point.flops.items()},
            losses=trained.losses,
            oracle_loss_nats=trained.oracle_loss_nats,
            curve=trained.curve,
            flags=flags(point, trained.curve, reports),
            params_sha256=trained.params_sha256,
            weights_sha256=self.weights.get(point.id, ""),
        )

    def _lost(self, point: Point, reason: str, notes: Sequence[str]) -> Result:
        """Of a run whose trunk diverged: it would have diverged there, too."""
        train = point.spec.train
        share = self.planned_job.n_steps / train.schedule.n_steps
        seeds = {"init_seed": train.init_seed, "data_seed": train.data_seed}
        return Result(
            version=VERSION,
            status="diverged",
            reason=reason,
            losses={},
            oracle_loss_nats=None,
            curve=(),
            params_sha256="",
            weights_sha256="",
            notes=tuple(notes),
            flags=(),
            flops=point.flops,
            flops_spent={name: flops * share for name, flops in point.flops.items()},
            costs=self._costs(len(self.planned_job.points)),
            provenance=self._provenance(seeds),
        )

    def _provenance(self, seeds: Mapping[str, int]) -> Provenance:
        job, session = self.planned_job.job, self.session
        fingerprint = self.planned_job.points[0].spec.data_fingerprint
        first = self.results[0] if self.results else None
        endings = sorted(self.endings.items())
        about = {
            "job_id": job.id,
            "pack_size": len(self.planned_job.points),
            "trunk": job.parent or "",
            "attempt": self.attempt,
            "attempts": [{"attempt": n, "how": e.how, "step": e.step} for n, e in endings],
            "resumed_at_steps": [*self.earlier.resumed_at, *([first.resumed_at] if first else [])],
            "data_kind": session.corpora[fingerprint].manifest.kind,
            "data_fingerprint": fingerprint,
            "mesh": "x".join(map(str, session.mesh_shape)),
            "execution": (first.execution if first else session.execution).to_text(),
        }
        return msgspec.convert(about | {**self.facts, **seeds}, Provenance)

    def _costs(self, n_records: int) -> Costs:
        """Of one of so many records of the job; see Costs."""
        share = 1 / (n_records * self.session.per_device)
        trained = self.results[0].seconds if self.results else dict.fromkeys(_ACCOUNTS, 0.0)
        seconds = {name: share * trained[name] for name in _ACCOUNTS}
        n_timed = self.results[0].n_timed_steps if self.results else 0
        charged = trained["train"] / self.session.per_device
        speeds = {
            name: n_timed / charged * flops / self.planned_job.n_steps if charged else 0.0
            for name, flops in self.planned_job.flops.items()
        }
        peak = self.session.peak(self.planned_job.points[0].spec.train.compute_dtype)
        wall = share * self.wall_seconds
        total = self.earlier.wall_seconds + wall
        joules = self.energy["joules"]
        costs = {
            **{f"{name}_seconds": round(seconds[name], 3) for name in _ACCOUNTS},
            "wall_seconds": round(wall, 3),
            "total_wall_seconds": round(total, 3),
            "device_seconds": round(total * math.prod(self.session.mesh_shape), 3),
            "resumed_at": (
                self.results[0].resumed_at if self.results else self.planned_job.job.steps[0]
            ),
            "flops_per_second": round(speeds["matmul_full"]),
            "peak_flops_per_second": round(peak.flops_per_second),
            "peak_flops_source": peak.source,
            **{f"mfu_{c}": _mfu(speeds[c], peak) for c in ("matmul_full", "matmul_causal")},
            "joules": share * joules if isinstance(joules, float) else None,
            "joules_source": self.energy["joules_source"],
        }
        return msgspec.convert(costs, Costs)


def _mfu(flops_per_second: float, peak: Peak) -> float | None:
    share = mfu(flops_per_second, peak.flops_per_second)
    return None if share is None else round(share, 5)

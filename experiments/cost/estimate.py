# SPDX-License-Identifier: Apache-2.0
"""What a study will cost: device-seconds, wall time, energy, CO2 and money, by job.

One device-second is a device held for a second, used or not. No JAX, no disk, no clock.
"""

from collections.abc import Callable, Container, Hashable, Iterable, Sequence
from dataclasses import dataclass

from experiments.cost.list_schedule import end_times
from experiments.plan.answerable import forecast_budgets
from experiments.plan.arrange import arrange
from experiments.plan.jobs import PlannedJob, alone
from experiments.plan.plan import Plan
from experiments.speed.device_speed import DeviceSpeed
from experiments.study.study import Study

HOUR, JOULES_PER_KWH = 3600.0, 3.6e6
# A forward pass alone has one third of the products of a training step.
EVALUATION_SHARE = 1 / 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """Something that a worker does in one go.

    Attributes:
      name: of it, unique; the id of its job, which is that of a point trained alone.
      flops: spent by its training steps ("matmul_full").
      flops_per_step: of one of them.
      eval_flops: spent by its evaluations.
      program: what must be compiled for it; works that share it compile once.
      after: name of the work that must have ended before it begins, or None.
      is_beyond_grid: it trains alone.
    """

    name: str
    flops: float
    flops_per_step: float
    eval_flops: float = 0.0
    program: Hashable = None
    after: str | None = None
    is_beyond_grid: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """What turns device-seconds into energy and money.

    Attributes:
      price: money per device-hour; None where nobody said.
      watts: of one device; None where not known.
      watts_source: where that stands; "" without.
      pue: power of the site over power of its devices (power usage effectiveness), >= 1.
      carbon: grams of CO2 per kWh of the grid.
    """

    price: float | None
    watts: float | None
    watts_source: str
    pue: float
    carbon: float

    def kwh(self, device_seconds: float | None) -> float | None:
        """Energy of the site at the devices' nominal power."""
        if device_seconds is None or self.watts is None:
            return None
        return self.site_kwh(device_seconds * self.watts)

    def site_kwh(self, joules: float) -> float:
        """Energy of the site for what its devices used."""
        return joules * self.pue / JOULES_PER_KWH

    def co2_kg(self, kwh: float | None) -> float | None:
        """Kilograms of CO2 of the energy of the site."""
        return None if kwh is None else kwh * self.carbon / 1000

    def money(self, device_seconds: float | None) -> float | None:
        """In the currency of the price."""
        if device_seconds is None or self.price is None:
            return None
        return device_seconds / HOUR * self.price


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """What a plan will cost.

    Attributes:
      works: grid first, in the order of the plan; then what follows it.
      device_seconds: of each by its name, compilation included; None where no speed is known.
      wall_seconds: until the last has ended; None likewise.
      n_devices: held together.
      speed: what it rests on; None where nothing is known.
      terms: see there.
    """

    works: tuple[Work, ...]
    device_seconds: dict[str, float | None]
    wall_seconds: float | None
    n_devices: int
    speed: DeviceSpeed | None
    terms: Terms

    @property
    def total_device_seconds(self) -> float | None:
        """Of all works; None where any is not known."""
        return known_sum(self.device_seconds.values())

    @property
    def total_money(self) -> float | None:
        return self.terms.money(self.total_device_seconds)


def known_sum(values: Iterable[float | None]) -> float | None:
    """Sum of what is known, if all is."""
    total = 0.0
    for value in values:
        if value is None:
            return None
        total += value
    return total


def estimate(
    stages: Sequence[Sequence[Work]],
    speed: DeviceSpeed | None,
    terms: Terms,
    *,
    n_devices: int,
    n_devices_per_work: int,
) -> Estimate:
    """What works cost, stage by stage: a stage begins when the one before has ended.

    Args:
      stages: works by stage; ``after`` names works of the same one.
      speed: of the devices that one work holds; None where nothing is known.
      n_devices: to use at once; a multiple of ``n_devices_per_work``.

    Raises:
      ValueError: if it is none.
    """
    n_workers, rest = divmod(n_devices, n_devices_per_work)
    if rest or not n_workers:
        raise ValueError(
            f"--n-devices {n_devices}: must be a multiple of the {n_devices_per_work} devices "
            "of the study's mesh."
        )
    works = tuple(work for stage in stages for work in stage)
    seconds = None if speed is None else _seconds(works, speed)
    device_seconds: dict[str, float | None] = {
        work.name: None if seconds is None else seconds[work.name] * n_devices_per_work
        for work in works
    }
    return Estimate(
        works=works,
        device_seconds=device_seconds,
        wall_seconds=None if seconds is None else _wall_seconds(stages, seconds, n_workers),
        n_devices=n_devices,
        speed=speed,
        terms=terms,
    )


def _seconds(works: Sequence[Work], speed: DeviceSpeed) -> dict[str, float]:
    """Time of each work; the largest of a program's works, which begins first, compiles it."""
    compiled: set[Hashable] = set()
    seconds = {}
    for work in sorted(works, key=lambda work: -work.flops):
        flops, is_beyond = work.flops + work.eval_flops, work.is_beyond_grid
        seconds[work.name] = speed.seconds(flops, work.flops_per_step, is_beyond_grid=is_beyond)
        if work.program not in compiled:
            seconds[work.name] += speed.compile_seconds or 0.0
        compiled.add(work.program)
    return seconds


def _wall_seconds(
    stages: Sequence[Sequence[Work]], seconds: dict[str, float], n_workers: int
) -> float:
    total = 0.0
    for stage in stages:
        lengths = {work.name: seconds[work.name] for work in stage}
        # What is not among them has ended already.
        after = {work.name: work.after for work in stage if work.after in lengths}
        total += max(end_times(lengths, after, n_workers).values(), default=0.0)
    return total


def stages(
    study: Study,
    plan: Plan,
    *,
    done: Container[str] = (),
    has_trunk: Callable[[str], bool] = lambda trunk: False,
) -> list[list[Work]]:
    """The works of a plan: its grid, then each run beyond it, whose size no fit has chosen yet.

    Args:
      done: names of works that are left out.
      has_trunk: whether a trunk, by its id, need not be trained any more.
    """
    wanted = {point.id for point in plan.points if point.id not in done}
    jobs = arrange(plan.points, study.mesh, trunks=study.trunks, wanted=wanted, has_trunk=has_trunk)
    beyond = [_beyond(plan, budget) for budget in forecast_budgets(study)]
    return [[work(job) for job in jobs], *([one] for one in beyond if one.name not in done)]


def work(planned_job: PlannedJob) -> Work:
    """A job; its evaluations are those after it begins, and none on a trunk."""
    job, point = planned_job.job, planned_job.points[0]
    train = point.spec.train
    flops = point.flops["matmul_full"]
    n_curve = sum(step > job.steps[0] for step in train.eval_steps)
    n_whole, n_of_curve = train.evaluation.sizes
    n_eval = n_whole + n_curve * n_of_curve
    is_trunk = job.kind == "trunk"
    return Work(
        name=job.id,
        flops=planned_job.flops["matmul_full"],
        flops_per_step=point.flops_per_step,
        eval_flops=0.0 if is_trunk else EVALUATION_SHARE * flops / point.n_tokens * n_eval,
        program=planned_job.program,
        after=job.parent,
    )


def _beyond(plan: Plan, budget: float) -> Work:
    """A run beyond the grid: its own budget, in steps as large as the grid's largest."""
    largest = max(plan.points, key=lambda point: point.flops[point.convention])
    like = work(alone(largest))
    name = beyond_name(budget)
    flops = budget * largest.flops["matmul_full"] / largest.flops[largest.convention]
    return Work(
        name=name,
        flops=flops,
        flops_per_step=like.flops_per_step,
        eval_flops=like.eval_flops,
        program=name,
        is_beyond_grid=True,
    )


def beyond_name(budget: float) -> str:
    """Name of the work of a run beyond the grid."""
    return f"beyond {budget:.6g}"

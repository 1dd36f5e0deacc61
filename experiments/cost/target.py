# SPDX-License-Identifier: Apache-2.0
"""What a study is to be trained on, and what that says about its cost."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from experiments.cost.estimate import Estimate, Terms, Work, estimate, stages
from experiments.cost.planned_cost import finished
from experiments.executors.local_devices import worker_places
from experiments.ledger.ledger import Ledger
from experiments.plan.plan import Plan
from experiments.speed import calibration, device_speed
from experiments.speed.device_speed import DeviceSpeed
from experiments.study.study import Study
from model.hardware import kind_named, lookup

# World average of 2024: IEA, Electricity 2025, chapter "Emissions".
CARBON, CARBON_SOURCE = 445.0, "world average of 2024, IEA, Electricity 2025"
# Survey of 2023; large new sites reach 1.1 to 1.3.
PUE, PUE_SOURCE = 1.58, "average of data centres in 2023, Uptime Institute's survey"


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """What trains, and its price.

    Attributes:
      device: its name; None for this machine.
      utilisation: share of the device's peak that training reaches; None: from measurements.
      n_devices: at once; None for as many as there are here, those of one run elsewhere.
      price: money per device-hour; None where nobody said.
      watts: of one device; None for its nominal power, where that is known.
      pue, carbon: see Terms.
      n_workers: processes that train on this machine; None for one per core or device.
      is_here: whether this machine trains, and no other engine.
    """

    device: str | None = None
    utilisation: float | None = None
    n_devices: int | None = None
    price: float | None = None
    watts: float | None = None
    pue: float = PUE
    carbon: float = CARBON
    n_workers: int | None = None
    is_here: bool = True


def estimate_on(target: Target, study: Study, *, ledger: Ledger, plan: Plan) -> Estimate:
    """What the plan costs on the target.

    Raises:
      ValueError: if the device is not known, or what is asked contradicts itself.
    """
    return _estimate(target, study, ledger, plan, stages(study, plan))


def left_on(target: Target, study: Study, *, ledger: Ledger, plan: Plan) -> Estimate | None:
    """What runs without a result cost, as `estimate_on` tells it; None where none has one."""
    done = {*finished(ledger, plan.points)}
    if not done:
        return None
    works = stages(study, plan, done=done, has_trunk=ledger.has_trunk)
    return _estimate(target, study, ledger, plan, works)


def _estimate(
    target: Target, study: Study, ledger: Ledger, plan: Plan, works: Sequence[Sequence[Work]]
) -> Estimate:
    n_devices = math.prod(study.mesh)
    speed = _speed(target, study, ledger, n_devices)
    return estimate(
        works,
        speed,
        _terms(target, speed),
        n_devices=target.n_devices or devices_at_once(target, study, plan),
        n_devices_per_work=n_devices,
    )


def devices_at_once(target: Target, study: Study, plan: Plan) -> int:
    """As many as `isoflop run` would use on this machine; those of one run elsewhere."""
    n_devices = math.prod(study.mesh)
    if target.device is not None or not target.is_here:
        return n_devices
    return len(worker_places(target.n_workers, len(plan.points), n_devices)) * n_devices


def _speed(target: Target, study: Study, ledger: Ledger, n_devices: int) -> DeviceSpeed | None:
    if target.device is None:
        if target.utilisation is not None:
            raise ValueError("--mfu is a share of a named device's peak: give --device too.")
        n = math.prod(study.mesh)
        known = calibration.load(ledger.results, n) if target.is_here else None
        return None if known is None else device_speed.here(known)
    kind = kind_named(target.device)
    measured = list(calibration.load_all(ledger.results).values())
    dtype = study.recipe.compute_dtype
    return device_speed.named(kind, dtype, n_devices, measured, target.utilisation)


def _terms(target: Target, speed: DeviceSpeed | None) -> Terms:
    watts, source = target.watts, "--watts"
    if watts is None:
        device = None if speed is None else lookup(speed.device)
        watts, source = (None, "") if device is None else (device.watts, device.watts_source)
    return Terms(
        price=target.price, watts=watts, watts_source=source, pue=target.pue, carbon=target.carbon
    )


def refuse_above(max_cost: float | None, planned: Estimate) -> None:
    """Raises ValueError where the plan costs more than it may, or nobody knows what."""
    if max_cost is None:
        return
    if planned.terms.price is None:
        raise ValueError(f"--max-cost {max_cost:g} needs --price, the price of a device-hour.")
    total = planned.total_money
    if total is None:
        raise ValueError(
            f"--max-cost {max_cost:g}: what the plan costs is not known, as no speed is: "
            "name a --device, or let `isoflop calibrate STUDY` measure this machine."
        )
    if total > max_cost:
        raise ValueError(
            f"the plan costs {total:.4g}, more than --max-cost {max_cost:g}: ask for less "
            "(budgets, sizes, seeds), or allow more."
        )

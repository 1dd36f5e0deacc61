# SPDX-License-Identifier: Apache-2.0
"""Options of `isoflop plan` and `isoflop run` that say what a device-hour is and costs."""

import argparse
import math
from typing import Any

from experiments.cost import estimate as estimates
from experiments.cost.estimate import Estimate, Terms
from experiments.executors.local_devices import local_workers
from experiments.ledger.ledger import Ledger
from experiments.plan.plan import Plan
from experiments.speed import calibration, device_speed
from experiments.speed.device_speed import DeviceSpeed
from experiments.study.study import Study
from experiments.terminal.argument_types import positive_number, whole_number
from model.hardware import kind_named, lookup

# World average of 2024: IEA, Electricity 2025, chapter "Emissions".
CARBON, CARBON_SOURCE = 445.0, "world average of 2024, IEA, Electricity 2025"
# Survey of 2023; large new sites reach 1.1 to 1.3.
PUE, PUE_SOURCE = 1.58, "average of data centres in 2023, Uptime Institute's survey"


def add_options(parser: argparse.ArgumentParser) -> None:
    """What `isoflop plan` must be told to know time, energy and money."""
    add = parser.add_argument_group("cost").add_argument
    text = "what trains, such as h200, a100-sxm-80gb or v5e; by default this machine"
    add("--device", default=None, metavar="NAME", help=text)
    text = "share of the device's peak that training reaches; by default from measurements"
    add("--mfu", type=_share, default=None, metavar="X", help=text)
    text = "devices at once (as many as `isoflop run` uses here; one run's on another device)"
    add("--n-devices", type=whole_number, default=None, metavar="N", help=text)
    add("--price", type=positive_number, default=None, metavar="P", help="of one device-hour")
    text = "refuse a plan that costs more, in the currency of --price"
    add("--max-cost", type=positive_number, default=None, metavar="M", help=text)
    text = "power of one device (nominal power of the device, where known)"
    add("--watts", type=positive_number, default=None, metavar="W", help=text)
    text = f"power of the site over that of its devices ({PUE:g}: {PUE_SOURCE})"
    add("--pue", type=_pue, default=PUE, metavar="X", help=text)
    text = f"grams of CO2 per kWh ({CARBON:g}: {CARBON_SOURCE})"
    add("--carbon", type=positive_number, default=CARBON, metavar="G", help=text)


def _share(text: str) -> float:
    value = positive_number(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"{text}: must be above 0 and at most 1")
    return value


def _pue(text: str) -> float:
    value = positive_number(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be at least 1")
    return value


def estimate(options: Any, study: Study, ledger: Ledger, plan: Plan) -> Estimate:
    """What the plan costs on the device that the options name, or on this machine.

    Raises:
      ValueError: if the device is not known, or options contradict each other.
    """
    n_devices = math.prod(study.mesh)
    speed = _speed(options, study, ledger, n_devices)
    return estimates.estimate(
        estimates.stages(study, plan),
        speed,
        _terms(options, speed),
        n_devices=options.n_devices or devices_at_once(options, study, plan),
        n_devices_per_work=n_devices,
    )


def devices_at_once(options: Any, study: Study, plan: Plan) -> int:
    """As many as `isoflop run` would use on this machine; those of one run elsewhere."""
    n_devices = math.prod(study.mesh)
    if options.device is not None or not _is_here(options):
        return n_devices
    workers = local_workers(getattr(options, "workers", None), len(plan.points), n_devices)
    return len(workers.cores) * n_devices


def _is_here(options: Any) -> bool:
    """Whether this machine trains; only `isoflop run` has other engines."""
    return getattr(options, "on", "local") == "local"


def _speed(options: Any, study: Study, ledger: Ledger, n_devices: int) -> DeviceSpeed | None:
    if options.device is None:
        if options.mfu is not None:
            raise ValueError("--mfu is a share of a named device's peak: give --device too.")
        known = calibration.load(ledger.results) if _is_here(options) else None
        return None if known is None else device_speed.here(known)
    kind = kind_named(options.device)
    measured = list(calibration.load_all(ledger.results).values())
    dtype = study.recipe.compute_dtype
    return device_speed.named(kind, dtype, n_devices, measured, options.mfu)


def _terms(options: Any, speed: DeviceSpeed | None) -> Terms:
    watts, source = options.watts, "--watts"
    if watts is None:
        device = None if speed is None else lookup(speed.device)
        watts, source = (None, "") if device is None else (device.watts, device.watts_source)
    return Terms(
        price=options.price,
        watts=watts,
        watts_source=source,
        pue=options.pue,
        carbon=options.carbon,
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

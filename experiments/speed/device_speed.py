# SPDX-License-Identifier: Apache-2.0
"""How fast a device trains, and what that rests on: measured there, carried over, or assumed.

A device that nobody has measured is given its peak (model/hardware.py) times a utilisation that
falls with the work per step: a step takes a fixed time besides its FLOPs,

    seconds per step = overhead + FLOPs per step / (utilisation x peak).

Utilisation and overhead are fitted to what was measured on another device, or assumed.
"""

from dataclasses import dataclass

from experiments.speed.calibration import Calibration
from model.hardware import TABLE
from scaling.tables.units import power

# Of runs that fill their devices: 38 to 43 % of H100s, Llama 3 405B (arXiv:2407.21783, table 4).
UTILISATION = 0.4
# Some hundred kernels of some microseconds each: small networks are bound by it.
OVERHEAD_SECONDS = 1e-3


@dataclass(frozen=True, kw_only=True, slots=True)
class StepLaw:
    """Time of a step as a line in its FLOPs; see the module.

    Attributes:
      peak_flops_per_second: of all devices of one worker.
      utilisation: of large steps, 0 to 1.
      overhead_seconds: of every step.
    """

    peak_flops_per_second: float
    utilisation: float
    overhead_seconds: float

    def speed(self, flops_per_step: float, *, is_beyond_grid: bool = False) -> float:
        """FLOP/s of one worker; beyond the grid as in it."""
        rate = self.utilisation * self.peak_flops_per_second
        return flops_per_step / (self.overhead_seconds + flops_per_step / rate)


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceSpeed:
    """Speed of one worker.

    Attributes:
      device: as JAX or its worker names it.
      law: FLOPs per step ("matmul_full") -> FLOP/s.
      compile_seconds: of one new program; None where not known.
      basis: a sentence: what this rests on.
      is_measured: on this kind of device.
    """

    device: str
    law: Calibration | StepLaw
    compile_seconds: float | None
    basis: str
    is_measured: bool

    def seconds(
        self, flops: float, flops_per_step: float, *, is_beyond_grid: bool = False
    ) -> float:
        """Time of so many FLOPs in such steps, without compilation."""
        return flops / self.law.speed(flops_per_step, is_beyond_grid=is_beyond_grid)


def here(known: Calibration) -> DeviceSpeed:
    """What was measured on a device, as it is."""
    shapes = "size" if len(known.flops_per_second) == 1 else "sizes"
    works = sorted(known.flops_per_second)
    basis = (
        f"measured on {known.device}, {len(works)} {shapes} of step from {power(works[0])} to "
        f"{power(works[-1])} FLOPs; interpolated between them"
    )
    return DeviceSpeed(
        device=known.device,
        law=known,
        compile_seconds=known.compile_seconds,
        basis=basis,
        is_measured=True,
    )


def named(
    kind: str,
    dtype: str,
    n_devices: int,
    measured: list[Calibration],
    utilisation: float | None = None,
) -> DeviceSpeed:
    """Speed of a device of the table.

    Args:
      kind: a name of model/hardware.py.
      dtype: of the products.
      n_devices: of one worker.
      measured: what is known of any device, the nearest first.
      utilisation: share of the peak that the user states, whatever the step; or None.
    """
    peak = TABLE[kind].peak(dtype) * n_devices
    same = [known for known in measured if known.device == kind]
    if same and utilisation is None:
        return here(same[0])
    others = [known for known in measured if known.peak_flops_per_second > 0]
    compiling = others[0].compile_seconds if others else None
    law, why = _unmeasured(peak, others, utilisation)
    figure = f"{peak / 1e12:.4g} TFLOP/s in {dtype}"
    return DeviceSpeed(
        device=kind,
        law=law,
        compile_seconds=compiling,
        basis=f"not measured on {kind}: peak {figure} ({TABLE[kind].source}); {why}",
        is_measured=False,
    )


def _unmeasured(
    peak: float, others: list[Calibration], utilisation: float | None
) -> tuple[StepLaw, str]:
    """The time of a step on a device with this peak, and what it rests on."""
    if utilisation is not None:
        law = StepLaw(peak_flops_per_second=peak, utilisation=utilisation, overhead_seconds=0.0)
        return law, "utilisation as stated with --mfu"
    if others:
        law = fit_steps(others[0], peak)
        return law, (
            f"ASSUMED that a step uses it as on {others[0].device}: {law.utilisation:.0%} of it "
            f"in large steps, and {1e3 * law.overhead_seconds:.2g} ms of every step besides"
        )
    law = StepLaw(
        peak_flops_per_second=peak, utilisation=UTILISATION, overhead_seconds=OVERHEAD_SECONDS
    )
    return law, (
        f"ASSUMED, as nothing was measured: {UTILISATION:.0%} of it in large steps "
        f"(Llama 3 405B: 38 to 43 %), and {1e3 * OVERHEAD_SECONDS:g} ms of every step besides"
    )


def fit_steps(known: Calibration, peak_flops_per_second: float) -> StepLaw:
    """The line of the module through measured steps, carried over to another peak.

    Least squares of the relative error of the step's time; the overhead is at least 0 and the
    utilisation at most 1.
    """
    peak = known.peak_flops_per_second
    # Steps of w FLOPs take w / v seconds: the error is (overhead + slope w) v / w - 1.
    rows = [(speed / work, speed) for work, speed in known.flops_per_second.items()]
    aa, ab, bb = (sum(r[i] * r[j] for r in rows) for i, j in ((0, 0), (0, 1), (1, 1)))
    a, b = (sum(r[i] for r in rows) for i in (0, 1))
    determinant = aa * bb - ab * ab
    is_line = determinant > 1e-9 * aa * bb  # Else one size of step: no overhead can be told.
    overhead = (bb * a - ab * b) / determinant if is_line else 0.0
    slope = (b - ab * max(overhead, 0.0)) / bb
    if slope < 1 / peak:
        slope = 1 / peak
        overhead = (a - ab * slope) / aa
    return StepLaw(
        peak_flops_per_second=peak_flops_per_second,
        utilisation=1 / (slope * peak),
        overhead_seconds=max(overhead, 0.0),
    )

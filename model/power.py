# SPDX-License-Identifier: Apache-2.0
"""Nominal power of accelerators, by the name under which JAX reports them. Standard library only.

Watts of the board or module alone at its highest standard setting: no host, no network, no
cooling. A GPU below its limit draws less, so energy at this power is an upper bound of the board's
own. What could not be confirmed is not in the table: unknown, not guessed.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Power:
    """Power of one device as JAX counts devices.

    Attributes:
      watts: see the module.
      source: where the figure stands, and what it is where it is no thermal design power.
    """

    watts: float
    source: str


_A100 = "thermal design power, NVIDIA A100 80GB datasheet"
_A100_40 = "thermal design power, NVIDIA A100 40GB datasheet"
_H100 = "thermal design power, nvidia.com/en-us/data-center/h100"
_H200 = "thermal design power, nvidia.com/en-us/data-center/h200"
_BLACKWELL = "thermal design power, NVIDIA Blackwell datasheet"

TABLE = {
    "NVIDIA A100-SXM4-80GB": Power(watts=400.0, source=_A100),
    "NVIDIA A100-SXM4-40GB": Power(watts=400.0, source=_A100_40),
    "NVIDIA A100 80GB PCIe": Power(watts=300.0, source=_A100),
    "NVIDIA A100-PCIE-40GB": Power(watts=250.0, source=_A100_40),
    "NVIDIA H100 80GB HBM3": Power(watts=700.0, source=_H100),
    "NVIDIA H100 PCIe": Power(
        watts=350.0, source="thermal design power, NVIDIA product brief PB-11133-001"
    ),
    "NVIDIA H100 NVL": Power(watts=400.0, source=_H100),
    "NVIDIA H200": Power(watts=700.0, source=_H200),
    "NVIDIA H200 NVL": Power(watts=600.0, source=_H200),
    "NVIDIA B200": Power(watts=1000.0, source=_BLACKWELL),
    "NVIDIA GB200": Power(watts=1200.0, source=f"{_BLACKWELL}; the GPU without its share of Grace"),
    "NVIDIA L4": Power(watts=72.0, source="thermal design power, NVIDIA L4 datasheet"),
    "TPU v4": Power(watts=192.0, source="highest measured, cloud.google.com/tpu/docs/v4"),
}


def nominal_power(device_kind: str) -> Power | None:
    """Power of a device by the name that JAX reports; None where none is known."""
    return TABLE.get(device_kind)

# SPDX-License-Identifier: Apache-2.0
"""What accelerators can do at most, by the name under which JAX reports them.

Standard library only. Peaks are of dense products; a datasheet's figure "with sparsity" is twice
that. Watts are those of the board or module alone at its highest standard setting: no host, no
network, no cooling. A GPU below its limit draws less, so energy at this power is an upper bound of
the board's own.

Names of TPUs are those of libtpu (`jax.devices()[0].device_kind`, also of a topology that is not
here); those of GPUs are the driver's. A name that is not in the table has no peak here, and a
device whose power no page of its maker says has none: unknown, never guessed.
"""

import re
from dataclasses import dataclass, replace

from model.field_checks import shown

GIB = 2**30
# float32 products at JAX's precision "highest" take six bfloat16 passes on a TPU's matrix unit
# (jax.lax.DotAlgorithmPreset.BF16_BF16_F32_X6).
TPU_FLOAT32_PASSES = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Hardware:
    """One device as JAX counts devices: a GPU, a TPU chip, or half a chip where that is one.

    Attributes:
      name: as people call it.
      bfloat16, float32: peak FLOP/s of dense matrix products; float32 at precision "highest", as
        training asks for it, and not in the shorter formats that JAX would take by default.
      tensorfloat32: what a GPU reaches by default for float32; 0 where there is no such format.
      memory_bytes, memory_bytes_per_second: of the device's own memory.
      link_bytes_per_second: of one link to other devices, in one direction.
      n_links: links of a device; of a TPU, two for each dimension of its torus.
      source: where the figures stand.
      watts: nominal power; None where it is not known.
      watts_source: where that stands, and what it is where it is no thermal design power.
    """

    name: str
    bfloat16: float
    float32: float
    tensorfloat32: float
    memory_bytes: float
    memory_bytes_per_second: float
    link_bytes_per_second: float
    n_links: int
    source: str
    watts: float | None
    watts_source: str

    def peak(self, dtype: str) -> float:
        """Peak FLOP/s of products of this dtype, "bfloat16" or "float32"."""
        return {"bfloat16": self.bfloat16, "float32": self.float32}[dtype]


def _gpu(
    name: str,
    source: str,
    *,
    tera: tuple[float, float, float],
    memory: tuple[float, float],
    links: tuple[int, float],
    watts: float,
    power: str,
) -> Hardware:
    """TFLOP/s in bfloat16, tensorfloat32 and float32; GB and GB/s; links and GB/s of each; thermal
    design power, and where it stands."""
    return Hardware(
        name=name,
        bfloat16=tera[0] * 1e12,
        tensorfloat32=tera[1] * 1e12,
        float32=tera[2] * 1e12,
        memory_bytes=memory[0] * 1e9,
        memory_bytes_per_second=memory[1] * 1e9,
        link_bytes_per_second=links[1] * 1e9,
        n_links=links[0],
        source=source,
        watts=watts,
        watts_source=f"thermal design power, {power}",
    )


def _tpu(
    name: str,
    page: str,
    *,
    tera: float,
    memory: tuple[float, float],
    links: tuple[int, float],
    watts: float | None = None,
) -> Hardware:
    """TFLOP/s in bfloat16; GiB and GB/s; links and GB/s of each; the highest power measured."""
    return Hardware(
        name=name,
        bfloat16=tera * 1e12,
        tensorfloat32=0.0,
        float32=tera * 1e12 / TPU_FLOAT32_PASSES,
        memory_bytes=memory[0] * GIB,
        memory_bytes_per_second=memory[1] * 1e9,
        link_bytes_per_second=links[1] * 1e9,
        n_links=links[0],
        source=f"cloud.google.com/tpu/docs/{page}; links: jax-ml.github.io/scaling-book/tpus",
        watts=watts,
        watts_source=f"highest measured, cloud.google.com/tpu/docs/{page}" if watts else "",
    )


A100 = "NVIDIA A100 Tensor Core GPU datasheet"
H100 = "NVIDIA H100 Tensor Core GPU datasheet"
H200 = "NVIDIA H200 Tensor Core GPU datasheet"
L4 = "NVIDIA L4 Tensor Core GPU datasheet"
BLACKWELL = "NVIDIA Blackwell architecture technical brief (HGX B200, GB200)"
A100_POWER = "NVIDIA A100 80GB datasheet"
A100_40GB_POWER = "thermal design power, NVIDIA A100 40GB datasheet"
H100_POWER = "nvidia.com/en-us/data-center/h100"
H200_POWER = "nvidia.com/en-us/data-center/h200"
BLACKWELL_POWER = "NVIDIA Blackwell datasheet"

_A100_SXM = _gpu(
    "A100 SXM 80GB",
    A100,
    tera=(312.0, 156.0, 19.5),
    memory=(80.0, 2039.0),
    links=(12, 25.0),
    watts=400.0,
    power=A100_POWER,
)
_A100_PCIE = _gpu(
    "A100 PCIe 80GB",
    A100,
    tera=(312.0, 156.0, 19.5),
    memory=(80.0, 1935.0),
    links=(12, 25.0),
    watts=300.0,
    power=A100_POWER,
)
_V5E = _tpu("TPU v5e", "v5e", tera=197.0, memory=(16.0, 819.0), links=(4, 45.0))
_V5P = _tpu("TPU v5p", "v5p", tera=459.0, memory=(95.0, 2765.0), links=(6, 90.0))
_V6E = _tpu("TPU v6e", "v6e", tera=918.0, memory=(32.0, 1640.0), links=(4, 90.0))

TABLE = {
    "NVIDIA A100-SXM4-80GB": _A100_SXM,
    "NVIDIA A100-SXM4-40GB": replace(
        _A100_SXM,
        name="A100 SXM 40GB",
        memory_bytes=40e9,
        memory_bytes_per_second=1555e9,
        watts_source=A100_40GB_POWER,
    ),
    "NVIDIA A100 80GB PCIe": _A100_PCIE,
    "NVIDIA A100-PCIE-40GB": replace(
        _A100_PCIE,
        name="A100 PCIe 40GB",
        memory_bytes=40e9,
        memory_bytes_per_second=1555e9,
        watts=250.0,
        watts_source=A100_40GB_POWER,
    ),
    "NVIDIA H100 80GB HBM3": _gpu(
        "H100 SXM",
        H100,
        tera=(989.4, 494.7, 66.9),
        memory=(80.0, 3350.0),
        links=(18, 25.0),
        watts=700.0,
        power=H100_POWER,
    ),
    "NVIDIA H100 PCIe": _gpu(
        "H100 PCIe",
        H100,
        tera=(756.0, 378.0, 51.0),
        memory=(80.0, 2000.0),
        links=(12, 25.0),
        watts=350.0,
        power="NVIDIA product brief PB-11133-001",
    ),
    "NVIDIA H100 NVL": _gpu(
        "H100 NVL",
        H100,
        tera=(835.0, 417.0, 60.0),
        memory=(94.0, 3900.0),
        links=(12, 25.0),
        watts=400.0,
        power=H100_POWER,
    ),
    "NVIDIA H200": _gpu(
        "H200 SXM",
        H200,
        tera=(989.4, 494.7, 66.9),
        memory=(141.0, 4800.0),
        links=(18, 25.0),
        watts=700.0,
        power=H200_POWER,
    ),
    "NVIDIA H200 NVL": _gpu(
        "H200 NVL",
        H200,
        tera=(835.0, 417.0, 60.0),
        memory=(141.0, 4800.0),
        links=(18, 25.0),
        watts=600.0,
        power=H200_POWER,
    ),
    "NVIDIA B200": _gpu(
        "B200 (HGX)",
        BLACKWELL,
        tera=(2250.0, 1100.0, 80.0),
        memory=(180.0, 8000.0),
        links=(18, 50.0),
        watts=1000.0,
        power=BLACKWELL_POWER,
    ),
    "NVIDIA GB200": _gpu(
        "GB200",
        BLACKWELL,
        tera=(2500.0, 1250.0, 90.0),
        memory=(186.0, 8000.0),
        links=(18, 50.0),
        watts=1200.0,
        power=f"{BLACKWELL_POWER}; the GPU without its share of Grace",
    ),
    # No NVLink: sixteen lanes of PCIe 4.
    "NVIDIA L4": _gpu(
        "L4",
        L4,
        tera=(121.0, 60.0, 30.3),
        memory=(24.0, 300.0),
        links=(1, 32.0),
        watts=72.0,
        power="NVIDIA L4 datasheet",
    ),
    "TPU v4": _tpu("TPU v4", "v4", tera=275.0, memory=(32.0, 1228.0), links=(6, 45.0), watts=192.0),
    "TPU v5 lite": _V5E,
    "TPU v5e": _V5E,
    "TPU v5": _V5P,
    "TPU v5p": _V5P,
    "TPU v6 lite": _V6E,
    "TPU v6e": _V6E,
    # A chip has 2307 TFLOP/s, 192 GiB and 7380 GB/s; JAX sees its two halves.
    "TPU7x": _tpu(
        "TPU7x, half a chip", "tpu7x", tera=1153.5, memory=(96.0, 3690.0), links=(6, 45.0)
    ),
}


def lookup(device_kind: str) -> Hardware | None:
    """What is known of a device by the name that JAX reports; None where nothing is."""
    return TABLE.get(device_kind)


def kind_named(text: str) -> str:
    """The name under which JAX reports a device that people call "h200", "A100 SXM 80GB" or "v5e".

    Raises:
      ValueError: if no device of the table is called so; "h100" is three of them, and none.
    """
    called = _plain(text)
    for kind, device in TABLE.items():
        if called in (_plain(kind), _plain(device.name)):
            return kind
    names = "; ".join(dict.fromkeys(device.name for device in TABLE.values()))
    raise ValueError(f"device {shown(text)} is not known: known are {names}.")


def _plain(name: str) -> str:
    return re.sub("nvidia|tpu|[^a-z0-9]", "", name.lower())


def mfu(flops_per_second: float, peak_flops_per_second: float) -> float | None:
    """Model FLOPs utilisation: FLOP/s of a named convention over the peak, 0 to 1.

    Chowdhery et al. 2022 (arXiv:2204.02311), appendix B: what the model needs, without what
    rematerialisation computes twice. None where there is no peak.
    """
    return flops_per_second / peak_flops_per_second if peak_flops_per_second > 0 else None

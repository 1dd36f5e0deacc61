# SPDX-License-Identifier: Apache-2.0
"""The table of devices: against JAX's own of TPUs, whole systems, and itself; devices by name."""

import pytest
from jax.experimental.pallas import tpu as pltpu

from model.hardware import TABLE, kind_named, lookup, mfu

TPUS = {
    "TPU v4": (pltpu.ChipVersion.TPU_V4, 2),
    "TPU v5 lite": (pltpu.ChipVersion.TPU_V5E, 1),
    "TPU v5": (pltpu.ChipVersion.TPU_V5P, 2),
    "TPU v6 lite": (pltpu.ChipVersion.TPU_V6E, 1),
    "TPU7x": (pltpu.ChipVersion.TPU_7X, 1),
}

# Eight of them and the most that the whole system takes: NVIDIA's DGX datasheets, in kW.
SYSTEMS = {
    "NVIDIA A100-SXM4-80GB": 6.5,
    "NVIDIA H100 80GB HBM3": 10.2,
    "NVIDIA H200": 10.2,
    "NVIDIA B200": 14.3,
}
# The maker's pages say nothing of these.
UNKNOWN_POWER = ("TPU v5 lite", "TPU v5e", "TPU v5", "TPU v5p", "TPU v6 lite", "TPU v6e", "TPU7x")


@pytest.mark.parametrize("kind", TPUS)
def test_tpus_agree_with_jaxs_own_table(kind):
    version, n_cores = TPUS[kind]
    theirs, ours = pltpu.get_tpu_info_for_chip(version, n_cores), lookup(kind)
    # Theirs count the cores that one device has; both are rounded, to two or three digits.
    assert ours.bfloat16 == pytest.approx(n_cores * theirs.bf16_ops_per_second, rel=0.01)
    assert ours.memory_bytes == pytest.approx(n_cores * theirs.hbm_capacity_bytes, rel=0.02)


def test_the_names_that_two_drivers_give_mean_the_same_chip():
    for one, other in (
        ("TPU v5 lite", "TPU v5e"),
        ("TPU v5", "TPU v5p"),
        ("TPU v6 lite", "TPU v6e"),
    ):
        assert lookup(one) == lookup(other)
    assert lookup("TPU v5") != lookup("TPU v5 lite")


@pytest.mark.parametrize(
    "kind", ["cpu", "NVIDIA H300", "NVIDIA H100", "tpu v5", "", "NVIDIA H200 "]
)
def test_a_name_that_is_not_in_the_table_is_not_guessed(kind):
    assert lookup(kind) is None


@pytest.mark.parametrize("kind", TABLE)
def test_shorter_formats_are_faster_and_every_figure_has_a_source(kind):
    device = TABLE[kind]
    assert device.bfloat16 > device.tensorfloat32
    assert device.bfloat16 > device.float32 > 0
    assert device.peak("bfloat16") == device.bfloat16
    assert device.peak("float32") == device.float32
    assert "NVIDIA" in device.source or "cloud.google.com" in device.source
    # Terabytes per second and gigabytes, not their thousandths.
    assert 1e11 < device.memory_bytes_per_second < 1e13
    assert 1e10 < device.memory_bytes < 1e12
    assert 1e10 < device.link_bytes_per_second < 1e11


def test_utilisation_is_the_share_of_the_peak():
    # Llama 3 405B, Grattafiori et al. 2024 (arXiv:2407.21783), table 4: 430 TFLOP/s on H100, 43 %.
    assert mfu(430e12, lookup("NVIDIA H100 80GB HBM3").bfloat16) == pytest.approx(0.43, abs=0.005)
    assert mfu(1e12, 0.0) is None


@pytest.mark.parametrize(("kind", "kilowatts"), SYSTEMS.items())
def test_eight_devices_take_about_half_of_the_system_that_holds_them(kind, kilowatts):
    share = 8 * TABLE[kind].watts / (1000 * kilowatts)
    assert 0.45 < share < 0.6


@pytest.mark.parametrize("kind", sorted(TABLE.keys() - set(UNKNOWN_POWER)))
def test_every_power_is_of_one_device_and_says_where_it_stands(kind):
    assert 50 < TABLE[kind].watts < 2000
    assert "NVIDIA" in TABLE[kind].watts_source or ".com/" in TABLE[kind].watts_source


@pytest.mark.parametrize("kind", UNKNOWN_POWER)
def test_a_power_that_no_page_of_the_maker_says_is_unknown(kind):
    assert TABLE[kind].watts is None
    assert TABLE[kind].watts_source == ""


def test_later_generations_do_more_per_joule():
    kinds = ("NVIDIA A100-SXM4-80GB", "NVIDIA H100 80GB HBM3", "NVIDIA B200")
    rates = [TABLE[kind].bfloat16 / TABLE[kind].watts for kind in kinds]
    assert rates == sorted(rates)


@pytest.mark.parametrize(
    ("called", "kind"),
    [
        ("h200", "NVIDIA H200"),
        ("H200 SXM", "NVIDIA H200"),
        ("h200-nvl", "NVIDIA H200 NVL"),
        ("NVIDIA H100 80GB HBM3", "NVIDIA H100 80GB HBM3"),
        ("h100_sxm", "NVIDIA H100 80GB HBM3"),
        ("a100-sxm-80gb", "NVIDIA A100-SXM4-80GB"),
        ("A100-PCIE-40GB", "NVIDIA A100-PCIE-40GB"),
        ("b200", "NVIDIA B200"),
        ("v4", "TPU v4"),
        ("tpu-v5e", "TPU v5e"),
        ("TPU v5 lite", "TPU v5 lite"),
        ("tpu7x", "TPU7x"),
    ],
)
def test_a_device_is_found_by_what_people_call_it(called, kind):
    assert TABLE[kind_named(called)] == TABLE[kind]


@pytest.mark.parametrize("called", ["h100", "a100", "h300", "", "200", "cpu", "h200x", "NVIDIA"])
def test_an_unknown_or_ambiguous_device_lists_those_that_are_known(called):
    with pytest.raises(ValueError, match="is not known: known are") as error:
        kind_named(called)
    for device in TABLE.values():
        assert device.name in str(error.value)

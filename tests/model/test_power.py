# SPDX-License-Identifier: Apache-2.0
"""Power of devices, against that of whole systems, and devices by the names people give them."""

import pytest

from model import hardware
from model.hardware import kind_named
from model.power import TABLE, nominal_power

# Eight of them and the most that the whole system takes: NVIDIA's DGX datasheets, in kW.
SYSTEMS = {
    "NVIDIA A100-SXM4-80GB": 6.5,
    "NVIDIA H100 80GB HBM3": 10.2,
    "NVIDIA H200": 10.2,
    "NVIDIA B200": 14.3,
}


@pytest.mark.parametrize(("kind", "kilowatts"), SYSTEMS.items())
def test_eight_devices_take_about_half_of_the_system_that_holds_them(kind, kilowatts):
    share = 8 * nominal_power(kind).watts / (1000 * kilowatts)
    assert 0.45 < share < 0.6


@pytest.mark.parametrize("kind", TABLE)
def test_every_figure_is_of_a_known_device_and_says_where_it_stands(kind):
    assert kind in hardware.TABLE
    assert 50 < TABLE[kind].watts < 2000
    assert "NVIDIA" in TABLE[kind].source or ".com/" in TABLE[kind].source


@pytest.mark.parametrize("kind", ["cpu", "TPU v5e", "TPU v5p", "TPU v6e", "TPU7x", "h200", ""])
def test_what_no_page_of_the_maker_says_is_unknown(kind):
    assert nominal_power(kind) is None


def test_later_generations_do_more_per_joule():
    kinds = ("NVIDIA A100-SXM4-80GB", "NVIDIA H100 80GB HBM3", "NVIDIA B200")
    rates = [hardware.TABLE[kind].bfloat16 / TABLE[kind].watts for kind in kinds]
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
    assert hardware.TABLE[kind_named(called)] == hardware.TABLE[kind]


@pytest.mark.parametrize("called", ["h100", "a100", "h300", "", "200", "cpu", "h200x", "NVIDIA"])
def test_an_unknown_or_ambiguous_device_lists_those_that_are_known(called):
    with pytest.raises(ValueError, match="is not known: known are") as error:
        kind_named(called)
    for device in hardware.TABLE.values():
        assert device.name in str(error.value)

# SPDX-License-Identifier: Apache-2.0
"""Names of slices of TPUs."""

import pytest

from experiments.checks.compile.topology import FAMILIES, parse_topology
from model.hardware import lookup


@pytest.mark.parametrize(
    ("name", "n_devices", "kind"),
    [
        ("v5e:16x16", 256, "TPU v5 lite"),
        ("v5p:8x8x8", 512, "TPU v5"),
        ("v6e:4x4", 16, "TPU v6 lite"),
        ("tpu7x:2x2x1", 8, "TPU7x"),
    ],
)
def test_a_name_says_how_many_devices_of_which_kind(name, n_devices, kind):
    topology = parse_topology(name)
    assert topology.n_devices == n_devices
    assert topology.family.device_kind == kind
    assert lookup(kind) is not None


@pytest.mark.parametrize(
    "name",
    ["v5e", "v5e:", "v5e:16", "v5e:4x4x4", "v5p:4x4", "v9:4x4", "v5e:0x4", "v5e:-1x4", "v5e:4X4",
     "v5e:4x4 ", "v5e:99999x1", ":4x4", "v5e:4x4x"],
)  # fmt: skip
def test_what_is_no_name_is_refused_with_an_example(name):
    with pytest.raises(
        ValueError, match=r"--topology .*for instance v5[ep]:|--topology .*v5p:4x4x4"
    ):
        parse_topology(name)


def test_every_generation_is_in_the_table_of_devices():
    assert all(lookup(family.device_kind) for family in FAMILIES.values())

# SPDX-License-Identifier: Apache-2.0
"""What this machine has for workers, by the files that it shows."""

from pathlib import Path

import pytest

from experiments.executors import local_devices
from experiments.executors.local import Local, _Slot
from experiments.executors.local_devices import Place, has_accelerator, worker_places
from experiments.executors.local_queue import JobQueue
from experiments.executors.worker_settings import WorkerSettings, parser

# PCI vendors, as /sys/bus/pci/devices/*/vendor has them: Google, Intel, NVIDIA.
GOOGLE, INTEL, NVIDIA = "0x1ae0", "0x8086", "0x10de"


@pytest.fixture
def machine(tmp_path):
    """(dev, pci) of a machine with such device files and PCI cards."""

    def make(files=(), vendors=()):
        dev, pci = tmp_path / "dev", tmp_path / "pci"
        for name in files:
            (dev / name).parent.mkdir(parents=True, exist_ok=True)
            (dev / name).touch()
        for n, vendor in enumerate(vendors):
            (pci / f"0000:00:0{n}.0").mkdir(parents=True)
            (pci / f"0000:00:0{n}.0" / "vendor").write_text(f"{vendor}\n")
        return dev, pci

    return make


@pytest.mark.parametrize(
    ("files", "vendors", "expected"),
    [
        (["nvidia0", "nvidiactl"], [INTEL, NVIDIA], True),
        (["accel0"], [INTEL, GOOGLE], True),
        # TPU v5e, v5p, v6e: groups of VFIO (github.com/marin-community/marin, issues 3858, 4941).
        (["vfio/0", "vfio/vfio"], [INTEL, GOOGLE], True),
        # A GPU in Windows' Linux, which shows one file for all.
        (["dxg"], [], True),
        ([], [], False),
        # A host of virtual machines hands a network card on.
        (["vfio/7", "vfio/vfio"], [INTEL], False),
        # A virtual machine of Google's without a TPU: its network card is Google's, too.
        (["vfio/vfio"], [INTEL, GOOGLE], False),
        (["nvidiactl", "nvidia-caps"], [INTEL], False),
    ],
)
def test_accelerators_are_known_by_their_files(machine, monkeypatch, files, vendors, expected):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    assert has_accelerator(*machine(files, vendors)) == expected
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert not has_accelerator(*machine(files))


def test_the_chips_of_a_tpu_host_stay_with_one_worker(machine, monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    dev, pci = machine([f"vfio/{n}" for n in range(4)], [GOOGLE] * 4)
    monkeypatch.setattr(local_devices, "has_accelerator", lambda: has_accelerator(dev, pci))
    monkeypatch.setattr(local_devices, "visible_gpus", lambda: [])
    (place,) = worker_places(None, 100, 1)
    assert (place.cores, place.environment, place.per_device) == ((), {}, 1)


@pytest.mark.parametrize(
    ("n_workers", "n_devices", "expected"),
    [
        (5, 1, [("0", 3), ("1", 2), ("0", 3), ("1", 2), ("0", 3)]),
        (2, 1, [("0", 1), ("1", 1)]),
        (3, 2, [(None, 3)] * 3),
    ],
)
def test_each_worker_knows_how_many_share_its_gpu(monkeypatch, n_workers, n_devices, expected):
    monkeypatch.setattr(local_devices, "has_accelerator", lambda: True)
    monkeypatch.setattr(local_devices, "visible_gpus", lambda: ["0", "1"])
    places = worker_places(n_workers, 100, n_devices)
    shown = [(place.environment.get("CUDA_VISIBLE_DEVICES"), place.per_device) for place in places]
    assert shown == expected


def test_a_worker_is_told_what_its_place_says():
    local = Local(places=(Place(cores=(2, 3), per_device=4),), settings=WorkerSettings())
    command = _Slot(0, Path(), local, JobQueue.of([]), None)._command()
    told = parser().parse_args(command[command.index("-") + 1 :])
    assert (told.cores, told.per_device) == ((2, 3), 4)

# SPDX-License-Identifier: Apache-2.0
"""What a worker has when nothing is trained: made-up outcomes, a session, a device's speed."""

from types import SimpleNamespace

from experiments.ledger.owner import this_process
from experiments.speed.device_speed import DeviceSpeed, StepLaw
from experiments.train.session import Session, Stop
from model.network.execution import PLAIN
from model.training.outcome import ALL, Loss

PHASES = ("compile", "train", "stall", "evaluate", "checkpoint")


def of_all(nats: float) -> Loss:
    return Loss(nats=nats, se_nats=None, n_units=512, n_bytes=512.0, is_bound=False)


def outcome(loss=2.5, **changes) -> SimpleNamespace:
    """As the loop returns it, of four steps of two seconds in all."""
    fields = {
        "status": "ok",
        "reason": "",
        "loss_nats": loss,
        "losses": {} if loss is None else {ALL: of_all(loss)},
        "oracle_loss_nats": None,
        "curve": (),
        "params_sha256": "00",
        "n_steps": 4,
        "n_timed_steps": 4,
        "resumed_at": 0,
        "notes": (),
        "execution": PLAIN,
        "seconds": dict.fromkeys(PHASES, 2.0),
    }
    return SimpleNamespace(**fields | changes)


def session(train, manifest, **changes) -> Session:
    """Of a process that trains on such data; nobody asks it to stop."""
    fields = {
        "me": this_process({}),
        "corpora": {manifest.fingerprint: SimpleNamespace(manifest=manifest)},
        "mesh_shape": (1, 1, 1, 1),
        "execution": PLAIN,
        "train": train,
        "open_checkpoints": lambda folder, attempt: None,
        "stop": Stop(lambda: None),
    }
    return Session(**fields | changes)


def steady(flops_per_second, compile_seconds=None) -> DeviceSpeed:
    """A device that always reaches so much."""
    law = StepLaw(peak_flops_per_second=flops_per_second, utilisation=1.0, overhead_seconds=0.0)
    return DeviceSpeed(
        device="abacus",
        law=law,
        compile_seconds=compile_seconds,
        basis="counted beads",
        is_measured=True,
    )

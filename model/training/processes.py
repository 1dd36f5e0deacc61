# SPDX-License-Identifier: Apache-2.0
"""Several processes that train one network: process 0 decides, the others follow.

Every process runs the same program on its own devices of one mesh, so all must call the same
functions in the same order. With one process everything here is immediate.

A process that leaves this order, by an error that the others do not meet, must end (os._exit): it
cannot tell the others. When process 0 is gone JAX aborts the others at once; when another one is
gone, process 0 meets an error in the next exchange, or after a heartbeat timeout (100 s).
"""

import itertools
from collections.abc import Mapping
from typing import TypedDict

import jax
from jax._src import distributed
from jax.experimental import multihost_utils

# Another process may be busy for long before it says something. When process 0 is gone JAX ends the
# others.
PATIENCE_SECONDS = 7 * 24 * 3600
# Every process counts the same texts.
_texts = itertools.count()

# At its end a process waits for the others; one that has failed should not hold its node for long.
_SHUTDOWN_SECONDS = 60


def initialize_from_environment(environ: Mapping[str, str]) -> None:
    """Joins this process to the others of its run; does nothing when it is alone.

    Must be called before anything else asks JAX for a device.

    Args:
      environ: JAX_NUM_PROCESSES with JAX_PROCESS_ID and JAX_COORDINATOR_ADDRESS (host:port of
        process 0), or else what srun sets in a step of several tasks.

    Raises:
      ValueError: if the variables do not fit together.
    """
    arguments = distributed_arguments(environ)
    if arguments:
        jax.distributed.initialize(**arguments, shutdown_timeout_seconds=_SHUTDOWN_SECONDS)


class DistributedArguments(TypedDict, total=False):
    """Of ``jax.distributed.initialize``."""

    coordinator_address: str | None
    num_processes: int
    process_id: int
    cluster_detection_method: str
    local_device_ids: list[int]


def distributed_arguments(environ: Mapping[str, str]) -> DistributedArguments:
    """Arguments of ``jax.distributed.initialize``; empty when this process is alone."""
    address = environ.get("JAX_COORDINATOR_ADDRESS")
    if "JAX_NUM_PROCESSES" in environ:
        n_processes = _integer(environ, "JAX_NUM_PROCESSES", 1, 1 << 20)
        if n_processes == 1:
            return {}
        process_id = _integer(environ, "JAX_PROCESS_ID", 0, n_processes - 1)
        if not address:
            raise ValueError(
                f"JAX_NUM_PROCESSES={n_processes} needs JAX_COORDINATOR_ADDRESS: host:port of "
                "process 0, the same for all."
            )
        return {
            "coordinator_address": address,
            "num_processes": n_processes,
            "process_id": process_id,
            "cluster_detection_method": "deactivate",
        }
    # Of the step, not of the job: a batch script is alone, however many tasks its job may start.
    if _integer(environ, "SLURM_STEP_NUM_TASKS", 1, 1 << 20, default=1) == 1:
        return {}
    arguments: DistributedArguments = {
        "cluster_detection_method": "slurm",
        "coordinator_address": address,
    }
    is_one_per_node = environ.get("SLURM_STEP_NUM_NODES") == environ["SLURM_STEP_NUM_TASKS"]
    if is_one_per_node and "JAX_LOCAL_DEVICE_IDS" not in environ:
        # JAX would give each task the one device of its rank within the node.
        arguments["local_device_ids"] = []
    return arguments


def is_leader() -> bool:
    """Whether this process decides, and alone touches the ledger."""
    return jax.process_index() == 0


def barrier(name: str) -> None:
    """Returns once every process has come here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def broadcast(text: str) -> str:
    """Process 0's text, on every process; what the others pass is ignored.

    Through the key-value store of JAX's coordination service: an exchange between devices would
    wait until they have done all that they were given. JAX has no public name for it (0.10);
    Orbax uses it the same way.
    """
    return _exchange(text, writers=1)[0]


def gather(text: str) -> list[str]:
    """The texts of all processes, in their order, on every process; see ``broadcast``."""
    return _exchange(text, writers=jax.process_count())


def _exchange(text: str, *, writers: int) -> list[str]:
    """The texts of the first so many processes."""
    if jax.process_count() == 1:
        return [text]
    key, client, me = (
        f"isoflop/{next(_texts)}",
        distributed.global_state.client,
        jax.process_index(),
    )
    assert client is not None
    if me < writers:
        client.key_value_set(f"{key}/{me}", text)
    return [
        text if i == me else client.blocking_key_value_get(f"{key}/{i}", 1000 * PATIENCE_SECONDS)
        for i in range(writers)
    ]


def _integer(
    environ: Mapping[str, str], name: str, low: int, high: int, *, default: int | None = None
) -> int:
    text = environ.get(name, "" if default is None else str(default))
    if not text.isdecimal() or not low <= int(text) <= high:
        raise ValueError(f"{name}={text!r}: must be a whole number from {low} to {high}.")
    return int(text)

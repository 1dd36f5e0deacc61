# SPDX-License-Identifier: Apache-2.0
"""Sequences long enough for attention in blocks: losses of plain attention, however computed."""

from dataclasses import replace

import numpy as np
import pytest
from small_networks import vary

from model.data.corpus import Corpus
from model.network.config import ModelConfig
from model.network.execution import AUTO, PLAIN
from model.training.config import TrainConfig
from model.training.loop import train_pack

WAYS = {
    "alone": (1, (1, 1, 1, 1), {}),
    "a pack of two": (2, (1, 1, 1, 1), {}),
    "scanned, computed again, on four devices": (
        1,
        (1, 2, 1, 2),
        {"layers": "scanned", "remat": "dots", "n_microbatches": 2},
    ),
    "positions split": (1, (1, 1, 1, 2), {"layout": "fsdp_context"}),
}


@pytest.mark.slow(reason="half a minute; test_attention compares the kernels alone")
@pytest.mark.parametrize("apart", [False, True], ids=["one document", "documents apart"])
def test_attention_in_blocks_has_the_losses_of_plain_attention(
    network_config: ModelConfig, train_config: TrainConfig, corpus: Corpus, apart: bool
) -> None:
    net = vary(network_config, seq_len=256, separator=0 if apart else None)
    schedule = replace(train_config.schedule, n_steps=6, warmup_steps=1, decay_steps=5)
    config = replace(train_config, schedule=schedule)
    (plain,) = train_pack(net, (config,), corpus, execution=replace(PLAIN, attention="xla"))
    assert plain.execution.attention == "xla"
    for name, (n_runs, mesh, changes) in WAYS.items():
        execution = replace(AUTO, **changes)
        runs = train_pack(net, (config,) * n_runs, corpus, mesh_shape=mesh, execution=execution)
        for run in runs:
            assert run.execution.attention == "blocked", name
            losses = [run.loss_nats, plain.loss_nats]
            np.testing.assert_allclose(*losses, rtol=0, atol=1e-5, err_msg=name)

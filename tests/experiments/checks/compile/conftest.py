# SPDX-License-Identifier: Apache-2.0
"""A network in the manner of Llama, of any size."""

from dataclasses import replace

import pytest

from experiments.benchmarks.speed import networks
from model.network.config import ModelConfig


@pytest.fixture(scope="session")
def llama():
    """Makes one of these sizes: heads share keys and values in pairs, the head is not tied."""

    def make(d_head: int, **sizes: int) -> ModelConfig:
        made = networks.llama(**sizes)
        return replace(made, n_kv_heads=made.n_heads // 2, d_head=d_head, tie_embeddings=False)

    return make

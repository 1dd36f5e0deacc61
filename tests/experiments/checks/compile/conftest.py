# SPDX-License-Identifier: Apache-2.0
"""A network in the manner of Llama, of any size."""

import pytest
from small_networks import attention, vary

from experiments.benchmarks.speed import networks
from model.network.config import ModelConfig


@pytest.fixture(scope="session")
def llama():
    """Makes one of these sizes: heads share keys and values in pairs, the head is not tied."""

    def make(d_head: int, **sizes: int) -> ModelConfig:
        made = networks.llama(**sizes)
        n_kv_heads = attention(made).n_heads // 2
        return vary(made, n_kv_heads=n_kv_heads, d_head=d_head, tie_embeddings=False)

    return make

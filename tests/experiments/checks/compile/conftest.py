# SPDX-License-Identifier: Apache-2.0
"""A network in the manner of Llama, of any size."""

import pytest

from model.network.config import ModelConfig


@pytest.fixture(scope="session")
def llama():
    """Makes one of these sizes: heads share keys and values in pairs, the head is not tied."""

    def make(**sizes: int) -> ModelConfig:
        return ModelConfig(
            **sizes,
            n_kv_heads=sizes["n_heads"] // 2,
            mixers=("attention",),
            channel_mixers=("swiglu",),
            norm="rmsnorm",
            norm_eps=1e-5,
            positions="rope",
            rope_theta=1e4,
            use_bias=False,
            use_qk_norm=False,
            tie_embeddings=False,
            embedding_init_std=0.1,
            hidden_init_gain=1.0,
            output_init_std=0.1,
            residual_multiplier=1.0,
            logit_multiplier=1.0,
        )

    return make

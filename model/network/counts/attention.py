# SPDX-License-Identifier: Apache-2.0
"""Parameters and FLOPs of softmax attention (model/network/mixers/attention.py)."""

from model.network.config import ModelConfig


def matmul_params(config: ModelConfig) -> int:
    """Weights that multiply every token: queries, keys, values, output."""
    projections = 2 * config.n_heads + 2 * config.n_kv_heads
    return config.d_model * config.d_head * projections


def params(config: ModelConfig) -> int:
    """All weights: projections, biases, gains of the query and key norms."""
    heads = config.n_heads + 2 * config.n_kv_heads
    bias = config.use_bias * (heads * config.d_head + config.d_model)
    gains = config.use_qk_norm * 2 * config.d_head
    return matmul_params(config) + bias + gains


active_params = params


def context_flops(config: ModelConfig) -> int:
    """Forward FLOPs per token of QK^T and AV over all T positions: 2 x 2 T n_heads d_head.

    These grow with the length and multiply no weight, so 6N misses them. The causal half of the
    T x T scores is what a kernel that skips masked blocks computes; total.py halves it where the
    convention says so.
    """
    return 4 * config.seq_len * config.n_heads * config.d_head

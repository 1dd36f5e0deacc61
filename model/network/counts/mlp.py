# SPDX-License-Identifier: Apache-2.0
"""Parameters and FLOPs of the dense channel mixers (model/network/channel_mixers/mlp.py)."""

from model.network.config import ModelConfig


def swiglu_matmul_params(config: ModelConfig) -> int:
    """Gate, up and down projections."""
    return 3 * config.d_model * config.d_ff


def swiglu_params(config: ModelConfig) -> int:
    bias = config.use_bias * (2 * config.d_ff + config.d_model)
    return swiglu_matmul_params(config) + bias


def gelu_matmul_params(config: ModelConfig) -> int:
    """Up and down projections."""
    return 2 * config.d_model * config.d_ff


def gelu_params(config: ModelConfig) -> int:
    bias = config.use_bias * (config.d_ff + config.d_model)
    return gelu_matmul_params(config) + bias

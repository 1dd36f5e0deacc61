# SPDX-License-Identifier: Apache-2.0
"""Parameters and training FLOPs per token of a whole network, under named conventions.

One training token costs three times its forward pass (backward: gradients of activations and of
weights). Norms, softmax, rotations and other element-wise work are not counted, as in all four
conventions of the literature.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from model.network.config import ModelConfig
from model.network.counts import attention, mlp

FlopConvention = Literal["6n_total", "6n_non_embedding", "matmul_full", "matmul_causal"]
FLOP_CONVENTIONS: tuple[FlopConvention, ...] = get_args(FlopConvention)


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerCounts:
    """The counts that one mixer or channel mixer contributes per layer.

    Attributes:
      params: weights stored.
      active_params: weights that touch one token (fewer than stored in sparse mixers).
      matmul_params: active weights of matrix products: 2 FLOPs each per token, forward.
      context_flops: forward FLOPs per token of products over the context, full T x T.
    """

    params: Callable[[ModelConfig], int]
    active_params: Callable[[ModelConfig], int]
    matmul_params: Callable[[ModelConfig], int]
    context_flops: Callable[[ModelConfig], int]


def _no_context(_: ModelConfig) -> int:
    return 0


MIXERS = {
    "attention": LayerCounts(
        params=attention.params,
        active_params=attention.active_params,
        matmul_params=attention.matmul_params,
        context_flops=attention.context_flops,
    )
}
CHANNEL_MIXERS = {
    "swiglu": LayerCounts(
        params=mlp.swiglu_params,
        active_params=mlp.swiglu_params,
        matmul_params=mlp.swiglu_matmul_params,
        context_flops=_no_context,
    ),
    "gelu": LayerCounts(
        params=mlp.gelu_params,
        active_params=mlp.gelu_params,
        matmul_params=mlp.gelu_matmul_params,
        context_flops=_no_context,
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ParamCounts:
    """Parameters of one network.

    Attributes:
      total: every weight, a tied embedding once.
      non_embedding: without token embedding, learned positions and an untied head
        (Kaplan et al. 2020, arXiv:2001.08361, sec. 2.1).
      active: weights that touch one token; equals ``total`` in dense networks.
    """

    total: int
    non_embedding: int
    active: int


def _layers(config: ModelConfig) -> list[LayerCounts]:
    mixers = [_named(MIXERS, name, "mixer") for name in config.layer_mixers]
    return mixers + [
        _named(CHANNEL_MIXERS, name, "channel mixer") for name in config.layer_channel_mixers
    ]


def _named(table: dict[str, LayerCounts], name: str, what: str) -> LayerCounts:
    if name not in table:
        raise ValueError(f"unknown {what} {name!r}: known are {', '.join(sorted(table))}.")
    return table[name]


def count_params(config: ModelConfig) -> ParamCounts:
    """Parameters in closed form.

    Raises:
      ValueError: if a mixer or channel mixer has no counts.
    """
    layers = _layers(config)
    norm_width = config.d_model * (1 + (config.norm == "layernorm" and config.use_bias))
    norms = (2 * config.n_layers + 1) * norm_width
    embedding = config.vocab_size * config.d_model
    positions = (config.positions == "learned") * config.seq_len * config.d_model
    head = (not config.tie_embeddings) * embedding
    non_embedding = norms + sum(layer.params(config) for layer in layers)
    active = norms + sum(layer.active_params(config) for layer in layers)
    outside = embedding + positions + head
    return ParamCounts(
        total=non_embedding + outside, non_embedding=non_embedding, active=active + outside
    )


def flops_per_token(config: ModelConfig, convention: FlopConvention) -> int:
    """Training FLOPs per token of a sequence of ``config.seq_len``.

    - "6n_total": 6 x all active parameters (Hoffmann et al. 2022, arXiv:2203.15556, sec. 3.3).
    - "6n_non_embedding": 6 x active parameters without embeddings and head (Kaplan et al. 2020).
    - "matmul_full": 3 x every matrix product of the forward pass: lookup of the embedding free,
      head counted, attention over the full T x T (Hoffmann et al. 2022, appendix F, without the
      softmax). This is what a plain implementation executes.
    - "matmul_causal": the same with half of the attention products.

    Raises:
      ValueError: if the convention is unknown.
    """
    layers = _layers(config)
    if convention in ("6n_total", "6n_non_embedding"):
        counts = count_params(config)
        embeddings = counts.total - counts.non_embedding
        return 6 * (counts.active - (convention == "6n_non_embedding") * embeddings)
    head = config.vocab_size * config.d_model
    products = 2 * (head + sum(layer.matmul_params(config) for layer in layers))
    context = sum(layer.context_flops(config) for layer in layers)
    if convention == "matmul_full":
        return 3 * (products + context)
    if convention == "matmul_causal":
        return 3 * products + 3 * context // 2
    raise ValueError(f"unknown FLOP convention {convention!r}: {', '.join(FLOP_CONVENTIONS)}.")

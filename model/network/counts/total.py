# SPDX-License-Identifier: Apache-2.0
"""Parameters and training FLOPs per token of a whole network, under named conventions.

One training token costs three times its forward pass (backward: gradients of activations and of
weights). Norms, softmax, rotations and other element-wise work are not counted, as in all four
conventions of the literature.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal, get_args

from model.network.config import ModelConfig
from model.network.counts.kinds import BlockConfig
from model.network.counts.layer import Weight, norm_weights
from model.network.counts.patches import PatchConfig

FlopConvention = Literal["6n_total", "6n_non_embedding", "matmul_full", "matmul_causal"]
FLOP_CONVENTIONS: tuple[FlopConvention, ...] = get_args(FlopConvention)


@dataclass(frozen=True, kw_only=True, slots=True)
class ParamCounts:
    """Parameters of one network.

    Attributes:
      total: every weight, a tied embedding once.
      non_embedding: without token embedding, learned positions and an untied head
        (Kaplan et al. 2020, arXiv:2001.08361, sec. 2.1).
      active: weights that touch one token; equals ``total`` in dense networks. Of an encoder and a
        decoder the mean over the tokens of a window, rounded down.
    """

    total: int
    non_embedding: int
    active: int


def outer_weights(net: ModelConfig) -> dict[str, Weight]:
    """The arrays outside the blocks, by their path in the network."""
    V, T, D = net.vocab_size, net.seq_len, net.d_model
    std = net.embedding_init_std
    weights = {
        "embedding.tokens_vd": Weight(axes="vd", shape=(V, D), role="input", std=std, n_in=1)
    }
    if net.patches is not None:
        T, weights = net.n_positions, _within("embedding", net.patches.weights(net))
    if net.learned_positions:
        positions = Weight(axes="td", shape=(T, D), role="input", std=std, n_in=1)
        weights["embedding.positions_td"] = positions
    if not net.tie_embeddings:
        std = net.output_init_std
        weights["head_dv"] = Weight(axes="dv", shape=(D, V), role="output", std=std, n_in=1)
    return weights | _within("norm", norm_weights(net, "final_norm"))


def block_weights(net: ModelConfig, block: BlockConfig) -> dict[str, Weight]:
    """The arrays of one block, by their path in it."""
    weights = _within("mixer_norm", norm_weights(net)) | _within("mixer", block.mixer.weights(net))
    if block.channel_mixer is not None:
        weights |= _within("channel_mixer_norm", norm_weights(net))
        weights |= _within("channel_mixer", block.channel_mixer.weights(net))
    return weights


def _within(name: str, weights: dict[str, Weight]) -> dict[str, Weight]:
    return {f"{name}.{inner}": weight for inner, weight in weights.items()}


def all_weights(net: ModelConfig) -> Iterator[tuple[str, Weight, int]]:
    """(path, weight, how often the network has it); those of blocks once for a pattern."""
    for path, weight in outer_weights(net).items():
        yield path, weight, 1
    of_window = Fraction(net.n_positions, net.seq_len)
    yield from _repeated(net, of_window)
    if (encoder := net.encoder_net) is not None:
        for path, weight in _within("encoder.norm", norm_weights(net)).items():
            yield path, weight, 1
        for path, weight, n in _repeated(encoder, 1 - of_window):
            yield f"encoder.{path}", weight, n


def _repeated(net: ModelConfig, of_window: Fraction) -> Iterator[tuple[str, Weight, int]]:
    """The weights of its blocks, which see this share of a window."""
    for place, block in enumerate(net.blocks):
        for path, weight in block_weights(net, block).items():
            if of_window != 1:
                weight = replace(weight, share=weight.share * of_window)
            yield f"blocks.{place}.{path}", weight, net.n_repeats


def hidden_weights(net: ModelConfig) -> int:
    """Stored weights of matrix products in all blocks."""
    found = all_weights(net)
    return sum(n * weight.size for _, weight, n in found if weight.role == "hidden")


def count_params(config: ModelConfig) -> ParamCounts:
    """Parameters in closed form."""
    found = list(all_weights(config))
    outside = sum(weight.size for _, weight, _ in found if weight.role in ("input", "output"))
    total = sum(n * weight.size for _, weight, n in found)
    active = int(sum(n * weight.active for _, weight, n in found))
    return ParamCounts(total=total, non_embedding=total - outside, active=active)


def flops_per_token(config: ModelConfig, convention: FlopConvention) -> int | float:
    """Training FLOPs per token of a sequence of ``config.seq_len``: those of a whole window over
    its tokens, which is a whole number unless there is an encoder, or the window is an image.

    - "6n_total": 6 x all active parameters (Hoffmann et al. 2022, arXiv:2203.15556, sec. 3.3).
    - "6n_non_embedding": 6 x active parameters without embeddings and head (Kaplan et al. 2020).
    - "matmul_full": 3 x every matrix product of the forward pass: lookup of the embedding free,
      head counted, attention over the full T x T (Hoffmann et al. 2022, appendix F, without the
      softmax). This is what a plain implementation executes.
    - "matmul_causal": the same without the pairs of positions that a causal mask hides.

    Raises:
      ValueError: if the convention is unknown.
    """
    if convention in ("6n_total", "6n_non_embedding"):
        counts = count_params(config)
        embeddings = counts.total - counts.non_embedding
        return 6 * (counts.active - (convention == "6n_non_embedding") * embeddings)
    if convention not in ("matmul_full", "matmul_causal"):
        raise ValueError(f"unknown FLOP convention {convention!r}: {', '.join(FLOP_CONVENTIONS)}.")
    of_window = Fraction(config.n_positions, config.seq_len)
    head = of_window * config.vocab_size * config.d_model
    if config.patches is not None:
        head = _patch_products(config, config.patches)
    found = all_weights(config)
    products = head + sum(n * weight.active for _, weight, n in found if weight.role == "hidden")
    is_causal = convention == "matmul_causal"
    context = of_window * _context_flops(config, is_causal=is_causal)
    if (encoder := config.encoder_net) is not None:
        context += (1 - of_window) * _context_flops(encoder, is_causal=False)
    flops = 6 * products + 3 * context
    return int(flops) if flops.denominator == 1 else float(flops)


def _patch_products(net: ModelConfig, patches: PatchConfig) -> Fraction:
    """Of the embedding of all patches, and of the head for one position, over the tokens."""
    embedding = patches.n_patches * patches.weights(net)["patches_cd"].size
    return Fraction(embedding + net.vocab_size * net.d_model, net.seq_len)


def _context_flops(net: ModelConfig, *, is_causal: bool) -> int:
    """Of all blocks, per token that they see."""
    return net.n_repeats * sum(
        layer.context_flops(net, is_causal=is_causal) for layer in net.layers
    )

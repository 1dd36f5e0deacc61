# SPDX-License-Identifier: Apache-2.0
"""The shape of a network. Standard library only, so that planning needs no JAX."""

from dataclasses import dataclass
from typing import Literal

from model.field_checks import check_choice, check_flags, check_real, check_whole, shown
from model.network.counts.kinds import BlockConfig
from model.network.counts.layer import LayerConfig

# A pattern is written out over the depth: a million layers are a mistake, not a network.
MAX_LAYERS = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """A stack of residual blocks over token ids, fully resolved.

    Attributes:
      vocab_size: V, number of token ids.
      seq_len: T, tokens per training sequence; sizes learned positions and the FLOPs of attention.
      d_model: D, width of the residual stream.
      n_layers: number of blocks, a multiple of the length of the pattern below.
      blocks: pattern of blocks, each with its mixer's and channel mixer's own sizes, repeated over
        the depth.
      norm: "rmsnorm" or "layernorm"; before each mixer (pre-norm), and before the head.
      norm_eps: added to the variance.
      learned_positions: whether a vector for each position is added to the embedding (GPT-2).
      use_bias: biases in every linear map and in LayerNorm (GPT-2: true, Llama: false).
      tie_embeddings: the output head is the transposed embedding.
      embedding_init_std: standard deviation of embeddings and learned positions.
      hidden_init_gain: hidden matrices ~ N(0, (gain^2 / fan_in)).
      branch_init_gain: the same of those that end a residual branch; with 0 each block begins as
        the identity.
      output_init_std: standard deviation of an untied head.
      residual_multiplier: factor on every residual branch (CompleteP's m_L^-alpha).
      logit_multiplier: factor on the logits (muP's 1/m_N).
      separator: token that begins each document, of which no mixer lets a position see another, and
        in which positions are counted anew; None: documents in one window see those before them.
    """

    vocab_size: int
    seq_len: int
    d_model: int
    n_layers: int
    blocks: tuple[BlockConfig, ...]
    norm: Literal["rmsnorm", "layernorm"]
    norm_eps: float
    learned_positions: bool
    use_bias: bool
    tie_embeddings: bool
    embedding_init_std: float
    hidden_init_gain: float
    branch_init_gain: float
    output_init_std: float
    residual_multiplier: float
    logit_multiplier: float
    separator: int | None = None

    def __post_init__(self) -> None:
        check_whole(self, "vocab_size seq_len d_model")
        check_whole(self, "n_layers", high=MAX_LAYERS)
        check_real(self, "hidden_init_gain residual_multiplier logit_multiplier")
        check_real(self, "norm_eps embedding_init_std branch_init_gain output_init_std", low=0.0)
        check_choice(self, "norm", ("rmsnorm", "layernorm"))
        check_flags(self, "learned_positions use_bias tie_embeddings")
        if self.separator is not None:
            check_whole(self, "separator", low=0, high=self.vocab_size - 1)
        if not self.blocks:
            raise ValueError("blocks=(): a network needs one block at least.")
        if self.n_layers % len(self.blocks):
            raise ValueError(
                f"blocks={shown(self.pattern)}: the length of the pattern must divide "
                f"n_layers={self.n_layers}."
            )

        self.loss_weights  # noqa: B018 (refuses weights that differ)

    @property
    def says(self) -> tuple[str, ...]:
        """Names of what the layers have to say beside their outputs, each once."""
        return tuple(sorted({name for layer in self.layers for name in layer.says}))

    @property
    def loss_weights(self) -> dict[str, float]:
        """Of what the layers say, the weights in the training loss.

        Raises:
          ValueError: if two layers weigh one thing differently.
        """
        weights: dict[str, float] = {}
        for layer in self.layers:
            for name, weight in layer.loss_weights().items():
                if weights.setdefault(name, weight) != weight:
                    raise ValueError(
                        f"blocks={shown(self.pattern)}: {name} weighs {weights[name]:g} in one "
                        f"layer and {weight:g} in another. Give it one weight."
                    )
        return weights

    @property
    def n_repeats(self) -> int:
        """How often the pattern of blocks is repeated."""
        return self.n_layers // len(self.blocks)

    @property
    def layers(self) -> tuple[LayerConfig, ...]:
        """The mixers and channel mixers of one pattern, in order."""
        return tuple(layer for block in self.blocks for layer in block.layers)

    @property
    def pattern(self) -> str:
        """The blocks in words: "attention+swiglu lstm+swiglu"."""
        return " ".join("+".join(layer.kind for layer in block.layers) for block in self.blocks)

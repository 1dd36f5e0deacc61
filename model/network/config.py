# SPDX-License-Identifier: Apache-2.0
"""The shape of a network. Standard library only, so that planning needs no JAX."""

from dataclasses import dataclass, replace
from typing import Literal

from model.field_checks import check_choice, check_flags, check_real, check_whole, shown
from model.network.counts.kinds import BlockConfig
from model.network.counts.layer import LayerConfig
from model.network.counts.patches import PatchConfig

# A pattern is written out over the depth: a million layers are a mistake, not a network.
MAX_LAYERS = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderConfig:
    """A second stack of blocks, as wide, over the first tokens of a window: what it makes of them
    is the memory of the others.

    Attributes:
      source_len: S, tokens of the source, below the T of the window.
      blocks: pattern of blocks, repeated as often as that of the decoder; each sees all of the
        source.
    """

    source_len: int
    blocks: tuple[BlockConfig, ...]


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
      encoder: of the first tokens of a window; None: there is none.
      patches: a window is an image, seen whole, in patches, and V is the number of classes.
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
    encoder: EncoderConfig | None = None
    patches: PatchConfig | None = None

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

        self._check_encoder()
        self._check_patches()
        self.loss_weights  # noqa: B018 (refuses weights that differ)

    def _check_encoder(self) -> None:
        readers = [layer.kind for layer in self.layers if layer.reads_source]
        if self.encoder is None:
            if readers:
                raise ValueError(
                    f"blocks={shown(self.pattern)}: {readers[0]!r} reads what an encoder makes of "
                    "a source. Put it into the blocks of a decoder, beside an encoder."
                )
            return
        check_whole(self.encoder, "source_len")
        if self.encoder.source_len >= self.seq_len:
            raise ValueError(
                f"encoder.source_len={self.encoder.source_len}: a window of {self.seq_len} tokens "
                f"has no target behind such a source. Make it at most {self.seq_len - 1}."
            )
        if not readers:
            raise ValueError(
                f"blocks={shown(self.pattern)}: no block reads what the encoder makes of the "
                "source. Give one a mixer that does, such as cross_attention."
            )
        if self.separator is not None:
            raise ValueError(
                f"separator={self.separator} with an encoder: a window is a source and its target, "
                "not documents. Say documents_apart=False."
            )
        assert self.encoder_net is not None
        for layer in self.encoder_net.layers:
            if not layer.sees_both_sides:
                raise ValueError(
                    f"encoder.blocks: {layer.kind!r} sees only what is before a position. Choose "
                    "attention without a window, or another mixer that sees both sides."
                )

    def _check_patches(self) -> None:
        if self.patches is None:
            return
        if self.patches.n_values != self.seq_len:
            sizes = f"{self.patches.height} x {self.patches.width} x {self.patches.channels}"
            raise ValueError(
                f"patches of images of {sizes} values with seq_len={self.seq_len}: a window is one "
                f"image. Say seq_len={self.patches.n_values}, or correct shape.patches."
            )
        if self.tie_embeddings or self.encoder is not None or self.separator is not None:
            raise ValueError(
                "patches with tie_embeddings, an encoder or documents_apart: an image has no "
                "tokens, no source and no documents. Say tie_embeddings=False, and none of them."
            )

    @property
    def n_positions(self) -> int:
        """Tokens of a window that ``blocks`` see; patches, and what stands for a class."""
        if self.patches is not None:
            return self.patches.n_positions
        return self.seq_len if self.encoder is None else self.seq_len - self.encoder.source_len

    @property
    def encoder_net(self) -> "ModelConfig | None":
        """The encoder as a network of its own, over sources alone."""
        if self.encoder is None:
            return None
        return replace(
            self,
            seq_len=self.encoder.source_len,
            n_layers=self.n_repeats * len(self.encoder.blocks),
            blocks=self.encoder.blocks,
            encoder=None,
        )

    @property
    def says(self) -> tuple[str, ...]:
        """Names of what the layers have to say beside their outputs, each once."""
        return tuple(sorted({name for layer in self.every_layer for name in layer.says}))

    @property
    def loss_weights(self) -> dict[str, float]:
        """Of what the layers say, the weights in the training loss.

        Raises:
          ValueError: if two layers weigh one thing differently.
        """
        weights: dict[str, float] = {}
        for layer in self.every_layer:
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
    def every_layer(self) -> tuple[LayerConfig, ...]:
        """The same, and those of an encoder."""
        return self.layers + (() if self.encoder_net is None else self.encoder_net.layers)

    @property
    def pattern(self) -> str:
        """The blocks in words: "attention+swiglu lstm+swiglu"."""
        return " ".join("+".join(layer.kind for layer in block.layers) for block in self.blocks)

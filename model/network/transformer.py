# SPDX-License-Identifier: Apache-2.0
"""The trunk: embedding, blocks (stack.py), norm, head; the encoder, where there is one."""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from model.network.config import ModelConfig
from model.network.context import PLAIN_CONTEXT, Context, documents_apart
from model.network.counts.total import outer_weights
from model.network.execution import PLAIN, Execution
from model.network.layers import Embedding, Said, State, parameter
from model.network.patches import PatchEmbedding
from model.network.sharding import LAYOUTS, Layout
from model.network.stack import Stack, added, unstacked


class Transformer(Stack):
    """A stack of residual blocks over token ids; GPT-2, Llama and Qwen3 are configurations of it.

    Build it with a mesh in context (``jax.set_mesh``): one device is a mesh of ones. Where there is
    an encoder it reads the first tokens of a window, the source; the blocks are the decoder's, and
    see the others and what the encoder made.

    Args:
      config: the shape; every number that matters is in it.
      compute_dtype: dtype of activations and matrix products; parameters stay float32, and so
        do norms, softmax and logits.
      execution: its attention, layers and remat must be resolved, not "auto".
      rngs: ``params`` stream.
      layout: letter of a dimension -> mesh axes; None is the execution's.
    """

    head_dv: nnx.Param | None = None
    encoder: Stack | None = None

    def __init__(
        self,
        config: ModelConfig,
        *,
        compute_dtype: DTypeLike,
        rngs: nnx.Rngs,
        execution: Execution = PLAIN,
        layout: Layout | None = None,
    ):
        layout = layout or LAYOUTS[execution.layout]
        embedding = Embedding if config.patches is None else PatchEmbedding
        self.embedding = embedding(config, layout, rngs=rngs)
        super().__init__(config, execution=execution, layout=layout, rngs=rngs, role="final_norm")
        if not config.tie_embeddings:
            self.head_dv = parameter(rngs, outer_weights(config)["head_dv"], layout)
        if (sources := config.encoder_net) is not None:
            self.encoder = Stack(sources, execution=execution, layout=layout, rngs=rngs)
        self.config = config
        self.compute_dtype = compute_dtype
        self.layout = layout

    def __call__(
        self, tokens: Int[Array, "B T"], context: Context = PLAIN_CONTEXT
    ) -> tuple[Float[Array, "B T_own V"], Said]:
        """Float32 logits at every position that the blocks see, and what the layers have to say; of
        an image one position, its classes."""
        x, said = self.features(tokens, context)
        return self._logits(x), said

    def features(
        self, tokens: Int[Array, "B T"], context: Context = PLAIN_CONTEXT
    ) -> tuple[Float[Array, "B T_own D"], Said]:
        """What the head multiplies, and what the layers have to say, summed over all of them."""
        x, context, of_source = self.begin(tokens, context)
        x, said = self.through(x, context)
        if (patches := self.config.patches) is not None:
            x = x[:, :1] if patches.pool == "token" else jnp.mean(x, axis=1, keepdims=True)
        return x, added(of_source, said)

    def begin(
        self, tokens: Int[Array, "B T"], context: Context = PLAIN_CONTEXT
    ) -> tuple[Float[Array, "B T_own D"], Context, Said]:
        """The stream before the blocks, what they are told, and what the encoder has to say."""
        if self.config.separator is not None and context.segments is None:
            context = documents_apart(tokens, self.config.separator, context)
        x = self.embedding(tokens, self.compute_dtype, context.positions)
        if self.config.patches is not None:
            return x, context._replace(is_causal=False), {}
        if self.encoder is None:
            return x, context, {}
        first = self.config.seq_len - self.config.n_positions
        memory, said = self.encoder.through(x[:, :first], context._replace(is_causal=False))
        return x[:, first:], context._replace(memory=memory), said

    def head(self) -> Float[Array, "D V"]:
        if self.head_dv is not None:
            return self.head_dv[...]
        tied: Any = self.embedding  # Of tokens: images have a head of their own.
        return tied.tokens_vd[...].T

    def _logits(self, x: Float[Array, "B T D"]) -> Float[Array, "B T V"]:
        logits = jnp.einsum(
            "btd,dv->btv",
            x,
            self.head().astype(x.dtype),
            preferred_element_type=jnp.float32,
            out_sharding=P(*self.layout.act("btv")),
        )
        return logits * self.config.logit_multiplier

    def init_state(self, batch_size: int, length: int) -> dict:
        """What the network remembers before the first token.

        Args:
          length: most tokens that will be given to it, at most ``seq_len``.

        Raises:
          ValueError: if there is an encoder, or a window is an image in patches.
        """
        if self.encoder is not None or self.config.patches is not None:
            raise ValueError(
                "a network with an encoder, or of patches, is not sampled from, position by "
                "position: call it on whole windows."
            )
        layers = [
            {
                name: block.layer(name).init_state(batch_size, length, self.compute_dtype)
                for name in block.branches
            }
            for block in self.blocks
        ]
        return {"position": jnp.int32(0), "layers": [layers] * self.config.n_repeats}

    def step(self, tokens: Int[Array, "B n"], state: dict) -> tuple[Float[Array, "B n V"], dict]:
        """Logits of the next n tokens, and what the network remembers after them.

        The same as of the whole sequence so far, without computing that again: for sampling, on
        one device. All tokens are of one document.
        """
        position = state["position"]
        after: list[list[dict[str, State]]] = []
        positions = position + jnp.arange(tokens.shape[1])[None]
        context = PLAIN_CONTEXT._replace(positions=positions)
        x = self.embedding(tokens, self.compute_dtype, positions)
        context = context._replace(shared=self.shared_values(x))
        graphdef, stacked = self.split_blocks()
        for weights, states in zip(unstacked(stacked), state["layers"], strict=True):
            after.append([])
            for block, own in zip(nnx.merge(graphdef, weights), states, strict=True):
                x, context, own = block.step(x, own, context)
                after[-1].append(own)
        state = {"position": position + tokens.shape[1], "layers": after}
        return self._logits(self.norm(x)), state

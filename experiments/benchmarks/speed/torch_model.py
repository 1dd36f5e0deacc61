# SPDX-License-Identifier: Apache-2.0
"""The peers: our ModelConfig in plain PyTorch, as one would write it there, and Hugging Face's.

The plain one: fused query-key-value and gate-up products, ``scaled_dot_product_attention``, native
norms; dense layers and full heads only (no grouped queries, no query-key norm), which is what the
benchmarks train.
"""

import contextlib
import importlib.metadata

import torch
from torch import nn
from torch.nn import functional as F

from experiments.benchmarks.speed.networks import layers
from model.network.config import ModelConfig
from model.network.counts.attention import AttentionConfig
from model.network.counts.convolution import ConvolutionConfig
from model.network.counts.lstm import LSTMConfig
from model.network.hugging_face import config_of


class Block(nn.Module):
    """x + mixer(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, c: ModelConfig):
        super().__init__()
        mixer, mlp = layers(c)
        self.is_gated = mlp.kind == "swiglu"
        self.mixer_norm, self.channel_norm = make_norm(c), make_norm(c)
        self.mixer = MIXERS[mixer.kind](c, mixer)
        self.up = nn.Linear(c.d_model, (1 + self.is_gated) * mlp.d_ff, bias=c.use_bias)
        self.down = nn.Linear(mlp.d_ff, c.d_model, bias=c.use_bias)

    def forward(self, x: torch.Tensor, rotation: torch.Tensor | None) -> torch.Tensor:
        """x [B, T, D]; rotation [2, T, K], cosines and sines, or None."""
        x = x + self.mixer(self.mixer_norm(x), rotation)
        h = self.up(self.channel_norm(x))
        if self.is_gated:
            gate, up = h.chunk(2, dim=-1)
            return x + self.down(F.silu(gate) * up)
        return x + self.down(F.gelu(h, approximate="tanh"))


class Attention(nn.Module):
    """Causal, all heads full."""

    def __init__(self, c: ModelConfig, sizes: AttentionConfig):
        super().__init__()
        self.n_heads, width = sizes.n_heads, sizes.n_heads * sizes.d_head
        self.qkv = nn.Linear(c.d_model, 3 * width, bias=c.use_bias)
        self.out = nn.Linear(width, c.d_model, bias=c.use_bias)

    def forward(self, x: torch.Tensor, rotation: torch.Tensor | None) -> torch.Tensor:
        heads = self.qkv(x).unflatten(-1, (3, self.n_heads, -1)).transpose(1, 3)
        q, k, v = heads.unbind(2)
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(mixed.transpose(1, 2).flatten(2))


class LSTM(nn.Module):
    """torch's own, and a product to the width of the stream."""

    def __init__(self, c: ModelConfig, sizes: LSTMConfig):
        super().__init__()
        self.lstm = nn.LSTM(c.d_model, sizes.d_state, batch_first=True, bias=sizes.use_gate_bias)
        self.out = nn.Linear(sizes.d_state, c.d_model, bias=c.use_bias)

    def forward(self, x: torch.Tensor, _rotation: torch.Tensor | None) -> torch.Tensor:
        return self.out(self.lstm(x)[0])


class Convolution(nn.Module):
    """torch's own on what is padded to the left, GELU, and a product to the width of the stream."""

    def __init__(self, c: ModelConfig, sizes: ConvolutionConfig):
        super().__init__()
        self.reach = sizes.reach
        self.taps = nn.Conv1d(
            c.d_model, sizes.d_hidden, sizes.taps, dilation=sizes.dilation, bias=c.use_bias
        )
        self.out = nn.Linear(sizes.d_hidden, c.d_model, bias=c.use_bias)

    def forward(self, x: torch.Tensor, _rotation: torch.Tensor | None) -> torch.Tensor:
        hidden = self.taps(F.pad(x.transpose(1, 2), (self.reach, 0)))
        return self.out(F.gelu(hidden, approximate="tanh").transpose(1, 2))


MIXERS = {"attention": Attention, "lstm": LSTM, "convolution": Convolution}


class Transformer(nn.Module):
    """Logits [B, T, V] of the next token; the head is the transposed embedding."""

    def __init__(self, c: ModelConfig):
        super().__init__()
        mixer, _ = layers(c)
        heads = mixer if isinstance(mixer, AttentionConfig) else None
        is_plain = heads is None or (heads.n_kv_heads == heads.n_heads and not heads.use_qk_norm)
        if not (is_plain and c.tie_embeddings):
            raise ValueError("the peer has full heads, no query-key norm and tied embeddings.")
        self.tokens = nn.Embedding(c.vocab_size, c.d_model)
        self.positions = nn.Embedding(c.seq_len, c.d_model) if c.learned_positions else None
        self.blocks = nn.ModuleList(Block(c) for _ in range(c.n_layers))
        self.norm = make_norm(c)
        rotation = None
        if heads is not None and heads.rope_theta is not None:
            rotation = rotations(c.seq_len, heads.d_head, heads.rope_theta)
        self.register_buffer("rotation", rotation, persistent=False)
        for weight in self.parameters():
            if weight.ndim == 2:
                nn.init.normal_(weight, std=c.embedding_init_std)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """tokens [B, T]."""
        x = self.tokens(tokens)
        if self.positions is not None:
            x = x + self.positions.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x, self.rotation)
        return F.linear(self.norm(x), self.tokens.weight)


def make_norm(c: ModelConfig) -> nn.Module:
    if c.norm == "rmsnorm":
        return nn.RMSNorm(c.d_model, eps=c.norm_eps)
    return nn.LayerNorm(c.d_model, eps=c.norm_eps, bias=c.use_bias)


def rotations(length: int, width: int, theta: float) -> torch.Tensor:
    """[2, T, K]: cosines and sines of position * theta^(-2j/K), each angle twice."""
    rates = theta ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.outer(torch.arange(length, dtype=torch.float64), rates).repeat(1, 2)
    return torch.stack([angles.cos(), angles.sin()]).float()


def rotate(x: torch.Tensor, rotation: torch.Tensor) -> torch.Tensor:
    """Llama's pairing: x_j turns with x_{j+K/2}. x [B, H, T, K]."""
    first, second = x.chunk(2, dim=-1)
    cos, sin = rotation.to(x.dtype)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


def hugging_face(c: ModelConfig) -> nn.Module:
    """The same network in transformers (GPT-2 or Llama), on scaled_dot_product_attention."""
    from transformers import AutoConfig, AutoModelForCausalLM

    fields = config_of(c) | {"attn_implementation": "sdpa", "use_cache": False}
    if c.learned_positions:
        fields["activation_function"] = "gelu_pytorch_tanh"  # The same, in one kernel.
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(**fields))


def versions() -> dict[str, str]:
    found = {"torch": torch.__version__}
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        found["transformers"] = importlib.metadata.version("transformers")
    return found

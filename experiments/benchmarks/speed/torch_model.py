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
from model.network.hugging_face import config_of


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, c: ModelConfig):
        super().__init__()
        heads, mlp = layers(c)
        self.n_heads, self.is_gated = heads.n_heads, mlp.kind == "swiglu"
        width = heads.n_heads * heads.d_head
        self.mixer_norm, self.channel_norm = make_norm(c), make_norm(c)
        self.qkv = nn.Linear(c.d_model, 3 * width, bias=c.use_bias)
        self.out = nn.Linear(width, c.d_model, bias=c.use_bias)
        self.up = nn.Linear(c.d_model, (1 + self.is_gated) * mlp.d_ff, bias=c.use_bias)
        self.down = nn.Linear(mlp.d_ff, c.d_model, bias=c.use_bias)

    def forward(self, x: torch.Tensor, rotation: torch.Tensor | None) -> torch.Tensor:
        """x [B, T, D]; rotation [2, T, K], cosines and sines, or None."""
        x = x + self.attend(self.mixer_norm(x), rotation)
        h = self.up(self.channel_norm(x))
        if self.is_gated:
            gate, up = h.chunk(2, dim=-1)
            return x + self.down(F.silu(gate) * up)
        return x + self.down(F.gelu(h, approximate="tanh"))

    def attend(self, x: torch.Tensor, rotation: torch.Tensor | None) -> torch.Tensor:
        heads = self.qkv(x).unflatten(-1, (3, self.n_heads, -1)).transpose(1, 3)
        q, k, v = heads.unbind(2)
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(mixed.transpose(1, 2).flatten(2))


class Transformer(nn.Module):
    """Logits [B, T, V] of the next token; the head is the transposed embedding."""

    def __init__(self, c: ModelConfig):
        super().__init__()
        heads, _ = layers(c)
        if heads.n_kv_heads != heads.n_heads or heads.use_qk_norm or not c.tie_embeddings:
            raise ValueError("the peer has full heads, no query-key norm and tied embeddings.")
        self.tokens = nn.Embedding(c.vocab_size, c.d_model)
        self.positions = nn.Embedding(c.seq_len, c.d_model) if c.learned_positions else None
        self.blocks = nn.ModuleList(Block(c) for _ in range(c.n_layers))
        self.norm = make_norm(c)
        theta = heads.rope_theta
        rotation = None if theta is None else rotations(c.seq_len, heads.d_head, theta)
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

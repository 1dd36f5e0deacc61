# SPDX-License-Identifier: Apache-2.0
"""One process, the counterpart of one mixer in PyTorch: seconds per token, as in our_layers.py.

  python -m experiments.benchmarks.speed.their_layers MIXER LENGTH...

What transformers has is computed in plain torch, as it does where its kernels for GPUs are missing.
"""

import argparse
import json
import math
import os
import statistics
import time
from collections.abc import Callable
from typing import Any, cast

import torch
import transformers
from torch import nn
from torch.nn import functional as F
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer
from transformers.models.qwen3_next import modeling_qwen3_next as qwen

from experiments.benchmarks.speed import layers, torch_model
from model.network.config import ModelConfig
from model.network.counts.attention import AttentionConfig
from model.network.counts.delta_net import DeltaNetConfig
from model.network.counts.gru import GRUConfig
from model.network.counts.mamba2 import Mamba2Config
from model.network.counts.rwkv7 import RWKV7Config

Layer = Callable[[torch.Tensor], torch.Tensor]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("mixer", choices=layers.MIXERS)
    parser.add_argument("lengths", nargs="+", type=int)
    parser.add_argument("--cores", type=int, default=2)
    options = parser.parse_args()
    os.sched_setaffinity(0, layers.cores(options.cores))
    torch.set_num_threads(options.cores)
    for length in options.lengths:
        print(json.dumps(measure(options.mixer, length)), flush=True)


def measure(name: str, length: int) -> dict[str, Any]:
    torch.manual_seed(0)
    sizes, net = layers.sized(name, length)
    layer = MAKERS[name](net, sizes)
    shape = (layers.batch_size(length), length, layers.D_MODEL)
    x, weights = torch.randn(shape, requires_grad=True), torch.randn(shape)
    seconds = []
    for _ in range(1 + layers.N_REPEATS):
        x.grad = None
        layer.zero_grad(set_to_none=True)
        began = time.perf_counter()
        (layer(x) * weights).sum().backward()
        seconds.append(time.perf_counter() - began)
    return {
        "seq_len": length,
        "seconds_per_token": statistics.median(seconds[1:]) / (shape[0] * length),
        "versions": torch_model.versions(),
    }


class Attention(nn.Module):
    """All of the past, or a window of it."""

    def __init__(self, net: ModelConfig, sizes: AttentionConfig):
        super().__init__()
        self.heads = torch_model.Attention(net, sizes)
        rotation = torch_model.rotations(net.seq_len, sizes.d_head, cast(float, sizes.rope_theta))
        self.register_buffer("rotation", rotation)
        mask = None
        if sizes.window is not None:
            back = torch.arange(net.seq_len)[:, None] - torch.arange(net.seq_len)
            mask = (back >= 0) & (back < sizes.window)
        self.register_buffer("mask", mask)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.mask is None:
            return self.heads(x, self.rotation)
        heads = self.heads.qkv(x).unflatten(-1, (3, self.heads.n_heads, -1)).transpose(1, 3)
        q, k, v = heads.unbind(2)
        q, k = (torch_model.rotate(each, self.rotation) for each in (q, k))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask)
        return self.heads.out(mixed.transpose(1, 2).flatten(2))


class Alone(nn.Module):
    """A mixer of torch_model.py that asks for no rotation."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x, None)


class GRU(nn.Module):
    def __init__(self, net: ModelConfig, sizes: GRUConfig):
        super().__init__()
        self.gru = nn.GRU(net.d_model, sizes.d_state, batch_first=True, bias=sizes.use_gate_bias)
        self.out = nn.Linear(sizes.d_state, net.d_model, bias=net.use_bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.gru(x)[0])


class DeltaNet(nn.Module):
    """Yang et al. 2024 (arXiv:2406.06484) around transformers' chunked rule, which has a decay."""

    def __init__(self, net: ModelConfig, sizes: DeltaNetConfig):
        super().__init__()
        self.n_heads, keys = sizes.n_heads, sizes.n_heads * sizes.d_key
        self.widths = [keys, keys, sizes.n_heads * sizes.d_value]
        self.maps = nn.Linear(net.d_model, sum(self.widths) + sizes.n_heads, bias=net.use_bias)
        inner = sum(self.widths)
        self.taps = nn.Conv1d(inner, inner, sizes.taps, groups=inner, bias=False)
        self.norm = nn.RMSNorm(sizes.d_value, eps=net.norm_eps)
        self.out = nn.Linear(self.widths[2], net.d_model, bias=net.use_bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner, beta = self.maps(x).split([sum(self.widths), self.n_heads], dim=-1)
        inner = F.pad(inner.mT, (self.taps.kernel_size[0] - 1, 0))
        inner = F.silu(self.taps(inner)).mT
        q, k, v = (y.unflatten(-1, (self.n_heads, -1)) for y in inner.split(self.widths, dim=-1))
        decay = torch.zeros_like(beta)
        rule = qwen.torch_chunk_gated_delta_rule
        o, _ = rule(q, k, v, decay, torch.sigmoid(beta), use_qk_l2norm_in_kernel=True)
        return self.out(self.norm(o).flatten(2))


class RWKV7(nn.Module):
    """The time mix of Peng et al. 2025 (arXiv:2503.14456), sec. 4.1, position by position."""

    def __init__(self, net: ModelConfig, sizes: RWKV7Config):
        super().__init__()
        self.heads, inner = (sizes.n_heads, sizes.d_head), sizes.n_heads * sizes.d_head
        self.mix = nn.Parameter(torch.rand(6, net.d_model))
        self.maps = nn.ModuleList(nn.Linear(net.d_model, inner, bias=False) for _ in "rkv")
        self.low = nn.ModuleDict(
            {
                name: nn.ModuleList(
                    [nn.Linear(net.d_model, rank, bias=False), nn.Linear(rank, inner, bias=False)]
                )
                for name, rank in sizes.ranks.items()
            }
        )
        self.channels = nn.Parameter(torch.rand(6, *self.heads))
        self.norm = nn.GroupNorm(sizes.n_heads, inner, eps=64e-5)
        self.out = nn.Linear(inner, net.d_model, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        moved = F.pad(x, (0, 0, 1, -1)) - x
        xr, xw, xk, xv, xa, xg = (x + mix * moved for mix in self.mix)
        decay_base, rate_base, share_base, erased, replaced, bonus = self.channels

        def low(name: str, x: torch.Tensor, between: Layer = lambda y: y) -> torch.Tensor:
            down, up = cast(nn.ModuleList, self.low[name])
            return up(between(down(x))).unflatten(-1, self.heads)

        r, k, v = (
            one(y).unflatten(-1, self.heads) for one, y in zip(self.maps, (xr, xk, xv), strict=True)
        )
        v = v + (v.detach() - v) * torch.sigmoid(share_base + low("share", xv))
        w = torch.exp(-torch.sigmoid(decay_base + low("w", xw, torch.tanh)) / math.e**0.5)
        a = torch.sigmoid(rate_base + low("a", xa))
        removed = F.normalize(k * erased, dim=-1)
        k = k * (1 + (a - 1) * replaced)
        given = a * removed
        state, out = x.new_zeros(len(x), *self.heads, self.heads[1]), []
        for t in range(x.shape[1]):
            told = (state * removed[:, t, :, None, :]).sum(-1, keepdim=True)
            state = state * w[:, t, :, None, :] - told * given[:, t, :, None, :]
            state = state + v[:, t, ..., None] * k[:, t, :, None, :]
            out.append((state @ r[:, t, ..., None])[..., 0])
        y = torch.stack(out, dim=1)
        y = self.norm(y.flatten(0, 1).flatten(1)).view_as(y)
        y = y + (r * k * bonus).sum(-1, keepdim=True) * v
        return self.out((y * low("g", xg, torch.sigmoid)).flatten(2))


def mamba2(net: ModelConfig, sizes: Mamba2Config) -> nn.Module:
    config = transformers.Mamba2Config(
        hidden_size=net.d_model,
        num_heads=sizes.n_heads,
        head_dim=sizes.d_head,
        expand=sizes.n_heads * sizes.d_head // net.d_model,
        state_size=sizes.d_state,
        n_groups=sizes.n_groups,
        conv_kernel=sizes.taps,
        use_bias=net.use_bias,
        use_conv_bias=True,
        num_hidden_layers=1,
    )
    return Mamba2Mixer(config, layer_idx=0)


def gated_delta_net(net: ModelConfig, sizes: DeltaNetConfig) -> nn.Module:
    config = transformers.Qwen3NextConfig(
        hidden_size=net.d_model,
        linear_num_key_heads=sizes.n_key_heads,
        linear_num_value_heads=sizes.n_heads,
        linear_key_head_dim=sizes.d_key,
        linear_value_head_dim=sizes.d_value,
        linear_conv_kernel_dim=sizes.taps,
        num_hidden_layers=1,
    )
    return qwen.Qwen3NextGatedDeltaNet(config, layer_idx=0)


MAKERS: dict[str, Callable[[ModelConfig, Any], nn.Module]] = {
    "attention": Attention,
    "window": Attention,
    "lstm": lambda net, sizes: Alone(torch_model.LSTM(net, sizes)),
    "gru": GRU,
    "convolution": lambda net, sizes: Alone(torch_model.Convolution(net, sizes)),
    "mamba2": mamba2,
    "delta_net": DeltaNet,
    "gated_delta_net": gated_delta_net,
    "rwkv7": RWKV7,
}


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""Each sequence mixer alone, forward and backward, at several lengths, against its counterpart in
torch or transformers: what is measured, and the rows of the page.
"""

import argparse
import itertools
import os
import statistics
import sys
from collections.abc import Iterator
from typing import Any

import msgspec

from experiments.benchmarks.speed import networks, processes
from model.network.config import ModelConfig
from model.network.counts.attention import AttentionConfig
from model.network.counts.convolution import ConvolutionConfig
from model.network.counts.delta_net import DeltaNetConfig, GatedDeltaNetConfig
from model.network.counts.gru import GRUConfig
from model.network.counts.layer import LayerConfig
from model.network.counts.lstm import LSTMConfig
from model.network.counts.mamba2 import Mamba2Config
from model.network.counts.rwkv7 import RWKV7Config

D_MODEL = 128
LENGTHS = (256, 512, 1024, 4096)
# Times are set beside those at this length, from which on linear mixers are to be flat.
SHORT = 512
# In a batch, whatever the length.
N_TOKENS = 8192
N_REPEATS = 3
N_PASSES = 8  # Of ours in a dispatch.
# Two cores, and one, as each run of a grid has.
N_CORES = (2, 1)
ATTENTION = AttentionConfig(n_heads=4, n_kv_heads=4, d_head=32, rope_theta=1e4, use_qk_norm=False)
# By name the sizes, and what they are measured against.
MIXERS: dict[str, tuple[LayerConfig, str]] = {
    "attention": (ATTENTION, "torch, scaled_dot_product_attention"),
    "window": (msgspec.structs.replace(ATTENTION, window=128), "torch, the same with a mask"),
    "lstm": (LSTMConfig(d_state=128, use_gate_bias=False, forget_bias=0.0), "torch.nn.LSTM"),
    "gru": (GRUConfig(d_state=128, use_gate_bias=False), "torch.nn.GRU"),
    "convolution": (ConvolutionConfig(d_hidden=128, taps=3, dilation=4), "torch.nn.Conv1d"),
    "mamba2": (
        Mamba2Config(n_heads=8, n_groups=1, d_head=32, d_state=32, taps=4),
        "transformers, Mamba2Mixer",
    ),
    "delta_net": (
        DeltaNetConfig(n_heads=4, n_key_heads=4, d_key=32, d_value=32, taps=4),
        "torch around transformers' chunked rule, no decay",
    ),
    "gated_delta_net": (
        GatedDeltaNetConfig(n_heads=4, n_key_heads=4, d_key=32, d_value=32, taps=4),
        "transformers, Qwen3NextGatedDeltaNet",
    ),
    "rwkv7": (
        RWKV7Config(n_heads=4, d_head=32, rank_decay=16, rank_rate=16, rank_value=16, rank_gate=32),
        "torch, the paper's loop over positions",
    ),
}
Seconds = dict[tuple[str, int], float]  # Of a token, by mixer and length.
COLUMNS = {
    "mixer": "mixer",
    "against": "against",
    "seq_len": "T",
    "ours": "tokens / s",
    "theirs": "theirs",
    "speedup": "isoflop is faster by",
    "speedup_one_core": "on one core",
    "growth": f"time per token, over that at T {SHORT}",
    "their_growth": "theirs",
}


def cores(n: int) -> list[int]:
    """The first n of those that this process may use."""
    return sorted(os.sched_getaffinity(0))[:n]


def batch_size(length: int) -> int:
    return max(1, N_TOKENS // length)


def measured(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Ours and theirs in turn, over and over, a process for each mixer: rows after each of them."""
    python = options.torch_python or processes.torch_python("cpu")
    lengths = tuple(map(str, options.lengths))
    found: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    missing: dict[str, str] = {}
    for _ in range(options.rounds):
        for name, n_cores in itertools.product(options.mixers, N_CORES):
            asked = (name, *lengths, "--cores", str(n_cores))
            for module, interpreter in (("our_layers", sys.executable), ("their_layers", python)):
                done, reason = processes.lines(module, *asked, python=interpreter)
                found.setdefault((module, name, n_cores), []).extend(done)
                if reason:
                    missing[f"{module}, {name}, cores: {n_cores}"] = reason
            yield {"rounds": options.rounds, "not_measured": missing, **summary(found)}


def summary(found: dict[tuple[str, str, int], list[dict[str, Any]]]) -> dict[str, Any]:
    """Versions, and a row for every mixer and length that both have.

    Args:
      found: (module, mixer, cores) -> what its processes printed, in the order of the rounds.
    """
    seconds: dict[tuple[str, int], Seconds] = {}
    for (module, name, n_cores), lines in found.items():
        for length in dict.fromkeys(line["seq_len"] for line in lines):
            mine = [line["seconds_per_token"] for line in lines if line["seq_len"] == length]
            seconds.setdefault((module, n_cores), {})[name, length] = statistics.median(mine)
    ours, theirs, ours_alone, theirs_alone = (
        seconds.get((module, n_cores), {})
        for n_cores in N_CORES
        for module in ("our_layers", "their_layers")
    )
    everything = [line for lines in found.values() for line in lines]
    return {
        "versions": {name: v for line in everything for name, v in line["versions"].items()},
        "rows": [
            {
                "mixer": name,
                "against": MIXERS[name][1],
                "seq_len": length,
                "ours": round(1 / ours[name, length]),
                "theirs": round(1 / theirs[name, length]),
                "speedup": _ratio(theirs, ours, name, length),
                "speedup_one_core": _ratio(theirs_alone, ours_alone, name, length),
                "growth": _growth(ours, name, length),
                "their_growth": _growth(theirs, name, length),
            }
            for name, length in ours
            if (name, length) in theirs
        ],
    }


def _ratio(theirs: Seconds, ours: Seconds, name: str, length: int) -> float | None:
    at = (name, length)
    return round(theirs[at] / ours[at], 2) if at in theirs and at in ours else None


def _growth(seconds: Seconds, name: str, length: int) -> float | None:
    short = seconds.get((name, SHORT))
    return None if short is None else round(seconds[name, length] / short, 2)


def sized(name: str, length: int) -> tuple[LayerConfig, ModelConfig]:
    """The mixer, and a network that it could be in."""
    return MIXERS[name][0], networks.llama(D_MODEL, 1, 4, 344, length, 256)

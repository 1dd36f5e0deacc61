# SPDX-License-Identifier: Apache-2.0
"""One process, one PyTorch system: seconds per training step, a line of JSON for each setting.

  python -m experiments.benchmarks.speed.theirs cpu|gpu plain|hugging-face eager|compiled SETTING...

AdamW is torch's fused one, on CPUs too; attention is ``scaled_dot_product_attention``; bfloat16 is
autocast over float32 weights.
"""

import argparse
import contextlib
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

from experiments.benchmarks.speed import networks, torch_model
from experiments.benchmarks.speed.networks import Setting
from model.network.counts.total import count_params

Step = Callable[[torch.Tensor], torch.Tensor]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("device", choices=("cpu", "gpu"))
    parser.add_argument("family", choices=("plain", "hugging-face"))
    parser.add_argument("mode", choices=("eager", "compiled"))
    parser.add_argument("settings", nargs="+", choices=networks.SETTINGS)
    parser.add_argument("--threads", type=int, default=2, help="of a CPU")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device("cuda" if options.device == "gpu" else "cpu")
    for name in options.settings:
        torch.compiler.reset()
        setting = networks.SETTINGS[name]
        is_compiled = options.mode == "compiled"
        print(json.dumps(measure_largest(options.family, setting, device, is_compiled)), flush=True)


def measure_largest(
    family: str, setting: Setting, device: torch.device, is_compiled: bool
) -> dict[str, Any]:
    """With the largest batch, halved as often as needed, that fits."""
    with contextlib.suppress(torch.OutOfMemoryError):
        return measure(family, setting, device, is_compiled)
    # Outside the handler, whose traceback would keep the tensors alive.
    torch.cuda.empty_cache()
    return measure_largest(family, networks.halved(setting), device, is_compiled)


def measure(
    family: str, setting: Setting, device: torch.device, is_compiled: bool
) -> dict[str, Any]:
    began = time.perf_counter()
    torch.manual_seed(0)
    make = torch_model.Transformer if family == "plain" else torch_model.hugging_face
    model = make(setting.model).to(device)
    n_params = sum(weight.numel() for weight in model.parameters())
    assert n_params == count_params(setting.model).total, n_params
    step = train_step(model, device, setting.dtype, is_compiled)
    tokens = torch.from_numpy(networks.tokens(setting)).long().to(device)
    first_loss = float(step(tokens[0]))
    first = time.perf_counter() - began
    repeats = [_seconds_per_step(step, tokens) for _ in range(1 + setting.n_repeats)][1:]
    return {
        "setting": setting.name,
        "batch_size": setting.batch_size,
        "seconds": statistics.median(repeats),
        "first_step_seconds": first,
        "first_loss": first_loss,
        "n_params": n_params,
        "peak_flops_per_second": peak(setting.dtype, device),
        "device_kind": _device_kind(device),
        "versions": torch_model.versions(),
    }


def _device_kind(device: torch.device) -> str:
    """As JAX reports it: the driver's name of a GPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def train_step(model: torch.nn.Module, device: torch.device, dtype: str, is_compiled: bool) -> Step:
    """tokens [B, T+1] -> loss: forward, backward, clipped gradients, AdamW."""
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=networks.LEARNING_RATE,
        betas=networks.BETAS,
        eps=networks.EPS,
        weight_decay=networks.WEIGHT_DECAY,
        fused=True,
    )
    is_mixed = dtype == "bfloat16"

    def loss_of(tokens: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=is_mixed):
            out = model(tokens[:, :-1])
            logits = getattr(out, "logits", out)
            return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())

    compiled = torch.compile(loss_of) if is_compiled else loss_of

    def step(tokens: torch.Tensor) -> torch.Tensor:
        loss = compiled(tokens)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), networks.CLIP_NORM)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return step


def _seconds_per_step(step: Step, tokens: torch.Tensor) -> float:
    began = time.perf_counter()
    losses = [step(batch) for batch in tokens]
    float(losses[-1])  # Waits for the device.
    return (time.perf_counter() - began) / len(tokens)


def peak(dtype: str, device: torch.device, seconds: float = 0.5) -> float:
    """FLOP/s of a square matrix product that PyTorch reaches here."""
    n = 2048 if device.type == "cpu" else 8192
    a = torch.ones(n, n, dtype=getattr(torch, dtype), device=device)
    out = torch.empty_like(a)
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    best, began = 0.0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        start = time.perf_counter()
        torch.mm(a, a, out=out)
        wait()
        best = max(best, 2 * n**3 / (time.perf_counter() - start))
    return best


if __name__ == "__main__":
    main()

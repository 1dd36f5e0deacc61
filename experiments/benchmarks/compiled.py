# SPDX-License-Identifier: Apache-2.0
"""One process: what compiled programs need, nothing is trained.

  python -m experiments.benchmarks.compiled head|large

head: bytes of temporaries of a training step at V = 128k, with all logits at once and in parts.
large: seconds until the step of a GPT-2 of 124M parameters is compiled, unrolled and scanned.
"""

import argparse
import json
import time
from dataclasses import replace
from typing import Any, Literal

from experiments.benchmarks import networks
from experiments.worker import start_jax
from model.config import ModelConfig
from model.counts.total import count_params
from model.execution import Execution
from model.training.optimizer import hyper_arrays
from model.training.step import compile_program

HEAD = networks.llama(256, 2, 4, 704, 1024, 128 * 1024)
HEAD_BATCH = 8
CHUNKS = (1, 8, 32)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("head", "large"))
    options = parser.parse_args()
    start_jax([], None, 2)
    print(json.dumps(head() if options.what == "head" else large()))


def head(model: ModelConfig = HEAD, batch_size: int = HEAD_BATCH) -> dict[str, Any]:
    """Bytes of temporaries by the number of parts of the loss."""
    rows = [
        {
            "n_loss_chunks": n,
            "temp_bytes": _compile(model, batch_size, n_loss_chunks=n, layers="scanned")[1],
        }
        for n in CHUNKS
    ]
    positions = batch_size * model.seq_len
    logits = 4 * positions * model.vocab_size
    shape = {"vocab_size": model.vocab_size, "positions": positions}
    return {**shape, "logits_bytes": logits, "rows": rows}


def large() -> dict[str, Any]:
    """Seconds to lower and compile, one sequence per step."""
    model = networks.SETTINGS["124M"].model
    kinds: tuple[Literal["unrolled", "scanned"], ...] = ("unrolled", "scanned")
    seconds = {kind: round(_compile(model, 1, layers=kind)[0], 1) for kind in kinds}
    return {"n_params": count_params(model).total, "seconds": seconds}


def _compile(model: ModelConfig, batch_size: int, **execution: Any) -> tuple[float, int]:
    """Seconds, and bytes of temporaries."""
    train = networks.train_config(batch_size, "float32")
    settings = replace(Execution(steps_per_dispatch=2, remat="none"), **execution)
    began = time.perf_counter()
    program = compile_program(model, train, (1, 1, 1, 1), settings)
    analysis = program.lowered(hyper_arrays(train)).compile().memory_analysis()
    assert analysis is not None
    return time.perf_counter() - began, int(analysis.temp_size_in_bytes)


if __name__ == "__main__":
    main()

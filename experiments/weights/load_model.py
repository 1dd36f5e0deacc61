# SPDX-License-Identifier: Apache-2.0
"""A trained network, from the name of its run.

model = load_model("quickstart:3b87")
logits = model(tokens)  # int [B, T] -> float32 [B, T, V]
"""

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import safetensors.numpy
from flax import nnx
from jaxtyping import Array, Float, Integer

from experiments.ledger.ledger import Ledger, weights_key
from experiments.plan.point import Point
from experiments.weights.find_run import find_run
from model.network.context import Context
from model.network.from_weights import from_weights
from model.network.sharding import make_mesh
from model.training.objectives.kinds import KINDS

ONE_DEVICE = (1, 1, 1, 1)
_AGAIN = "Move its result.json away, and `isoflop run` trains it again, with keep=final."


class LoadedModel:
    """A trained network on one device, to be called on tokens.

    Attributes:
      ledger, point: of the run; ``point.spec.model`` is the network's configuration.
      mesh: of one device.
      network: with its weights (model/network/transformer.py); to be called in ``context()``.
    """

    def __init__(self, ledger: Ledger, point: Point, weights: dict[str, np.ndarray]):
        self.ledger, self.point = ledger, point
        self.mesh = make_mesh(ONE_DEVICE)
        dtype = point.spec.train.compute_dtype
        with jax.set_mesh(self.mesh):
            self.network = from_weights(point.spec.model, weights, compute_dtype=dtype)
        graphdef, self._params = nnx.split(self.network)
        # As in training: float32 means float32 (model/training/step.py).
        self._precision = "highest" if dtype == "float32" else "default"
        kind = KINDS[point.spec.train.objective]
        seen = Context(is_causal=kind.is_causal)
        self._logits = jax.jit(lambda params, tokens: nnx.merge(graphdef, params)(tokens, seen)[0])

    def __call__(self, tokens: Integer[np.ndarray | Array, "B T"]) -> Float[Array, "B T V"]:
        """Float32 logits of the next token at every position; where tokens are hidden (the last id
        is the mask), of the token itself. Where a window begins with a source, of its target only.

        Raises:
          ValueError: for a token that the vocabulary lacks, or more of them than a window of its
            training had.
        """
        model, tokens = self.point.spec.model, np.asarray(tokens, np.int32)
        if tokens.size and not 0 <= tokens.min() <= tokens.max() < model.vocab_size:
            raise ValueError(
                f"tokens {tokens.min()} to {tokens.max()}: 0 to {model.vocab_size - 1}."
            )
        if tokens.shape[1] > model.seq_len:
            raise ValueError(
                f"{tokens.shape[1]} tokens: the network was trained on {model.seq_len} at a time."
            )
        with self.context():
            return self._logits(self._params, tokens)

    @contextlib.contextmanager
    def context(self) -> Iterator[None]:
        """What ``network`` is called in."""
        with jax.set_mesh(self.mesh), jax.default_matmul_precision(self._precision):
            yield


def load_model(run: str | Path, *, results: Path | str = Path("results")) -> LoadedModel:
    """The network of a run, with its final weights.

    Args:
      run, results: see find_run.

    Raises:
      ValueError: one line, if there is no such run, it has no weights, or they are damaged.
    """
    ledger, point = find_run(str(run), Path(results))
    return LoadedModel(ledger, point, read_weights(ledger, point))


def read_weights(ledger: Ledger, point: Point) -> dict[str, np.ndarray]:
    """The final weights of a run by name (model/network/weight_names.py); raises as load_model."""
    result = ledger.read_result(point.id)
    if result is None:
        raise ValueError(f"run {point.id} has no result yet: `isoflop run` trains it.")
    if result.status != "ok":
        raise ValueError(f"run {point.id} {result.status} and has no weights: {result.reason}.")
    if not result.weights_sha256:
        raise ValueError(f"of run {point.id} no weights were kept. {_AGAIN}")
    name = ledger.storage.name(weights_key(point.id))
    if (data := ledger.storage.read(weights_key(point.id))) is None:
        raise ValueError(f"{name} is gone. {_AGAIN}")
    if hashlib.sha256(data).hexdigest() != result.weights_sha256:
        raise ValueError(f"{name} is damaged. {_AGAIN}")
    return safetensors.numpy.load(data)

# SPDX-License-Identifier: Apache-2.0
"""The loss on a fixed validation set, of all and of each of its domains."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Bool, Float, Int, Int64, Integer

from model.data.corpus import Corpus
from model.data.document_windows import DocumentWindows
from model.network.config import ModelConfig
from model.training.by_context import ContextLoss, context_bins
from model.training.config import EvalConfig
from model.training.objectives.kinds import Kind
from model.training.outcome import ALL, Loss
from model.training.program import Program


@dataclass(frozen=True, kw_only=True, eq=False)
class ValidationSet:
    """What a run is evaluated on.

    Attributes:
      windows: of tokens.
      members: by domain, which of them it has; ALL has all.
      sample: by window, what was drawn at once, ascending: a document, or the window itself.
      n_bytes: by window, its bytes of text; all of a document's with its first. None where they
        follow from the units:
      bytes_per_token: by window, of text; None where that has no meaning.
      oracle_loss: the true source's loss on the windows in nats; None where it is not known.
      n_curve: the first so many windows are those of the curve.
    """

    windows: Integer[np.ndarray, "n T1"]
    members: Mapping[str, Bool[np.ndarray, " n"]]
    sample: Int64[np.ndarray, " n"]
    n_bytes: Int64[np.ndarray, " n"] | None = None
    bytes_per_token: Float[np.ndarray, " n"] | None = None
    oracle_loss: float | None = None
    n_curve: int = 0

    def losses(self, measured: "Measured", kind: Kind) -> dict[str, Loss]:
        """Of the domains that the windows measured have, which are the first of these; by how
        much is seen where that is only what came before."""
        n = len(measured.nats)
        chosen = {name: np.flatnonzero(own[:n]) for name, own in self.members.items()}
        return {
            name: self._loss(measured, rows, kind) for name, rows in chosen.items() if len(rows)
        }

    def _loss(self, measured: "Measured", rows: Int[np.ndarray, " m"], kind: Kind) -> Loss:
        nats, n_units = measured.nats[rows], measured.n_units[rows]
        n_bytes = None
        if kind.unit != "token":
            pass  # Of no text: what is hidden is guessed from the rest.
        elif self.n_bytes is not None:
            n_bytes = self.n_bytes[rows].sum()
        elif self.bytes_per_token is not None:
            n_bytes = self.bytes_per_token[rows] @ n_units
        mean = nats.sum() / n_units.sum()
        return Loss(
            nats=float(mean),
            se_nats=_error(nats - mean * n_units, self.sample[rows], float(n_units.sum())),
            n_units=round(float(n_units.sum())),
            n_bytes=None if n_bytes is None else float(n_bytes),
            is_bound=kind.is_bound,
            error_rate=float(measured.n_wrong[rows].sum() / n_units.sum())
            if kind.has_class
            else None,
            by_context=self._by_context(measured, rows) if kind.is_causal else (),
        )

    def _by_context(
        self, measured: "Measured", rows: Int[np.ndarray, " m"]
    ) -> tuple[ContextLoss, ...]:
        columns = (measured.nats_by_context, measured.units_by_context)
        nats, n_units = (column[rows].sum(axis=0) for column in columns)
        bins = context_bins(self.windows.shape[-1] - 1)
        return tuple(
            ContextLoss(
                least_seen=first + 1,
                most_seen=end,
                nats=float(nats[place] / n_units[place]),
                n_units=round(float(n_units[place])),
            )
            for place, (first, end) in enumerate(bins)
            if n_units[place]
        )


class Measured(NamedTuple):
    """Of each window of a run; see ByWindow of step.py."""

    nats: Float[np.ndarray, " n"]
    n_units: Float[np.ndarray, " n"]
    nats_by_context: Float[np.ndarray, "n n_bins"]
    units_by_context: Float[np.ndarray, "n n_bins"]
    n_wrong: Float[np.ndarray, " n"]


def _error(
    off: Float[np.ndarray, " n"], sample: Int[np.ndarray, " n"], n_units: float
) -> float | None:
    """The standard error of a mean per unit of samples of unequal size (Cochran 1977, Sampling
    Techniques, eq. 6.13); of one sample None.

    Args:
      off: by window, nats above what the mean gives it.
    """
    _, place = np.unique(sample, return_inverse=True)
    by_sample = np.bincount(place, off)
    n = len(by_sample)
    squares = float(np.sum(by_sample**2))
    return None if n < 2 else math.sqrt(n / (n - 1) * squares) / n_units


def validation_set(corpus: Corpus, seq_len: int, evaluation: EvalConfig) -> ValidationSet:
    """What this evaluation asks of a corpus; raises ValueError where that has too little."""
    if evaluation.n_bytes is not None:
        assert evaluation.curve_bytes is not None
        found = corpus.validation_documents(evaluation.n_bytes, seq_len, evaluation.seed)
        return document_set(found, evaluation.curve_bytes)
    n_tokens, n_curve = evaluation.sizes
    asked = n_tokens, seq_len, evaluation.seed
    windows = corpus.validation_windows(*asked)
    return ValidationSet(
        windows=windows,
        members={ALL: np.ones(len(windows), bool), **corpus.validation_domains(*asked)},
        sample=np.arange(len(windows)),
        bytes_per_token=corpus.bytes_per_token(len(windows)),
        oracle_loss=corpus.oracle_loss_nats(windows),
        n_curve=-(-n_curve // seq_len),
    )


def document_set(found: DocumentWindows, curve_bytes: int) -> ValidationSet:
    """Of documents; the curve has the first, until they have ``curve_bytes``."""
    before = np.cumsum(found.n_bytes) - found.n_bytes
    is_curve = before[found.n_bytes > 0] < curve_bytes
    return ValidationSet(
        windows=found.windows,
        members={ALL: np.ones(len(found.windows), bool), **found.domains},
        sample=found.document,
        n_bytes=found.n_bytes,
        n_curve=int(np.searchsorted(found.document, np.sum(is_curve))),
    )


def validation_sets(
    corpora: Sequence[Corpus], model: ModelConfig, evaluations: Sequence[EvalConfig]
) -> list[ValidationSet]:
    """Of each run; what runs have in common is made once."""
    made: dict[tuple[int, int], ValidationSet] = {}
    keys = [(id(c), e.seed) for c, e in zip(corpora, evaluations, strict=True)]
    for key, corpus, evaluation in zip(keys, corpora, evaluations, strict=True):
        if key not in made:
            made[key] = validation_set(corpus, model.seq_len, evaluation)
    return [made[key] for key in keys]


class Validation:
    """Windows on the mesh, in batches; those of a run that has fewer, and of the last batch, are
    padded with zeros.

    Args:
      sets: of each run.
    """

    def __init__(self, sets: Sequence[ValidationSet], program: Program):
        self.sets, self.program = sets, program
        n_windows = max(len(one.windows) for one in sets)
        self.shape = program.eval_shape(n_windows)
        length = sets[0].windows.shape[-1]
        padded = np.zeros((len(sets), math.prod(self.shape), length), np.int32)
        for run, one in zip(padded, sets, strict=True):
            run[: len(one.windows)] = one.windows
        self.windows = program.put(padded.reshape(*program.lead, *self.shape, -1))

    def losses(self, params: nnx.State, *, is_curve: bool = False) -> list[dict[str, Loss]]:
        """By run, the losses on the whole set or on that of the curve."""
        counts = [one.n_curve if is_curve else len(one.windows) for one in self.sets]
        kind = self.program.objective.kind
        return [
            one.losses(found, kind)
            for one, found in zip(self.sets, self.measure(params, counts), strict=True)
        ]

    def compile(self, params: nnx.State) -> None:
        """Compiles the evaluation by asking for the loss of nothing."""
        self.measure(params, [0])

    def measure(self, params: nnx.State, counts: Sequence[int]) -> list[Measured]:
        """Of the first so many windows of each run, on the host."""
        # The number of batches is traced: the curve's subset and the whole share one program.
        n_batches = jnp.int32(-(-max(counts) // self.shape[1]))
        found = jax.device_get(self.program.evaluate(params, self.windows, n_batches))
        n_lead = len(self.program.lead) + 2  # Batches, and windows of each.
        columns = [
            np.reshape(x, (self.program.n_runs, -1, *x.shape[n_lead:])).astype(float) for x in found
        ]
        return [Measured(*(x[run, :n] for x in columns)) for run, n in enumerate(counts)]

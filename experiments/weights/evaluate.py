# SPDX-License-Identifier: Apache-2.0
"""isoflop evaluate: the loss of a trained network on text of one's own."""

import math
from dataclasses import dataclass

import jax
import numpy as np
from flax import nnx
from jaxtyping import Integer
from numpy.lib.stride_tricks import sliding_window_view

from experiments.weights.find_run import manifest_of
from experiments.weights.load_model import ONE_DEVICE, LoadedModel
from model.data.encoding import open_encoding
from model.data.read_tokens import read_tokens
from model.data.source import source_from_dict
from model.training.compile_program import evaluation_program
from model.training.outcome import ALL
from model.training.validation import Validation

# Windows that are on the device at a time.
PART = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """What a network makes of a text.

    Attributes:
      n_tokens: that were predicted, in ``n_windows`` windows of the run's sequence length.
      n_left_out: at the end of the text, less than a window.
      loss_nats: mean cross-entropy per token; ``loss_se_nats``: its standard error over the
        windows, None of one.
      bits_per_byte: of text; None where the source does not say how long its tokens are.
      perplexity: exp(loss).
    """

    n_tokens: int
    n_windows: int
    n_left_out: int
    loss_nats: float
    loss_se_nats: float | None
    bits_per_byte: float | None
    perplexity: float


def evaluate_file(model: LoadedModel, path: str) -> Evaluation:
    """The loss on a file, its tokens made as those of the run were.

    Windows follow one another and share no target, as those of the validation set do.

    Raises:
      ValueError: one line, if the file cannot be read so, lacks a whole window, or holds a token
        that the vocabulary lacks; or if the data of the study are no longer those of the run.
    """
    manifest = manifest_of(model.ledger, model.point)
    encoding = open_encoding(manifest, model.ledger.data)
    tokens = read_tokens(source_from_dict(manifest.source), path, encoding)
    length = model.point.spec.model.seq_len
    if len(tokens) <= length:
        raise ValueError(
            f"{path} holds {len(tokens)} tokens, less than one window of {length} + 1. Give more."
        )
    windows = sliding_window_view(tokens, length + 1)[::length]
    return evaluate(model, windows, manifest.bytes_per_token, len(tokens))


def evaluate(
    model: LoadedModel,
    windows: Integer[np.ndarray, "n T1"],
    bytes_per_token: float | None,
    n_given: int | None = None,
) -> Evaluation:
    """The loss on windows; ``n_given``: tokens that they were made of, where some may be left."""
    spec = model.point.spec
    program = evaluation_program(spec.model, spec.train, ONE_DEVICE)
    sums = np.zeros(3)
    with jax.set_mesh(program.mesh):
        params = nnx.state(model.network)
        for start in range(0, len(windows), PART):
            part = windows[None, start : start + PART].astype(np.int32)
            everything = {ALL: np.ones(part.shape[:2], bool)}
            validation = Validation(part, everything, program, bytes_per_token)
            sums += np.reshape(validation.sums(params, part.shape[1]), 3)
    nats, squares, n_units = sums.tolist()
    loss = validation.loss(nats, squares, n_units, len(windows))
    n_tokens = windows.shape[0] * (windows.shape[1] - 1)
    return Evaluation(
        n_tokens=n_tokens,
        n_windows=len(windows),
        n_left_out=0 if n_given is None else n_given - 1 - n_tokens,
        loss_nats=loss.nats,
        loss_se_nats=loss.se_nats,
        bits_per_byte=loss.bits_per_byte,
        perplexity=math.exp(min(loss.nats, 700.0)),
    )

# SPDX-License-Identifier: Apache-2.0
"""isoflop evaluate: the loss of a trained network on text of one's own."""

import math
from dataclasses import dataclass, replace

import jax
import numpy as np
from flax import nnx
from jaxtyping import Integer
from numpy.lib.stride_tricks import sliding_window_view

from experiments.weights.find_run import manifest_of
from experiments.weights.load_model import ONE_DEVICE, LoadedModel
from model.data.document_windows import document_windows
from model.data.read_tokens import read_ids, read_texts
from model.data.source import IMAGE_KINDS, source_from_dict
from model.data.tokens.encoding import open_encoding
from model.data.tokens.token_files import token_dtype
from model.training.compile_program import evaluation_program
from model.training.outcome import ALL
from model.training.validation import Measured, Validation, ValidationSet, document_set

# Windows that are on the device at a time. What is drawn of one follows from its number in a part.
PART = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """What a network makes of a text.

    Attributes:
      n_tokens: that were predicted, in ``n_windows`` windows of the run's sequence length; ``unit``
        says which: token, masked token or target token.
      n_left_out: at the end of the text, less than a window.
      loss_nats: mean cross-entropy per token; ``loss_se_nats``: its standard error over the
        windows or documents, None of one.
      bits_per_byte: of text; None where its tokens do not give it back. Of token ids by the mean
        length of the study's tokens, None where the study does not say that.
      perplexity: exp(loss). is_bound: whether the true loss is at most this.
      n_documents, n_bytes: of the text that was read, the end of a document counted as a byte; None
        of token ids.
    """

    n_tokens: int
    n_windows: int
    n_left_out: int
    loss_nats: float
    loss_se_nats: float | None
    bits_per_byte: float | None
    perplexity: float
    unit: str
    is_bound: bool
    n_documents: int | None = None
    n_bytes: int | None = None


def evaluate_file(model: LoadedModel, path: str, text_field: str | None = None) -> Evaluation:
    """The loss on a file or folder, its tokens made as those of the run were, and its windows as
    those of its validation set: of whole documents, or one behind the other.

    Args:
      text_field: of text, instead of that of the run's data.

    Raises:
      ValueError: one line, if a file cannot be read so, lacks a whole window, or holds a token
        that the vocabulary lacks; or if the data of the study are no longer those of the run.
    """
    manifest, spec = manifest_of(model.ledger, model.point), model.point.spec
    if manifest.kind in IMAGE_KINDS:
        raise ValueError(
            f"run {model.point.id} was trained on images: files of text and of token ids, which "
            "are read here, hold none. Hold images out with validation_fraction of the data."
        )
    source, length = source_from_dict(manifest.source), spec.model.seq_len
    texts = read_texts(source, path, text_field)
    if texts is None:
        ids = read_ids(source, path)
        return evaluate(model, _windows(path, ids, length, manifest.bytes_per_token), len(ids))
    if not texts:
        raise ValueError(f"{path} holds no text. Give some.")
    encoding = open_encoding(manifest, model.ledger.data)
    dtype = token_dtype(encoding.vocab_size)
    documents = [np.frombuffer(one, dtype) for one in encoding.encode(texts)]
    pairs = zip(documents, texts, strict=True)
    is_whole = all(encoding.decode(own.tolist()) == text for own, text in pairs)
    # As where tokens are bytes, the end of a document is one.
    n_bytes = sum(map(len, texts)) + len(texts)
    if spec.train.evaluation.is_by_document:
        sizes = [len(text) for text in texts]
        found = document_windows(documents, sizes, separator=encoding.separator, seq_len=length)
        asked, n_given = document_set(found, 1), None
        asked = asked if is_whole else replace(asked, n_bytes=None)
    else:
        end = np.array([encoding.separator], dtype)
        tokens = np.concatenate([part for own in documents for part in (own, end)])
        asked = _windows(path, tokens, length, n_bytes / len(tokens) if is_whole else None)
        n_given = len(tokens)
    return replace(evaluate(model, asked, n_given), n_documents=len(texts), n_bytes=n_bytes)


def _windows(
    path: str, tokens: Integer[np.ndarray, " n"], seq_len: int, bytes_per_token: float | None
) -> ValidationSet:
    if len(tokens) <= seq_len:
        raise ValueError(
            f"{path} holds {len(tokens)} tokens, less than one window of {seq_len} + 1. Give more."
        )
    windows = sliding_window_view(tokens, seq_len + 1)[::seq_len]
    return one_behind_the_other(windows, bytes_per_token)


def one_behind_the_other(
    windows: Integer[np.ndarray, "n T1"], bytes_per_token: float | None
) -> ValidationSet:
    """Windows that are a sample each."""
    return ValidationSet(
        windows=windows,
        members={ALL: np.ones(len(windows), bool)},
        sample=np.arange(len(windows)),
        bytes_per_token=None if bytes_per_token is None else np.full(len(windows), bytes_per_token),
    )


def evaluate(model: LoadedModel, asked: ValidationSet, n_given: int | None = None) -> Evaluation:
    """The loss on windows; ``n_given``: tokens that they were made of, where some may be left."""
    spec = model.point.spec
    program = evaluation_program(spec.model, spec.train, ONE_DEVICE)
    parts = []
    with jax.set_mesh(program.mesh):
        params = nnx.state(model.network)
        for start in range(0, len(asked.windows), PART):
            part = one_behind_the_other(asked.windows[start : start + PART], None)
            parts += Validation([part], program).measure(params, [len(part.windows)])
    measured = Measured(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    loss = asked.losses(measured, program.objective.kind)[ALL]
    return Evaluation(
        n_tokens=loss.n_units,
        n_windows=len(asked.windows),
        n_left_out=0 if n_given is None else n_given - 1 - len(asked.windows) * spec.model.seq_len,
        loss_nats=loss.nats,
        loss_se_nats=loss.se_nats,
        bits_per_byte=loss.bits_per_byte,
        perplexity=math.exp(min(loss.nats, 700.0)),
        unit=program.objective.kind.unit,
        is_bound=loss.is_bound,
    )

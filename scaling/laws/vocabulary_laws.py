# SPDX-License-Identifier: Apache-2.0
"""Laws of the loss below a unigram model, over parameters, vocabulary and characters.

The loss is negative where the network is better than the unigram model: fit these laws with a raw
objective (raw-huber:0.1, raw-least_squares).
"""

from typing import Any

import numpy as np

from scaling.laws.law import Columns, Law, Parameter, amplitude, exponent, positive
from scaling.laws.starts import starts
from scaling.tables.arrays import Array

_COLUMNS = ("log_n_params", "log_vocab_size", "log_n_characters")


def _vocabulary(xp: Any, p: Any, x: Any) -> Any:
    E, A, B, K, alpha, beta, gamma = p
    return (
        A * xp.exp(-alpha * x["log_n_params"])
        + B * xp.exp(-beta * x["log_vocab_size"])
        + K * xp.exp(-gamma * x["log_n_characters"])
        - E
    )


VOCABULARY = Law(
    name="vocabulary",
    formula="L_u = -E + A/N^alpha + B/V^beta + K/H^gamma, N without embeddings, H = n_characters",
    source="Tao et al. 2024, eq. of their approach 3, with V in place of V d_model",
    columns=_COLUMNS,
    parameters=(
        *(amplitude(name) for name in ("E", "A", "B", "K")),
        *(exponent(name) for name in ("alpha", "beta", "gamma")),
    ),
    value=_vocabulary,
    target="unigram_normalized_loss",
    score="ScaleBench vocab: R2 0.95 of rows held out",
)


def _slope(name: str, low: float, high: float) -> Parameter:
    return Parameter(name=name, is_positive=False, lower=-3.0, upper=3.0, start=(low, high))


def _crossed(xp: Any, p: Any, x: Any) -> Any:
    E, A, B, K, alpha, beta, gamma, delta, eta, H0 = p
    log_n, log_v, log_h = (x[name] for name in _COLUMNS)
    late = xp.logaddexp(log_h, xp.log(H0) + 0.0 * log_h)
    return (
        A * xp.exp(-alpha * log_n)
        + B * xp.exp(-beta * log_v)
        + K * xp.exp(delta * log_v + eta * log_n - gamma * late)
        - E
    )


def _crossed_starts(x: Columns, y: Array) -> Array:
    """The plain law's starts, its third term turned about the middle of the table."""
    plain = starts(VOCABULARY, x, y, fixed={}, tied={})[:8]
    middle = {name: float(np.mean(x[name])) for name in _COLUMNS}
    rows = []
    for delta, eta, H0 in ((0.0, 0.0, 1e6), (0.15, 0.1, 1e8), (0.3, 0.0, 1e9)):
        turned = plain.copy()
        turn = delta * middle["log_vocab_size"] + eta * middle["log_n_params"]
        late = np.log1p(H0 / np.exp(middle["log_n_characters"]))
        turned[:, 3] *= np.exp(plain[:, 6] * late - turn)
        rows.append(np.column_stack([turned, np.tile([delta, eta, H0], (len(turned), 1))]))
    return np.concatenate(rows)


VOCABULARY_CROSSED = Law(
    name="vocabulary_crossed",
    formula="L_u = -E + A/N^alpha + B/V^beta + K V^delta N^eta/(H + H0)^gamma, H = n_characters",
    source="ours: a larger vocabulary learns from fewer tokens for each of its words; no power law "
    "holds from the first token on",
    columns=_COLUMNS,
    parameters=(
        *(amplitude(name) for name in ("E", "A", "B", "K")),
        *(exponent(name) for name in ("alpha", "beta", "gamma")),
        _slope("delta", -0.2, 0.6),
        _slope("eta", -0.4, 0.3),
        positive("H0", (1e7, 3e9), 1.0, 1e13),
    ),
    value=_crossed,
    starts=_crossed_starts,
    target="unigram_normalized_loss",
    score="ScaleBench vocab: R2 0.99 of rows held out",
)

VOCABULARY_LAWS = (VOCABULARY, VOCABULARY_CROSSED)

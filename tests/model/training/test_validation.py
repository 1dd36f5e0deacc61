# SPDX-License-Identifier: Apache-2.0
"""Losses by document: what a network says of each alone, in NumPy; bits per byte in closed form."""

import math
from collections.abc import Callable
from dataclasses import replace

import jax
import numpy as np
import pytest

from model.data.corpus import Corpus
from model.data.document_windows import DocumentWindows, document_windows
from model.network.config import ModelConfig
from model.training.by_context import context_bins
from model.training.config import EvalConfig, TrainConfig
from model.training.loop import train_pack
from model.training.outcome import Loss, TrainResult

END, SEQ_LEN = 15, 16
SIZES = (5, 15, 16, 40, 1, 33, 9)
N_BYTES = (11, 30, 40, 100, 2, 66, 12)  # Of text; each end is one more.


class Documents(Corpus):
    """Of text whose bytes are known; what is trained on does not matter."""

    def __init__(self, corpus: Corpus):
        super().__init__(corpus.manifest)
        self.train_windows, self.n_windows = corpus.train_windows, corpus.n_windows
        draw = np.random.default_rng(0)
        self.texts = [draw.integers(0, END, size) for size in SIZES]

    train_windows = validation_windows = n_windows = None

    def validation_documents(self, n_bytes: int, seq_len: int, seed: int) -> DocumentWindows:
        assert (n_bytes, seed) == (268, 3)
        return document_windows(self.texts, N_BYTES, separator=END, seq_len=seq_len)


@pytest.fixture(scope="module")
def documents(corpus: Corpus) -> Documents:
    return Documents(corpus)


@pytest.fixture(scope="module")
def config(still_config: TrainConfig) -> TrainConfig:
    evaluation = EvalConfig(n_bytes=268, curve_bytes=42, n_points=1, seed=3)
    return replace(still_config, evaluation=evaluation)


@pytest.fixture(scope="module")
def result(network_config: ModelConfig, config: TrainConfig, documents: Documents) -> TrainResult:
    return train_pack(network_config, [config], documents)[0]


@pytest.fixture
def nats(
    run_steps: Callable, network: Callable, network_config: ModelConfig, still_config: TrainConfig,
    documents: Documents, one_device: jax.sharding.Mesh,
) -> list[np.ndarray]:  # fmt: skip
    """Of each token of each document and its end under the initial network: stretch by stretch of
    16 targets, each stretch as it is, nothing behind it."""
    forward = network(network_config)[0]
    params = run_steps(still_config, 0)[0].params
    found = []
    for text in documents.texts:
        whole, own = np.array([END, *text, END], np.int32), []
        for first in range(0, len(whole) - 1, SEQ_LEN):
            stretch = whole[first : first + SEQ_LEN + 1]
            # Four times: one row of a batch is not what the mesh of the tests is for.
            logits = np.asarray(forward(params, np.tile(stretch[:-1], (4, 1))))[0]
            logits = logits.astype(np.float64)
            log_z = np.log(np.sum(np.exp(logits), axis=-1))
            own.append(log_z - logits[np.arange(len(stretch) - 1), stretch[1:]])
        found.append(np.concatenate(own))
        assert len(found[-1]) == len(text) + 1
    return found


def check(loss: Loss, nats: list[np.ndarray], n_bytes: tuple[int, ...]) -> None:
    by_document, units = np.array([own.sum() for own in nats]), np.array([len(n) for n in nats])
    mean, n = by_document.sum() / units.sum(), len(nats)
    assert loss.n_units == units.sum()
    assert loss.nats == pytest.approx(mean, rel=1e-6)
    assert loss.n_bytes == sum(n_bytes) + n
    expected = by_document.sum() / (math.log(2) * (sum(n_bytes) + n))
    assert loss.bits_per_byte == pytest.approx(expected, rel=1e-6)
    # Of a ratio of sums over documents, which are drawn one by one.
    off = by_document - mean * units
    error = math.sqrt(n * np.var(off, ddof=1)) / units.sum()
    assert loss.se_nats == pytest.approx(error, rel=1e-4)
    in_bits = error * expected / mean
    assert loss.se_bits_per_byte == pytest.approx(in_bits, rel=1e-4)


def test_every_document_is_scored_whole_as_it_would_be_alone(
    result: TrainResult, nats: list[np.ndarray]
) -> None:
    check(result.losses["all"], nats, N_BYTES)


def test_losses_by_context_are_of_the_predictions_that_see_so_much_of_their_window(
    result: TrainResult, nats: list[np.ndarray]
) -> None:
    """The first target of a window of 16 sees one token; bins begin at 1, 2, 4, 8 and 16."""
    own = np.concatenate(nats)
    seen = np.concatenate([np.arange(len(each)) % SEQ_LEN + 1 for each in nats])
    found = result.losses["all"].by_context
    assert [(one.least_seen, one.most_seen) for one in found] == [
        *((1, 1), (2, 3), (4, 7), (8, 15), (16, 16))
    ]
    for one in found:
        mine = own[(seen >= one.least_seen) & (seen <= one.most_seen)]
        assert one.n_units == len(mine)
        assert one.nats == pytest.approx(mine.mean(), rel=1e-6)


@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 100])
def test_the_bins_of_a_window_are_its_positions_each_once(length: int) -> None:
    bins = context_bins(length)
    assert [p for first, end in bins for p in range(first, end)] == [*range(length)]
    assert [first + 1 for first, _ in bins] == [2**n for n in range(len(bins))]


def test_the_curve_has_the_first_documents(result: TrainResult, nats: list[np.ndarray]) -> None:
    """11 + 1 and 30 + 1 bytes are 43, one more than is asked."""
    [point] = result.curve
    total = sum(own.sum() for own in nats[:2])
    assert point.loss_nats == pytest.approx(total / sum(map(len, nats[:2])), rel=1e-6)
    assert point.bits_per_byte == pytest.approx(total / math.log(2) / 43, rel=1e-6)


def test_bits_of_a_network_that_knows_nothing_are_those_of_its_vocabulary(
    network_config: ModelConfig, config: TrainConfig, documents: Documents
) -> None:
    """log2 V for each token."""
    blank = replace(network_config, tie_embeddings=False, output_init_std=0.0)
    loss = train_pack(blank, [config], documents)[0].losses["all"]
    assert loss.nats == pytest.approx(math.log(16), rel=1e-6)
    n_tokens, n_bytes = sum(SIZES) + len(SIZES), sum(N_BYTES) + len(N_BYTES)
    assert loss.bits_per_byte == pytest.approx(4 * n_tokens / n_bytes, rel=1e-6)
    assert loss.se_nats == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("mesh", "n_runs"),
    [
        ((2, 1, 2, 2), 2),
        pytest.param((1, 1, 1, 1), 2, marks=pytest.mark.slow(reason="3 s, as on eight devices")),
        pytest.param((1, 2, 2, 2), 1, marks=pytest.mark.slow(reason="5 s, as of a pack")),
        pytest.param((2, 1, 1, 1), 2, marks=pytest.mark.slow(reason="4 s, as on eight devices")),
    ],
)
def test_runs_of_a_pack_and_of_a_mesh_have_the_losses_of_one_alone(
    network_config: ModelConfig,
    config: TrainConfig,
    documents: Documents,
    result: TrainResult,
    mesh: tuple,
    n_runs: int,
) -> None:
    found = train_pack(network_config, [config] * n_runs, documents, mesh_shape=mesh)
    for one in found:
        assert one.losses["all"].nats == pytest.approx(result.losses["all"].nats, rel=1e-5)
        assert one.losses["all"].n_units == result.losses["all"].n_units
        assert one.losses["all"].n_bytes == result.losses["all"].n_bytes
        pairs = zip(one.losses["all"].by_context, result.losses["all"].by_context, strict=True)
        assert all(own.nats == pytest.approx(same.nats, rel=1e-5) for own, same in pairs)

# SPDX-License-Identifier: Apache-2.0
"""Windows: what an epoch visits, what validation holds, and that changed files are noticed."""

import dataclasses
import hashlib
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from model.data.corpus import Corpus, open_corpus, window_order
from model.data.manifest import Manifest
from model.data.streams import Purpose

L = 17


def naive_windows(folder: Path, split: str, seq_len: int) -> list[bytes]:
    tokens = np.load(folder / f"{split}.npy").astype(np.int32)
    starts = range(0, len(tokens) - seq_len, seq_len)
    return [tokens[s : s + seq_len + 1].tobytes() for s in starts]


def rows(batches: list[np.ndarray]) -> list[bytes]:
    return [row.tobytes() for batch in batches for row in batch]


def test_each_epoch_visits_every_window_once(
    text_corpus: Corpus, prepared: tuple[Manifest, Path]
) -> None:
    n = text_corpus.n_windows(L)
    windows = naive_windows(prepared[1], "train", L)
    assert n == len(windows) == len(set(windows))
    batches = [text_corpus.train_windows(s * 7, 7, seq_len=L, seed=3) for s in range(n)]
    seen = rows(batches)
    epochs = [seen[e * n : (e + 1) * n] for e in range(7)]
    assert all(sorted(epoch) == sorted(windows) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 7


def test_a_batch_larger_than_an_epoch_goes_on_into_the_next(text_corpus: Corpus) -> None:
    n = text_corpus.n_windows(L)
    batch = text_corpus.train_windows(0, 2 * n + 5, seq_len=L, seed=0)
    assert batch.shape == (2 * n + 5, L + 1)
    assert len({row.tobytes() for row in batch[:n]}) == n
    np.testing.assert_array_equal(
        batch[n : n + 5], text_corpus.train_windows(n, 5, seq_len=L, seed=0)
    )


@pytest.mark.parametrize("name", ["text_corpus", "zipf_corpus"])
def test_batch_is_a_function_of_seed_and_step(
    name: str, request: pytest.FixtureRequest, prepared: tuple[Manifest, Path]
) -> None:
    corpus = request.getfixturevalue(name)
    fresh = open_corpus(corpus.manifest, prepared[1])
    steps = [5, 0, 900, 5]
    batches = [corpus.train_windows(s * 4, 4, seq_len=16, seed=2**63 + 1) for s in steps]
    assert batches[0].dtype == np.int32
    assert batches[0].shape == (4, 17)
    for step, batch in zip(steps, batches, strict=True):
        again = fresh.train_windows(step * 4, 4, seq_len=16, seed=2**63 + 1)
        np.testing.assert_array_equal(batch, again)
    other = corpus.train_windows(5 * 4, 4, seq_len=16, seed=0)
    assert len({b.tobytes() for b in [*batches, other]}) == 4


def test_a_place_in_an_order_of_fifty_million_windows_takes_no_memory() -> None:
    """A sorted order took 400 MB, for every run of a pack and every epoch."""
    n = 50_000_000
    tracemalloc.start()
    first = window_order(n, 7, Purpose.TRAIN, 0, n - 4096, n)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6
    assert len(set(first.tolist())) == 4096
    assert 0 <= first.min() < first.max() < n
    # Even over the split, and with no order left: for uniform draws both are within 5 sigma.
    assert abs(first.mean() / n - 0.5) < 5 * (1 / 12 / 4096) ** 0.5
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 5 / 4096**0.5


def test_order_and_samples_are_the_same_on_every_machine(zipf_corpus: Corpus) -> None:
    order = window_order(1000, 7, Purpose.TRAIN, 2, 0, 1000)
    batch = zipf_corpus.train_windows(3 * 8, 8, seq_len=16, seed=7)
    assert hashlib.sha256(order.astype("<i8").tobytes()).hexdigest()[:16] == "505833691f8cd86f"
    assert hashlib.sha256(batch.astype("<i4").tobytes()).hexdigest()[:16] == "01675090694fc3a3"


def test_validation_windows_hold_no_training_document(
    text_corpus: Corpus, prepared: tuple[Manifest, Path]
) -> None:
    folder = prepared[1]
    n = len(naive_windows(folder, "validation", L))
    windows = text_corpus.validation_windows(n * L, L, 0)
    assert sorted(rows([windows])) == sorted(naive_windows(folder, "validation", L))
    train = np.load(folder / "train.npy").tobytes()
    names = {line[:4] for row in windows for line in bytes(row.astype("u1")).split(b"<")[1:]}
    names = {name for name in names if name[3:] == b"."}
    assert len(names) > 30
    assert not [name for name in names if b"<" + name in train]


@pytest.mark.parametrize("name", ["text_corpus", "zipf_corpus"])
def test_validation_windows_are_fixed_by_their_seed(
    name: str, request: pytest.FixtureRequest
) -> None:
    corpus = request.getfixturevalue(name)
    windows = corpus.validation_windows(100, 16, 4)
    assert windows.shape == (7, 17)
    assert windows.dtype == np.int32
    np.testing.assert_array_equal(windows, corpus.validation_windows(100, 16, 4))
    assert (windows != corpus.validation_windows(100, 16, 5)).any()
    np.testing.assert_array_equal(windows[:3], corpus.validation_windows(48, 16, 4))


def test_too_small_validation_split_says_how_many_tokens_there_are(text_corpus: Corpus) -> None:
    held = text_corpus.manifest.n_validation_tokens
    with pytest.raises(ValueError, match=f"split holds {held} tokens.*Lower the validation"):
        text_corpus.validation_windows(10**6, L, 0)


def test_too_long_windows_are_refused(text_corpus: Corpus) -> None:
    n_tokens = text_corpus.manifest.n_train_tokens
    assert n_tokens is not None
    assert text_corpus.n_windows(n_tokens - 1) == 1
    with pytest.raises(ValueError, match=f"holds {n_tokens} tokens, less than one window"):
        text_corpus.train_windows(0, 1, seq_len=n_tokens, seed=0)
    with pytest.raises(ValueError, match="seq_len is 0"):
        text_corpus.n_windows(0)
    with pytest.raises(ValueError, match="seed -1 is out of range"):
        text_corpus.train_windows(0, 1, seq_len=L, seed=-1)


def test_zipf_windows_hold_whole_records(zipf_corpus: Corpus) -> None:
    batch = zipf_corpus.train_windows(0, 3, seq_len=12, seed=0)
    np.testing.assert_array_equal(batch == 4, [[i % 4 == 0 for i in range(13)]] * 3)
    assert zipf_corpus.n_windows(12) is None
    for call in (
        lambda: zipf_corpus.train_windows(0, 3, seq_len=13, seed=0),
        lambda: zipf_corpus.validation_windows(100, 13, 0),
    ):
        with pytest.raises(ValueError, match="multiple of 4, such as 12"):
            call()


def test_oracle_is_known_for_zipf_alone(text_corpus: Corpus, zipf_corpus: Corpus) -> None:
    assert text_corpus.oracle_loss_nats(text_corpus.validation_windows(64, 16, 0)) is None
    oracle = zipf_corpus.oracle_loss_nats(zipf_corpus.validation_windows(200_000, 16, 0))
    assert oracle == pytest.approx(zipf_corpus.manifest.entropy_nats, abs=0.01)


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "retype", "swap"])
def test_changed_token_file_is_noticed(
    split: str, damage: str, prepared: tuple[Manifest, Path], tmp_path: Path
) -> None:
    manifest, original = prepared
    folder = tmp_path / "tokens"
    shutil.copytree(original, folder)
    path = folder / f"{split}.npy"
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[-1] ^= 1
    elif damage == "truncate":
        del content[-1]
    path.write_bytes(content)
    if damage == "retype":
        np.save(path, np.load(path).view(np.int8))
    elif damage == "swap":
        np.save(path, np.roll(np.load(path), 1))
    elif damage == "remove":
        path.unlink()
    with pytest.raises(ValueError, match="isoflop data STUDY") as caught:
        open_corpus(manifest, folder)
    assert "\n" not in str(caught.value)


def test_manifest_of_another_language_is_noticed(zipf_corpus: Corpus, tmp_path: Path) -> None:
    manifest = dataclasses.replace(zipf_corpus.manifest, fingerprint="0" * 64)
    with pytest.raises(ValueError, match="another zipf language"):
        open_corpus(manifest, tmp_path)

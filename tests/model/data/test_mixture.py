# SPDX-License-Identifier: Apache-2.0
"""Mixtures: whose window stands at which place, what is repeated, what is held out."""

import dataclasses
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from model.data.batches import batches
from model.data.corpus import Corpus, open_corpora, open_corpus
from model.data.manifest import Manifest
from model.data.mixture import MixtureCorpus, mixed, places
from model.data.prepare import prepare
from model.data.source import Mixture, Part, TextFiles, Zipf, source_to_dict
from model.data.streams import Purpose, random_stream

T = 16
LETTERS = "abc"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Mixture, list[Manifest], Path]:
    """Three parts, each of numbered lines that begin with a letter of its own."""
    root = tmp_path_factory.mktemp("mixture")
    parts, manifests = [], []
    for letter, weight, n in zip(LETTERS, (5.0, 2.0, 1.0), (90, 150, 120), strict=True):
        texts = [f"{letter}{i:06d}" * 9 for i in range(n)]
        (root / f"{letter}.txt").write_text("\0".join(texts))
        source = TextFiles(paths=(str(root / f"{letter}.txt"),), validation_fraction=0.3)
        manifests.append(prepare(source, root / letter))
        (root / letter).rename(root / manifests[-1].fingerprint[:16])
        parts.append(Part(name=letter, source=source, weight=weight))
    return Mixture(parts=tuple(parts)), manifests, root


def corpus_of(prepared: tuple[Mixture, list[Manifest], Path], **changes: object) -> Corpus:
    """Of all parts, each with some fields changed."""
    mixture, manifests, root = prepared
    parts = tuple(dataclasses.replace(part, **changes) for part in mixture.parts)
    return open_corpus(mixed(Mixture(parts=parts), manifests), root)


def slowly(weights: list[float], n: int, seed: int) -> list[tuple[int, int]]:
    """The first n places, one by one: a place goes to the first part whose share of the places that
    came to it, and of this one, has just become a whole number more. Exact fractions."""
    phases = random_stream(seed, Purpose.MIXTURE).bit_generator.random_raw(len(weights))
    shares = [
        Fraction(round(2**24 * weight / sum(weights[i:])), 2**24)
        for i, weight in enumerate(weights)
    ]
    begin = [Fraction(int(phase) >> 40, 2**24) for phase in phases]
    n_come, n_had, found = [0] * len(weights), [0] * len(weights), []
    for _ in range(n):
        for part, share in enumerate(shares):
            n_come[part] += 1
            if n_come[part] * share + begin[part] >= n_had[part] + 1:
                found.append((part, n_had[part]))
                n_had[part] += 1
                break
    return found


@pytest.mark.parametrize("weights", [[1.0], [5.0, 2.0, 1.0], [0.001, 0.3, 0.7], [1.0, 1.0]])
def test_places_are_those_of_a_slow_count_wherever_one_begins(weights: list[float]) -> None:
    expected = slowly(weights, 3000, seed=5)
    assert list(zip(*places(weights, 0, 3000, 5), strict=True)) == expected
    assert list(zip(*places(weights, 1700, 40, 5), strict=True)) == expected[1700:1740]


def test_any_stretch_of_places_has_its_shares() -> None:
    weights = [5.0, 2.0, 1.0]
    for first in (0, 12345, 2**37):
        part, own = places(weights, first, 4000, seed=1)
        for number, weight in enumerate(weights):
            assert abs((part == number).sum() - 500 * weight) <= 2
            assert (np.diff(own[part == number]) == 1).all()
    assert not np.array_equal(places(weights, 0, 40, 1)[0], places(weights, 0, 40, 2)[0])


def test_a_part_alone_and_in_a_mixture_has_its_windows_in_one_order(prepared) -> None:
    mixture, manifests, root = prepared
    corpus = corpus_of(prepared)
    windows = corpus.train_windows(0, 800, seq_len=T, seed=3)
    part, _ = places([5.0, 2.0, 1.0], 0, 800, seed=3)
    for number, manifest in enumerate(manifests):
        alone = open_corpus(manifest, root)
        n = int((part == number).sum())
        np.testing.assert_array_equal(
            windows[part == number], alone.train_windows(0, n, seq_len=T, seed=3)
        )
    single = dataclasses.replace(mixture, parts=mixture.parts[:1])
    first = open_corpus(mixed(single, manifests[:1]), root).train_windows(9, 99, seq_len=T, seed=3)
    alone = open_corpus(manifests[0], root)
    np.testing.assert_array_equal(first, alone.train_windows(9, 99, seq_len=T, seed=3))


@pytest.mark.parametrize("process_count", [1, 2, 4])
def test_batches_are_those_of_one_worker_and_go_on_after_a_kill(prepared, process_count) -> None:
    corpus = corpus_of(prepared)
    expected = corpus.train_windows(0, 12 * 8, seq_len=T, seed=7).reshape(12, 8, T + 1)

    def rows(process_index: int, at: int) -> np.ndarray:
        made = batches(
            corpus,
            batch_size=8,
            seq_len=T,
            n_steps=12,
            seed=7,
            steps_per_chunk=1,
            process_index=process_index,
            process_count=process_count,
        )
        before = [next(made) for _ in range(at)]
        again = batches(
            corpus_of(prepared),
            batch_size=8,
            seq_len=T,
            n_steps=12,
            seed=7,
            steps_per_chunk=1,
            process_index=process_index,
            process_count=process_count,
        )
        again.set_state(made.state_at(at))
        return np.concatenate([*before, *again])

    found = [rows(index, at=5) for index in range(process_count)]
    np.testing.assert_array_equal(np.concatenate(found, axis=1), expected)


def test_so_many_unique_tokens_are_repeated_and_fewer_are_among_more(prepared) -> None:
    def seen(n: int, seed: int) -> Counter[bytes]:
        corpus = corpus_of(prepared, unique_tokens=n * T)
        n_places = 24 * n  # Of the part with the smallest share, three times all.
        windows = corpus.train_windows(0, n_places, seq_len=T, seed=seed)
        part, _ = places([5.0, 2.0, 1.0], 0, n_places, seed)
        return Counter(row.tobytes() for row in windows[part == 2])

    few, many = seen(20, seed=1), seen(50, seed=2)
    assert (len(few), len(many)) == (20, 50)
    assert set(few) < set(many)
    assert set(few) == set(seen(20, seed=9))
    tokens = np.load(prepared[2] / prepared[1][2].fingerprint[:16] / "train.npy").astype(np.int32)
    first = {tokens[i * T : i * T + T + 1].tobytes() for i in range(20)}
    assert len(first & set(few)) < 10, "they are drawn from all of the file"
    assert max(few.values()) - min(few.values()) <= 1, "an epoch visits each once"
    corpus = corpus_of(prepared, unique_tokens=T - 1)
    with pytest.raises(ValueError, match="unique_tokens is 15, less than one window of 16 tokens"):
        corpus.n_windows(T)


def test_every_part_is_validated_on_as_much_whatever_the_weights(prepared) -> None:
    corpus = corpus_of(prepared)
    assert isinstance(corpus, MixtureCorpus)
    windows = corpus.validation_windows(30 * T, T, seed=0)
    domains = corpus.validation_domains(30 * T, T, seed=0)
    assert {name: int(found.sum()) for name, found in domains.items()} == dict.fromkeys("abc", 10)
    for letter, is_mine in domains.items():
        assert all(ord(letter) in row or 0 in row for row in windows[is_mine])
        assert not {ord(other) for other in set("abc") - {letter}} & {*windows[is_mine].flat}
    np.testing.assert_array_equal(
        windows, corpus_of(prepared, weight=1.0).validation_windows(30 * T, T, seed=0)
    )
    with pytest.raises(ValueError, match="is 2 windows of 16 tokens, one for each of 3 parts"):
        corpus.validation_windows(2 * T, T, seed=0)


def test_documents_of_the_parts_are_scored_in_turn_each_part_on_as_many_bytes(prepared) -> None:
    _, manifests, root = prepared
    found = corpus_of(prepared).validation_documents(3000, T, seed=0)
    assert len(found.windows) == sum(map(sum, found.domains.values()))
    for letter, manifest in zip(LETTERS, manifests, strict=True):
        is_mine = found.domains[letter]
        alone = open_corpus(manifest, root).validation_documents(1000, T, seed=0)
        np.testing.assert_array_equal(found.windows[is_mine], alone.windows)
        np.testing.assert_array_equal(found.n_bytes[is_mine], alone.n_bytes)
        places = np.unique(found.document[is_mine])
        assert places.tolist() == list(range(LETTERS.index(letter), 3 * len(places), 3))
    assert (np.diff(found.document) >= 0).all()


def test_the_manifest_counts_by_part_and_differs_by_what_moves_a_loss(prepared) -> None:
    mixture, manifests, root = prepared
    whole = mixed(mixture, manifests)
    assert whole.n_train_tokens == sum(one.n_train_tokens for one in manifests)
    assert Manifest.from_json(whole.to_json()) == whole
    twice = [dataclasses.replace(part, weight=2 * part.weight) for part in mixture.parts]
    assert mixed(Mixture(parts=tuple(twice)), manifests).fingerprint == whole.fingerprint
    for changes in ({"weight": 3.0}, {"unique_tokens": 500}, {"name": "d"}):
        other = dataclasses.replace(mixture.parts[0], **changes)
        changed = mixed(Mixture(parts=(other, *mixture.parts[1:])), manifests)
        assert changed.fingerprint != whole.fingerprint
    assert changed.of(source_to_dict(mixture)) == changed, "a manifest of one data is of any"
    both = dataclasses.replace(whole, variants=(changed,))
    assert both.of(changed.source) == changed
    assert sorted(open_corpora(both, root)) == sorted([whole.fingerprint, changed.fingerprint])
    with pytest.raises(ValueError, match="lacks data that an axis of the study asks for"):
        both.of(source_to_dict(mixture.parts[0].source))


def test_parts_of_other_vocabularies_or_with_too_few_tokens_are_refused(prepared, tmp_path) -> None:
    mixture, manifests, _ = prepared
    zipf = Zipf(alpha=0.5, epsilon=0.1, base=4, n_digits=2, n_answers=1, language_seed=0)
    parts = (mixture.parts[0], Part(name="z", source=zipf, weight=1.0))
    with pytest.raises(ValueError, match=r"part 'z' of the mixture has 5 token ids .* 'a' has 256"):
        mixed(Mixture(parts=parts), [manifests[0], prepare(zipf, tmp_path)])
    more = dataclasses.replace(mixture.parts[0], unique_tokens=10**6)
    with pytest.raises(ValueError, match="unique_tokens of part 'a' is 1000000: it has"):
        mixed(Mixture(parts=(more,)), manifests[:1])

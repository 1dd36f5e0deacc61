# SPDX-License-Identifier: Apache-2.0
"""Images of a Markov mesh: entropy and Bayes error are exact, by all images that there are."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from model.data.corpus import GeneratedCorpus
from model.data.source import MarkovMesh, source_from_dict
from model.data.streams import Purpose
from model.data.synthetic.mesh import (
    MeshLanguage,
    bayes_error,
    class_entropy_nats,
    entropy_nats,
)
from model.data.synthetic.open_language import describe_language

TINY = MarkovMesh(height=2, width=3, levels=3, epsilon=0.45, labelled=False)
LARGE = MarkovMesh(height=8, width=8, levels=4, epsilon=0.5, labelled=False)


def joint(source: MarkovMesh) -> tuple[list[tuple[int, ...]], np.ndarray]:
    """All images, and P(class, image) by the rule as it is told, pixel by pixel."""
    L, eps = source.levels, source.epsilon
    images = [*itertools.product(range(L), repeat=source.n_pixels)]
    table = np.empty((L, len(images)))
    for y, (place, image) in itertools.product(range(L), enumerate(images)):
        grid = np.reshape(image, (source.height, source.width))
        p = 1 / L
        for r, c in np.ndindex(grid.shape):
            parent = y
            if r and not c:
                parent = grid[r - 1, c]
            elif r:
                parent = grid[r - 1, c] if grid[r - 1, c - 1] < L / 2 else grid[r, c - 1]
            p *= (1 - eps) * (grid[r, c] == parent) + eps / L
        table[y, place] = p
    return images, table


def test_entropy_and_bayes_error_are_those_of_all_images() -> None:
    images, table = joint(TINY)
    p = table.sum(axis=0)
    assert p.sum() == pytest.approx(1.0, abs=1e-12)
    n, given = TINY.n_pixels, table / p
    assert entropy_nats(TINY) * n == pytest.approx(-np.sum(p * np.log(p)), abs=1e-12)
    of_class = -np.sum(table * np.log(3 * table))
    assert entropy_nats(replace(TINY, labelled=True)) * n == pytest.approx(of_class, abs=1e-12)
    assert class_entropy_nats(TINY) == pytest.approx(-np.sum(table * np.log(given)), abs=1e-12)
    assert bayes_error(TINY) == pytest.approx(1 - table.max(axis=0).sum(), abs=1e-12)
    windows = np.array([(3, *image) for image in images])
    language = MeshLanguage(TINY)
    np.testing.assert_allclose(language.oracle_losses(windows).sum(axis=1), -np.log(p), atol=1e-12)
    np.testing.assert_allclose(language.posterior(windows), given.T, atol=1e-12)
    windows[:, 0] = 3 + 2
    told = MeshLanguage(replace(TINY, labelled=True)).oracle_losses(windows).sum(axis=1)
    np.testing.assert_allclose(told, -np.log(3 * table[2]), atol=1e-12)


def test_samples_are_what_the_oracle_expects() -> None:
    source = replace(LARGE, labelled=True)
    windows = MeshLanguage(source).sample_windows(
        0, 4000, seq_len=64, seed=1, purpose=Purpose.TRAIN
    )
    plain = np.where(np.arange(65) == 0, 4, windows)
    of_images = MeshLanguage(LARGE).oracle_losses(plain).mean(axis=1)
    assert of_images.mean() == pytest.approx(
        entropy_nats(LARGE), abs=4 * of_images.std() / math.sqrt(4000)
    )
    classes, posterior = windows[:, 0] - 4, MeshLanguage(source).posterior(windows)
    assert np.bincount(classes, minlength=4).min() > 900
    wrong = np.argmax(posterior, axis=1) != classes
    assert wrong.mean() == pytest.approx(bayes_error(LARGE), abs=4 * math.sqrt(0.08 / 4000))


def test_any_part_of_the_stream_can_be_made_alone() -> None:
    language = MeshLanguage(LARGE)

    def made(first: int, n: int, purpose: Purpose) -> np.ndarray:
        return language.sample_windows(first, n, seq_len=64, seed=9, purpose=purpose)

    whole = made(0, 40, Purpose.TRAIN)
    np.testing.assert_array_equal(made(13, 20, Purpose.TRAIN), whole[13:33])
    assert (whole != made(0, 40, Purpose.VALIDATION)).any()


def test_a_window_is_an_image_and_nothing_else() -> None:
    manifest = describe_language(LARGE)
    assert source_from_dict(manifest.source) == LARGE
    assert (manifest.vocab_size, manifest.window_multiple) == (5, 64)
    assert describe_language(replace(LARGE, labelled=True)).vocab_size == 8
    corpus = GeneratedCorpus(manifest, LARGE)
    assert corpus.train_windows(0, 3, seq_len=64, seed=0).shape == (3, 65)
    with pytest.raises(ValueError, match="has images of 64 values, one in each window") as error:
        corpus.train_windows(0, 1, seq_len=128, seed=0)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"levels of source 'mesh' is 1: .* \[2, 256\]"):
        replace(LARGE, levels=1)

# SPDX-License-Identifier: Apache-2.0
"""Images of a Markov mesh: what the best predictor of pixels and of classes loses, in closed form.

With a = 1 - eps + eps / L and b = eps / L a pixel has the level of its parent with probability a
and each other one with b. So a class costs the n pixels of an image n h nats, whatever they are,

  h = -a ln a - (L - 1) b ln b,

and only the first row, of W pixels, tells the class: P(class | image) ~ (a / b)^(pixels of the
first row that have its level). How often each level occurs there, as a partition of W, is summed
over: exact, and short.
"""

import math
from collections import Counter
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float64, Int32, Int64, Integer

from model.data.images.sources import MarkovMesh
from model.data.manifest import Manifest
from model.data.streams import BLOCK, Purpose, random_stream
from model.data.synthetic.records import SyntheticLanguage, describe_generated

GENERATOR_VERSION = 1
"""Part of the fingerprint: raise it with any change that moves a pixel."""


def probabilities(source: MarkovMesh) -> tuple[float, float]:
    """(of the parent's level, of each other level)."""
    other = source.epsilon / source.levels
    return 1.0 - source.epsilon + other, other


def class_entropy_nats(source: MarkovMesh) -> float:
    """H(class | image): the least cross-entropy of a class, in nats per image."""
    return math.fsum(
        p * -math.fsum(q * math.log(q) for q in posterior if q)
        for p, posterior in _first_rows(source)
    )


def bayes_error(source: MarkovMesh) -> float:
    """How often the best classifier is wrong: E[1 - max P(class | image)]."""
    return math.fsum(p * (1.0 - max(posterior)) for p, posterior in _first_rows(source))


def entropy_nats(source: MarkovMesh) -> float:
    """True entropy per pixel: h where the class is told, else h + (ln L - H(class | image)) / n."""
    a, b = probabilities(source)
    h = -a * math.log(a) - (source.levels - 1) * b * math.log(b)
    if source.labelled:
        return h
    told = math.log(source.levels) - class_entropy_nats(source)
    return h + told / source.n_pixels


def _first_rows(source: MarkovMesh) -> Iterator[tuple[float, list[float]]]:
    """Of each partition of the first row into levels: its probability, and that of every class
    given one such row."""
    a, b = probabilities(source)
    L, W = source.levels, source.width
    for parts in _partitions(W, L, W):
        counts = [*parts, *(L - len(parts)) * [0]]
        logs = [n * math.log(a) + (W - n) * math.log(b) for n in counts]
        high = max(logs)
        weights = [math.exp(log - high) for log in logs]
        of_row = math.fsum(weights)
        n_rows = math.factorial(W) // math.prod(map(math.factorial, counts))
        n_ways = math.factorial(L) // math.prod(map(math.factorial, Counter(counts).values()))
        p = math.exp(math.log(n_rows * n_ways) + high + math.log(of_row / L))
        yield p, [weight / of_row for weight in weights]


def _partitions(total: int, n_parts: int, largest: int) -> Iterator[tuple[int, ...]]:
    """Of a number into at most so many parts of at most that size, falling."""
    if total == 0:
        yield ()
    elif n_parts:
        for first in range(min(total, largest), 0, -1):
            for rest in _partitions(total - first, n_parts - 1, first):
                yield first, *rest


def describe(source: MarkovMesh) -> Manifest:
    """The manifest of the images."""
    reals = {"epsilon": float(source.epsilon)}
    begins = "its class" if source.labelled else f"id {source.levels}"
    notes = (
        f"Images of {source.height} x {source.width} pixels, one in a window, begun by {begins}.",
        f"The best classifier is wrong on {bayes_error(source):.4%} of the images, and loses "
        f"{class_entropy_nats(source):.5f} nats per image.",
    )
    return describe_generated(
        source,
        reals,
        GENERATOR_VERSION,
        entropy_nats=entropy_nats(source),
        window_multiple=source.n_pixels,
        notes=notes,
    )


class MeshLanguage(SyntheticLanguage):
    """Images, each with the id that begins it."""

    source: MarkovMesh

    def __init__(self, source: MarkovMesh):
        self.source = source

    def sample_windows(
        self, first: int, n: int, *, seq_len: int, seed: int, purpose: Purpose
    ) -> Int32[np.ndarray, "n T1"]:
        """Images [first, first + n) of the stream, one in each window.

        Image t reads 1 + n draws from its own Philox blocks: its class, and of each pixel u: its
        parent's level where u >= eps, else that level and floor(L u / eps) more, modulo L."""
        L, eps, length = self.source.levels, self.source.epsilon, self.source.n_pixels
        n_blocks = -(-(1 + length) // BLOCK)
        stream = random_stream(seed, purpose, block=first * n_blocks)
        draws = stream.random((n, n_blocks * BLOCK))
        classes = (draws[:, 0] * L).astype(np.int64)
        u = draws[:, 1 : 1 + length]
        # minimum: u / eps may round up to 1.
        more = np.minimum((u / eps * L).astype(np.int64), L - 1)
        more = np.where(u < eps, more, 0).reshape(n, self.source.height, self.source.width)
        records = np.empty((n, 1 + length), np.int32)
        records[:, 0] = L + classes * self.source.labelled
        records[:, 1:] = self._grown(classes, more).reshape(n, length)
        return records

    def _grown(
        self, classes: Int64[np.ndarray, " n"], more: Int64[np.ndarray, "n height width"]
    ) -> Int64[np.ndarray, "n height width"]:
        """Pixel by pixel: the level of the parent and ``more``, modulo L."""
        L, pixels = self.source.levels, np.empty_like(more)
        for r, c in np.ndindex(more.shape[1:]):
            if r == 0:
                parent = classes
            elif c == 0:
                parent = pixels[:, r - 1, c]
            else:
                above, left = pixels[:, r - 1, c], pixels[:, r, c - 1]
                parent = np.where(2 * pixels[:, r - 1, c - 1] < L, above, left)
            pixels[:, r, c] = (parent + more[:, r, c]) % L
        return pixels

    def oracle_losses(self, windows: Integer[np.ndarray, "n T1"]) -> Float64[np.ndarray, "n T"]:
        """-ln P(pixel | all before it, and the class where that is told), in nats."""
        source = self.source
        L, (a, b) = source.levels, probabilities(source)
        pixels = windows[:, 1:].reshape(-1, source.height, source.width)
        parents = np.empty_like(pixels)
        parents[:, 1:] = pixels[:, :-1]
        is_left = 2 * pixels[:, :-1, :-1] >= L
        parents[:, 1:, 1:][is_left] = pixels[:, 1:, :-1][is_left]
        losses = -np.log(np.where(pixels == parents, a, b))
        losses[:, 0] = self._first_row(windows[:, 0], pixels[:, 0])
        return losses.reshape(len(windows), -1)

    def _first_row(
        self, begins: Integer[np.ndarray, " n"], row: Integer[np.ndarray, "n width"]
    ) -> Float64[np.ndarray, "n width"]:
        """The same of its pixels: each class is as likely as what came before it makes it."""
        L, (a, b) = self.source.levels, probabilities(self.source)
        levels = np.arange(L)
        weights = np.full((len(row), L), 1.0 / L)
        if self.source.labelled:
            weights = (begins[:, None] - L == levels).astype(float)
        losses = np.empty(row.shape)
        for c in range(row.shape[1]):
            weights = weights * np.where(row[:, c, None] == levels, a, b)
            total = weights.sum(axis=1)
            losses[:, c] = -np.log(total)
            weights /= total[:, None]
        return losses

    def posterior(self, windows: Integer[np.ndarray, "n T1"]) -> Float64[np.ndarray, "n L"]:
        """P(class | image)."""
        L, (a, b) = self.source.levels, probabilities(self.source)
        row = windows[:, 1 : 1 + self.source.width]
        n_pixels = np.sum(row[:, :, None] == np.arange(L), axis=1)
        weights = (a / b) ** (n_pixels - n_pixels.max(axis=1, keepdims=True))
        return weights / weights.sum(axis=1, keepdims=True)

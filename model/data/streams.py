# SPDX-License-Identifier: Apache-2.0
"""Random streams that can be entered at any place: Philox, keyed by (seed, purpose)."""

from enum import IntEnum

import numpy as np

from model.data.languages import MAX_SEED

BLOCK = 4
"""Draws (64 bits each) per Philox counter."""


class Purpose(IntEnum):
    """Second half of a key: streams of different purpose never meet, whatever their seeds."""

    LANGUAGE = 0
    TRAIN = 1
    VALIDATION = 2
    MIXTURE = 3
    UNIQUE = 4


def random_stream(
    seed: int, purpose: Purpose, *, block: int = 0, chapter: int = 0
) -> np.random.Generator:
    """The stream of (seed, purpose), `block` blocks of 4 draws into its chapter.

    Philox-4x64 (Salmon et al. 2011) computes block n from its number alone, so a place costs
    nothing to reach. Use `random` or `bit_generator.random_raw` (one draw each): how other
    methods consume draws may change with numpy.

    Args:
      seed: 0 <= seed < 2^64.
      block: 0 <= block < 2^64.
      chapter: 0 <= chapter < 2^64; chapters are 2^128 blocks apart.

    Raises:
      ValueError: if the seed is out of range.
    """
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"seed {seed} is out of range: choose an integer in [0, 2^64).")
    key = np.array([seed, int(purpose)], np.uint64)
    counter = np.array([block, 0, chapter, 0], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))

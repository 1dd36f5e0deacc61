# SPDX-License-Identifier: Apache-2.0
"""Against a set of the strings themselves, and by construction."""

import numpy as np
import pytest

from model.data import overlap as subject
from model.data.overlap import STRING, overlap


def naive(train: np.ndarray, validation: np.ndarray) -> float:
    held = {train[i : i + STRING].tobytes() for i in range(len(train) - STRING + 1)}
    covered = np.zeros(len(validation), bool)
    for i in range(len(validation) - STRING + 1):
        if validation[i : i + STRING].tobytes() in held:
            covered[i : i + STRING] = True
    return covered.mean()


@pytest.mark.parametrize("dtype", ["<u1", "<u2", "<u4"])
def test_the_share_is_that_of_the_strings_themselves(dtype, monkeypatch):
    monkeypatch.setattr(subject, "_PART", 100)  # Strings straddle parts.
    rng = np.random.default_rng(0)
    train = rng.integers(0, 250, 5000).astype(dtype)
    validation = rng.integers(0, 250, 1500).astype(dtype)
    validation[200:300] = train[1000:1100]
    validation[310:380] = train[70:140]
    validation[900 : 900 + STRING - 1] = train[: STRING - 1]  # One token short.
    validation[-STRING:] = train[-STRING:]
    share = overlap(train, validation)
    assert share == naive(train, validation)
    assert share == pytest.approx((100 + 70 + STRING) / 1500, abs=3 / 1500)


def test_a_text_of_few_letters_is_told_apart():
    """Periodic strings, which weak hashes confuse."""
    train = np.tile(np.array([0, 1], "u1"), 400)
    validation = np.concatenate([np.tile(np.array([0, 1, 1], "u1"), 50), np.zeros(100, "u1")])
    assert overlap(train, validation) == naive(train, validation) == 0.0
    assert overlap(validation, validation) == 1.0


@pytest.mark.parametrize("n", [0, 1, STRING - 1])
def test_what_is_shorter_than_a_string_holds_none(n):
    long, short = np.arange(500, dtype="u2"), np.arange(n, dtype="u2")
    assert overlap(long, short) == 0.0
    assert overlap(short, long) == 0.0

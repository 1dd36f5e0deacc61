# SPDX-License-Identifier: Apache-2.0
"""Numbers as people read them."""

import math

import pytest

from scaling.tables.units import loss_words, power


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (3e9, "3e9"),
        (2.5e10, "2.5e10"),
        (1e22, "1e22"),
        (9.996e11, "1e12"),
        (123456.0, "1.23e5"),
        (1.0, "1"),
        (999.0, "999"),
        (1000.0, "1e3"),
        (1e-300, "1e-300"),
        (0.0, "0"),
        (math.inf, "inf"),
    ],
)
def test_flops_are_spelled_in_one_way(value, said):
    assert power(value) == said


@pytest.mark.parametrize(
    ("unit", "said"),
    [
        ("nats per token", "nats per byte"),
        ("nats per masked token", "nats per masked byte"),
        ("nats per token, upper bound", "nats per byte, upper bound"),
        ("bits per byte", "bits per byte"),
    ],
)
def test_where_bytes_are_tokens_losses_are_per_byte(unit, said):
    assert loss_words(unit, "byte") == said


def test_more_digits_tell_neighbours_apart():
    assert (power(1.0001e11, 5), power(1.0e11, 5)) == ("1.0001e11", "1e11")

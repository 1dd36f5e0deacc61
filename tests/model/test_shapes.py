# SPDX-License-Identifier: Apache-2.0
"""Shapes and types in signatures are checked in modules of `model` that have arrays."""

import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import TypeCheckError

from model.data.source import Zipf
from model.data.synthetic.zipf import ZipfLanguage
from model.data.tokens.token_files import sha256_of
from model.network.positions import rotate
from model.training.objectives.linear_head import next_token_nats

LANGUAGE = ZipfLanguage(
    Zipf(alpha=0.5, epsilon=0.1, base=8, n_digits=2, n_answers=1, language_seed=0)
)
# What is wrong: where it is refused, the call.
WRONG = {
    "targets of another length": (
        "next_token_nats",
        lambda: next_token_nats(jnp.zeros((2, 3, 5)), jnp.zeros((2, 4), int)),
    ),
    "targets that are no integers": (
        "next_token_nats",
        lambda: next_token_nats(jnp.zeros((2, 3, 5)), jnp.ones((2, 3))),
    ),
    "positions without a batch": ("rotate", lambda: rotate(jnp.zeros((3, 4)), 10.0)),
    "one window without its axis": (
        "SyntheticLanguage.oracle_loss",
        lambda: LANGUAGE.oracle_loss(np.zeros(17, np.int32)),
    ),
    "windows of floats": (
        "SyntheticLanguage.oracle_loss",
        lambda: LANGUAGE.oracle_loss(np.zeros((1, 17))),
    ),
    "a list for an array": ("sha256_of", lambda: sha256_of([1, 2])),
    "text for a number": ("rotate", lambda: rotate(jnp.zeros((1, 2, 1, 4)), "1")),
}


@pytest.mark.parametrize(("where", "call"), WRONG.values(), ids=WRONG)
def test_what_a_signature_does_not_allow_is_an_error_under_test(where, call):
    with pytest.raises(TypeCheckError, match=rf"parameters of \S+\.{where}\."):
        call()

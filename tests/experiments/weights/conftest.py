# SPDX-License-Identifier: Apache-2.0
"""Two trained runs of a study, shared by all tests of their weights."""

import shutil

import pytest
from trained_runs import tiny_bytes, trained

from experiments.ledger.ledger import Ledger
from experiments.weights.load_model import LoadedModel, load_model


@pytest.fixture(autouse=True, scope="module")
def all_quick_to_compile(quick_to_compile):
    """None of these tests waits for XLA's optimisations."""


@pytest.fixture(scope="session")
def small(tmp_path_factory, quickly):
    """(ledger, points); not to be changed."""
    with quickly():
        return trained(tmp_path_factory.mktemp("trained"), tiny_bytes(), seeds=(0, 1))


@pytest.fixture
def point(small):
    return small[1][0]


@pytest.fixture(scope="session")
def model(small) -> LoadedModel:
    ledger, points = small
    return load_model(f"small:{points[0].id}", results=ledger.results)


@pytest.fixture
def copy(small, tmp_path) -> Ledger:
    """The ledger, to be changed."""
    shutil.copytree(small[0].results, tmp_path / "results")
    return Ledger(tmp_path / "results", "small")

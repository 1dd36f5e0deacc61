# SPDX-License-Identifier: Apache-2.0
"""What diffusion writes has the probabilities that enumeration gives; a trained run, used."""

import csv
import dataclasses
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command_line import is_one_line
from table_network import LOGITS, MASK, TEXTS, T, V, log_p
from trained_runs import tiny_bytes, trained

from experiments.ledger.tables import collate
from experiments.weights.draw import Sampling
from experiments.weights.fill import fill, fill_one
from experiments.weights.load_model import load_model

PLAIN = Sampling(n_tokens=None, temperature=1.0, top_k=None, top_p=None, seed=0)
ORDERS = list(itertools.permutations(range(T)))
N_ROWS = 20_000


def probability(text):
    """The mean over orders of the product of what each token has, given those before it."""
    total = 0.0
    for order in ORDERS:
        state, log_total = [MASK] * T, 0.0
        for place in order:
            log_total += log_p(tuple(state))[place, text[place]]
            state[place] = text[place]
        total += np.exp(log_total)
    return total / len(ORDERS)


def test_texts_have_the_probabilities_of_enumeration():
    table = jnp.asarray(LOGITS, jnp.float32)
    orders = np.random.default_rng(0).permuted(np.tile(np.arange(T), (N_ROWS, 1)), axis=1)

    @jax.jit
    def step(tokens, place, key):
        states = tokens @ (V + 1) ** jnp.arange(T - 1, -1, -1)
        return fill_one(table[states], tokens, place, key, PLAIN)

    tokens = jnp.full((N_ROWS, T), MASK)
    for number in range(T):
        tokens = step(tokens, jnp.asarray(orders[:, number]), jax.random.key(number))
    found = np.asarray(tokens) @ V ** np.arange(T - 1, -1, -1)
    counts = np.bincount(found, minlength=len(TEXTS))
    expected = N_ROWS * np.array([probability(text) for text in TEXTS])
    assert expected.sum() == pytest.approx(N_ROWS)
    is_rare = expected < 10
    pooled = [np.append(each[~is_rare], each[is_rare].sum()) for each in (counts, expected)]
    squares = (pooled[0] - pooled[1]) ** 2 / pooled[1]
    # Of so many degrees of freedom chi-squared is below this 999 times in 1000 (Wilson, Hilferty).
    free = len(squares) - 1
    assert squares.sum() < free * (1 - 2 / (9 * free) + 3.09 * np.sqrt(2 / (9 * free))) ** 3


@pytest.fixture(scope="module")
def diffusion(tmp_path_factory):
    """(ledger, points) of a study of one run; the table is written."""
    folder = tmp_path_factory.mktemp("diffusion")
    ledger, points = trained(folder, tiny_bytes(objective="diffusion"))
    collate(ledger, points)
    return ledger, points


@pytest.fixture(scope="module")
def model(diffusion):
    ledger, (point,) = diffusion
    return load_model(f"small:{point.id}", results=ledger.results)


def test_a_window_is_filled_from_what_it_begins_with_and_a_seed_says_how(model):
    begin = list(b"\0doc")
    drawn = [fill(model, begin, 9, dataclasses.replace(PLAIN, seed=s)).tokens for s in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(drawn[0]) == 9
    assert max(map(max, drawn)) < 256


def test_positions_see_both_sides(model):
    tokens = np.full((1, 16), 97)
    other = tokens.copy()
    other[0, -1] = 98
    assert np.abs(model(tokens)[0, 0] - model(other)[0, 0]).max() > 1e-3


def test_its_loss_is_a_bound_in_the_record_the_table_and_of_the_same_text_again(diffusion, isoflop):
    ledger, (point,) = diffusion
    loss = ledger.read_result(point.id).loss
    assert loss.is_bound
    (row,) = csv.DictReader(ledger.table.read_text().splitlines())
    told = {name: row[name] for name in ("objective", "loss_per", "loss_kind")}
    assert told == {
        "objective": "diffusion", "loss_per": "token", "loss_kind": "upper bound"
    }  # fmt: skip
    assert float(row["bits_per_byte"]) == pytest.approx(loss.nats / np.log(2))
    named = ("evaluate", f"small:{point.id}", "--results", str(ledger.results), "--data")
    text = ledger.folder.parents[1] / "texts"
    _, out, _ = isoflop(*named, str(text))
    assert "upper bound" in out.splitlines()[0]
    _, out, _ = isoflop(*named, str(text), "--json")
    answer = json.loads(out)
    assert (answer["unit"], answer["is_bound"]) == ("token", True)
    assert answer["n_left_out"] < 16


def test_it_writes_and_is_exported_by_nobody(diffusion, isoflop, tmp_path):
    ledger, (point,) = diffusion
    named = (f"small:{point.id}", "--results", str(ledger.results))
    code, out, _ = isoflop("sample", *named, "--prompt", "doc", "--tokens", "5")
    assert (code, out[:3]) == (0, "doc")
    code, _, err = isoflop("sample", *named, "--top-k", "257")
    assert (code, "the run has 256 tokens" in err) == (2, True)
    code, out, err = isoflop("export-model", *named, "--to", str(tmp_path / "theirs"))
    assert (code, out) == (2, "")
    assert "was trained for diffusion" in err
    assert is_one_line(err)
    assert not (tmp_path / "theirs").exists()

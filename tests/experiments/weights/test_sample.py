# SPDX-License-Identifier: Apache-2.0
"""Token by token as the whole sequence would have it; draws have their probabilities."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command_line import is_one_line

from experiments.weights.sample import continue_text, draw, sample
from model.data.source import TokenArrays, source_to_dict


def greedy(model, prompt, n_tokens):
    """Without memory: all is computed again for each token."""
    tokens = list(prompt)
    for _ in range(n_tokens):
        tokens.append(int(np.argmax(model(np.array([tokens]))[0, -1])))
    return tokens[len(prompt) :]


def test_the_most_probable_tokens_are_those_of_the_whole_sequence(model):
    prompt = list(b"\0doc")
    assert sample(model, prompt, 9, 0.0, 0) == greedy(model, prompt, 9)


def test_a_seed_says_what_is_drawn(model):
    drawn = [sample(model, [0], 12, 2.0, seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_draws_have_the_probabilities_of_the_softmax(temperature):
    """Within five standard errors."""
    logits, n = np.array([0.0, 1.0, -1.0, 2.0], np.float32), 20_000
    keys = jax.random.split(jax.random.key(0), n)
    drawn = jax.vmap(lambda key: draw(jnp.asarray(logits), key, temperature))(keys)
    expected = np.exp(logits / temperature) / np.exp(logits / temperature).sum()
    found = np.bincount(drawn, minlength=4) / n
    assert (abs(found - expected) < 5 * np.sqrt(expected * (1 - expected) / n)).all()


def test_a_document_begins_with_the_prompt_and_ends_at_the_separator(model, monkeypatch):
    asked = []

    def planted(model, prompt, n_tokens, temperature, seed):
        asked.append((prompt, n_tokens, temperature, seed))
        return list(b"go\033 \xc3\xa4\nes\0next")

    monkeypatch.setattr("experiments.weights.sample.sample", planted)
    text = continue_text(model, "it ", None, 0.5, 3)
    assert text == "it go\N{REPLACEMENT CHARACTER} \N{LATIN SMALL LETTER A WITH DIAERESIS}\nes"
    assert asked == [([0, *b"it "], 12, 0.5, 3)]


def test_the_command_shows_it(isoflop, small, model, point):
    ledger, _ = small
    arguments = (
        "sample",
        f"small:{point.id}",
        "--prompt",
        "docu",
        "--results",
        str(ledger.results),
    )
    code, out, err = isoflop(*arguments, "--tokens", "8", "--temperature", "0")
    assert (code, err) == (0, "")
    assert out == continue_text(model, "docu", 8, 0.0, 0) + "\n"
    assert out.startswith("docu")


TOO_MUCH = (
    ("a long prompt", ("--prompt", "x" * 16), "a prompt of 17 tokens and 1 more"),
    ("many tokens", ("--tokens", "16"), "a prompt of 1 tokens and 16 more"),
    ("a temperature", ("--temperature", "nan"), "--temperature nan"),
    ("a seed", ("--seed", "-1"), "'-1': must be a whole number from 0"),
    ("no tokens", ("--tokens", "0"), "'0': must be a whole number from 1"),
)


@pytest.mark.parametrize(
    ("given", "words"), [t[1:] for t in TOO_MUCH], ids=[t[0] for t in TOO_MUCH]
)
def test_what_cannot_be_sampled_is_one_line(isoflop, copy, point, given, words):
    code, out, err = isoflop("sample", f"small:{point.id}", *given)
    assert (code, out) == (2, "")
    assert is_one_line(err)
    assert words in err


def test_a_run_on_token_ids_is_asked_and_answers_in_ids(model, monkeypatch):
    source = TokenArrays(
        paths=("a",), vocab_size=40, separator=7, validation_fraction=0.1, bytes_per_token=None
    )
    manifest = SimpleNamespace(source=source_to_dict(source))
    monkeypatch.setattr("experiments.weights.sample.manifest_of", lambda *_: manifest)
    monkeypatch.setattr(
        "experiments.weights.sample.sample", lambda model, prompt, *_: [*prompt[:0:-1], 7]
    )
    assert continue_text(model, "3, 39", None, 1.0, 0) == "3,39,39,3"
    assert continue_text(model, "", None, 1.0, 0) == ""
    for prompt in ("40", "one", "1,,2"):
        with pytest.raises(ValueError, match="token ids alone, 0 to 39"):
            continue_text(model, prompt, None, 1.0, 0)

# SPDX-License-Identifier: Apache-2.0
"""Token by token as the whole sequence would have it; draws have their probabilities."""

import dataclasses
import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command_line import is_one_line

from experiments.weights.draw import Sampled, Sampling, draw
from experiments.weights.sample import continue_text, sample
from model.data.prepare import prepare
from model.data.source import MarkovMesh, TextFiles, TokenArrays, source_to_dict
from model.data.synthetic.open_language import describe_language
from model.data.tokenizer import TrainedBPE
from model.data.tokens.encoding import open_encoding

GREEDY = Sampling(n_tokens=None, temperature=0.0, top_k=None, top_p=None, seed=0)


def greedy(model, prompt, n_tokens):
    """Without memory: all is computed again for each token; those to come are not seen."""
    tokens = np.zeros((1, len(prompt) + n_tokens), np.int32)
    tokens[0, : len(prompt)] = prompt
    for place in range(len(prompt), tokens.size):
        tokens[0, place] = np.argmax(model(tokens)[0, place - 1])
    return tokens[0, len(prompt) :].tolist()


def test_the_most_probable_tokens_are_those_of_the_whole_sequence(model):
    prompt = list(b"\0doc")
    assert sample(model, prompt, 9, GREEDY).tokens == greedy(model, prompt, 9)


def test_a_seed_says_what_is_drawn(model):
    hot = [dataclasses.replace(GREEDY, temperature=2.0, seed=seed) for seed in (0, 0, 1)]
    drawn = [sample(model, [0], 12, sampling).tokens for sampling in hot]
    assert drawn[0] == drawn[1] != drawn[2]


# Of e^0, e^-1, e^1, e^2 (0.087, 0.032, 0.237, 0.644) divided by their sum: which may be drawn.
ALLOWED = (
    ("all", 1.0, None, None, (0, 1, 2, 3)),
    ("all, colder", 0.5, None, None, (0, 1, 2, 3)),
    ("all, hotter", 2.0, None, 1.0, (0, 1, 2, 3)),
    ("two", 1.0, 2, None, (2, 3)),
    ("one is enough", 1.0, None, 0.64, (3,)),
    ("one is not", 1.0, None, 0.65, (2, 3)),
    ("three are not", 1.0, None, 0.97, (0, 1, 2, 3)),
    ("hotter, more are needed", 2.0, None, 0.65, (2, 3)),
    ("two of three", 1.0, 3, 0.9, (2, 3)),  # 0.910 of what the three hold.
)


@pytest.mark.parametrize("case", ALLOWED, ids=[case[0] for case in ALLOWED])
def test_draws_have_the_probabilities_of_the_softmax_of_what_is_allowed(case):
    """Within five standard errors."""
    _, temperature, top_k, top_p, allowed = case
    sampling = Sampling(None, temperature, top_k, top_p, seed=0)
    logits, n = np.array([0.0, -1.0, 1.0, 2.0], np.float32), 20_000
    keys = jax.random.split(jax.random.key(0), n)
    drawn = jax.vmap(lambda key: draw(jnp.asarray(logits), key, sampling))(keys)
    expected = np.where(np.isin(np.arange(4), allowed), np.exp(logits / temperature), 0)
    expected /= expected.sum()
    found = np.bincount(drawn, minlength=4) / n
    assert (abs(found - expected) <= 5 * np.sqrt(expected * (1 - expected) / n)).all()


def test_a_document_begins_with_the_prompt_and_ends_at_the_separator(model, monkeypatch):
    asked = []

    def planted(model, prompt, n_tokens, sampling):
        asked.append((prompt, n_tokens))
        return Sampled(list(b"go\033 \xc3\xa4\nes\0next"), 1.0, 1.0)

    monkeypatch.setattr("experiments.weights.sample.sample", planted)
    text, _ = continue_text(model, "it ", GREEDY)
    assert text == "it go\N{REPLACEMENT CHARACTER} \N{LATIN SMALL LETTER A WITH DIAERESIS}\nes"
    assert asked == [([0, *b"it "], 12)]


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
    assert code == 0
    assert re.fullmatch(r"[\d.]+ ms to the first token, then [\d,]+ tokens/s\n", err)
    text, sampled = continue_text(model, "docu", dataclasses.replace(GREEDY, n_tokens=8))
    assert out == text + "\n"
    assert len(sampled.tokens) == 8
    assert out.startswith("docu")


def test_the_command_says_how_to_draw(isoflop, small, point, monkeypatch):
    asked = []

    def planted(model, prompt, sampling):
        asked.append((prompt, sampling))
        return "[a] text", Sampled([1], 0.0123, 0.0)

    monkeypatch.setattr("experiments.weights.sample.continue_text", planted)
    how = ["--tokens", "3", "--temperature", "0.5", "--top-k", "4", "--top-p", "0.9", "--seed", "5"]
    run = ("sample", f"small:{point.id}", "--results", str(small[0].results))
    assert isoflop(*run, *how) == (0, "[a] text\n", "12.3 ms to the first token\n")
    assert asked == [("", Sampling(3, 0.5, 4, 0.9, 5))]


TOO_MUCH = (
    ("a long prompt", ("--prompt", "x" * 16), "a prompt of 17 tokens and 1 more"),
    ("many tokens", ("--tokens", "16"), "a prompt of 1 tokens and 16 more"),
    ("a temperature", ("--temperature", "nan"), "--temperature nan"),
    ("no token", ("--top-k", "0"), "'0': must be a whole number from 1"),
    ("more tokens than there are", ("--top-k", "257"), "--top-k 257: the run has 256 tokens."),
    ("no probability", ("--top-p", "0"), "--top-p 0: must be above 0, at most 1."),
    ("no number", ("--top-p", "nan"), "--top-p nan"),
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
    manifest = SimpleNamespace(
        kind="tokens",
        source=source_to_dict(source),
        tokenizer=None,
        vocab_size=40,
        parts=(),
        fingerprint="0",
    )
    monkeypatch.setattr("experiments.weights.sample.manifest_of", lambda *_: manifest)
    monkeypatch.setattr(
        "experiments.weights.sample.sample",
        lambda model, prompt, *_: Sampled([*prompt[:0:-1], 7], 1.0, 1.0),
    )
    assert continue_text(model, "3, 39", GREEDY)[0] == "3,39,39,3"
    assert continue_text(model, "", GREEDY)[0] == ""
    for prompt in ("40", "one", "1,,2"):
        with pytest.raises(ValueError, match="token ids alone, 0 to 39"):
            continue_text(model, prompt, GREEDY)


def test_of_an_image_all_values_are_drawn_behind_the_id_that_begins_it(model, monkeypatch):
    source = MarkovMesh(height=4, width=4, levels=3, epsilon=0.5, labelled=False)
    manifest = describe_language(source)
    monkeypatch.setattr("experiments.weights.sample.manifest_of", lambda *_: manifest)
    monkeypatch.setattr(
        "experiments.weights.sample.sample",
        lambda model, prompt, n, _: Sampled([len(prompt), *(n - 1) * [0]], 1.0, 1.0),
    )
    n = model.point.spec.model.seq_len
    everything = dataclasses.replace(GREEDY, n_tokens=None)
    assert continue_text(model, "", everything)[0] == ",".join(["1", *(n - 1) * ["0"]])
    assert continue_text(model, "2", everything)[0] == ",".join(["2", "2", *(n - 2) * ["0"]])


def test_a_run_on_tokens_of_a_tokenizer_is_asked_and_answers_in_text(model, tmp_path, monkeypatch):
    pytest.importorskip("tokenizers")
    (tmp_path / "a.txt").write_bytes("\0".join(f"the càt {i}" for i in range(99)).encode())
    source = TextFiles(
        paths=(str(tmp_path / "a.txt"),),
        validation_fraction=0.2,
        tokenizer=TrainedBPE(vocab_size=259),
    )
    manifest = prepare(source, tmp_path / "data")
    module = "experiments.weights.sample"
    monkeypatch.setattr(f"{module}.manifest_of", lambda *_: manifest)
    monkeypatch.setattr(f"{module}.open_encoding", lambda m, _: open_encoding(m, tmp_path / "data"))
    asked = []

    def sample(model, prompt, *_):
        asked.extend(prompt)
        return Sampled([*prompt[1:], prompt[0], *prompt[1:]], 1.0, 1.0)

    monkeypatch.setattr(f"{module}.sample", sample)
    prompt = "the càt!"
    assert continue_text(model, prompt, GREEDY)[0] == prompt + prompt
    assert asked[0] == manifest.tokenizer["separator_id"]
    assert len(asked) < 1 + len(prompt.encode())

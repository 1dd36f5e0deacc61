# SPDX-License-Identifier: Apache-2.0
"""The loss on a file is the recorded one where the file is the validation set, and NumPy's."""

import copy
import dataclasses
import json
import math

import numpy as np
import pytest
from command_line import is_one_line

from experiments.weights import evaluate as subject
from experiments.weights.evaluate import evaluate, evaluate_file, one_behind_the_other
from model.data.corpus import open_corpus
from model.data.manifest import Manifest
from model.data.tokens.encoding import ByteEncoding
from model.training.config import EvalConfig


@pytest.fixture(scope="session")
def validation_file(small, tmp_path_factory):
    """The text of the validation split."""
    path = tmp_path_factory.mktemp("text") / "validation.txt"
    path.write_bytes(np.load(small[0].data / "validation.npy").tobytes())
    return str(path)


def test_the_windows_of_the_run_give_its_loss_to_the_bit(small, model, point):
    ledger, _ = small
    corpus = open_corpus(Manifest.read(ledger.manifest), ledger.data)
    asked = point.spec.train.evaluation
    windows = corpus.validation_windows(asked.n_tokens, 16, asked.seed)
    found = evaluate(model, one_behind_the_other(windows, 1.0))
    recorded = ledger.read_result(point.id)
    assert found.loss_nats == recorded.loss_nats
    assert found.loss_se_nats == recorded.loss.se_nats
    assert found.bits_per_byte == recorded.loss.bits_per_byte
    assert (found.n_tokens, found.n_windows) == (asked.n_tokens, asked.n_tokens // 16)


@pytest.mark.parametrize("part", [4096, 7])
def test_a_file_of_the_same_text_gives_the_same_loss(
    small, model, point, validation_file, monkeypatch, part
):
    """In another order: float32 sums differ in their last bits."""
    monkeypatch.setattr(subject, "PART", part)
    found, recorded = evaluate_file(model, validation_file), small[0].read_result(point.id)
    assert found.loss_nats == pytest.approx(recorded.loss_nats, rel=1e-6)
    # A difference of large sums.
    assert found.loss_se_nats == pytest.approx(recorded.loss.se_nats, rel=1e-3)
    assert found.perplexity == pytest.approx(math.exp(found.loss_nats))
    assert found.bits_per_byte == pytest.approx(found.loss_nats / math.log(2))
    n_given = len(np.load(small[0].data / "validation.npy"))
    assert found.n_tokens + found.n_left_out + 1 == n_given


def test_documents_are_scored_whole_where_those_of_the_run_were(model, point, tmp_path):
    """Each alone, behind the separator, in stretches of 16 targets."""
    texts = [b"so it goes", b"on and on, " * 5, b"and on"]
    (tmp_path / "a.txt").write_bytes(b"\0".join(texts))
    evaluation = EvalConfig(n_bytes=9, curve_bytes=9, n_points=1, seed=0)
    train = dataclasses.replace(point.spec.train, evaluation=evaluation)
    spec = dataclasses.replace(point.spec, train=train)
    asked = copy.copy(model)
    asked.point = dataclasses.replace(point, spec=spec)
    found, total = evaluate_file(asked, str(tmp_path / "a.txt")), 0.0
    for text in texts:
        whole = np.array([0, *text, 0])
        for first in range(0, len(whole) - 1, 16):
            stretch = whole[first : first + 17]
            logits = np.asarray(model(stretch[None, :-1]), np.float64)[0]
            own = logits[np.arange(len(stretch) - 1), stretch[1:]]
            total += np.sum(np.log(np.sum(np.exp(logits), axis=-1)) - own)
    n_bytes = sum(len(text) + 1 for text in texts)
    assert (found.n_tokens, found.n_windows, found.n_left_out) == (n_bytes, 6, 0)
    assert found.loss_nats == pytest.approx(total / n_bytes, rel=1e-5)
    assert found.bits_per_byte == pytest.approx(total / n_bytes / math.log(2), rel=1e-5)


class Pairs(ByteEncoding):
    """Where "ab" is one token; "c", if it is told so, is none."""

    def __init__(self, dropped: bytes):
        self._dropped = dropped

    def encode(self, texts):
        return [text.replace(b"ab", b"\x80").replace(self._dropped, b"") for text in texts]

    def decode(self, tokens):
        return bytes(tokens).replace(b"\x80", b"ab")


@pytest.mark.parametrize("is_by_document", [False, True])
def test_bits_per_byte_are_by_the_bytes_of_the_text_that_is_read(
    model, point, tmp_path, monkeypatch, is_by_document
):
    """Whatever a token of the study's own text is worth; here it is worth a byte."""
    if is_by_document:
        evaluation = EvalConfig(n_bytes=9, curve_bytes=9, n_points=1, seed=0)
        train = dataclasses.replace(point.spec.train, evaluation=evaluation)
        spec = dataclasses.replace(point.spec, train=train)
        model = copy.copy(model)
        model.point = dataclasses.replace(point, spec=spec)
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_bytes(b"abab" * 60 + b"c")
    (tmp_path / "texts" / "b.jsonl").write_text('{"text": "%s"}\n' % ("ab" * 39))
    # Documents of 121 and 39 tokens, and their ends: 161 behind the first are ten windows and one.
    n_bytes, n_tokens = 241 + 78 + 2, 121 + 39 + 2
    for dropped in (b"nothing", b"c"):
        monkeypatch.setattr(subject, "open_encoding", lambda *_, d=dropped: Pairs(d))
        found = evaluate_file(model, str(tmp_path / "texts"))
        assert (found.n_documents, found.n_bytes) == (2, n_bytes)
        if dropped == b"c":
            assert found.bits_per_byte is None, "it does not come back"
            continue
        assert found.n_tokens == (n_tokens if is_by_document else 160)
        expected = found.loss_nats / math.log(2) * n_tokens / n_bytes
        assert found.bits_per_byte == pytest.approx(expected)


def test_the_answer_fits_on_a_terminal_and_is_said_in_json(
    isoflop, small, model, point, validation_file
):
    ledger, _ = small
    arguments = ("evaluate", f"small:{point.id}", "--data", validation_file)
    arguments += ("--results", str(ledger.results))
    code, out, err = isoflop(*arguments)
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    found = evaluate_file(model, validation_file)
    assert f"{found.loss_nats:.4f} +- {found.loss_se_nats:.4f}" in out
    assert f"{found.bits_per_byte:.4f}\n" in out
    assert f"{found.perplexity:.4g}\n" in out
    assert f"{found.n_documents:,} of {found.n_bytes:,} bytes\n" in out
    code, out, _ = isoflop(*arguments, "--json")
    told = json.loads(out)
    assert told["run_id"] == point.id
    assert told["loss_nats"] == found.loss_nats
    assert told["n_tokens"] == found.n_tokens
    content = np.load(small[0].data / "validation.npy")
    assert told["n_bytes"] == len(content)
    assert told["n_documents"] == np.count_nonzero(content == 0)


BAD_FILES = (
    ("empty", b"", "holds no text"),
    ("too short", b"fifteen letters", "holds 16 tokens"),
    ("no text", b"\xff" * 99, "is not UTF-8"),
    ("missing", None, "cannot be read"),
)


@pytest.mark.parametrize(
    ("content", "words"), [f[1:] for f in BAD_FILES], ids=[f[0] for f in BAD_FILES]
)
def test_a_file_without_a_loss_is_one_line(isoflop, copy, point, tmp_path, content, words):
    if content is not None:
        (tmp_path / "a.txt").write_bytes(content)
    code, out, err = isoflop("evaluate", f"small:{point.id}", "--data", "a.txt")
    assert (code, out) == (2, "")
    assert is_one_line(err)
    assert words in err


def test_data_of_another_study_in_the_folder_are_refused(copy, point, model, monkeypatch):
    text = copy.manifest.read_text().replace(point.spec.data_fingerprint, "0" * 64)
    manifest = json.loads(text)
    del manifest["sha256"]
    copy.manifest.write_text(json.dumps(manifest))
    monkeypatch.setattr(model, "ledger", copy)
    with pytest.raises(ValueError, match="describes other data than those of run"):
        evaluate_file(model, "a.txt")

# SPDX-License-Identifier: Apache-2.0
"""An exported tokenizer is Hugging Face's: the ids that the run was trained on, and the text."""

import base64
import json

import pytest

from model.data.prepare import reader_of
from model.data.source import PepsText
from model.data.tokenizer import TIKTOKEN_NAMES, Tiktoken, TrainedBPE
from model.data.tokens.encoding import FileEncoding, encoding_of
from model.data.tokens.tiktoken_ranks import _LETTERS

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.parity


@pytest.fixture(scope="module")
def documents() -> list[bytes]:
    reader = reader_of(PepsText(validation_fraction=0.05))
    texts = [text for file in reader.files for text in reader.documents(file)][::20]
    texts += ["  a\r\n\tb  ", "\u00e9\u2603\U0001f600", "n't 's 1,234.5"]
    return [text.encode() if isinstance(text, str) else text for text in texts]


@pytest.fixture(scope="module")
def trained(documents) -> FileEncoding:
    return made(TrainedBPE(vocab_size=1000), documents)


def made(tokenizer, documents) -> FileEncoding:
    encoding = encoding_of(PepsText(validation_fraction=0.05, tokenizer=tokenizer), documents)
    assert isinstance(encoding, FileEncoding)
    return encoding


def ranks(encoding: FileEncoding) -> bytes:
    """Its tokens as a file of tiktoken, in their order."""
    byte = {letter: value for value, letter in enumerate(_LETTERS)}
    vocab = json.loads(encoding.json)["model"]["vocab"]
    vocab.pop(encoding.separator_text)
    tokens = [bytes(byte[letter] for letter in token) for token in sorted(vocab, key=vocab.get)]
    lines = (base64.b64encode(token) + b" %d\n" % i for i, token in enumerate(tokens))
    return b"".join(lines)


@pytest.mark.parametrize("kind", ["trained_bpe", *TIKTOKEN_NAMES])
def test_auto_tokenizer_gives_the_ids_that_were_trained_on(kind, trained, documents, tmp_path):
    encoding = trained
    if kind != "trained_bpe":
        (tmp_path / "ranks").write_bytes(ranks(trained))
        encoding = made(Tiktoken(name=kind, path=str(tmp_path / "ranks")), documents)
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": encoding.separator_text}
    (tmp_path / "tokenizer.json").write_text(encoding.json)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert theirs.eos_token_id == encoding.separator
    for text, encoded in zip(documents, encoding.encode(documents), strict=True):
        ids = theirs(text.decode())["input_ids"]
        assert ids == encoding.ids(encoded)
        assert theirs.decode(ids).encode() == text

# SPDX-License-Identifier: Apache-2.0
"""An exported tokenizer is Hugging Face's: the ids that the run was trained on, and the text."""

import json

import pytest

from model.data.encoding import FileEncoding, encoding_of
from model.data.prepare import reader_of
from model.data.source import PepsText
from model.data.tokenizer import TrainedBPE

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.parity


def test_auto_tokenizer_gives_the_ids_that_were_trained_on(tmp_path):
    reader = reader_of(PepsText(validation_fraction=0.05))
    documents = [text for file in reader.files for text in reader.documents(file)][::20]
    documents += ["  a\r\n\tb  ", "\u00e9\u2603\U0001f600", "n't 's 1,234.5"]
    documents = [text.encode() if isinstance(text, str) else text for text in documents]
    source = PepsText(validation_fraction=0.05, tokenizer=TrainedBPE(vocab_size=1000))
    encoding = encoding_of(source, documents)
    assert isinstance(encoding, FileEncoding)
    kind = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": encoding.separator_text}
    (tmp_path / "tokenizer.json").write_text(encoding.json)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(kind))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert theirs.eos_token_id == encoding.separator
    for text, encoded in zip(documents, encoding.encode(documents), strict=True):
        ids = theirs(text.decode())["input_ids"]
        assert ids == encoding.ids(encoded)
        assert theirs.decode(ids).encode() == text

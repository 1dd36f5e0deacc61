# SPDX-License-Identifier: Apache-2.0
"""The files that Hugging Face loads. That it computes the same: tests/parity."""

import dataclasses
import json

import numpy as np
import pytest
import safetensors
from command_line import is_one_line

from experiments.weights.load_model import read_weights
from model.data.prepare import prepare
from model.data.source import TextFiles
from model.data.tokenizer import TrainedBPE
from model.data.tokens.encoding import open_encoding
from model.network.hugging_face import config_of, weights_of


def test_it_writes_what_the_class_it_names_loads(isoflop, small, point, tmp_path):
    ledger, _ = small
    arguments = ("--to", "theirs", "--results", str(ledger.results))
    code, out, err = isoflop("export-model", f"small:{point.id}", *arguments)
    assert (code, err) == (0, "")
    assert out == 'Qwen3ForCausalLM: AutoModelForCausalLM.from_pretrained("theirs")\n'
    folder = tmp_path / "theirs"
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert json.loads((folder / "config.json").read_text()) == config_of(point.spec.model)
    expected = weights_of(point.spec.model, read_weights(ledger, point))
    with safetensors.safe_open(folder / "model.safetensors", "numpy") as file:
        assert file.metadata() == {"format": "pt"}
        assert set(file.keys()) == set(expected)
        for name, array in expected.items():
            np.testing.assert_array_equal(file.get_tensor(name), array)
            assert file.get_tensor(name).dtype == np.float32


def test_it_writes_the_tokenizer_of_a_run_that_has_one(
    isoflop, small, point, tmp_path, monkeypatch
):
    pytest.importorskip("tokenizers")
    (tmp_path / "a.txt").write_bytes(b"\0".join(b"a text, %d" % i for i in range(99)))
    source = TextFiles(
        paths=(str(tmp_path / "a.txt"),),
        validation_fraction=0.2,
        tokenizer=TrainedBPE(vocab_size=259),
    )
    manifest = prepare(source, tmp_path / "data")
    module = "experiments.weights.export_model"
    monkeypatch.setattr(f"{module}.manifest_of", lambda *_: manifest)
    monkeypatch.setattr(f"{module}.open_encoding", lambda m, _: open_encoding(m, tmp_path / "data"))
    arguments = ("--to", "theirs", "--results", str(small[0].results))
    assert isoflop("export-model", f"small:{point.id}", *arguments)[0] == 0
    written = (tmp_path / "theirs" / "tokenizer.json").read_bytes()
    assert written == (tmp_path / "data" / "tokenizer.json").read_bytes()
    config = json.loads((tmp_path / "theirs" / "tokenizer_config.json").read_text())
    assert config == {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"}


def test_a_network_that_is_none_of_theirs_is_one_line(isoflop, copy, point, monkeypatch, tmp_path):
    model = dataclasses.replace(point.spec.model, norm="layernorm")
    other = dataclasses.replace(point, spec=dataclasses.replace(point.spec, model=model))
    monkeypatch.setattr("experiments.weights.export_model.find_run", lambda *_: (copy, other))
    code, out, err = isoflop("export-model", "small:a", "--to", "theirs")
    assert (code, out) == (2, "")
    assert is_one_line(err)
    assert "no network of Hugging Face is this one" in err
    assert not (tmp_path / "theirs").exists()

# SPDX-License-Identifier: Apache-2.0
"""A manifest comes back from disk as it went, or not at all."""

import dataclasses
import json
from pathlib import Path

import pytest

from model.data.manifest import Manifest

MANIFEST = Manifest(
    kind="text",
    fingerprint="0123456789abcdef" * 4,
    vocab_size=256,
    n_documents=12,
    n_train_documents=10,
    n_validation_documents=2,
    n_bytes=1000,
    n_train_tokens=900,
    n_validation_tokens=112,
    bytes_per_token=1.0,
    entropy_nats=None,
    window_multiple=1,
    notes=("Token 0 ends each document.", "Größe"),
    source={"kind": "text", "paths": ["a"], "validation_fraction": 0.1, "text_field": "text"},
)


def edited(**changes: object) -> str:
    return json.dumps({**json.loads(MANIFEST.to_json()), **changes})


def without(name: str) -> str:
    return json.dumps({k: v for k, v in json.loads(MANIFEST.to_json()).items() if k != name})


def test_manifest_round_trips(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    MANIFEST.write(path)
    assert Manifest.read(path) == MANIFEST
    assert Manifest.from_json(MANIFEST.to_json()) == MANIFEST
    assert [p.name for p in tmp_path.iterdir()] == ["manifest.json"]


@pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(Manifest)])
def test_each_field_is_required_and_typed(name: str) -> None:
    if name not in ("tokenizer", "parts", "variants"):  # Those written earlier have none of them.
        with pytest.raises(ValueError, match=f"lacks \\['{name}'\\].*isoflop data STUDY"):
            Manifest.from_json(without(name))
    with pytest.raises(ValueError, match=f"'{name}' is True"):
        Manifest.from_json(edited(**{name: True}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no JSON"),
        ("[1]", "a list, no JSON object"),
        ("[" * 100_000, "no JSON"),
        (edited(size=1), r"unknown \['size'\]"),
        (MANIFEST.to_json().replace("900", "NaN"), "NaN"),
        (MANIFEST.to_json().replace("1.0", "-Infinity"), "-Infinity"),
        (MANIFEST.to_json().replace("1.0", "1e999"), "'bytes_per_token' is inf"),
        (MANIFEST.to_json().replace('"n_bytes"', '"kind"'), r"keys twice: \['kind'\]"),
        (MANIFEST.to_json().replace('"paths"', '"kind"'), r"keys twice: \['kind'\]"),
        (edited(n_train_tokens=-1), "n_train_tokens"),
        (edited(n_train_tokens=1.5), "n_train_tokens"),
        (edited(fingerprint="abc"), "fingerprint"),
        (edited(notes=[1]), "notes"),
        (edited(kind="stdlib"), "kind 'stdlib' but its source is 'text'"),
        (edited(n_documents=13), "was changed"),
        (edited(sha256="0" * 64), "was changed"),
    ],
)
def test_bad_manifest_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        Manifest.from_json(text)
    assert "\n" not in str(caught.value)


def test_every_flipped_bit_is_noticed_and_a_manifest_of_before_is_still_read() -> None:
    good = MANIFEST.to_json().encode()
    for position in range(len(good)):
        flipped = bytearray(good)
        flipped[position] ^= 1 << position % 8
        try:
            Manifest.from_json(flipped.decode())
        except ValueError:
            continue
        # Between two values a line end may become a carriage return or a blank, and says the same.
        assert good[position : position + 1].isspace(), position
    assert Manifest.from_json(without("sha256")) == MANIFEST


def test_missing_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"manifest '.*no\.json' cannot be read: No such file"):
        Manifest.read(tmp_path / "no.json")


@pytest.mark.parametrize("function", ["os.fsync", "os.replace"])
def test_failed_write_leaves_the_old_manifest(
    function: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "manifest.json"
    MANIFEST.write(path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(function, full)
    with pytest.raises(OSError, match="No space left"):
        dataclasses.replace(MANIFEST, vocab_size=7).write(path)
    assert Manifest.read(path) == MANIFEST
    assert [p.name for p in tmp_path.iterdir()] == ["manifest.json"]

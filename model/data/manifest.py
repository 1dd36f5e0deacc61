# SPDX-License-Identifier: Apache-2.0
"""What a source turned out to hold: counts, fingerprint, notes. Written once; planning reads it.

Standard library only, so that planning needs neither the data nor JAX.
"""

import dataclasses
import hashlib
import json
import math
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# How the note begins that says what of the source became a document.
DOCUMENTS = "Documents: "
_WAY_OUT = "Write it again with `isoflop data STUDY`."
_NESTED = ("parts", "variants")
_OPTIONAL = ("tokenizer", *_NESTED)
_COUNTS = (
    "n_documents",
    "n_train_documents",
    "n_validation_documents",
    "n_bytes",
    "n_train_tokens",
    "n_validation_tokens",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """Counts and fingerprint of prepared data.

    Args:
      kind: the source's kind: a word of SOURCES (source.py).
      fingerprint: sha256 (64 hex digits) of all that a model sees: tokens of both splits,
        vocabulary size and separator; for zipf the language's parameters and generator version.
      vocab_size: token ids lie in [0, vocab_size).
      n_documents, n_train_documents, n_validation_documents: documents; None = unlimited.
      n_bytes: bytes of the documents, without separators; None where tokens hide them.
      n_train_tokens, n_validation_tokens: tokens with their separators; None = unlimited.
      bytes_per_token: mean bytes per token (1 for byte tokens); None where it has no meaning.
      entropy_nats: true entropy per token, in nats; None where it is not known.
      window_multiple: a sequence length must be a multiple of it (record length of zipf, else 1).
      notes: sentences: separator, attention across documents, what was left out and why.
      source: the source as written, from `source_to_dict`.
      tokenizer: of the tokenizer.json beside the tokens the `sha256`, and of the token that ends
        documents `separator` and `separator_id`; None where tokens are bytes, or made elsewhere.
      parts: of a mixture, a manifest each.
      variants: of the other data that runs of the same study are trained on, where its axes vary
        them.
    """

    kind: str
    fingerprint: str
    vocab_size: int
    n_documents: int | None
    n_train_documents: int | None
    n_validation_documents: int | None
    n_bytes: int | None
    n_train_tokens: int | None
    n_validation_tokens: int | None
    bytes_per_token: float | None
    entropy_nats: float | None
    window_multiple: int
    notes: tuple[str, ...]
    source: dict[str, object]
    tokenizer: dict[str, Any] | None = None
    parts: tuple["Manifest", ...] = ()
    variants: tuple["Manifest", ...] = ()

    def of(self, source: Mapping[str, object]) -> "Manifest":
        """That of the data which a run of the study is trained on.

        Args:
          source: from `source_to_dict`.

        Raises:
          ValueError: if the study has other data, and not these.
        """
        if not self.variants:
            return self
        for one in (self, *self.variants):
            if one.source == source:
                return one
        raise ValueError(f"manifest lacks data that an axis of the study asks for. {_WAY_OUT}")

    @property
    def why_no_bytes(self) -> str:
        """Why it is not known which bytes its tokens stand for, with the way out; else empty."""
        if self.n_bytes is None:
            return (
                f"source {self.kind!r} does not say which bytes its tokens stand for: documents "
                "cannot be scored by their bytes. Give evaluation.n_tokens, not n_bytes, or text."
            )
        if self.bytes_per_token is None:
            return (
                "the tokenizer does not give all validation documents back byte for byte: there "
                "are no bits per byte. Choose one that does, such as TrainedBPE, or give "
                "evaluation.n_tokens, not n_bytes."
            )
        return ""

    @property
    def n_validation_bytes(self) -> int | None:
        """Bytes of the validation documents, the end of each counted as one; None where they are
        not known."""
        if self.why_no_bytes or self.bytes_per_token is None or self.n_validation_tokens is None:
            return None
        return round(self.bytes_per_token * self.n_validation_tokens)

    @property
    def documents(self) -> str:
        """What became a document, and how many there are; empty where nothing needs to be said."""
        said = [note for note in self.notes if note.startswith(DOCUMENTS)]
        return f"{self.n_documents:,} documents: {said[0][len(DOCUMENTS) :]}" if said else ""

    def to_json(self) -> str:
        """The manifest as JSON text, one field per line and last the sha256 of the others."""
        values = self._values()
        return _text(values | {"sha256": _sha256(values)}) + "\n"

    def _values(self) -> dict[str, Any]:
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        for name in _NESTED:
            values[name] = [one._values() for one in values[name]]
        return {k: v for k, v in values.items() if k not in _OPTIONAL or v}

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """The manifest in `text`.

        Raises:
          ValueError: if it is no JSON object, holds NaN, infinity or a key twice, lacks a field
            or has one too many, if a value has the wrong type or sign, or if the digest (which
            earlier versions did not write) is not that of the values.
        """
        values = _parse(text)
        digest = values.pop("sha256", None)
        manifest = cls._of(values)
        if digest is not None and digest != _sha256(values):
            raise ValueError(
                f"manifest was changed: it has another sha256 than it says. {_WAY_OUT}"
            )
        return manifest

    @classmethod
    def _of(cls, values: dict[str, Any]) -> "Manifest":
        names = [f.name for f in dataclasses.fields(cls)]
        missing = [n for n in names if n not in values and n not in _OPTIONAL]
        unknown = [n for n in values if n not in names]
        if missing or unknown:
            raise ValueError(f"manifest lacks {missing} and has unknown {unknown}. {_WAY_OUT}")
        for name, value in values.items():
            if not _is_legal(name, value):
                raise ValueError(f"manifest field {name!r} is {value!r}: not legal. {_WAY_OUT}")
        if values["source"].get("kind") != values["kind"]:
            raise ValueError(
                f"manifest has kind {values['kind']!r} but its source is "
                f"{values['source'].get('kind')!r}. {_WAY_OUT}"
            )
        nested = {name: tuple(map(cls._of, values.get(name, ()))) for name in _NESTED}
        return cls(**{**values, "notes": tuple(values["notes"]), **nested})

    def write(self, path: str | os.PathLike[str]) -> None:
        """Writes the manifest to `path` whole or not at all (temporary file, then rename).

        Raises:
          OSError: if the folder cannot be written.
        """
        target = Path(path)
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
        try:
            with open(temporary, "x", encoding="utf-8", newline="\n") as file:
                file.write(self.to_json())
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "Manifest":
        """The manifest in the file `path`.

        Raises:
          ValueError: if the file cannot be read or is no manifest; names the file.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ValueError(
                f"manifest {os.fspath(path)!r} cannot be read: {reason}. {_WAY_OUT}"
            ) from error
        try:
            return cls.from_json(text)
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)!r}: {error}") from error


def _text(values: dict[str, Any]) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False)


def _sha256(values: dict[str, Any]) -> str:
    return hashlib.sha256(_text(values).encode()).hexdigest()


def _parse(text: str) -> dict[str, Any]:
    def refuse_constant(name: str) -> None:
        raise ValueError(f"manifest holds {name}, which is no number. {_WAY_OUT}")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) != len(pairs):
            keys = [k for k, _ in pairs]
            twice = sorted({k for k in keys if keys.count(k) > 1})
            raise ValueError(f"manifest has keys twice: {twice}. {_WAY_OUT}")
        return values

    try:
        values = json.loads(text, parse_constant=refuse_constant, object_pairs_hook=unique)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"manifest is no JSON text: {error}. {_WAY_OUT}") from error
    if not isinstance(values, dict):
        raise ValueError(f"manifest is a {type(values).__name__}, no JSON object. {_WAY_OUT}")
    return values


def _is_legal(name: str, value: Any) -> bool:
    if name == "kind":
        return isinstance(value, str)
    if name == "fingerprint":
        return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None
    if name == "notes":
        return isinstance(value, list) and all(isinstance(note, str) for note in value)
    if name == "source":
        return isinstance(value, dict)
    if name in _NESTED:
        return isinstance(value, list) and all(isinstance(one, dict) for one in value)
    if name == "tokenizer":
        kinds = {"sha256": str, "separator": str, "separator_id": int}
        return isinstance(value, dict) and {k: type(v) for k, v in value.items()} == kinds
    if isinstance(value, bool):
        return False
    if name in _COUNTS:
        return value is None or (isinstance(value, int) and value >= 0)
    if name in ("vocab_size", "window_multiple"):
        return isinstance(value, int) and value >= 1
    return value is None or (isinstance(value, int | float) and math.isfinite(value) and value >= 0)

# SPDX-License-Identifier: Apache-2.0
"""Sources refuse in one line what cannot be, and survive JSON."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from model.data.source import (
    Mixture,
    Part,
    PepsText,
    Source,
    StdlibText,
    TextFiles,
    TokenArrays,
    Zipf,
    source_from_dict,
    source_to_dict,
)
from model.data.tokenizer import HuggingFaceTokenizer, Tiktoken, TrainedBPE

ZIPF: dict[str, Any] = {
    "alpha": 0.5,
    "epsilon": 0.1,
    "base": 32,
    "n_digits": 3,
    "n_answers": 3,
    "language_seed": 0,
}
TOKENS: dict[str, Any] = {
    "paths": ("a.npy",),
    "vocab_size": 300,
    "separator": 299,
    "validation_fraction": 0.1,
    "bytes_per_token": 4.5,
}
TEXT: dict[str, Any] = {"paths": ("a",), "validation_fraction": 0.1}
HUGGING_FACE = HuggingFaceTokenizer(path="t", separator="</s>")
PEPS = Part(name="peps", source=PepsText(validation_fraction=0.05), weight=2, unique_tokens=10**6)
GOOD: list[Source] = [
    PepsText(validation_fraction=0.05, tokenizer=TrainedBPE(vocab_size=512)),
    TextFiles(**TEXT, tokenizer=HUGGING_FACE),
    TextFiles(**TEXT, tokenizer=Tiktoken(name="cl100k_base")),
    TextFiles(**TEXT, tokenizer=Tiktoken(name="r50k_base", path="ranks")),
    PepsText(validation_fraction=0.05),
    StdlibText(validation_fraction=0.05),
    TextFiles(paths=("a", "b.jsonl"), validation_fraction=0.5, text_field="body"),
    TextFiles(paths=("a",), validation_paths=("b", "c")),
    TextFiles(**TEXT, format="csv", document_separator="\n", encoding="cp1252"),
    TextFiles(**TEXT, max_document_bytes=2**20, cut_long_documents=True),
    TokenArrays(**TOKENS),
    TokenArrays(**TOKENS, dtype="uint16", order="files"),
    TokenArrays(**{**TOKENS, "validation_fraction": None, "validation_paths": ("b.npy",)}),
    TokenArrays(**{**TOKENS, "bytes_per_token": None}),
    Zipf(**ZIPF),
    Mixture(parts=(PEPS, Part(name="code", source=TextFiles(**TEXT), weight=0.5, max_epochs=4))),
    Mixture(parts=(PEPS,), tokenizer=HUGGING_FACE),
]
MIXED = Mixture(parts=(PEPS,))
PART: dict[str, Any] = {"name": "a", "source": PepsText(validation_fraction=0.05), "weight": 1.0}
BAD: list[tuple[Callable[..., object], dict[str, Any], str]] = [
    (PepsText, {"validation_fraction": 1}, "validation_fraction of source 'peps' is 1"),
    (StdlibText, {"validation_fraction": 0.0}, "validation_fraction of source 'stdlib' is 0.0"),
    (StdlibText, {"validation_fraction": 1.0}, "0 < x < 1"),
    (StdlibText, {"validation_fraction": float("nan")}, "is nan"),
    (TextFiles, {"paths": (), "validation_fraction": 0.1}, "paths of source 'text'"),
    (TextFiles, {"paths": ("",), "validation_fraction": 0.1}, "paths of source 'text'"),
    (TextFiles, {"paths": ("a\0b",), "validation_fraction": 0.1}, "paths of source 'text'"),
    (TextFiles, {"paths": ("a",), "validation_fraction": 0.1, "text_field": ""}, "text_field"),
    (TextFiles, {**TEXT, "format": "zip"}, "format of .* is 'zip': it must be one of text, jsonl"),
    (TextFiles, {**TEXT, "document_separator": ""}, "document_separator .* a non-empty string"),
    (TextFiles, {**TEXT, "encoding": "utf-9"}, "encoding of .* is 'utf-9': it must be an encoding"),
    (TextFiles, {**TEXT, "encoding": "rot13"}, "encoding of .* is 'rot13'"),
    (TextFiles, {**TEXT, "max_document_bytes": 0}, r"max_document_bytes .* is 0: .* \[16, "),
    (TextFiles, {"paths": ("a",)}, "validation_fraction .* is None and .* is None: give one"),
    (
        TextFiles,
        {"paths": ("a",), "validation_fraction": 0.1, "validation_paths": ("b",)},
        r"is 0.1 and validation_paths is \('b',\): give one",
    ),
    (TextFiles, {"paths": ("a",), "validation_paths": ()}, r"validation_paths of .* is \(\)"),
    (TokenArrays, {**TOKENS, "validation_fraction": None}, "of source 'tokens' is None and"),
    (TextFiles, {**TEXT, "tokenizer": "gpt2"}, "tokenizer of .* is 'gpt2': it must be TrainedBPE"),
    (Tiktoken, {"name": "gpt2"}, "name of source 'tiktoken' is 'gpt2': it must be one of r50k_b"),
    (Tiktoken, {"name": "r50k_base", "path": ""}, "path of .* is '': .* non-empty string, or None"),
    (PepsText, {"validation_fraction": 0.1, "tokenizer": 512}, "tokenizer of .* 'peps' is 512"),
    (TokenArrays, {**TOKENS, "dtype": "float32"}, "dtype .* 'float32': it must be one of uint8, "),
    (TokenArrays, {**TOKENS, "order": "random"}, "order .* 'random': .* one of shuffled, files"),
    (TokenArrays, {**TOKENS, "separator": 300}, r"separator of source 'tokens' is 300.*\[0, 299\]"),
    (TokenArrays, {**TOKENS, "separator": -1}, "separator"),
    (TokenArrays, {**TOKENS, "vocab_size": 1}, "vocab_size"),
    (TokenArrays, {**TOKENS, "bytes_per_token": 0.0}, "bytes_per_token"),
    (Part, {**PART, "name": "a b"}, "name of source 'part' is 'a b': it must be 1 to 40 letters"),
    (Part, {**PART, "name": "all"}, "and not 'all'"),
    (Part, {**PART, "weight": 0}, "weight of source 'part' is 0: .* 0 < x"),
    (Part, {**PART, "source": MIXED}, "source of .* a data source that is no Mixture"),
    (Part, {**PART, "source": GOOD[0]}, "without tokenizer: set that of the Mixture"),
    (Part, {**PART, "source": Zipf(**ZIPF), "unique_tokens": 9}, "None for zipf, which has no end"),
    (Part, {**PART, "unique_tokens": 0}, "unique_tokens .* is 0: it must be an integer"),
    (Part, {**PART, "max_epochs": 0.0}, "max_epochs .* is 0.0"),
    (Mixture, {"parts": ()}, r"parts of source 'mixture' is \(\): it must be a tuple of Part"),
    (Mixture, {"parts": (GOOD[0],)}, "it must be a tuple of Part"),
    (Mixture, {"parts": (PEPS, replace(PEPS, source=GOOD[4]))}, "have each name once"),
    (Mixture, {"parts": (PEPS, replace(PEPS, name="b"))}, "have each source once"),
    (Mixture, {"parts": (PEPS,), "tokenizer": 512}, "tokenizer of source 'mixture' is 512"),
    (
        Mixture,
        {"parts": (Part(name="z", source=Zipf(**ZIPF), weight=1),), "tokenizer": HUGGING_FACE},
        "tokenizer of .*: it must be None, or all parts text",
    ),
    (Zipf, {**ZIPF, "alpha": 0.0}, "alpha"),
    (Zipf, {**ZIPF, "alpha": float("inf")}, "alpha"),
    (Zipf, {**ZIPF, "epsilon": 1.5}, "epsilon.*0 <= x <= 1"),
    (Zipf, {**ZIPF, "base": 1}, "base"),
    (Zipf, {**ZIPF, "n_digits": 0}, "n_digits"),
    (Zipf, {**ZIPF, "n_answers": 0}, "n_answers"),
    (Zipf, {**ZIPF, "language_seed": -1}, "language_seed"),
    (Zipf, {**ZIPF, "n_digits": 6}, r"table of 2\^33.3 tokens.*Lower base or n_digits"),
]


@pytest.mark.parametrize(("make", "fields", "message"), BAD)
def test_bad_source_is_refused_in_one_line(make: Callable, fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        make(**fields)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("source", GOOD, ids=lambda s: s.kind)
def test_source_survives_json(source: Source) -> None:
    text = json.dumps(source_to_dict(source), allow_nan=False)
    assert source_from_dict(json.loads(text)) == source


def test_a_record_of_today_is_read_tomorrow_and_that_of_yesterday_today() -> None:
    recorded = {"kind": "text", "paths": ["a"], "validation_fraction": 0.5, "text_field": "text"}
    source = TextFiles(paths=("a",), validation_fraction=0.5)
    assert source_from_dict(recorded) == source
    added = {"encoding": "utf-8", "max_document_bytes": 2**26, "cut_long_documents": False}
    assert source_to_dict(source) == recorded | added


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"kind": "web"},
            "unknown data source 'web': choose one of peps, stdlib, text, dataset, tokens",
        ),
        ({"validation_fraction": 0.1}, "unknown data source None"),
        ({"kind": "stdlib"}, r"lacks \['validation_fraction'\]"),
        ({"kind": "stdlib", "validation_fraction": 0.1, "seed": 1}, r"unknown fields \['seed'\]"),
    ],
)
def test_bad_dict_is_refused(values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        source_from_dict(values)


WRONG_TYPES = [
    ({"kind": "stdlib", "validation_fraction": "a"}, "is 'a': it must be a number"),
    ({"kind": "stdlib", "validation_fraction": None}, "is None: it must be a number"),
    ({"kind": "stdlib", "validation_fraction": True}, "is True: it must be a number"),
    ({"kind": "text", "paths": "a", "validation_fraction": 0.1}, "is 'a': it must be a tuple"),
    ({"kind": "text", "paths": [1], "validation_fraction": 0.1}, "is (1,): it must be a tuple"),
    (
        {"kind": "text", **TEXT, "tokenizer": {"kind": "x"}},
        "unknown tokenizer",
    ),
    (
        {"kind": "text", **TEXT, "tokenizer": {"kind": "bpe", "size": 1}},
        "known are bpe, hugging_face, tiktoken, each with its own fields",
    ),
    (
        {"kind": "text", **TEXT, "tokenizer": {"kind": "bpe", "vocab_size": 256}},
        "vocab_size of source 'bpe' is 256: it must be an integer in [257,",
    ),
    ({"kind": "text", **TEXT, "cut_long_documents": 1}, "is 1: it must be True or False"),
    ({"kind": "text", **TEXT, "text_field": None}, "is None: it must be a non-empty string"),
    ({"kind": "text", **TEXT, "encoding": 8}, "is 8: it must be an encoding that Python knows"),
    ({"kind": "text", **TEXT, "format": 1}, "is 1: it must be one of text, "),
    ({"kind": "tokens", **TOKENS, "separator": 1.0}, "is 1.0: it must be an integer"),
    ({"kind": "tokens", **TOKENS, "vocab_size": True}, "is True: it must be an integer"),
    ({"kind": "zipf", **ZIPF, "epsilon": "0"}, "is '0': it must be a number"),
]


def test_wrong_types_are_refused_in_one_line() -> None:
    # In a process of its own: in this one a checker of types speaks before the source can.
    code = (
        "import json, sys\n"
        "from model.data.source import source_from_dict\n"
        "for values in json.load(sys.stdin):\n"
        "    try: print('accepted', source_from_dict(values))\n"
        "    except ValueError as error: print(error)\n"
    )
    given = json.dumps([values for values, _ in WRONG_TYPES])
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, input=given, check=True, capture_output=True, text=True)
    for line, (_, message) in zip(done.stdout.splitlines(), WRONG_TYPES, strict=True):
        assert message in line


def test_zipf_properties_follow_from_its_fields() -> None:
    source = Zipf(**ZIPF)
    assert (source.record_length, source.n_facts) == (7, 32768)
    assert (source.vocab_size, source.separator) == (33, 32)


def test_source_and_manifest_import_standard_library_only() -> None:
    code = (
        "import sys\n"
        "for name in ('numpy', 'jax', 'grain', 'scipy', 'jaxtyping'): sys.modules[name] = None\n"
        "import model.data.source, model.data.manifest"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

# SPDX-License-Identifier: Apache-2.0
"""Files of tokens as numpy, nanoGPT, llm.c and Megatron write them, by their published layouts."""

import itertools
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.data.corpus import open_corpus
from model.data.formats.token_file import open_tokens
from model.data.prepare import prepare
from model.data.source import TokenArrays

SEPARATOR, VOCAB = 999, 1000
DOCUMENTS = [[i, *range(i, i + i % 9)] for i in range(1, 60)]
TOKENS = [token for document in DOCUMENTS for token in [*document, SEPARATOR]]


def llm_c(path: Path, tokens: list[int], magic: int, version: int, dtype: str) -> None:
    """write_datafile of llm.c's dev/data/data_common.py."""
    header = struct.pack("<256i", magic, version, len(tokens), *[0] * 253)
    path.write_bytes(header + np.array(tokens, dtype).tobytes())


def megatron(
    path: Path, sequences: list[list[int]], ends: list[int], code: int = 8, dtype: str = "<u2"
) -> None:
    """IndexedDatasetBuilder of Megatron-LM; `ends`: the number of sequences before each document,
    and of all."""
    arrays = [np.array(sequence, dtype) for sequence in sequences]
    path.write_bytes(b"".join(array.tobytes() for array in arrays))
    places = itertools.accumulate((array.nbytes for array in arrays[:-1]), initial=0)
    n = len(sequences)
    index = b"MMIDIDX\x00\x00" + struct.pack("<QBQQ", 1, code, n, len(ends))
    index += struct.pack(f"<{n}i", *map(len, sequences))
    index += struct.pack(f"<{n}q", *itertools.islice(places, n))
    index += struct.pack(f"<{len(ends)}q", *ends)
    path.with_suffix(".idx").write_bytes(index)


def megatron_documents(path: Path) -> None:
    """Each of two sequences and, every other one, of --append-eod's token."""
    sequences: list[list[int]] = []
    for number, document in enumerate(DOCUMENTS):
        end = [SEPARATOR] if number % 2 else []
        sequences += [document[:1], document[1:] + end]
    megatron(path, sequences, list(range(0, len(sequences) + 1, 2)), code=4, dtype="<i4")


WRITERS: dict[str, Callable[[Path], Any]] = {
    "a.npy": lambda path: np.save(path, np.array(TOKENS)),
    "nanogpt.bin": lambda path: np.array(TOKENS, np.uint16).tofile(path),
    "llm_c.bin": lambda path: llm_c(path, TOKENS, 20240520, 1, "<u2"),
    "llama_3.bin": lambda path: llm_c(path, TOKENS, 20240801, 7, "<u4"),
    "megatron.bin": megatron_documents,
}


def source_of(*paths: Path, **fields: Any) -> TokenArrays:
    known = {"vocab_size": VOCAB, "separator": SEPARATOR, "bytes_per_token": None}
    known |= {"dtype": "uint16", "validation_fraction": 0.3}
    return TokenArrays(**{"paths": tuple(map(str, paths)), **known, **fields})


@pytest.mark.parametrize("name", WRITERS)
def test_the_same_documents_are_the_same_tokens_in_every_format(tmp_path: Path, name: str) -> None:
    for each in ("a.npy", name):
        (tmp_path / each).parent.mkdir(exist_ok=True)
        WRITERS[each](tmp_path / each)
    one = prepare(source_of(tmp_path / "a.npy"), tmp_path / "one")
    two = prepare(source_of(tmp_path / name), tmp_path / "two")
    assert one.fingerprint == two.fingerprint
    assert two.n_documents == len(DOCUMENTS)


def test_a_folder_of_shards_with_their_indices_is_read_in_order(tmp_path: Path) -> None:
    for shard, documents in enumerate((DOCUMENTS[:20], DOCUMENTS[20:])):
        path = tmp_path / "in" / f"shard_{shard}.bin"
        path.parent.mkdir(exist_ok=True)
        megatron(path, documents, list(range(len(documents) + 1)))
    np.save(tmp_path / "a.npy", TOKENS)
    manifest = prepare(source_of(tmp_path / "in"), tmp_path / "one")
    assert (
        manifest.fingerprint == prepare(source_of(tmp_path / "a.npy"), tmp_path / "x").fingerprint
    )
    assert "Tokens of 2 files." in manifest.notes


TYPES = [
    *[(1, "u1", 255), (2, "i1", 127), (3, "<i2", 32767), (8, "<u2", 65535)],
    *[(4, "<i4", 2**17), (5, "<i8", 2**17)],
]


@pytest.mark.parametrize(("code", "dtype", "largest"), TYPES)
def test_every_type_of_an_index_holds_its_largest_token(
    tmp_path: Path, code: int, dtype: str, largest: int
) -> None:
    megatron(tmp_path / "a.bin", [[largest, 1]], [0, 1], code, dtype)
    assert open_tokens(tmp_path / "a.bin", None).tokens.tolist() == [largest, 1]


@pytest.mark.parametrize(("dtype", "largest"), [("uint16", 65535), ("uint32", 2**32 - 1)])
def test_tokens_without_a_header_are_of_the_type_that_was_said(
    tmp_path: Path, dtype: str, largest: int
) -> None:
    np.array([largest, 1], dtype).tofile(tmp_path / "a.bin")
    assert open_tokens(tmp_path / "a.bin", dtype).tokens.tolist() == [largest, 1]


def held_out(tmp_path: Path, train: list[int], **fields: Any) -> TokenArrays:
    np.array(train, np.uint16).tofile(tmp_path / "train.bin")
    np.array([5, SEPARATOR] * 40, np.uint16).tofile(tmp_path / "val.bin")
    apart = {"validation_fraction": None, "validation_paths": (str(tmp_path / "val.bin"),)}
    return source_of(tmp_path / "train.bin", **{**apart, **fields})


def test_files_that_are_not_split_are_taken_token_for_token(tmp_path: Path) -> None:
    """Documents without tokens, separators in front of them as llm.c writes them, no last one."""
    train = [SEPARATOR, 1, 2, SEPARATOR, SEPARATOR, 3]
    manifest = prepare(held_out(tmp_path, train), tmp_path / "out")
    assert np.load(tmp_path / "out" / "train.npy").tolist() == train
    assert (manifest.n_train_documents, manifest.n_validation_documents) == (4, 40)
    manifest = prepare(held_out(tmp_path, [1, 2, 3]), tmp_path / "out")
    assert np.load(tmp_path / "out" / "train.npy").tolist() == [1, 2, 3]
    assert manifest.n_train_documents == 1


def test_an_index_counts_the_documents_of_what_is_not_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.data.tokens.token_arrays._BLOCK_TOKENS", 7)
    megatron(tmp_path / "train.bin", DOCUMENTS, list(range(len(DOCUMENTS) + 1)))
    np.save(tmp_path / "val.npy", [5, SEPARATOR])
    apart = {"validation_fraction": None, "validation_paths": (str(tmp_path / "val.npy"),)}
    manifest = prepare(source_of(tmp_path / "train.bin", **apart), tmp_path / "out")
    assert manifest.n_train_documents == len(DOCUMENTS)
    assert np.load(tmp_path / "out" / "train.npy").tolist() == [*itertools.chain(*DOCUMENTS)]


def test_windows_in_the_order_of_the_files_are_the_batches_of_llm_c(tmp_path: Path) -> None:
    """Its loader takes B T + 1 tokens from a place that moves on by B T, and begins again where
    they do not suffice; here they do for 6 batches."""
    n_rows, length = 4, 5
    train = np.random.default_rng(0).integers(0, VOCAB, 6 * n_rows * length + 1).tolist()
    source = held_out(tmp_path, train, order="files")
    manifest = prepare(source, tmp_path / "out")
    corpus = open_corpus(manifest, tmp_path / "out")
    for step in range(14):
        place = step % 6 * n_rows * length
        taken = np.array(train[place : place + n_rows * length + 1])
        batch = corpus.train_windows(step * n_rows, n_rows, seq_len=length, seed=step)
        assert (batch[:, :-1] == taken[:-1].reshape(n_rows, length)).all()
        assert (batch[:, 1:] == taken[1:].reshape(n_rows, length)).all()
    assert "Windows are trained on as they lie in the files." in manifest.notes
    shuffled = prepare(held_out(tmp_path, train), tmp_path / "out")
    assert shuffled.fingerprint != manifest.fingerprint
    batch = open_corpus(shuffled, tmp_path / "out").train_windows(0, 6, seq_len=5, seed=0)
    assert (batch != corpus.train_windows(0, 6, seq_len=5, seed=0)).any()


def spoilt(path: Path, at: int, new: bytes) -> None:
    content = bytearray(path.read_bytes())
    content[at : at + len(new)] = new
    path.write_bytes(content)


def megatron_then(change: Callable[[Path, Path], Any]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        megatron(path, DOCUMENTS, list(range(len(DOCUMENTS) + 1)))
        change(path, path.with_suffix(".idx"))

    return write


N = len(DOCUMENTS)
BAD: list[tuple[Callable[[Path], Any], dict[str, Any], str]] = [
    (WRITERS["nanogpt.bin"], {"dtype": None}, r"a\.bin' has no header .* set dtype of the source"),
    (lambda p: p.write_bytes(b"\1\0\2"), {}, r"holds 3 bytes, which are no tokens of 2 bytes"),
    (lambda p: p.write_bytes(b""), {}, "holds 0 bytes, which are no tokens"),
    (WRITERS["nanogpt.bin"], {"vocab_size": 60, "separator": 59}, "holds token .* at position"),
    (
        lambda p: (WRITERS["llm_c.bin"](p), p.write_bytes(p.read_bytes()[:-2])),
        {},
        rf"says in its header that it holds {len(TOKENS)} tokens: it holds {len(TOKENS) - 1}",
    ),
    (lambda p: llm_c(p, TOKENS, 20240522, 1, "<u2"), {}, "evaluation data"),
    (megatron_then(lambda b, i: spoilt(i, 0, b"X")), {}, r"a\.idx' is no index of Megatron"),
    (megatron_then(lambda b, i: spoilt(i, 9, b"\2")), {}, "is no index of Megatron, version 1"),
    (megatron_then(lambda b, i: i.write_bytes(b"MMID")), {}, "is no index of Megatron"),
    (megatron_then(lambda b, i: spoilt(i, 17, b"\6")), {}, "type 6, which is no type of integers"),
    (
        megatron_then(lambda b, i: i.write_bytes(i.read_bytes()[:-1])),
        {},
        rf"has {12 * N + 8 * (N + 1) - 1} bytes for {N} sequences, which need",
    ),
    (
        megatron_then(lambda b, i: b.write_bytes(b.read_bytes()[:-2])),
        {},
        rf"does not agree with a\.bin: its {N} sequences are {sum(map(len, DOCUMENTS))} tokens",
    ),
    (megatron_then(lambda b, i: spoilt(i, 34 + 4 * N + 8, b"\1")), {}, "does not agree with"),
    (megatron_then(lambda b, i: spoilt(i, 34 + 12 * N, b"\1")), {}, "does not agree with"),
    (megatron_then(lambda b, i: spoilt(i, 34 + 12 * N + 8, b"\7")), {}, "does not agree with"),
]  # fmt: skip


@pytest.mark.parametrize(("write", "fields", "message"), BAD)
def test_a_file_that_is_not_what_it_says_is_refused_in_one_line(
    tmp_path: Path, write: Callable[[Path], Any], fields: dict[str, Any], message: str
) -> None:
    write(tmp_path / "a.bin")
    with pytest.raises(ValueError, match=message) as caught:
        prepare(source_of(tmp_path / "a.bin", **fields), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "out").rglob("*"))


def test_an_index_without_its_file_is_refused(tmp_path: Path) -> None:
    megatron(tmp_path / "in.bin", DOCUMENTS, list(range(N + 1)))
    (tmp_path / "in.bin").unlink()
    with pytest.raises(ValueError, match=r"ending '\.idx': \.npy and \.bin are read"):
        prepare(source_of(tmp_path), tmp_path / "out")

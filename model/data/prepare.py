# SPDX-License-Identifier: Apache-2.0
"""From a source to token files and their manifest: read, split by document hash, write once."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from model.data.dataset import DatasetReader
from model.data.images.files import list_image_files, prepare_images
from model.data.manifest import Manifest
from model.data.overlap import Strings
from model.data.source import (
    FileSource,
    HuggingFaceDataset,
    ImageFiles,
    Language,
    PepsText,
    SingleSource,
    StdlibText,
    TokenArrays,
    source_to_dict,
    with_tokenizer,
)
from model.data.splits import KEPT, Changed, Splits, is_validation
from model.data.synthetic.open_language import describe_language
from model.data.text import PepsReader, Reader, StdlibReader, TextFilesReader, stamp
from model.data.tokenizer import SEPARATOR, FileTokenizer, HuggingFaceTokenizer, TrainedBPE
from model.data.tokens.encoding import (
    TOKENIZER_FILE,
    Encoding,
    FileEncoding,
    encoding_of,
    tokenizer_digest,
)
from model.data.tokens.token_arrays import TokenArraysReader

# Raised when the same source comes to be other tokens.
_VERSION = 1
_TOLD_BYTES = 2**24

Progress = Callable[[int, int, int], None]


def prepare(
    source: SingleSource, folder: str | os.PathLike[str], progress: Progress | None = None
) -> Manifest:
    """Writes the source's tokens into `folder` (train.npy, validation.npy) and describes them.

    Text is split before it is tokenised, by document; so for every tokenizer the same documents
    are held out. The tokenizer is written beside its tokens (tokenizer.json).

    Same files, same bytes: the result depends on names (relative to the paths given) and
    contents, not on the order or place of folders. The token files get their names only when
    both are complete; the caller writes the manifest last, and `open_corpus` checks the files
    against it, so a killed call leaves nothing that passes for done, but a hidden folder
    `.prepare-*`, from which the next call goes on where source and files are the same. Of several
    processes one may prepare into a folder at a time. A language writes nothing.

    Args:
      folder: where the token files go; made if missing.
      progress: called with (files done, files in all, bytes of text so far) now and then.

    Raises:
      ValueError: if a file cannot be read as the source says, or a split would be empty.
      OSError: if the folder cannot be written.
    """
    if isinstance(source, Language):
        return describe_language(source)
    if isinstance(source, ImageFiles):
        return prepare_images(source, folder)
    folder = Path(folder)
    staging = folder / f".prepare-{source_key(source)[:8]}"
    staging.mkdir(parents=True, exist_ok=True)
    try:
        splits, reader = _write_splits(source, staging, progress)
    except (Changed, EOFError):
        shutil.rmtree(staging)
        return prepare(source, folder, progress)
    except BaseException:
        if not (staging / KEPT).exists():
            shutil.rmtree(staging, ignore_errors=True)
        raise
    (staging / KEPT).unlink(missing_ok=True)
    Path(folder, TOKENIZER_FILE).unlink(missing_ok=True)  # Of what lay there before.
    for path in sorted(staging.iterdir()):
        os.replace(path, folder / path.name)
    staging.rmdir()
    return splits.manifest(source, reader)


def source_key(source: FileSource | ImageFiles) -> str:
    """Of all that the tokens of a source follow from: what it says, and the files that it reads."""
    if isinstance(source, ImageFiles):
        stamps: list[object] = [stamp(file) for file in list_image_files(source)]
    else:
        stamps = reader_of(source).stamps()
    tokenizer = getattr(source, "tokenizer", None)
    if isinstance(tokenizer, FileTokenizer):
        stamps.append(tokenizer_digest(tokenizer))
    rule = json.dumps([_VERSION, source_to_dict(source), stamps])
    return hashlib.sha256(rule.encode()).hexdigest()[:32]


def _write_splits(
    source: FileSource, folder: Path, progress: Progress | None
) -> tuple[Splits, Reader]:
    reader = reader_of(source)
    encoding = _encoding(source, folder)
    files = [*reader.validation_files, *reader.files]
    splits = Splits(source, encoding, folder, _strings_held_out(source))
    n_told = 0
    try:
        for n_done, file in enumerate(files, 1):
            is_held_out = n_done <= len(reader.validation_files)
            if isinstance(reader, TokenArraysReader) and reader.validation_files:
                for tokens, n_documents in reader.as_they_are(file):
                    splits.extend(tokens, n_documents, is_held_out=is_held_out)
            else:
                for document in _documents(reader, file):
                    splits.append(document, is_held_out=is_held_out)
                    if progress is not None and splits.n_bytes - n_told > _TOLD_BYTES:
                        n_told = splits.n_bytes
                        progress(n_done - 1, len(files), n_told)
            if progress is not None:
                progress(n_done, len(files), splits.n_bytes)
        splits.finish()
    finally:
        splits.close()
    return splits, reader


def _encoding(source: FileSource, folder: Path) -> Encoding:
    """The source's; a vocabulary that a killed call trained is not trained again."""
    path, tokenizer = folder / TOKENIZER_FILE, getattr(source, "tokenizer", None)
    if isinstance(tokenizer, TrainedBPE) and path.exists():
        tokenizer = HuggingFaceTokenizer(path=str(path), separator=SEPARATOR)
        return encoding_of(with_tokenizer(source, tokenizer), ())
    encoding = encoding_of(source, training_texts(source))
    if isinstance(encoding, FileEncoding):
        temporary = folder / f".{TOKENIZER_FILE}"
        temporary.write_text(encoding.json, encoding="utf-8")
        os.replace(temporary, path)
    return encoding


def _strings_held_out(source: FileSource) -> Strings | None:
    """Of the documents that are held out, where training documents that have one are dropped."""
    if getattr(source, "drop", None) != "overlap":
        return None
    reader, fraction = reader_of(source), source.validation_fraction
    files = reader.validation_files or reader.files
    documents = (document for file in files for document in _documents(reader, file))
    return Strings(text for text in documents if fraction is None or is_validation(text, fraction))


def _documents(reader: Reader, file: Path) -> Iterator[bytes]:
    """A file's documents, or the blocks of its only one where there is nothing else to split."""
    is_alone = [file] == reader.files and not reader.validation_files
    return (reader.blocks(file) if is_alone else None) or reader.documents(file)


def training_texts(source: FileSource) -> Iterator[bytes]:
    """What a vocabulary is trained on: nothing that is held out."""
    reader, fraction = reader_of(source), source.validation_fraction
    for file in reader.files:
        for document in _documents(reader, file):
            if fraction is None or not is_validation(document, fraction):
                yield document


def reader_of(source: FileSource) -> Reader:
    """What reads the documents of a source; raises ValueError."""
    match source:
        case PepsText():
            return PepsReader(source)
        case StdlibText():
            return StdlibReader(source)
        case HuggingFaceDataset():
            return DatasetReader(source)
        case TokenArrays():
            return TokenArraysReader(source)
    return TextFilesReader(source)

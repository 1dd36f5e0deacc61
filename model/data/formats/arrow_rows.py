# SPDX-License-Identifier: Apache-2.0
"""Parquet and Arrow files. A row is the value of a column of texts."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.data.formats.open_file import COMPRESSED, open_file, reading
from model.data.formats.piece import Piece
from model.data.source import TextFiles

if TYPE_CHECKING:
    import pyarrow as pa

# Documents of up to 64 MB are read so many at a time.
_BATCH_ROWS = 64


def parquet_rows(file: Path, source: TextFiles) -> Iterator[Piece]:
    """The texts of the column that `text_field` names, also one in a struct ("meta.text").

    Raises:
      ValueError: if the file cannot be read, has no such column of texts, or a row has none.
    """
    import pyarrow.parquet as pq  # Late: text in other formats does without.

    with _arrow_file(file) as stream:
        table = pq.ParquetFile(stream)
        _check_column(file, table.schema_arrow, source.text_field)
        batches = table.iter_batches(_BATCH_ROWS, columns=[source.text_field])
        yield from _texts(file, batches, source.text_field)


def arrow_rows(file: Path, source: TextFiles) -> Iterator[Piece]:
    """As `parquet_rows`, of Arrow's stream format, which `datasets` saves, or its file format.

    Raises:
      ValueError: as `parquet_rows`.
    """
    import pyarrow as pa

    with _arrow_file(file) as stream:
        is_file = stream.read(6) == b"ARROW1"
        stream.seek(0)
        if is_file:
            table = pa.ipc.open_file(stream)
            batches = (table.get_batch(number) for number in range(table.num_record_batches))
        else:
            table = batches = pa.ipc.open_stream(stream)
        _check_column(file, table.schema, source.text_field)
        yield from _texts(file, batches, source.text_field)


@contextlib.contextmanager
def _arrow_file(file: Path) -> Iterator[Any]:
    """The file, memory-mapped. One that is compressed lies decompressed on the disk meanwhile: the
    formats are not read from front to end."""
    import pyarrow as pa

    with reading(file), contextlib.ExitStack() as stack:
        try:
            if file.suffix.lower() in COMPRESSED:
                plain = stack.enter_context(tempfile.NamedTemporaryFile())
                shutil.copyfileobj(stack.enter_context(open_file(file)), plain)
                plain.flush()
                yield stack.enter_context(pa.memory_map(plain.name))
            else:
                yield stack.enter_context(pa.memory_map(os.fspath(file)))
        except pa.ArrowException as error:
            reason = str(error).splitlines()[0].rstrip(".")
            raise ValueError(
                f"data file {os.fspath(file)!r} cannot be read: {reason}. Correct the file."
            ) from error


def _check_column(file: Path, schema: "pa.Schema", name: str) -> None:
    import pyarrow as pa

    kinds = dict(_leaves(schema))
    kind = kinds.get(name)
    if kind is not None and pa.types.is_dictionary(kind):
        kind = kind.value_type
    if kind in (pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary()):
        return
    found = ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
    raise ValueError(
        f"data file {os.fspath(file)!r} has no column of texts {name!r} (found {found}): set "
        "text_field of the source."
    )


def _leaves(fields: Iterable["pa.Field"], prefix: str = "") -> Iterator[tuple[str, "pa.DataType"]]:
    import pyarrow as pa

    for field in fields:
        name = prefix + field.name
        if pa.types.is_struct(field.type):
            yield from _leaves(field.type.fields, f"{name}.")
        else:
            yield name, field.type


def _texts(file: Path, batches: Iterable["pa.RecordBatch"], name: str) -> Iterator[Piece]:
    row = 0
    for batch in batches:
        for text in _column(batch, name).to_pylist():
            row += 1
            where = f"row {row} of data file {os.fspath(file)!r}"
            if text is None:
                raise ValueError(
                    f"{where} has no text in column {name!r}: drop the row, or set text_field of "
                    "the source."
                )
            try:
                text.decode()
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{where} is not UTF-8 (byte {error.start}). Correct the file."
                ) from error
            yield Piece(text, row)


def _column(batch: "pa.RecordBatch", name: str) -> "pa.Array":
    """As bytes: what is no UTF-8 is then an error of ours, which names the row."""
    import pyarrow as pa
    import pyarrow.compute as pc

    array, rest = _outer(batch, name)
    if rest:
        array = pc.struct_field(array, rest)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    return array.cast(pa.large_binary())


def _outer(batch: "pa.RecordBatch", name: str) -> tuple["pa.Array", list[str]]:
    if name in batch.schema.names:
        return batch.column(name), []
    outer, *rest = name.split(".")
    return batch.column(outer), rest

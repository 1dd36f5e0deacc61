# SPDX-License-Identifier: Apache-2.0
"""CSV, TSV, JSONL and Parquet files as columns of cells, each row with its number in the file."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from scaling.tables.arrays import Array
from scaling.tables.csv_spelling import header as header_of
from scaling.tables.csv_spelling import is_number, thousands_points, with_decimal_points
from scaling.tables.json_rows import cell, json_columns, json_lines

_TEXT = (".csv", ".tsv", ".txt", ".jsonl", ".json")
SUFFIXES = (*_TEXT, *(f"{suffix}.gz" for suffix in _TEXT), ".parquet")
_EXAMPLE = '--columns "n_params=COLUMN:M,n_tokens=COLUMN:B,loss_nats=COLUMN"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Cells as the file has them: text (CSV), text and numbers (JSONL, Parquet), "" where empty.

    Fields:
      row_kind: "line" where rows are numbered by lines of the file, else "row", from 1.
      row_numbers: [n]. columns: name -> n cells. notes: what was passed over, in words.
    """

    path: Path
    row_kind: str
    row_numbers: Array
    columns: Mapping[str, Sequence[Any]]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.row_numbers)

    def require(self, wanted: Iterable[str], example: str = _EXAMPLE) -> None:
        """Raises ValueError naming the columns that are missing, those there are, and how an
        option says which is which."""
        missing = [name for name in dict.fromkeys(wanted) if name not in self.columns]
        if not missing:
            return
        raise ValueError(
            f"{self.path} has no column {', '.join(missing)}; it has {', '.join(self.columns)}. "
            f"Say which is which, with units: {example}, or in Python "
            "columns={'n_tokens': 'COLUMN:B', ...}."
        )

    def select(self, rows: Array) -> Table:
        """The rows of a mask, with their numbers."""
        kept = np.flatnonzero(rows).tolist()
        columns = {name: [cells[i] for i in kept] for name, cells in self.columns.items()}
        return replace(self, row_numbers=self.row_numbers[kept], columns=columns)


def is_table(name: str) -> bool:
    """Whether a path ends like a table that `read_table` reads."""
    return name.lower().endswith(SUFFIXES)


def read_table(source: str | Path | Mapping[str, Any] | Any) -> Table:
    """The table of a file that ends like one of SUFFIXES (other names read as CSV), of a dict of
    columns, or of a DataFrame or Arrow table (whatever has __arrow_c_stream__).

    Raises:
      ValueError: if the table is damaged, not text, repeats a column, or holds no rows.
      TypeError: if the source is none of these.
      OSError: if there is no such file, or it is a folder.
    """
    if not isinstance(source, str | Path):
        return _checked(_of_memory(source))
    path = Path(source)
    name = path.name.lower()
    if name.endswith(".parquet"):
        return _checked(_read_parquet(path))
    text = _text(path)
    if ".jsonl" in name:
        numbers, columns = json_lines(path, text)
        found = Table(path=path, row_kind="line", row_numbers=np.array(numbers), columns=columns)
    elif ".json" in name:
        found = _by_row(path, json_columns(path, text))
    else:
        found = _read_csv(path, text)
    return _checked(found)


def _of_memory(source: Any) -> Table:
    import pyarrow as pa

    if isinstance(source, Mapping):
        columns = {
            str(name): values.tolist() if hasattr(values, "tolist") else list(values)
            for name, values in source.items()
        }
        lengths = {name: len(cells) for name, cells in columns.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"columns differ in length: {lengths}; give one value per run")
        return _by_row(Path("the table"), {n: list(map(cell, c)) for n, c in columns.items()})
    if not hasattr(source, "__arrow_c_stream__"):
        raise TypeError(
            f"{type(source).__name__} is no table: give a path, a dict of columns, a DataFrame or "
            "an Arrow table"
        )
    return _of_arrow(Path("the table"), pa.table(source))


def _by_row(path: Path, columns: Mapping[str, Sequence[Any]]) -> Table:
    """Rows counted from 1."""
    n = max(map(len, columns.values()), default=0)
    return Table(path=path, row_kind="row", row_numbers=np.arange(1, n + 1), columns=columns)


def _text(path: Path) -> str:
    raw = path.read_bytes()
    try:
        body = gzip.decompress(raw) if path.suffix.lower() == ".gz" else raw
        text = body.decode("utf-8-sig")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is no whole gzip file ({error}); compress it again") from None
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 text (byte {error.start}); save it as such"
        ) from None
    if "\0" in text:
        raise ValueError(f"{path} is not text: it holds null bytes")
    return text


def _checked(table: Table) -> Table:
    if not len(table):
        raise ValueError(f"{table.path} holds no rows; a table needs a header and one row per run")
    return table


def _refuse_repeats(path: Path, header: Sequence[str]) -> None:
    repeated = sorted({name for name in header if name and header.count(name) > 1})
    if repeated:
        raise ValueError(
            f"{path} names the column {', '.join(repeated)} more than once; rename or drop one"
        )


def _read_csv(path: Path, text: str) -> Table:
    """Names are stripped of blanks; rows whose every cell is empty are blank lines.

    Cells are separated by what a line "sep=;" says, else by what gives the header most of them.
    Lines that begin with # are comments, but where all rows do. Where ; separates cells, a comma
    may be a decimal point.
    """
    lines, n_before, delimiter, titles = header_of(text)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        rows = [
            (reader.line_num + n_before, row) for row in reader if any(cell.strip() for cell in row)
        ]
    except csv.Error as error:
        raise ValueError(f"{path} is no CSV: line {reader.line_num + n_before}: {error}") from None
    header = [name.strip() for name in rows[0][1]] if rows else []
    _refuse_repeats(path, header)
    if header and all(is_number(name) for name in header):
        raise ValueError(
            f"{path} has no header: line {rows[0][0]} holds numbers only. Name its columns in a "
            "line above them that does not begin with #"
        )
    rows, comments = _without_comments(rows[1:])
    ragged = [line for line, row in rows if len(row) != len(header)]
    if ragged:
        line, row = next((line, row) for line, row in rows if line == ragged[0])
        raise ValueError(
            f"{path}: {row_list('line', ragged)} {'has' if len(ragged) == 1 else 'have'} more or "
            f"fewer cells than the {len(header)} of the header (line {line}: {len(row)}); quote "
            f"cells that hold {delimiter!r}"
        )
    cells = list(zip(*(row for _, row in rows), strict=True)) or [()] * len(header)
    columns: dict[str, Sequence[str]] = {
        name: column for name, column in zip(header, cells, strict=True) if name
    }
    lines_of = [line for line, _ in rows]
    pointed, commas = with_decimal_points(columns) if delimiter == ";" else (columns, ())
    if commas:
        _refuse_thousands(path, columns, lines_of)
    return Table(
        path=path,
        row_kind="line",
        row_numbers=np.array(lines_of, int),
        columns=pointed,
        notes=(*titles, *comments, *commas),
    )


def _refuse_thousands(
    path: Path, columns: Mapping[str, Sequence[str]], row_numbers: Sequence[int]
) -> None:
    """Raises ValueError for points that may be marks of thousands beside decimal commas."""
    found = sorted(thousands_points(columns))
    if found:
        row, name, legal = found[0]
        more = f" ({len(found) - 1} more cells are spelt so)" * (len(found) > 1)
        raise ValueError(
            f"{path} has decimal commas, and line {row_numbers[row]}: {name} is "
            f"{columns[name][row].strip()!r}, whose point may mark thousands; write {legal}{more}"
        )


def _without_comments(
    rows: list[tuple[int, list[str]]],
) -> tuple[list[tuple[int, list[str]]], tuple[str, ...]]:
    """Rows that are not commented out, and which are, in words."""
    kept = [(line, row) for line, row in rows if not row[0].lstrip().startswith("#")]
    if not kept or len(kept) == len(rows):  # Of all rows it is a name: #1, #2, ...
        return rows, ()
    out = sorted({line for line, _ in rows} - {line for line, _ in kept})
    be = "begins with # and is" if len(out) == 1 else "begin with # and are"
    return kept, (f"{row_list('line', out)} {be} left out as a comment.",)


def _read_parquet(path: Path) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with path.open("rb") as stream:
        try:
            found = pq.read_table(stream)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise ValueError(f"{path} is no Parquet file: {str(error).splitlines()[0]}") from None
    return _of_arrow(path, found)


def _of_arrow(path: Path, found: Any) -> Table:
    import pyarrow as pa

    while any(pa.types.is_struct(column.type) for column in found.schema):
        found = found.flatten()
    _refuse_repeats(path, found.column_names)
    # How pandas keeps rows that have no names.
    names = [name for name in found.column_names if not name.startswith("__index_level_")]
    return _by_row(path, {name: _parquet_cells(found.column(name)) for name in names})


def _parquet_cells(column: Any) -> list[Any]:
    import pyarrow.types as kinds

    values = column.to_pylist()
    if kinds.is_decimal(column.type):
        return ["" if value is None else float(value) for value in values]
    return [cell(value) for value in values]


def row_list(kind: str, numbers: Sequence[int], most: int = 60) -> str:
    """Rows by number, neighbours joined: "lines 3-7, 9"."""
    numbers = sorted(set(numbers))
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    shown = [f"{a}" if a == b else f"{a}-{b}" for a, b in runs[:most]]
    more = [f"... up to {numbers[-1]}"] if len(runs) > most else []
    return f"{kind}{'s' if len(numbers) > 1 else ''} {', '.join(shown + more)}"

"""Texts from a file, row by row, in constant memory.

Row i of the file is text i of the result: no value is skipped, cut, retyped or guessed. One that is not a
text, or is not UTF-8, ends the reading with the name of the file and the line, because a vector for the wrong
row is found much later than an error. All but Parquet is split at `\\n` or `\\r\\n` only, so that the other
line ends of Unicode stay inside their texts.
"""

import codecs
import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any

from nestling.errors import InputError, MissingExtraError, whole_number
from nestling.safe import no_repeats

PARQUET_ROWS = 8192  # rows decoded at a time
LONGEST_FIELD = 2**31 - 1  # of a CSV file, in characters; the default of 131,072 refuses long documents


def read_texts(path: Path | str, *, column: str | None = None, batch: int = 8192) -> Iterator[list[str]]:
    """The texts of a file in lists of `batch`, the last one shorter.

    .txt           a text a line; a blank line is an empty text
    .jsonl .ndjson an object a line, of which `column` is read, or a string a line; a blank line is no row
    .csv .tsv      a table with a header and quotes; a blank line is no row, or, in one column, an empty text
    .parquet       a table; needs the extra [parquet]

    column: left out, it is "text", or else the only column that holds texts.

        for texts in read_texts("questions.jsonl", column="question"):
            vectors = model.encode(texts)
    """
    path = Path(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(
            f"{path} has the unknown suffix {path.suffix!r}.",
            f"Texts are read from {', '.join(_READERS)}.",
            "Rename or convert the file.",
        )
    whole_number("batch", batch, 1)
    if not path.is_file():
        raise InputError(f"{path} is not a file.", "A file of texts was expected.", "Check the path.")
    return _batches(reader(path, column), batch)


def _batches(texts: Iterator[str], batch: int) -> Iterator[list[str]]:
    while some := list(islice(texts, batch)):
        yield some


def _read_lines(path: Path, column: str | None) -> Iterator[str]:
    if column is not None:
        raise InputError(f"{path} has no column {column!r}.", "A .txt file has no columns.", "Leave the column out.")
    return (line.removesuffix("\n").removesuffix("\r") for line in _lines(path))


def _read_json(path: Path, column: str | None) -> Iterator[str]:
    records = _json_records(path)
    first = next(records, None)
    if first is None:
        return
    if column is None and isinstance(first[1], dict):
        strings = [name for name, value in first[1].items() if isinstance(value, str)]
        column = "text" if "text" in first[1] else _choose(path, None, strings)
    for place, record in chain([first], records):
        yield _json_text(place, record, column)


def _json_records(path: Path) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(_lines(path), 1):
        if not line.strip(" \t\r\n"):
            continue
        place = f"{path}, line {number},"
        try:
            yield place, json.loads(line, object_pairs_hook=no_repeats)
        except (ValueError, RecursionError) as error:
            why = getattr(error, "msg", error)
            raise InputError(f"{place} is broken: {why}.", "JSON was expected.", "Repair the line.") from error


def _json_text(place: str, record: Any, column: str | None) -> str:
    """The text of one record: the record itself where there is no column."""
    if column is None:
        return _checked(place, record)
    if not isinstance(record, dict):
        raise InputError(
            f"{place} is no object.",
            f"An object with {column!r} was expected.",
            "Repair the line, or leave the column out where every line is a string.",
        )
    if column not in record:
        raise InputError(
            f"{place} has no {column!r}.",
            f"It has {_listed(record)}.",
            "Repair the line or choose another column.",
        )
    return _checked(f"{place} column {column!r}", record[column])


def _checked(place: str, value: Any) -> str:
    """`value`, if it is a text that UTF-8 can hold: in JSON an escape can write half a character."""
    if not isinstance(value, str):
        kind = "null" if value is None else f"a value of type {type(value).__name__}"
        raise InputError(f"{place} holds {kind}.", "A text was expected.", 'Repair it; an empty text is "".')
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{place} holds half a surrogate pair.", "Whole characters were expected.", "Repair it."
        ) from error
    return value


def _read_csv(path: Path, column: str | None) -> Iterator[str]:
    return _read_table(path, column, ",")


def _read_tsv(path: Path, column: str | None) -> Iterator[str]:
    return _read_table(path, column, "\t")


def _read_table(path: Path, column: str | None, delimiter: str) -> Iterator[str]:
    rows = _table_rows(path, delimiter)
    header = next((row for _, row in rows if row), [])
    if not header:
        return
    if column is None and len(header) == 1 and set(header[0]) & ({",", ";", "\t"} - {delimiter}):
        raise InputError(
            f"{path} has one column, {header[0]!r}.",
            f"Columns parted by {delimiter!r} were expected.",
            "Convert the file, or, if it is one column, name it with column.",
        )
    index = header.index(_choose(path, column, header))
    for number, row in rows:
        if row and len(row) != len(header):
            raise InputError(
                f"{path}, line {number}, has {len(row)} fields.",
                f"The header has {len(header)}: {_listed(header)}.",
                "Repair the row; a text with a delimiter or a line end stands in quotes.",
            )
        if row:
            yield row[index]
        elif len(header) == 1:
            yield ""


def _table_rows(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of a table, each with the number of its last line."""
    reader = csv_reader(_lines(path), delimiter)
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise InputError(
            f"{path}, line {reader.line_num}, is broken: {error}.",
            'Fields in double quotes, with "" for a quote inside, were expected.',
            "Repair the row.",
        ) from error


def csv_reader(lines: Iterable[str], delimiter: str) -> Any:
    """A strict csv.reader of fields of any length. Their limit belongs to the process and is raised for good: to put it
    back would break off what other threads read."""
    csv.field_size_limit(max(LONGEST_FIELD, csv.field_size_limit()))
    return csv.reader(lines, delimiter=delimiter, strict=True)


def _read_parquet(path: Path, column: str | None) -> Iterator[str]:
    arrow, parquet = parquet_packages(f"Reading {path}")
    with _arrow_errors(path, arrow), parquet.ParquetFile(path) as file:
        schema = file.schema_arrow
        name = _choose(path, column, [field.name for field in schema if _holds_text(arrow, field.type)])
        batches = file.iter_batches(PARQUET_ROWS, columns=[name])
        raw = (rows.column(name).cast(arrow.large_binary()).to_pylist() for rows in batches)
        for number, value in enumerate(chain.from_iterable(raw), 1):
            place = f"{path}, row {number}, column {name!r}"
            yield _checked(place, None) if value is None else _decoded(place, value)


def read_table(path: Path, needed: Sequence[str], what: str) -> dict[str, list[Any]]:
    """The columns of a Parquet file that has those that are needed. what: the file should hold, for the error."""
    arrow, parquet = parquet_packages(f"Reading {path}")
    if not path.exists():
        raise InputError(f"{path} is not there.", f"A Parquet file of {what} was expected.", "See --data.")
    with _arrow_errors(path, arrow):
        columns: dict[str, list[Any]] = parquet.read_table(path).to_pydict()
    if not set(needed) <= set(columns):
        raise InputError(
            f"{path} has columns {', '.join(sorted(columns))}.", f"{', '.join(needed)} are needed.", "Rename."
        )
    return columns


def parquet_packages(purpose: str) -> tuple[Any, Any]:
    """The modules `pyarrow` and `pyarrow.parquet`; `purpose` says in an error what needs them."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "parquet", purpose) from error
    return pyarrow, pyarrow.parquet


def _holds_text(arrow: Any, kind: Any) -> bool:
    value = kind.value_type if arrow.types.is_dictionary(kind) else kind
    return value in (arrow.string(), arrow.large_string(), arrow.string_view())


@contextmanager
def _arrow_errors(path: Path, arrow: Any) -> Iterator[None]:
    """Arrow reports a damaged file as ArrowException or as an OSError without a number."""
    try:
        yield
    except (arrow.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise InputError(
            f"{path} cannot be read: {error}.",
            "A whole Parquet file was expected.",
            "Get or write the file again.",
        ) from error


def _lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 file with their line ends, without a byte order mark."""
    with path.open("rb") as file:
        if file.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
            file.seek(0)
        for number, line in enumerate(file, 1):
            yield _decoded(f"{path}, line {number},", line)


def _decoded(place: str, raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise InputError(
            f"{place} is not UTF-8: byte {raw[error.start]:#04x} at {error.start}.",
            "UTF-8 was expected.",
            "Convert the file, as with: iconv -f latin1 -t utf-8",
        ) from error


def _choose(path: Path, column: str | None, names: Sequence[str]) -> str:
    """The one of `names`, the columns of text, to read."""
    if column is None:
        column = names[0] if len(names) == 1 else "text"
    if names.count(column) != 1:
        raise InputError(
            f"{path} has {names.count(column) or 'no'} columns of text named {column!r}.",
            f"Its columns of text: {_listed(names)}.",
            "Choose one of them with column.",
        )
    return column


def _listed(names: Sequence[str] | dict[str, Any]) -> str:
    return ", ".join(map(repr, names)) or "none"


_READERS: dict[str, Callable[[Path, str | None], Iterator[str]]] = {
    ".txt": _read_lines,
    ".jsonl": _read_json,
    ".ndjson": _read_json,
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".parquet": _read_parquet,
}

"""Tables as text: each record of a CSV, TSV or JSON Lines file is a section, with the line that it begins on.

Cells are joined by the paragraph separator U+2029, which counts as no line.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from nestling.files.texts import csv_reader
from nestling.search.decode import Unreadable
from nestling.search.outline import Section

BREAK = "\u2029"
_LETTER = re.compile(r"[^\W\d_]")


class WrongColumns(Unreadable):
    """A table that has a named column not at all, or twice."""


def delimited(text: str, columns: Sequence[str] | None) -> Iterator[Section]:
    """The rows below the header of a CSV or TSV file; of each, the named columns or all that hold words."""
    records = _records(text)
    if not records:
        return
    (_, header), *rows = records
    if columns is None:
        wanted = sorted({number for _, row in rows for number, cell in enumerate(row) if _LETTER.search(cell)})
    else:
        _check(columns, header)
        wanted = [header.index(column) for column in columns]
    for line, row in rows:
        yield Section(BREAK.join(row[number] for number in wanted if number < len(row)), line)


def json_lines(text: str, columns: Sequence[str] | None) -> Iterator[Section]:
    """The records of a JSON Lines file; of each, the strings in the named fields or in all.

    A line that is not JSON is taken as it stands.
    """
    records = [(number, _value(line)) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if columns is not None and records:
        names = {name: None for _, record in records if isinstance(record, dict) for name in record}
        _check(columns, list(names))
    for line, record in records:
        if columns is not None and isinstance(record, dict):
            record = [record.get(column) for column in columns]
        text = BREAK.join(_strings(record)).replace("\n", BREAK)
        yield Section(text.encode("utf-8", "replace").decode(), line)  # JSON can spell half a letter.


def _records(text: str) -> list[tuple[int, list[str]]]:
    """Each record with its first line. The delimiter: of comma, semicolon and tab, the first line's favourite."""
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    reader = csv_reader(io.StringIO(text, newline=""), delimiter)
    records, line = [], 1
    try:
        for row in reader:
            if row:
                records.append((line, row))
            line = reader.line_num + 1
    except csv.Error as error:
        raise Unreadable(f"line {line}: {error}") from error
    return records


def _value(line: str) -> object:
    try:
        value: object = json.loads(line)
    except (ValueError, RecursionError):
        return line
    return value


def _strings(value: object) -> Iterator[str]:
    """Every string in a JSON value, in order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        inside: Iterable[object] = value.values() if isinstance(value, dict) else value
        for each in inside:
            yield from _strings(each)


def _check(columns: Sequence[str], there: Sequence[str]) -> None:
    for column in columns:
        if (count := there.count(column)) != 1:
            found = f"{count} columns {column!r}" if count else f"no column {column!r}"
            raise WrongColumns(f"{found}; its columns: {', '.join(there) or 'none'}")


TABLES: dict[str, Callable[[str, Sequence[str] | None], Iterator[Section]]] = {
    ".csv": delimited,
    ".tsv": delimited,
    ".jsonl": json_lines,
    ".ndjson": json_lines,
}

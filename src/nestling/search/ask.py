"""What a search is asked, each argument checked before a file is read."""

import math
from collections.abc import Iterable
from numbers import Real
from os import PathLike, fspath
from pathlib import Path
from types import UnionType
from typing import Any, cast

from nestling.errors import InputError, InputTypeError, whole_number
from nestling.search.model import Embedder
from nestling.search.words import Wording


def check_query(query: object) -> Wording:
    """The wording of a query that holds a word, in text that UTF-8 can hold."""
    if not isinstance(query, str):
        raise InputTypeError(f"The query is of type {_type(query)};", "a str was expected.", "Pass one query.")
    try:
        query.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"The query holds a lone surrogate, U+{ord(query[error.start]):04X}, at position {error.start}.",
            "Text that UTF-8 can hold was expected.",
            "On a command line type it in UTF-8; in Python decode its source rightly.",
        ) from error
    wording = Wording(query)
    if not wording.terms:
        raise InputError(
            f"The query {query!r} has no word.", "A word, a question or a sentence was expected.", "Say more."
        )
    return wording


def check_limits(top: object, min_score: object) -> None:
    """top: a whole number from 1. min_score: None or a number."""
    whole_number("top", top, 1)
    if min_score is None:
        return
    if not isinstance(min_score, Real):
        raise InputTypeError(f"min_score={min_score!r} is no number.", "A score was expected.", "Leave it out for all.")
    if math.isnan(min_score):
        raise InputError("min_score is not a number (NaN).", "A score was expected.", "Leave it out for all.")


def check_paths(paths: str | PathLike[str] | Iterable[str | PathLike[str]]) -> list[Path]:
    """One path, or several, as paths."""
    names = [fspath(path) for path in _several("paths", paths, str | PathLike)]
    if "" in names:
        raise InputError("An empty path was given.", "A file or a folder was expected.", 'Pass "." for this one.')
    return [Path(name) for name in names]


def check_columns(columns: str | Iterable[str] | None) -> list[str] | None:
    """One name of a column, or several; None for all columns."""
    return None if columns is None else _several("columns", columns, str)


def open_model(model: Embedder | str | Path) -> Embedder:
    """The model itself, or the one of that name, file or folder."""
    if isinstance(model, str | Path):
        from nestling.model.load import load

        return load(model)
    if not isinstance(model, Embedder):
        raise InputTypeError(
            f"model is of type {_type(model)};",
            'a model or its name was expected, such as "nano".',
            "Pass what nestling.load gives.",
        )
    return model


def _several(name: str, value: object, kind: type | UnionType) -> list[Any]:
    """`value` as a list of one or more of a kind: itself, or what is in it."""
    single = isinstance(value, kind) or not isinstance(value, Iterable)
    items = [value] if single else list(cast(Iterable[object], value))
    if not items:
        raise InputError(f"{name}={value!r} names nothing.", "One or more were expected.", "Give one.")
    for item in items:
        if not isinstance(item, kind):
            raise InputTypeError(f"{name} holds a value of type {_type(item)};", "names were expected.", "Pass these.")
    return items


def _type(value: object) -> str:
    return type(value).__name__

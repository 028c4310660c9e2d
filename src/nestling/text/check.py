"""What counts as texts: one `str`, or an iterable of `str`; anything else is refused by index and type."""

from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Literal, get_args

from nestling.errors import InputError, InputTypeError, one_of

Errors = Literal["strict", "replace"]


def check_texts(texts: str | Iterable[str], errors: Errors = "strict") -> tuple[list[str], bool]:
    """Return the texts as a list, and whether a single `str` was given.

    errors: "strict" refuses a lone surrogate (half a character, which UTF-8 cannot hold); "replace" puts U+FFFD there.
    """
    one_of("errors", errors, get_args(Errors))
    if isinstance(texts, str):
        return [_clean(texts, "texts", 0, errors)], True
    return [_clean(text, "texts", index, errors) for index, text in enumerate(_each("texts", texts))], False


def with_titles(texts: Iterable[str], titles: Iterable[str | None], errors: Errors = "strict") -> list[str]:
    """The texts, each with its title and a space before it; an empty title, or None, adds nothing."""
    listed, single = check_texts(texts, errors)
    if single or isinstance(titles, str):
        raise InputTypeError(
            "titles came as one str, or with one str;", "lists of one length were expected.", "Wrap both in lists."
        )
    heads = [
        "" if title is None else _clean(title, "titles", index, errors)
        for index, title in enumerate(_each("titles", titles))
    ]
    if len(heads) != len(listed):
        raise InputError(
            f"{len(heads)} titles came with {len(listed)} texts;", "one each was expected.", "Pad with ''."
        )
    return [f"{title} {text}" if title else text for title, text in zip(heads, listed, strict=True)]


def _each(name: str, values: object) -> Iterator[object]:
    """The values one by one, if they come in an order."""
    if hasattr(values, "columns"):  # of which a table would give the names
        kind = type(values).__name__
        raise InputTypeError(f"{name} is a table, a {kind};", "one column was expected.", 'Pass table["text"], say.')
    if hasattr(values, "to_pylist"):
        values = values.to_pylist()  # of Arrow, whose own values are no str
    try:
        if not isinstance(values, (bytes, bytearray, Mapping, Set)):
            return iter(values)  # type: ignore[call-overload, no-any-return]
    except TypeError:
        pass
    raise InputTypeError(
        f"{name} is of type {type(values).__name__};", "a str or a list of str was expected.", "Pass one of these."
    )


def _clean(text: object, name: str, index: int, errors: Errors) -> str:
    if not isinstance(text, str):
        raise InputTypeError(
            f"{name}[{index}] is of type {type(text).__name__};",
            "a str was expected.",
            "Decode bytes, flatten nested lists, and drop or fill missing values first.",
        )
    if text.isascii():
        return text
    try:
        text.encode("utf-8")
        return text
    except UnicodeEncodeError as error:
        if errors == "replace":
            return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        raise InputError(
            f"{name}[{index}] holds a lone surrogate, U+{ord(text[error.start]):04X}, at position {error.start}.",
            "Text that UTF-8 can hold was expected.",
            'Decode the source rightly, or pass errors="replace".',
        ) from error

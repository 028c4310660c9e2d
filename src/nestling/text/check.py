"""What counts as texts: one `str`, or an iterable of `str`; anything else is refused by index and type."""

from collections.abc import Iterable, Mapping, Set
from typing import Literal

from nestling.errors import InputError, InputTypeError

Errors = Literal["strict", "replace"]


def check_texts(texts: str | Iterable[str], errors: Errors = "strict") -> tuple[list[str], bool]:
    """Return the texts as a list, and whether a single `str` was given.

    errors: "strict" refuses a lone surrogate (half a character, which UTF-8 cannot hold); "replace" puts U+FFFD there.
    """
    if errors not in ("strict", "replace"):
        raise InputError(f"errors={errors!r} was given;", 'known are "strict" and "replace".', "Choose one of them.")
    if isinstance(texts, str):
        return [_clean(texts, 0, errors)], True
    if isinstance(texts, (bytes, bytearray, Mapping, Set)) or not isinstance(texts, Iterable):
        raise InputTypeError(
            f"texts is of type {type(texts).__name__};", "a str or a list of str was expected.", "Pass one of these."
        )
    return [_clean(text, index, errors) for index, text in enumerate(texts)], False


def _clean(text: object, index: int, errors: Errors) -> str:
    if not isinstance(text, str):
        raise InputTypeError(
            f"texts[{index}] is of type {type(text).__name__};",
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
            f"texts[{index}] holds a lone surrogate, U+{ord(text[error.start]):04X}, at position {error.start}.",
            "Text that UTF-8 can hold was expected.",
            'Decode the source rightly, or pass errors="replace".',
        ) from error

"""Bytes -> text: UTF-8, or UTF-16 with a byte order mark. Anything else is refused, never guessed at."""

import codecs

_HEAD = 8192


class Unreadable(Exception):
    """A file whose text cannot be had. The message is the reason."""


class Binary(Unreadable):
    """A file that is not text at all."""


def decode(data: bytes) -> str:
    """The text of a file, without byte order mark, its lines ended by "\\n".

    Raises Binary for a NUL in the first 8 KB, and Unreadable for bytes that are not UTF-8 or UTF-16.
    """
    if data.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        raise Unreadable("UTF-32; only UTF-8 and UTF-16 are read")
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if not wide and b"\0" in data[:_HEAD]:
        raise Binary("no text")
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        name = "UTF-16" if wide else "UTF-8"
        raise Unreadable(f"not {name}: {error.reason} at byte {error.start}") from error
    if wide and "\0" in text:
        raise Unreadable(f"not UTF-16: a NUL at character {text.index(chr(0))}")
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text

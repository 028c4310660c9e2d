"""Bytes -> text: UTF-8, or UTF-16 with a byte order mark. Anything else is refused, never guessed at."""

import codecs


class Unreadable(Exception):
    """A file whose text cannot be had. The message is the reason."""


class Binary(Unreadable):
    """A file that is not text at all."""


_HEAD = 8192


def decode(data: bytes) -> str:
    """The text of a file, without byte order mark, each line ended by one "\\n".

    Raises Binary where there is a NUL in the first 8 KB, and Unreadable where the bytes are not UTF-8 or UTF-16.
    """
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    if encoding == "utf-8-sig" and b"\0" in data[:_HEAD]:
        raise Binary("binary")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        name = "UTF-8" if encoding == "utf-8-sig" else "UTF-16"
        raise Unreadable(
            f"not {name} text: byte 0x{data[error.start]:02x} at offset {error.start}"
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text

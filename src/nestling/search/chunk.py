"""Sections -> passages of about 200 tokens, cut where a reader would cut.

A passage takes as many whole paragraphs as fit. Where not one fits, it ends before an item of a list, else at
the end of a line, a sentence or a word, and in text that has none of these, anywhere. Each cut looks at no
more text than a passage has, so the time is linear, even for a single line of ten megabytes. Only white space
between passages is dropped.
"""

import re
from collections.abc import Iterable, Iterator

from nestling.search.outline import Section
from nestling.search.results import Passage

TOKENS = 200
_BYTES_A_TOKEN = 4.5  # Measured on English prose; other scripts have more bytes a letter, and fewer letters a token.

_WORD = re.compile(r"\S")


def _last(end: str) -> re.Pattern[str]:
    """A pattern that matches up to the last `end` of a stretch of text."""
    return re.compile(f"(?s:.*){end}")


_BETWEEN_LINES = (
    _last(r"(?:\n[^\S\n]*+\n|[\f\u2029])"),  # a blank line, a new page
    _last(r"\n(?=[^\S\n]*+(?:[-*+•|]|\d{1,3}[.)])\s)"),  # before an item of a list or a row of a table
    _last(r"[.!?;。！？][\"'”’)\]*_`]*\n"),  # a line that ends with a sentence
    _last(r"\n"),
)
_INSIDE_LINES = (
    _last(r"(?:[.!?][\"'”’)\]*_`]*\s+(?![a-z])|[。！？])"),
    _last(r"\s"),
    _last(r"[,;、，；]"),
)


def passages(path: str, found: Iterable[Section]) -> Iterator[Passage]:
    """The passages of a file's sections, in order. path: as it will be shown."""
    for section in found:
        mark = "\f" if section.kind == "page" else "\n"
        line, counted = section.line, 0
        for start, text in stretches(section.text):
            line += section.text.count(mark, counted, start)
            counted = start
            yield Passage(path, line, line + text.count(mark), section.heading, text, section.kind)


def stretches(text: str, tokens: int = TOKENS) -> Iterator[tuple[int, str]]:
    """Cut a text into stretches of about `tokens` tokens, each with its offset."""
    letters_a_byte = len(text) / max(1, len(text.encode()))
    most = max(4, round(tokens * _BYTES_A_TOKEN * letters_a_byte))
    end, length = 0, len(text.rstrip())
    while end < length:
        start = _next_word(text, end, most)
        end = _end(text, start, length, most)
        yield start, text[start:end].rstrip()


def _next_word(text: str, start: int, most: int) -> int:
    """Where the next word is, or the beginning of its line if that lies between: an indent of up to `most` is kept."""
    word = _WORD.search(text, start)
    at = word.start() if word else start
    low = max(0, start - 1, at - most)
    margin = max(text.rfind(mark, low, at) for mark in "\n\f\u2029") + 1
    return margin or (0 if start == 0 and at <= most else at)


def _end(text: str, start: int, length: int, most: int) -> int:
    """Where a stretch that begins at `start` ends: between a quarter and five quarters of `most` further on.

    A line of up to `most` letters is never cut, and a rest of less than a quarter is not left over.
    """
    least = most // 4
    if length - start <= most + least:
        return length
    end = (
        _last_break(_BETWEEN_LINES, text, start + least, start + most)
        or text.find("\n", start + most, start + most + least) + 1
        or _last_break(_INSIDE_LINES, text, start + least, start + most)
        or start + most
    )
    return end if length - end >= least else length


def _last_break(breaks: Iterable[re.Pattern[str]], text: str, low: int, high: int) -> int:
    """The last place of the best sort of break that there is between two offsets; 0 where there is none."""
    found = (pattern.match(text, low, high) for pattern in breaks)
    return next((match.end() for match in found if match), 0)

"""Where the sections of a text begin, and under which titles.

Each kind of text has a function that finds its headings; `sections` cuts the text before them. The sections,
laid end to end, are the text again, so nothing is lost and lines can be counted.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from nestling.search.results import Kind

_NOT_BLANK = re.compile(r"\S")


@dataclass(frozen=True)
class Heading:
    """A title at text[start:body]; level: the smaller, the higher."""

    start: int
    body: int
    level: int
    title: str


@dataclass(frozen=True)
class Section:
    """A part of a document: its text, its first line and the trail of titles above it."""

    text: str
    line: int = 1
    heading: str = ""
    kind: Kind = "text"


def sections(text: str, headings: Iterable[Heading], kind: Kind = "text") -> Iterator[Section]:
    """Cut a text before its headings. A heading with nothing below it stays with the section that follows."""
    trail = [Heading(0, 0, -1, "")]
    marks = [trail[0], *headings]
    ends = [*(heading.start for heading in marks[1:]), len(text)]
    begin, line = 0, 1
    for heading, end in zip(marks, ends, strict=True):
        trail = [*(outer for outer in trail if outer.level < heading.level), heading]
        if end == len(text) or _NOT_BLANK.search(text, heading.body, end):
            titles = (each.title for each in trail if each.title)
            yield Section(text[begin:end], line, " > ".join(titles), kind)
            line += text.count("\n", begin, end)
            begin = end


_MARKDOWN = re.compile(
    r"""
    \A---\n(?:.*\n)*?---[ \t]*\n                                       # front matter
    | ^[ \t]*(?P<fence>`{3,}+|~{3,}+).*\n(?:.*\n)*?(?:[ \t]*(?P=fence)|.*\Z)   # fenced code
    | ^[ ]{0,3}(?P<hashes>\#{1,6})[ \t]+(?P<title>.*)\n?
    | (?:\A|(?<=\n\n))(?P<above>[ ]{0,3}\S.*)\n[ ]{0,3}(?P<under>=|-)(?P=under)+[ \t]*(?:\n|\Z)
    """,
    re.MULTILINE | re.VERBOSE,
)


def markdown(text: str) -> Iterator[Heading]:
    """Headings of Markdown, `# so` or underlined, except in fenced code and front matter."""
    for match in _MARKDOWN.finditer(text):
        if match["hashes"]:
            yield Heading(match.start(), match.end(), len(match["hashes"]), match["title"].strip(" \t#"))
        elif match["above"]:
            yield Heading(match.start(), match.end(), 1 if match["under"] == "=" else 2, match["above"].strip())


_RST = re.compile(
    r"""^(?:[=\-~^"'`\#*+.:_]{3,}(?P<over>\n)[ ]?)?(?P<title>\S.*)\n
    (?P<under>(?P<mark>[=\-~^"'`\#*+.:_])(?P=mark){2,})[ \t]*(?:\n|\Z)""",
    re.MULTILINE | re.VERBOSE,
)
_LETTER = re.compile(r"[^\W_]")


def rst(text: str) -> Iterator[Heading]:
    """Headings of reStructuredText: punctuation below a line; a new sort of it is a deeper level."""
    levels: dict[tuple[str, bool], int] = {}
    for match in _RST.finditer(text):
        if len(match["under"]) >= len(match["title"].strip()) and _LETTER.search(match["title"]):
            level = levels.setdefault((match["mark"], bool(match["over"])), len(levels))
            yield Heading(match.start(), match.end(), level, match["title"].strip())

"""The visible text of an HTML page, each word still on the line it has in the source.

Where the page shows a break and the source has none, the text gets a paragraph separator, U+2029.
"""

import re
from html.parser import HTMLParser

from nestling.search.decode import Unreadable
from nestling.search.outline import Heading

BREAK = "\u2029"
_BLOCKS = frozenset({
    "address", "article", "aside", "blockquote", "br", "body", "caption", "dd", "details", "div", "dl", "dt",
    "fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "head",
    "header", "hr", "legend", "li", "main", "nav", "ol", "option", "p", "pre", "section", "summary", "table",
    "td", "th", "title", "tr", "ul",
})  # fmt: skip
_LEVELS = {"title": 0, **{f"h{level}": level for level in range(1, 7)}}
_HIDDEN = frozenset({"script", "style", "template"})
_MOST_OPEN = 10_000  # html.parser takes time that grows with the square of the tags left open.
_SPACES = re.compile(r"[^\S\n]+")


def html(source: str) -> tuple[str, list[Heading]]:
    """The visible text of a page, with as many lines as the source, and its headings."""
    if source.count("<") - source.count(">") > _MOST_OPEN:
        raise Unreadable("thousands of tags are never closed")
    page = _Page()
    page.feed(source)
    page.close()
    return "".join(page.pieces), page.headings


class _Page(HTMLParser):
    """Collects pieces of visible text."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []
        self.headings: list[Heading] = []
        self.length = 0
        self.lines = 1
        self.hidden = ""
        self.title: tuple[int, int] | None = None  # Offset and first piece of the heading we are in.

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag in _HIDDEN:
            self.hidden = self.hidden or tag
        if tag in _BLOCKS:
            self._add(BREAK)
        if tag in _LEVELS:
            self.title = (self.length, len(self.pieces))

    def handle_endtag(self, tag: str) -> None:
        if tag == self.hidden:
            self.hidden = ""
        if tag in _LEVELS and self.title:
            start, first = self.title
            title = " ".join("".join(self.pieces[first:]).split())
            self.headings.append(Heading(start, self.length, _LEVELS[tag], title))
            self.title = None
        if tag in _BLOCKS:
            self._add(BREAK)

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self._add(_SPACES.sub(" ", data))

    def _add(self, piece: str) -> None:
        """Add a piece on the line where the parser stands."""
        missing = self.getpos()[0] - self.lines
        self.lines += max(missing, 0) + piece.count("\n")
        self.pieces.append("\n" * missing + piece)
        self.length += len(self.pieces[-1])

"""The visible text of an HTML page, each word still on the line it has in the source.

Where the page shows a break and the source has none, the text gets a paragraph separator, U+2029. One pattern
finds the markup, as browsers do, in time that grows with the page alone, however broken it is; html.parser takes
the square of it where tags or quotes stay open.
"""

import re
from html import unescape

from nestling.search.outline import Heading

BREAK = "\u2029"
_BLOCKS = frozenset({
    "address", "article", "aside", "blockquote", "br", "body", "caption", "dd", "details", "div", "dl", "dt",
    "fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "head",
    "header", "hr", "legend", "li", "main", "nav", "ol", "option", "p", "pre", "section", "summary", "table",
    "td", "th", "title", "tr", "ul",
})  # fmt: skip
_LEVELS = {"title": 0, **{f"h{level}": level for level in range(1, 7)}}
_ATTRIBUTES = r"""(?=[\s/>]|\Z)(?:[^>=]++|=\s*+(?:"[^"]*+"|'[^']*+')?+)*+"""
# No branch that reads far can fail, but for the first of those with attributes, and that at the end of the page.
_MARKUP = re.compile(
    rf"""
    <!--(?:-?>|.*?(?:--!?>|\Z))
    | <(?P<hidden>script|style|template){_ATTRIBUTES}(?<!/)>.*?(?:</(?P=hidden)(?=[\s/>])[^>]*+>?|\Z)
    | <(?P<start>[a-z][^\s/>]*+){_ATTRIBUTES}(?:>|(?P<unclosed>\Z))
    | </(?P<end>[a-z][^\s/>]*+)[^>]*+>?
    | <[!?/][^>]*+>?
    """,
    re.DOTALL | re.IGNORECASE | re.VERBOSE,
)
_SPACES = re.compile(r"\s+")


def html(source: str) -> tuple[str, list[Heading]]:
    """The visible text of a page, with as many lines as the source, and its headings.

    A comment or script that is never closed hides all that follows; a tag that is never closed is text.
    """
    page, at = _Page(), 0
    for markup in _MARKUP.finditer(source):
        page.add_text(source[at : markup.start()])
        page.add_markup(markup)
        at = markup.end()
    page.add_text(source[at:])
    return "".join(page.pieces), page.headings


class _Page:
    """Collects pieces of visible text."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.headings: list[Heading] = []
        self.length = 0
        self.title: tuple[int, int] | None = None  # Offset and first piece of the heading we are in.

    def add_text(self, text: str) -> None:
        self._add("\n".join(_SPACES.sub(" ", unescape(line)) for line in text.split("\n")))

    def add_markup(self, markup: re.Match[str]) -> None:
        """A break for a block, a heading for what ends one, and the lines that the markup takes."""
        if markup["unclosed"] is not None:
            self.add_text(markup[0])
            return
        start, end = (markup["start"] or "").lower(), (markup["end"] or "").lower()
        if end in _LEVELS and self.title:
            offset, first = self.title
            title = " ".join("".join(self.pieces[first:]).split())
            self.headings.append(Heading(offset, self.length, _LEVELS[end], title))
            self.title = None
        if start in _BLOCKS or end in _BLOCKS:
            self._add(BREAK)
        if start in _LEVELS:
            self.title = (self.length, len(self.pieces))
        self._add("\n" * markup[0].count("\n"))

    def _add(self, piece: str) -> None:
        self.pieces.append(piece)
        self.length += len(piece)

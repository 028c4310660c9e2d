"""What a search gives back: hits with their place, and an account of what was read and what was not."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "code", "page"]


@dataclass(frozen=True)
class Passage:
    """A stretch of one file, long enough to answer a question and short enough to be read at once.

    line and end_line count from 1; in a PDF (kind "page") they count pages.
    heading: the trail of titles above the passage, "Title > Section", or "".
    """

    path: str
    line: int
    end_line: int
    heading: str
    text: str
    kind: Kind = "text"

    def line_at(self, offset: int) -> int:
        """The line (or page) of the character at `offset` of the text."""
        return self.line + self.text.count("\f" if self.kind == "page" else "\n", 0, offset)


@dataclass(frozen=True)
class Hit:
    """A passage with its score, and the part of it to show.

    score: the mean of cosine, of the passage's vector with the query's, and words, the share of the query's wording
    that the passage holds (0 to 1, rare words counting for more).
    snippet: up to 300 characters of the passage. span: where the best sentence lies in it, (start, end).
    best_line: the line (in a PDF, the page) of that sentence.
    """

    passage: Passage
    score: float
    cosine: float
    words: float
    snippet: str
    span: tuple[int, int]
    best_line: int


@dataclass(frozen=True)
class Problem:
    """A file or folder that could not be read, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Report:
    """The outcome of one search: hits, best first, and counts of everything that was met on the way."""

    query: str
    hits: tuple[Hit, ...]
    files: int
    passages: int
    binaries: int
    problems: tuple[Problem, ...]
    seconds: float

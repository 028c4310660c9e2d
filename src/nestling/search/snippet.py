"""The part of a passage to show: around the sentence that is nearest to the query.

A snippet is a slice of the passage, letter for letter (only control characters become spaces), so a place in
the one is easily found in the other.
"""

import re
import string
from itertools import pairwise

from nestling.search.model import Embedder, Vectors, cosines
from nestling.search.rank import Ranked
from nestling.search.results import Hit, Passage
from nestling.search.words import Wording, shares

LENGTH = 300

_SENTENCE_END = re.compile(
    r"""[.!?][\"'”’)\]*_`]*\s+(?![a-z]) | [。！？]\s* | [\u2029\f]\s* | \n[^\S\n]*\n\s*
    | (?<=[=~-]{3})\n | ^\#.*\n\s*                                      # below a heading
    | \n(?=[^\S\n]*(?:[-*+•|#>]|\d{1,3}[.)])\s) | (?<=\|)\n            # before an item, after a row""",
    re.VERBOSE | re.MULTILINE,
)
_MARKS = string.punctuation + string.whitespace
_LINE_END = re.compile(r"\n\s*")
_CONTROL = {
    **dict.fromkeys([*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)], " "),
    **dict.fromkeys(map(ord, "\n\f\u2028\u2029"), "\n"),
    ord("\t"): "\t",
}


def hit(place: Ranked, passage: Passage, query: Vectors, wording: Wording, model: Embedder) -> Hit:
    """A passage with its snippet, around the sentence that scores best by the same measure. query: (dim,) float32."""
    found = [place for place in sentences(passage) if not _is_title(passage, *place)] or sentences(passage)
    texts = [passage.text[start:end] for start, end in found]
    scores = cosines(model.encode_document(texts), query) + shares(
        [wording.count(text) for text in texts], [1] * len(texts)
    )
    start, end = found[int(scores.argmax())]
    first, last = _window(passage.text, found, start, end)
    span = (start - first, min(end, last) - first)
    snippet = clean(passage.text[first:last])
    return Hit(passage, place.score, place.cosine, place.words, snippet, span, passage.line_at(start))


def clean(text: str) -> str:
    """Text that is safe on a terminal, as long as before: what could move the cursor becomes a space."""
    return text.translate(_CONTROL)


def sentences(passage: Passage) -> list[tuple[int, int]]:
    """Where the sentences of a passage are, without the white space around them; of code, its lines."""
    text = passage.text
    ends = (_LINE_END if passage.kind == "code" else _SENTENCE_END).finditer(text)
    cuts = [0, *(match.end() for match in ends), len(text)]
    found = []
    for start, end in pairwise(cuts):
        piece = text[start:end]
        if piece.strip():
            found.append((end - len(piece.lstrip()), start + len(piece.rstrip())))
    return found


def _is_title(passage: Passage, start: int, end: int) -> bool:
    """Whether a sentence is one of the titles that stand above the passage anyway."""
    titles = passage.heading.split(" > ")
    return passage.text[start:end].strip(_MARKS) in [title.strip(_MARKS) for title in titles]


def _window(text: str, found: list[tuple[int, int]], start: int, end: int) -> tuple[int, int]:
    """Up to 300 letters around a sentence: from where one begins shortly before it, to the end of a word.

    A snippet that begins with a line begins with its indent.
    """
    room = max(0, LENGTH - (end - start)) // 3
    first = next(begin for begin, _ in found if begin >= start - room)
    margin = text.rfind("\n", 0, first) + 1
    first = first if text[margin:first].strip() else margin
    last = min(len(text), first + LENGTH)
    if last < len(text) and not text[last].isspace():
        space = max(text.rfind(" ", first, last), text.rfind("\n", first, last))
        last = space if space > first else last
    return first, last

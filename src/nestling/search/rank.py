"""The passages nearest to a query, exactly, from a stream of any length.

The score is the mean of two: the cosine of the vectors, and the share of the query's wording (words.py). Rarity is
known only when all passages have been seen, so what is kept of each is numbers; texts are not, and memory does not
grow with them.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np

from nestling.search.model import Embedder, Vectors, cosines
from nestling.search.results import Passage
from nestling.search.words import Wording, shares

_BATCH = 1024


class Ranked(NamedTuple):
    """Where a passage stands: its file, its number in it from 0, its line; its score and what that is the mean of."""

    path: str
    number: int
    line: int
    score: float
    cosine: float
    words: float


def rank(
    passages: Iterable[Passage],
    query: Vectors,
    wording: Wording,
    model: Embedder,
    *,
    top: int,
    min_score: float | None = None,
) -> list[Ranked]:
    """The `top` passages by score, best first, equals by path and line. query: (dim,), unit or zeros.

    A passage is embedded under its trail of headings, and its words are counted with theirs, so that a title counts for
    all below it.
    """
    places: list[tuple[str, int, int]] = []
    near: list[Vectors] = []
    counts: list[list[int]] = []
    lengths: list[int] = []
    for batch in _batches(passages):
        titles = [passage.heading for passage in batch]
        near.append(cosines(model.encode_document([passage.text for passage in batch], titles=titles), query))
        for passage in batch:
            number = places[-1][1] + 1 if places and places[-1][0] == passage.path else 0
            places.append((passage.path, number, passage.line))
            counts.append(wording.count(f"{passage.heading} {passage.text}"))
            lengths.append(len(passage.text))
    if not places:
        return []
    cosine, words = np.concatenate(near).astype(np.float64), shares(counts, lengths)
    scores = (cosine + words) / 2
    found = [
        Ranked(*places[n], float(scores[n]), float(cosine[n]), float(words[n]))
        for n in _candidates(scores, top)
        if min_score is None or scores[n] >= min_score
    ]
    return sorted(found, key=lambda ranked: (-ranked.score, ranked.path, ranked.line))[:top]


def _candidates(scores: np.ndarray, top: int) -> Iterator[int]:
    """The `top` highest scores, and all that equal the last of them."""
    if len(scores) <= top:
        return iter(range(len(scores)))
    least = np.partition(scores, -top)[-top]
    return iter(np.flatnonzero(scores >= least).tolist())


def _batches(passages: Iterable[Passage]) -> Iterator[list[Passage]]:
    stream = iter(passages)
    while batch := list(islice(stream, _BATCH)):
        yield batch

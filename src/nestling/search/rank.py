"""The passages nearest to a query, exactly, from a stream of any length.

Passages are embedded in batches, and only the best so far are kept: memory does not grow with the files.
"""

from collections.abc import Iterable, Iterator
from itertools import islice

from nestling.search.model import Embedder, Vectors, cosines
from nestling.search.results import Passage

_BATCH = 1024

Ranked = list[tuple[float, Passage]]


def rank(
    passages: Iterable[Passage], query: Vectors, model: Embedder, *, top: int, min_score: float | None = None
) -> Ranked:
    """The `top` passages by cosine with the query, best first, equals by path and line. query: (dim,).

    A passage is embedded under its trail of headings, so that the words of a title count for all below it.
    """
    best: Ranked = []
    for batch in _batches(passages):
        titles = [passage.heading for passage in batch]
        scores = cosines(model.encode_document([passage.text for passage in batch], titles=titles), query)
        floor = best[-1][0] if len(best) == top else None
        best += [
            (score, passage)
            for score, passage in zip(scores.tolist(), batch, strict=True)
            if (floor is None or score >= floor) and (min_score is None or score >= min_score)
        ]
        best = sorted(best, key=_order)[:top]
    return best


def _order(found: tuple[float, Passage]) -> tuple[float, str, int]:
    score, passage = found
    return -score, passage.path, passage.line


def _batches(passages: Iterable[Passage]) -> Iterator[list[Passage]]:
    stream = iter(passages)
    while batch := list(islice(stream, _BATCH)):
        yield batch

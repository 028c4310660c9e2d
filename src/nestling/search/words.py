"""How much of a query's wording a passage holds: BM25, in which a rare word counts for more than a frequent one.

Meaning alone misses names: a small model knows little of `sqlite-vec` or `E1101`, and a passage that holds the very
word is what was asked for. Words count as one if their first five letters are the same (search, searches, searching).
"""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

STEM = 5
# BM25's k1 and b. Its usual k1, 1.2, gives less than half of the whole to a passage with every word once: too little
# beside a cosine (60 questions over documents: 32 answered first, with 0.2 36).
_SATURATION, _LENGTH_SHARE = 0.2, 0.75
_WORD = re.compile(r"\w+")
_ASKING = """
a about after all also an and any are as at be because been before being between both but by can could did do does
done for from get gets got had has have how i if in into is it its just like many may me more most much my no not of
off on only or other our out over shall should since so some such than that the their them then there these they this
those through to too under until up us very was way we were what when where whether which while who whom whose why
will with within without would you your
"""
_SILENT = frozenset(_ASKING.split())


class Wording:
    """The distinct words of a query, without those that only ask and connect, and how to count them in a text."""

    def __init__(self, query: str) -> None:
        words = _WORD.findall(query.casefold())
        telling = [word for word in words if word not in _SILENT] or words
        self.terms = list(dict.fromkeys(word[:STEM] for word in telling))
        self._patterns = [_pattern(term) for term in self.terms]

    def count(self, text: str) -> list[int]:
        """How often each term begins a word of the text (short terms: is a word of it)."""
        folded = text.casefold()
        return [
            len(pattern.findall(folded)) if term in folded else 0
            for term, pattern in zip(self.terms, self._patterns, strict=True)
        ]


def _pattern(term: str) -> re.Pattern[str]:
    """Scripts that set no spaces between words have no word to begin."""
    if not term.isascii():
        return re.compile(re.escape(term))
    return re.compile(rf"(?<!\w){re.escape(term)}" + (r"(?!\w)" if len(term) < STEM else ""))


def shares(counts: Sequence[Sequence[int]], lengths: Sequence[int]) -> NDArray[np.float64]:
    """BM25 of each passage over the most there is: every word without end.

    counts: (n, terms); lengths: (n,) in characters -> (n,) float64, below 1: 0 without any of the words, 0.83 with
    each once in a passage of middling length.
    """
    often, long = np.asarray(counts, np.float64), np.asarray(lengths, np.float64)
    if not often.size:
        return np.zeros(len(long))
    holding = (often > 0).sum(axis=0)
    rarity = np.log(1 + (len(often) - holding + 0.5) / (holding + 0.5))
    slack = _SATURATION * (1 - _LENGTH_SHARE + _LENGTH_SHARE * long / max(long.mean(), 1))
    share: NDArray[np.float64] = (often / (often + slack[:, None]) * rarity).sum(axis=1) / rarity.sum()
    return share

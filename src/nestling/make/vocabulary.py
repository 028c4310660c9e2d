"""A vocabulary that suits a corpus: words that are worth a row get one, pieces that hardly occur lose theirs."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nestling.make.settings import Vocabulary
from nestling.text.count import count_tokens
from nestling.text.grow import Word, add_words, count_words
from nestling.text.plan import dump_plan
from nestling.text.prune import keep_pieces
from nestling.text.tokenizer import TextTokenizer

Floats = npt.NDArray[np.float32]


def choose_words(
    plan: dict[str, Any],
    tokens: Sequence[Word],
    texts: Callable[[], Iterable[str]],
    vectors: Callable[[Sequence[Word]], Floats],
    how: Vocabulary,
    progress: bool = False,
) -> tuple[dict[str, Any], list[Word]]:
    """A plan with the words whose rows gain most, and of each of its tokens the teacher's ids that it stands for.

    tokens: the teacher's ids of each token of `plan`. vectors: the teacher's vector of each of some tokens. A word
    gains count * (1 - cosine of its own vector and the sum of its pieces') * log(all tokens / count).
    """
    tokenizer = TextTokenizer(dump_plan(plan), "the teacher")
    found = count_words(tokenizer, texts(), progress)
    frequent = [word for word, count in found.items() if count >= how.least]
    words = sorted(frequent, key=lambda word: (-found[word], word))
    spelt = [_spell(tokens, word) for word in words]
    counts = np.array([found[word] for word in words], np.float64)
    own, pieces = vectors(spelt), vectors(tokens)
    mean = pieces.mean(axis=0)
    sums = np.stack([(pieces[list(word)] - mean).sum(axis=0) for word in words]) if words else own
    gains = counts * (1 - _cosines(own - mean, sums)) * np.log(counts.sum() / np.maximum(counts, 1) + 1)
    best = np.sort(np.argsort(-gains, kind="stable")[: how.words])
    grown, made_of = add_words(plan, [words[k] for k in best], (counts[best] / max(counts.sum(), 1)).tolist())
    stands_for = [*tokens, *(_spell(tokens, word) for word in made_of)]
    return _prune(grown, stands_for, texts, how.prune, progress)


def _prune(
    plan: dict[str, Any], tokens: Sequence[Word], texts: Callable[[], Iterable[str]], least: int, progress: bool
) -> tuple[dict[str, Any], list[Word]]:
    """The plan without the pieces that occur less than `least` times, its ids in the order that packs best."""
    counts = np.full(len(tokens), least)
    if least:
        tokenizer = TextTokenizer(dump_plan(plan), "the teacher")
        counts = count_tokens(tokenizer, texts(), len(tokens), progress)
    kept, old = keep_pieces(plan, set(np.flatnonzero(counts >= least).tolist()))
    return kept, [tokens[index] for index in old]


def _spell(tokens: Sequence[Word], word: Word) -> Word:
    return tuple(index for piece in word for index in tokens[piece])


def _cosines(left: Floats, right: Floats) -> npt.NDArray[np.float64]:
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    cosines: npt.NDArray[np.float64] = np.einsum("ij,ij->i", left, right) / np.maximum(lengths, 1e-12)
    return cosines

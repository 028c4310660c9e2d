"""More pieces in a tokenizer: whole words that it would cut, so that each can have a row of its own."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nestling.errors import InputError
from nestling.text.count import batches
from nestling.text.tokenizer import TextTokenizer

Word = tuple[int, ...]
MOST_PIECES = 8  # of a word that may become a piece


def count_words(tokenizer: TextTokenizer, texts: Iterable[str], progress: bool = False) -> Counter[Word]:
    """How often each word occurs that the tokenizer cuts into 2 to 8 pieces, told by the ids of its pieces."""
    from tqdm import tqdm

    opens, unknown = _word_starts(tokenizer), tokenizer.unknown
    counts: Counter[Word] = Counter()
    with tqdm(desc="count words", unit="text", disable=not progress, delay=1) as bar:
        for batch in batches(texts):
            tokens = tokenizer.encode(batch)
            first = opens[tokens.ids]
            first[tokens.offsets[:-1][tokens.lengths > 0]] = True
            places = np.flatnonzero(first)
            lengths = np.diff(places, append=len(tokens.ids))
            for length in range(2, MOST_PIECES + 1):
                starts = places[lengths == length]
                words, times = np.unique(tokens.ids[starts[:, None] + np.arange(length)], axis=0, return_counts=True)
                counts.update(dict(zip(map(tuple, words.tolist()), times.tolist(), strict=True)))
            bar.update(len(batch))
    return Counter({word: times for word, times in counts.items() if unknown not in word})


def add_words(
    plan: dict[str, Any], words: Sequence[Word], shares: Sequence[float] | None = None
) -> tuple[dict[str, Any], list[Word]]:
    """A plan with a piece for each word, after those that are there, and the old ids that each new one stands for.

    WordPiece takes the longest piece that fits, which is now the word. Unigram takes the likeliest cut: `shares`, how
    much of all tokens each word is, gives its score, and a word that would still be cut is made just likelier. BPE
    merges in order: a word's pieces are merged from the left after all older merges, and what comes between is added.
    """
    kind = plan["model"]["type"]
    if kind not in ADD:
        raise InputError(f"The tokenizer is of type {kind}.", f"Words are added to {', '.join(ADD)}.", "Add none.")
    model, made_of = ADD[kind](dict(plan["model"]), words, shares or [1e-6] * len(words))
    return {**plan, "model": model}, made_of


def _word_starts(tokenizer: TextTokenizer) -> npt.NDArray[np.bool_]:
    """(size,): which pieces open a word."""
    model = tokenizer.json["model"]
    prefix = model.get("continuing_subword_prefix") or "##"
    if model["type"] == "WordPiece":
        return np.array([not piece.startswith(prefix) for piece in tokenizer.pieces])
    return np.array([piece[:1] in ("\u2581", "\u0120") for piece in tokenizer.pieces])


def _word_piece(model: dict[str, Any], words: Sequence[Word], _: Sequence[float]) -> tuple[dict[str, Any], list[Word]]:
    prefix = model.get("continuing_subword_prefix") or "##"
    pieces = {index: piece for piece, index in model["vocab"].items()}
    vocabulary, size, made_of = dict(model["vocab"]), 1 + max(pieces), list[Word]()
    for word in words:
        name = pieces[word[0]] + "".join(pieces[index].removeprefix(prefix) for index in word[1:])
        if name not in vocabulary:
            vocabulary[name] = size + len(made_of)
            made_of.append(word)
    return {**model, "vocab": vocabulary}, made_of


def _unigram(
    model: dict[str, Any], words: Sequence[Word], shares: Sequence[float]
) -> tuple[dict[str, Any], list[Word]]:
    entries = list(model["vocab"])
    known, made_of = {piece for piece, _ in entries}, list[Word]()
    for word, share in zip(words, shares, strict=True):
        name = "".join(entries[index][0] for index in word)
        if name not in known:
            cut = sum(entries[index][1] for index in word)
            entries.append([name, max(float(np.log(share)), cut + 1e-3)])
            known.add(name)
            made_of.append(word)
    return {**model, "vocab": entries}, made_of


def _bpe(model: dict[str, Any], words: Sequence[Word], _: Sequence[float]) -> tuple[dict[str, Any], list[Word]]:
    prefix = model.get("continuing_subword_prefix") or ""
    vocabulary, merges = dict(model["vocab"]), [list(pair) for pair in model["merges"]]
    pieces = {index: piece for piece, index in vocabulary.items()}
    size, made_of, merged = 1 + max(pieces), list[Word](), {tuple(pair) for pair in merges}
    for word in words:
        left = pieces[word[0]]
        for place, index in enumerate(word[1:], 2):
            right = pieces[index]
            whole = left + right.removeprefix(prefix)
            if whole not in vocabulary:
                vocabulary[whole] = size + len(made_of)
                made_of.append(word[:place])
            if (left, right) not in merged:
                merged.add((left, right))
                merges.append([left, right])
            left = whole
    return {**model, "vocab": vocabulary, "merges": merges}, made_of


ADD = {"WordPiece": _word_piece, "BPE": _bpe, "Unigram": _unigram}

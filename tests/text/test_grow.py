"""Grown vocabularies: a new word is one token, everything else is cut as before."""

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest

from nestling.errors import InputError
from nestling.text.grow import MOST_PIECES, add_words, count_words
from nestling.text.plan import check_plan, dump_plan
from nestling.text.prune import keep_pieces
from nestling.text.tokenizer import TextTokenizer


def tokenizer_of(plan: dict[str, Any]) -> TextTokenizer:
    return TextTokenizer(dump_plan(plan), "grown")


@pytest.fixture
def bare(plan: dict[str, Any]) -> dict[str, Any]:
    return keep_pieces(plan, set(range(len(plan["model"]["vocab"]))))[0]


def test_words_are_counted_as_their_pieces(bare: dict[str, Any], sentences: list[str]) -> None:
    tokenizer = tokenizer_of(bare)
    counts = count_words(tokenizer, sentences)
    assert counts
    by_hand: Counter[tuple[int, ...]] = Counter()
    opens = [
        piece[:1] in "▁Ġ" or (bare["model"]["type"] == "WordPiece" and piece[:2] != "##") for piece in tokenizer.pieces
    ]
    for text in sentences:
        word: list[int] = []
        for index in [*tokenizer.encode([text]).ids.tolist(), None]:
            if index is None or opens[index]:
                if 2 <= len(word) <= MOST_PIECES and tokenizer.unknown not in word:
                    by_hand[tuple(word)] += 1
                word = []
            if index is not None:
                word.append(index)
    assert counts == by_hand


def test_a_new_word_is_one_token(bare: dict[str, Any], sentences: list[str]) -> None:
    before = tokenizer_of(bare)
    counts = count_words(before, sentences)
    words = [word for word, _ in counts.most_common(30)]
    grown, made_of = add_words(bare, words, [0.001] * len(words))
    check_plan(json.dumps(grown), "grown")
    after = tokenizer_of(grown)
    assert set(words) <= set(made_of)
    assert after.size == before.size + len(made_of)
    for index, word in enumerate(made_of, before.size):
        spelt = "".join(
            piece if k == 0 else piece.removeprefix("##") for k, piece in enumerate(before.pieces[i] for i in word)
        )
        assert after.pieces[index] == spelt
    old, new = before.encode(sentences), after.encode(sentences)
    unfolded = [
        tuple(
            piece
            for index in new.ids[first:last]
            for piece in ([index] if index < before.size else made_of[index - before.size])
        )
        for first, last in zip(new.offsets, new.offsets[1:], strict=False)
    ]
    kept = [tuple(old.ids[first:last]) for first, last in zip(old.offsets, old.offsets[1:], strict=False)]
    assert sum(new.lengths) < sum(old.lengths)
    same = np.mean([a == b for a, b in zip(unfolded, kept, strict=True)])
    assert same > (0.9 if bare["model"]["type"] == "WordPiece" else 0.5)  # a piece may now end elsewhere in other words
    met = set(new.ids.tolist())
    whole = [index for index, word in enumerate(made_of, before.size) if word in set(words)]
    assert np.mean([index in met for index in whole]) > 0.9


def test_no_words_change_nothing(bare: dict[str, Any]) -> None:
    assert add_words(bare, [])[0] == bare
    word = (1, 2)
    once, made_of = add_words(bare, [word, word])
    assert made_of.count(word) == 1
    assert add_words(once, [word])[1] == []


def test_a_kind_that_cannot_grow() -> None:
    plan = {"model": {"type": "WordLevel", "vocab": {"a": 0}}}
    with pytest.raises(InputError, match="WordLevel"):
        add_words(plan, [(0, 0)])

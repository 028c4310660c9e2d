"""Fewer tokens: those that stay keep their rows, and any text still has a vector."""

import dataclasses
import json

import numpy as np
import pytest

from nestling.errors import InputError
from nestling.model.static import StaticModel
from nestling.shrink.codebook import block_widths, to_products
from nestling.shrink.vocabulary import keep_tokens, prune_vocabulary
from nestling.text.packed import PackedTokenizer
from tests.conftest import model_of


def bare(model: StaticModel) -> StaticModel:
    """The same model without added tokens, which pruning takes away."""
    plan = {**model.tokenizer.json, "added_tokens": [], "post_processor": None}
    return StaticModel(dataclasses.replace(model.parts(), tokenizer=PackedTokenizer.of(plan, "x")))


def test_the_most_counted_stay_with_their_rows(model: StaticModel) -> None:
    small = prune_vocabulary(model, 300)
    assert 300 <= small.table.size < model.table.size
    old = {piece: index for index, piece in enumerate(model.tokenizer.pieces)}
    ids = np.array([old[piece] for piece in small.tokenizer.pieces])
    assert set(range(300)) <= set(ids.tolist())  # counts fall with the id
    np.testing.assert_array_equal(small.table.expanded(), model.table.expanded()[ids])
    np.testing.assert_array_equal(small.counts, model.counts[ids])
    assert small.tokenizer.size == small.table.size


def test_texts_of_kept_tokens_keep_their_vectors(model: StaticModel, sentences: list[str]) -> None:
    """And the texts of others are still encoded."""
    model, small = bare(model), prune_vocabulary(model, 400)
    kept = set(small.tokenizer.pieces)
    words = sorted({word for text in sentences for word in text.split()})
    tokens = model.tokenizer.encode(words)
    same = [
        word
        for word, start, end in zip(words, tokens.offsets, tokens.offsets[1:], strict=False)
        if {model.tokenizer.pieces[index] for index in tokens.ids[start:end]} <= kept
    ]
    assert len(same) > 300
    np.testing.assert_array_equal(small.encode(same), model.encode(same))
    others = [word for word in words if word.isascii() and word not in same]
    assert len(others) > 100
    assert np.linalg.norm(small.encode(others), axis=1) == pytest.approx(1, abs=1e-5)


def test_what_a_model_says_moves_along(kind: str) -> None:
    model = model_of(kind, scores={"task": {"16": 0.5}}, prompts={"query": "q: "}, max_tokens=9)
    small = prune_vocabulary(model, 300)
    assert small.document.scores == {}
    assert (small.document.prompts, small.max_tokens, small.dims) == ({"query": "q: "}, 9, model.dims)
    pieces = [model.tokenizer.pieces[index] for index in model.document.drop]
    assert [small.tokenizer.pieces[index] for index in small.document.drop] == pieces


def test_any_text_still_has_a_vector(model: StaticModel, odd_texts: list[str]) -> None:
    small = prune_vocabulary(model, 1)
    vectors = small.encode(odd_texts)
    assert np.isfinite(vectors).all()
    assert vectors[2].any()
    assert json.loads(json.dumps(small.tokenizer.json)) == small.tokenizer.json


def test_more_rows_than_there_are(model: StaticModel, sentences: list[str]) -> None:
    small = prune_vocabulary(model, 10**6)
    assert small.table.size == model.table.size
    np.testing.assert_array_equal(small.encode(sentences[:50]), bare(model).encode(sentences[:50]))


def test_coded_rows_are_pruned_as_they_are(model: StaticModel) -> None:
    coded = model.with_table(to_products(model.table.expanded(), model.counts, block_widths(16, 4), exact=20, rounds=2))
    small = keep_tokens(coded, np.arange(50, 250))
    old = {piece: index for index, piece in enumerate(coded.tokenizer.pieces)}
    ids = np.array([old[piece] for piece in small.tokenizer.pieces])
    np.testing.assert_array_equal(small.table.expanded(), coded.table.expanded()[ids])


def test_refusals(model: StaticModel) -> None:
    with pytest.raises(InputError, match=r"A vocabulary of 0 rows was asked for\. At least 1 was expected\."):
        prune_vocabulary(model, 0)
    uncounted = StaticModel(dataclasses.replace(model.parts(), counts=None))
    with pytest.raises(InputError, match=r"carries no token counts\. .*Pass a text file to count on: --corpus FILE"):
        prune_vocabulary(uncounted, 9)

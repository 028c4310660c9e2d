"""Packing a tokenizer loses nothing, and packs well."""

import string

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestling.errors import ModelFileError
from nestling.text.packed import pack_tokenizer, unpack_tokenizer
from tests.conftest import plan_of

PIECES = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), unique=True, max_size=60)


def test_round_trip(plan, kind: str) -> None:
    assert unpack_tokenizer(pack_tokenizer(plan, kind), kind) == plan


@given(pieces=PIECES, seed=st.integers(0, 9))
def test_any_word_piece_vocabulary_survives(pieces: list[str], seed: int) -> None:
    ids = np.random.default_rng(seed).permutation(len(pieces)).tolist()
    plan = {
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "vocab": dict(zip(pieces, ids, strict=True))},
        "normalizer": None,
    }
    assert unpack_tokenizer(pack_tokenizer(plan, "any"), "any") == plan


@given(pieces=PIECES, scores=st.lists(st.floats(-1e6, 0), min_size=60, max_size=60))
def test_any_unigram_vocabulary_survives(pieces: list[str], scores: list[float]) -> None:
    vocabulary = [[piece, score] for piece, score in zip(pieces, scores, strict=False)]
    plan = {"model": {"type": "Unigram", "unk_id": None, "vocab": vocabulary}}
    assert unpack_tokenizer(pack_tokenizer(plan, "any"), "any") == plan


def test_ids_in_byte_order_need_no_order_tensor() -> None:
    plan = {"model": {"type": "WordPiece", "vocab": {piece: k for k, piece in enumerate(string.ascii_lowercase)}}}
    assert "order" not in pack_tokenizer(plan, "sorted")
    assert "order" in pack_tokenizer(plan_of("wordpiece"), "unsorted")


@pytest.mark.parametrize("name", ["vocabulary", "plan"])
def test_missing_and_cut_tensors_are_refused(name: str) -> None:
    packed = pack_tokenizer(plan_of("wordpiece"), "whole")
    for broken in (None, packed[name][:-9], np.zeros(40, np.uint8)):
        tensors = {key: value for key, value in packed.items() if key != name}
        with pytest.raises(ModelFileError, match="cannot be unpacked"):
            unpack_tokenizer(tensors if broken is None else {**tensors, name: broken}, "broken")


@pytest.mark.parametrize("change", [lambda order: order[:-1], lambda order: order * 0 + 5])
def test_wrong_order_is_refused_or_unpacks_to_what_it_says(change) -> None:
    packed = pack_tokenizer(plan_of("wordpiece"), "whole")
    packed["order"] = change(packed["order"])
    if len(packed["order"]) < len(plan_of("wordpiece")["model"]["vocab"]):
        with pytest.raises(ModelFileError, match="as many ids as pieces"):
            unpack_tokenizer(packed, "short")
    else:
        assert set(unpack_tokenizer(packed, "same")["model"]["vocab"].values()) == {5}

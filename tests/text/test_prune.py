"""Pruned tokenizers: text stays encodable, kept pieces stay what they were, and nothing else is left."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.trainers import BpeTrainer

from nestling.errors import InputError
from nestling.shrink.fidelity import sample_texts
from nestling.text.plan import check_plan, dump_plan
from nestling.text.prune import keep_pieces
from nestling.text.tokenizer import TextTokenizer
from tests.conftest import KINDS, plan_of

ASCII = [chr(code) for code in range(33, 127)]
SPECIAL = {"[PAD]", "[CLS]", "[SEP]", "[MASK]", "<s>", "</s>"}


def pieces_of(plan: dict[str, Any]) -> list[str]:
    vocabulary = plan["model"]["vocab"]
    if isinstance(vocabulary, list):
        return [piece for piece, _ in vocabulary]
    return sorted(vocabulary, key=vocabulary.__getitem__)


def tokenizer_of(plan: dict[str, Any]) -> TextTokenizer:
    return TextTokenizer(dump_plan(plan), "pruned")


def split(tokenizer: TextTokenizer, text: str) -> list[str]:
    return [tokenizer.pieces[index] for index in tokenizer.encode([text]).ids]


def bare(plan: dict[str, Any]) -> dict[str, Any]:
    """The same plan without added tokens: what keeping every piece would leave of its behaviour."""
    return {**plan, "added_tokens": [], "post_processor": None}


def some_ids(plan: dict[str, Any], share: float, seed: int) -> set[int]:
    size = len(plan["model"]["vocab"])
    return set(np.random.default_rng(seed).choice(size, int(size * share), replace=False).tolist())


def test_ids_are_dense_in_byte_order_and_point_back(plan: dict[str, Any]) -> None:
    keep = some_ids(plan, 0.3, 0)
    pruned, old = keep_pieces(plan, keep)
    before, after = pieces_of(plan), pieces_of(pruned)
    assert after == [before[index] for index in old]
    assert after == sorted(after, key=lambda piece: piece.encode("utf-8"))
    assert keep <= set(old.tolist())
    assert len(set(old.tolist())) == len(old) < len(before)
    if pruned["model"]["type"] != "Unigram":
        assert list(pruned["model"]["vocab"].values()) == list(range(len(old)))
    check_plan(json.dumps(pruned), "pruned")


def test_what_a_teacher_adds_is_gone(plan: dict[str, Any]) -> None:
    plan["truncation"] = {"max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    plan["padding"] = {
        "strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": None,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]",
    }  # fmt: skip
    plan["post_processor"] = {"type": "BertProcessing", "sep": ["x", 3], "cls": ["y", 2]}
    untouched = json.dumps(plan)
    added = {token["id"] for token in plan["added_tokens"]}
    pruned, _ = keep_pieces(plan, set(range(len(plan["model"]["vocab"]))) - added)
    assert not SPECIAL & set(pieces_of(pruned))
    assert pruned["added_tokens"] == []
    assert [pruned[name] for name in ("post_processor", "truncation", "padding")] == [None] * 3
    assert json.dumps(plan) == untouched


def test_keeping_all_changes_no_tokens(plan: dict[str, Any], odd_texts: list[str], sentences: list[str]) -> None:
    pruned, old = keep_pieces(plan, set(range(len(plan["model"]["vocab"]))))
    texts = odd_texts + sentences[:200]
    before, after = tokenizer_of(bare(plan)).encode(texts), tokenizer_of(pruned).encode(texts)
    np.testing.assert_array_equal(old[after.ids], before.ids)
    np.testing.assert_array_equal(after.offsets, before.offsets)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_words_of_kept_pieces_keep_their_tokens(plan: dict[str, Any], share: float, sentences: list[str]) -> None:
    pruned, old = keep_pieces(plan, some_ids(plan, share, 1))
    before, after, kept = tokenizer_of(bare(plan)), tokenizer_of(pruned), set(old.tolist())
    words = sorted({word for text in sentences for word in text.split()})
    checked = 0
    for word in words:
        ids = before.encode([word]).ids.tolist()
        if set(ids) <= kept:
            assert old[after.encode([word]).ids].tolist() == ids, word
            checked += 1
    assert checked >= 1 + 500 * (share > 0.1)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_no_text_gains_an_unknown_piece(plan: dict[str, Any], share: float, sentences: list[str]) -> None:
    """ASCII text in WordPiece, any text in BPE and Unigram: what was known stays known."""
    pruned, _ = keep_pieces(plan, some_ids(plan, share, 2))
    before, after = tokenizer_of(bare(plan)), tokenizer_of(pruned)
    words = sorted({word for text in sentences for word in text.split()} | set(ASCII))
    if plan["model"]["type"] == "WordPiece":
        words = [word for word in words if word.isascii()]
    for word in words:
        was, now = before.encode([word]).ids, after.encode([word]).ids
        assert len(now) >= 1
        assert (after.unknown in now) == (before.unknown in was), word


@given(text=st.text(max_size=40), share=st.floats(0, 1), kind=st.sampled_from(KINDS))
def test_any_text_can_be_cut_up(text: str, share: float, kind: str) -> None:
    pruned, old = keep_pieces(plan_of(kind), some_ids(plan_of(kind), share, 3))
    ids = tokenizer_of(pruned).encode([text]).ids
    assert ids.size == 0 or (ids.min() >= 0 and ids.max() < len(old))


def test_word_piece_keeps_ascii_and_the_unknown_piece() -> None:
    plan = plan_of("wordpiece")
    pruned, _ = keep_pieces(plan, set())
    expected = {piece for piece in pieces_of(plan) if piece.removeprefix("##") in ASCII} | {"[UNK]"}
    assert set(pieces_of(pruned)) == expected
    assert split(tokenizer_of(pruned), "the 🙂") == ["t", "##h", "##e", "[UNK]"]


def test_bpe_keeps_the_parts_of_kept_pieces() -> None:
    plan = plan_of("bpe")
    word = "Ġinform"
    pruned, _ = keep_pieces(plan, {plan["model"]["vocab"][word]})
    pieces, merges = set(pieces_of(pruned)), pruned["model"]["merges"]
    assert word in pieces
    long = {piece for piece in pieces if len(piece) > 1}
    assert {left + right for left, right in merges} == long
    assert all({left, right} <= pieces for left, right in merges)
    assert long < {piece for piece in pieces_of(plan) if piece in word}
    assert split(tokenizer_of(pruned), " inform of") == [word, "Ġ", "o", "f"]


def test_bpe_without_bytes_keeps_every_character_form() -> None:
    """A prefix for what continues a word, a suffix for what ends it, and an unknown piece."""
    for shape in ({"continuing_subword_prefix": "##"}, {"end_of_word_suffix": "</w>"}):
        tokenizer = Tokenizer(BPE(unk_token="<unk>", **shape))
        tokenizer.pre_tokenizer = WhitespaceSplit()
        trainer = BpeTrainer(vocab_size=300, special_tokens=["<unk>", "<s>"], show_progress=False, **shape)
        tokenizer.train_from_iterator(sample_texts()[:200], trainer)
        plan = check_plan(tokenizer.to_str(), "trained")
        pruned, _ = keep_pieces(plan, set())
        affix = next(iter(shape.values()))
        singles = {piece for piece in pieces_of(plan) if len(piece.replace(affix, "")) == 1}
        assert set(pieces_of(pruned)) == singles | {"<unk>"}
        texts = sample_texts()[:200]
        assert tokenizer_of(pruned).unknown not in tokenizer_of(pruned).encode(texts).ids
        half, _ = keep_pieces(plan, set(range(150)))
        assert "<s>" in pieces_of(half)  # asked for by id
        assert tokenizer_of(half).unknown not in tokenizer_of(half).encode(texts).ids


def test_unigram_s_unknown_id_moves_with_its_piece() -> None:
    plan = plan_of("unigram")
    pruned, old = keep_pieces(plan, some_ids(plan, 0.2, 4))
    model = pruned["model"]
    assert old[model["unk_id"]] == plan["model"]["unk_id"]
    assert model["vocab"][model["unk_id"]] == plan["model"]["vocab"][plan["model"]["unk_id"]]
    assert model["vocab"] == [plan["model"]["vocab"][index] for index in old]
    assert {piece for piece in pieces_of(plan) if len(piece) == 1} <= set(pieces_of(pruned))
    plan["model"]["unk_id"] = None
    assert keep_pieces(plan, {5})[0]["model"]["unk_id"] is None


def test_unigram_keeps_byte_pieces() -> None:
    plan = plan_of("unigram")
    plan["model"]["vocab"] += [[f"<0x{byte:02X}>", -12.0] for byte in range(256)]
    plan["model"]["byte_fallback"] = True
    pruned, _ = keep_pieces(plan, set())
    tokenizer = tokenizer_of(pruned)
    assert split(tokenizer, "🙃") == ["▁", "<0xF0>", "<0x9F>", "<0x99>", "<0x83>"]


def test_a_word_level_tokenizer_is_refused() -> None:
    plan = {"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}}
    with pytest.raises(InputError, match=r"of type WordLevel\. Pruned are WordPiece, BPE, Unigram\. Keep its"):
        keep_pieces(plan, {0})

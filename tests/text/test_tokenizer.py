"""The twin equals Hugging Face tokenizers, id for id, with and without its word memo."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

import nestling.text.twin as module
from nestling.errors import ModelFileError
from nestling.text.tokenizer import TextTokenizer
from nestling.text.twin import Twin
from tests.conftest import KINDS, SAMPLES, plan_of

GOLDEN = Path(__file__).parent.parent / "golden" / "ids.json"
BOTH = {
    kind: (
        TextTokenizer(json.dumps(plan_of(kind)), kind),
        Tokenizer.from_file(str(SAMPLES / f"{kind}.json")),
    )
    for kind in KINDS
}
FRAGMENTS = ["the", " ", "\n", "\t", "\x85", "\u00a0", "\u3000", "[UNK]", "[CLS]", "é", "e\u0301", "東京", "ab" * 60]
FRAGMENTS += ["\u200b", "!", "'s", "\x00", "\u0301", "\ufffd"]
TEXTS = st.lists(
    st.one_of(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
        st.lists(st.sampled_from(FRAGMENTS), max_size=12).map("".join),
    ),
    max_size=8,
)


def ids_by_text(tokenizer: TextTokenizer | Twin, texts: list[str]) -> list[list[int]]:
    tokens = tokenizer.encode(texts)
    return [tokens.ids[a:b].tolist() for a, b in zip(tokens.offsets, tokens.offsets[1:], strict=False)]


@pytest.mark.parametrize("kind", KINDS)
@given(texts=TEXTS)
def test_ids_equal_the_reference(kind: str, texts: list[str]) -> None:
    ours, reference = BOTH[kind]
    expected = [encoding.ids for encoding in reference.encode_batch(texts, add_special_tokens=False)]
    assert ids_by_text(ours, texts) == expected
    assert ids_by_text(ours.twin, texts) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_golden_ids(kind: str, odd_texts: list[str]) -> None:
    assert ids_by_text(BOTH[kind][0], odd_texts) == json.loads(GOLDEN.read_text())[kind]
    assert ids_by_text(BOTH[kind][0].twin, odd_texts) == json.loads(GOLDEN.read_text())[kind]


def test_only_bert_is_remembered_word_by_word() -> None:
    assert {kind: BOTH[kind][0].twin._memo is not None for kind in KINDS} == {
        "wordpiece": True,
        "bpe": False,
        "unigram": False,
    }


@pytest.mark.parametrize(
    "change",
    [
        lambda plan: plan["normalizer"].update(clean_text=False),
        lambda plan: plan.update(pre_tokenizer={"type": "Whitespace"}),
        lambda plan: plan["added_tokens"].append({**plan["added_tokens"][0], "id": 700, "content": "two words"}),
        lambda plan: plan["added_tokens"][0].update(lstrip=True),
    ],
)
def test_what_reaches_over_spaces_is_not_remembered(change) -> None:
    plan = plan_of("wordpiece")
    change(plan)
    tokenizer = TextTokenizer(json.dumps(plan), "changed").twin
    assert tokenizer._memo is None
    texts = ["two words [PAD] and more", "a  b\tc"]
    reference = Tokenizer.from_str(json.dumps(plan))
    assert ids_by_text(tokenizer, texts) == [e.ids for e in reference.encode_batch(texts, add_special_tokens=False)]


def test_memory_of_words_is_bounded_and_stays_right(monkeypatch: pytest.MonkeyPatch, sentences: list[str]) -> None:
    monkeypatch.setattr(module, "REMEMBERED_WORDS", 50)
    tokenizer = TextTokenizer(json.dumps(plan_of("wordpiece")), "small memo").twin
    expected = [e.ids for e in BOTH["wordpiece"][1].encode_batch(sentences, add_special_tokens=False)]
    assert ids_by_text(tokenizer, sentences) == expected
    assert len(tokenizer._memo) <= 50
    assert len(tokenizer._memo._old) <= 50


def test_long_words_are_not_remembered() -> None:
    tokenizer = TextTokenizer(json.dumps(plan_of("wordpiece")), "long").twin
    tokenizer.encode(["x" * 65, "y" * 64])
    assert set(tokenizer._memo) == {"y" * 64}


def test_unknown_is_found(kind: str) -> None:
    expected = {"wordpiece": "[UNK]", "bpe": None, "unigram": "<unk>"}[kind]
    tokenizer = BOTH[kind][0]
    assert (tokenizer.pieces[tokenizer.unknown] if tokenizer.unknown is not None else None) == expected


def test_padding_and_truncation_of_the_file_are_switched_off() -> None:
    plan = plan_of("wordpiece")
    plan["truncation"] = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    plan["padding"] = {"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
                       "pad_type_id": 0, "pad_token": "[PAD]"}  # fmt: skip
    tokens = TextTokenizer(json.dumps(plan), "padded").encode(["one two three four", "a"])
    assert tokens.lengths[0] > 2
    assert tokens.lengths[1] == 1


def test_unreadable_plan_names_the_model() -> None:
    with pytest.raises(ModelFileError, match=r"tokenizer of lost.*JSON"):
        TextTokenizer("{", "lost")

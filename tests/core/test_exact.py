"""The core gives the ids of Hugging Face tokenizers, and the bits of its twin. At length: benchmarks/exactness.py."""

import copy
from base64 import b64encode
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nestling
from benchmarks import exactness
from nestling.files.parts import POOLINGS
from nestling.model.static import StaticModel
from nestling.text.plan import dump_plan
from nestling.text.tokenizer import TextTokenizer
from tests.conftest import plan_of

TEXTS = 300  # of each kind


def cased_plan() -> dict[str, Any]:
    return exactness.cased(plan_of("wordpiece"))


def marked_plan() -> dict[str, Any]:
    """With added tokens of several kinds: one begins like another, one holds a space, one is no piece."""
    plan = plan_of("wordpiece")
    token = plan["added_tokens"][0]
    for content in ("[MASKED]", "<a b>", "<", "##xyz"):
        plan["added_tokens"].append({**token, "content": content, "id": 595 + len(plan["added_tokens"])})
    return plan


def short_words_plan() -> dict[str, Any]:
    plan = plan_of("wordpiece")
    plan["model"]["max_input_chars_per_word"] = 16
    return plan


REPLACED = {"\u3000": " ", "\u00a0": " ", "\t": " ", "\n": " ", "\r": " ", "\u2003": "  ", "\u200b": "", "\ufeff": ""}
REPLACED |= {"e\u0301": "é", "a\u0301\u0301": "á", "\u1100\u1161": "가", "カ\u3099": "ガ", "ﬁ": "fi", "Ａ": "A"}
REPLACED |= {"…": "...", "½": "1 2", "ﷺ": "صلى الله", "\u2581": " ", "´": " \u0301", "\x7f": "\u2581"}


def charsmap(replaced: dict[str, str]) -> bytes:
    """SentencePiece's Precompiled: a Darts double array over the keys, a block for each node, and the values."""
    nodes, values = {b"": 0}, b""
    units = [0] * 256
    for key, value in replaced.items():
        raw, values, place = key.encode(), values + value.encode() + b"\0", len(values)
        for size in range(1, len(raw) + 1):
            if nodes.setdefault(raw[:size], len(nodes)) * 256 == len(units):
                units += [0] * 256
                at = nodes[raw[: size - 1]] * 256 + raw[size - 1]
                units[at] = raw[size - 1] | (at ^ nodes[raw[:size]] * 256) << 10
        units[nodes[raw[:-1]] * 256 + raw[-1]] |= 1 << 8
        units[nodes[raw] * 256] = place | 1 << 31
    packed = np.array(units, "<u4").tobytes()
    return len(packed).to_bytes(4, "little") + packed + values


def unigram_plan(
    *steps: dict[str, Any], scheme: str = "always", split: bool = False, fallback: bool = False
) -> dict[str, Any]:
    """The sample's pieces, and some more that matter here; another normalizer and another Metaspace."""
    plan = plan_of("unigram")
    vocabulary = plan["model"]["vocab"]
    more = ["\u2581", "\u2581\u2581", "é", "ガ", "\u2581the\u2581", "..", " ", "\u0301", "1", "fi", "한", "\u1112"]
    more += [f"<0x{byte:02X}>" for byte in range(256)] if fallback else []
    vocabulary += [[piece, -7.5] for piece in more if piece not in dict(vocabulary)]
    mask = {**plan["added_tokens"][0], "content": "<mask>", "id": len(vocabulary), "lstrip": True}
    plan["added_tokens"] += [mask, {**mask, "content": "<m", "id": mask["id"] + 1, "rstrip": True}]
    plan["model"]["byte_fallback"] = fallback
    plan["normalizer"] = {"type": "Sequence", "normalizers": list(steps)} if steps else None
    metaspace = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": True}
    whole = {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace]}
    plan["pre_tokenizer"] = whole if split else metaspace
    return plan


PRECOMPILED = {"type": "Precompiled", "precompiled_charsmap": b64encode(charsmap(REPLACED)).decode()}
COLLAPSE = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}
QUOTES = [{"type": "Replace", "pattern": {"String": pair}, "content": '"'} for pair in ("``", "''")]
FOLD = [{"type": "NFKD"}, {"type": "StripAccents"}, {"type": "Lowercase"}]


def strip(left: bool, right: bool) -> dict[str, Any]:
    return {"type": "Strip", "strip_left": left, "strip_right": right}


PLANS: dict[str, Callable[[], dict[str, Any]]] = {
    "nano": lambda: nestling.load("nano").tokenizer.json,
    "wordpiece": lambda: plan_of("wordpiece"),
    "cased": cased_plan,
    "marked": marked_plan,
    "short words": short_words_plan,
    "xlm-r": lambda: unigram_plan(PRECOMPILED, COLLAPSE),
    "t5": lambda: unigram_plan(PRECOMPILED, strip(False, True), {**COLLAPSE, "content": "\u2581"}),
    "albert": lambda: unigram_plan(*QUOTES, *FOLD, PRECOMPILED, COLLAPSE, split=True),
    "bare": lambda: unigram_plan(),
    "charsmap only": lambda: unigram_plan(PRECOMPILED, scheme="never"),
    "bytes": lambda: unigram_plan(PRECOMPILED, fallback=True),
    "first": lambda: unigram_plan(PRECOMPILED, COLLAPSE, scheme="first"),
    "stripped": lambda: unigram_plan(strip(True, True), PRECOMPILED, strip(True, True), COLLAPSE),
}


class Subject:
    """A tokenizer in the core, its reference, and where made texts draw from."""

    def __init__(self, plan: dict[str, Any], lines: list[str]) -> None:
        self.core = TextTokenizer(dump_plan(plan), "subject").core
        self.reference = exactness.reference_of(plan)
        self.source = exactness.source_of(plan, Path())
        self.source.lines = lines

    def differing(self, texts: list[str]) -> list[str]:
        return exactness.differing(self.core, self.reference, texts)[1]


@pytest.fixture(scope="module")
def subjects(sentences: list[str], odd_texts: list[str]) -> dict[str, Subject]:
    return {name: Subject(plan(), [*sentences, *odd_texts]) for name, plan in PLANS.items()}


@pytest.fixture(params=PLANS)
def subject(request: pytest.FixtureRequest, subjects: dict[str, Subject]) -> Subject:
    return subjects[request.param]


def test_the_charsmap_of_these_tests_does_something() -> None:
    """The reference replaces clusters of less than 6 bytes only."""
    normalizer = exactness.reference_of(unigram_plan(PRECOMPILED)).normalizer
    for key, value in REPLACED.items():
        assert normalizer.normalize_str(key) == (value if len(key.encode()) < 6 else key)


def test_the_core_knows_it(subject: Subject) -> None:
    assert subject.core is not None


def test_ids_of_real_texts(subject: Subject, sentences: list[str], odd_texts: list[str]) -> None:
    assert subject.differing([*sentences, *odd_texts, " ".join(sentences)]) == []


@pytest.mark.parametrize("maker", exactness.FUZZ, ids=lambda maker: maker.__name__)
def test_ids_of_made_texts(subject: Subject, maker: Callable[..., str]) -> None:
    assert subject.differing(list(islice(exactness.made(maker, subject.source), TEXTS))) == []


@pytest.mark.parametrize("name", ["wordpiece", "cased", "albert"])
def test_ids_of_every_code_point(name: str, subjects: dict[str, Subject]) -> None:
    def in_words() -> Iterator[str]:
        codes = [chr(code) for code in range(0x110000) if code not in exactness.SURROGATES]
        for start in range(0, len(codes), 40):
            yield " ".join(f"a{char}b {char}" for char in codes[start : start + 40])

    assert subjects[name].differing(list(in_words())) == []


@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=6))
def test_ids_of_any_texts(subjects: dict[str, Subject], texts: list[str]) -> None:
    assert subjects["wordpiece"].differing(texts) == []
    assert subjects["cased"].differing(texts) == []
    assert subjects["xlm-r"].differing(texts) == []
    assert subjects["albert"].differing(texts) == []


@pytest.mark.parametrize("most", [1, 7, 15, 16, 1000, 1001])
def test_words_of_any_limit(most: int) -> None:
    """By the core or, where it does not know how, by the twin."""
    plan = plan_of("wordpiece")
    plan["model"]["max_input_chars_per_word"] = most
    words = " ".join(plan["model"]["vocab"])
    texts = [words, words.replace("##", ""), *(letter * (most + more) for letter in "té" for more in (-1, 0, 1))]
    expected = exactness.reference_of(plan).encode_batch(texts, add_special_tokens=False)
    ids = TextTokenizer(dump_plan(plan), "limit").encode(texts).ids.tolist()
    assert ids == [id_ for encoding in expected for id_ in encoding.ids]


def test_the_comparison_sees_a_difference(subjects: dict[str, Subject]) -> None:
    other = copy.copy(subjects["cased"])
    other.reference = subjects["wordpiece"].reference
    assert other.differing(["the", "The", "x"]) == ["The"]


# --- vectors ---


@pytest.fixture(scope="module")
def texts(sentences: list[str], odd_texts: list[str]) -> list[str]:
    documents = [" ".join(sentences[start : start + 40]) for start in range(0, 160, 40)]
    return [*sentences[:300], *odd_texts, *documents, "", " ", "\0", "x" * 101, "the " * 1500]


FORMS = [f"{name}, {pooling}" for name in exactness.tables(8, 8) for pooling in POOLINGS]


@pytest.fixture(scope="module")
def models() -> dict[str, StaticModel]:
    """Models over nano's tokenizer; 72 columns leave some over behind every width of register."""
    nano = nestling.load("nano")
    made = {
        f"{name}, {pooling}": nano.with_table(table, pooling=pooling)
        for name, table in exactness.tables(nano.table.size, 72).items()
        for pooling in POOLINGS
    }
    return {"nano": nano, "nano, cut": StaticModel(exactness.limited(nano, 20)), **made}


@pytest.mark.parametrize("name", ["nano", "nano, cut", *FORMS])
def test_vectors_are_those_of_the_twin(name: str, models: dict[str, StaticModel], texts: list[str]) -> None:
    found = exactness.compare_vectors(models[name], texts)
    assert found["backend"].startswith("core")
    assert found["largest difference"] == 0
    assert found["rows that differ"] == 0
    assert found["changed by"] == []


def test_the_comparison_of_vectors_sees_a_difference(models: dict[str, StaticModel], texts: list[str]) -> None:
    changed = StaticModel(models["int4, mean"].parts())
    changed._reads_in_core(models["float32, mean"]._core.encode)
    found = exactness.compare_vectors(changed, texts)
    assert found["largest difference"] > 0.1
    assert found["rows that differ"] > len(texts)
    assert found["changed by"] == exactness.core_module()[0].kernels()


@pytest.mark.parametrize("size", [1e-45, 1e-38, 1e-30, 1e-12, 1e12])
def test_tiny_and_huge_rows(size: float, models: dict[str, StaticModel]) -> None:
    """Squares that float32 cannot hold, and values at its very end."""
    values = np.zeros((models["nano"].table.size, 8), np.float32)
    values[:, :3] = size
    model = models["nano"].with_table(exactness.Table(exactness.FloatRows(values)))
    assert np.isfinite(model.encode(["the", "the cat sat", ""])).all()
    assert exactness.compare_vectors(model, ["the", "the cat sat", ""])["rows that differ"] == 0

"""What the core takes on and what it leaves to the twin, always with the reference's ids; and doing without it."""

import json
import math
import random
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from tokenizers import Tokenizer

import nestling
from nestling.errors import ModelFileError
from nestling.text.packed import PackedTokenizer
from nestling.text.plan import check_plan, read_float
from nestling.text.tokenizer import TextTokenizer
from tests.conftest import plan_of

TEXTS = ["Zoë  reads `` The 東京 Times ''", "[MASK]a<unk> b\t\u00a0c ▁d", "ﬁne ①\u0301", "", " ", "a" * 300]
METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
QUOTES = [{"type": "Replace", "pattern": {"String": pair}, "content": '"'} for pair in ("``", "''")]
SPACES = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}
STRIP = {"type": "Strip", "strip_left": True, "strip_right": True}
Change = Callable[[dict[str, Any]], Any]


def wordpiece(**changes: Any) -> dict[str, Any]:
    plan = plan_of("wordpiece")
    plan["normalizer"].update(changes)
    return plan


def unigram(*steps: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return plan_of("unigram") | {"normalizer": {"type": "Sequence", "normalizers": list(steps)}} | changes


def split(*steps: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"type": "Sequence", "pretokenizers": [*steps, METASPACE | changes]}


KNOWN = {
    "BERT": wordpiece(),
    "BERT, cased": wordpiece(lowercase=False),
    "no normalizer": unigram() | {"normalizer": None},
    "an empty sequence": unigram(),
    "ALBERT": unigram(*QUOTES, {"type": "NFKD"}, {"type": "StripAccents"}, {"type": "Lowercase"}),
    "spaces that are collapsed": unigram(SPACES),
    "a strip": unigram(STRIP, SPACES),
    "words first": unigram(pre_tokenizer=split({"type": "WhitespaceSplit"})),
    "an old Metaspace": unigram(pre_tokenizer={"type": "Metaspace", "replacement": "▁", "add_prefix_space": True}),
    "no mark before": unigram(pre_tokenizer=METASPACE | {"prepend_scheme": "never"}),
    "a mark before the first": unigram(pre_tokenizer=METASPACE | {"prepend_scheme": "first"}),
}
LEFT = {
    "NFKC": (plan_of("unigram"), "a normalizer with NFKC"),
    "accents kept": (wordpiece(strip_accents=False), "accents"),
    "controls kept": (wordpiece(clean_text=False), "keeps controls"),
    "another splitter": (wordpiece() | {"pre_tokenizer": {"type": "Whitespace"}}, "other than BertPreTokenizer"),
    "no splitter": (unigram(pre_tokenizer=None), "unknown form"),
    "a Metaspace that does not split": (unigram(pre_tokenizer=METASPACE | {"split": False}), "does not split"),
    "another splitter before": (
        unigram(pre_tokenizer=split({"type": "Punctuation", "behavior": "Isolated"})),
        "unknown",
    ),
    "steps in another order": (unigram(SPACES, *QUOTES), "a normalizer with Replace"),
    "byte-level BPE": (plan_of("bpe"), "BPE is left to `tokenizers`"),
}


def assert_equal(tokenizer: TextTokenizer, plan: dict[str, Any]) -> None:
    reference = Tokenizer.from_str(json.dumps(plan))
    expected = [encoding.ids for encoding in reference.encode_batch(TEXTS, add_special_tokens=False)]
    tokens = tokenizer.encode(TEXTS)
    assert [tokens.ids[a:b].tolist() for a, b in zip(tokens.offsets, tokens.offsets[1:], strict=False)] == expected


@pytest.mark.parametrize("name", KNOWN)
def test_what_the_core_knows(name: str) -> None:
    tokenizer = TextTokenizer(json.dumps(KNOWN[name]), name)
    assert tokenizer.core is not None, tokenizer.why_not
    assert_equal(tokenizer, KNOWN[name])


@pytest.mark.parametrize("name", LEFT)
def test_what_is_left_to_the_twin(name: str) -> None:
    plan, why = LEFT[name]
    tokenizer = TextTokenizer(json.dumps(plan), name)
    assert tokenizer.core is None
    assert why in tokenizer.why_not
    assert_equal(tokenizer, plan)


@pytest.mark.parametrize("change", [{"normalized": True}, {"single_word": True}, {"content": "word"}])
def test_added_tokens_that_the_core_does_not_know(change: dict[str, Any]) -> None:
    plan = plan_of("wordpiece")
    plan["added_tokens"].append({**plan["added_tokens"][0], "id": 600, "content": "<new>", **change})
    assert TextTokenizer(json.dumps(plan), "added").core is None


def test_a_packed_tokenizer_compiles_as_its_plan_does() -> None:
    for name, plan in KNOWN.items():
        packed = PackedTokenizer(name, PackedTokenizer.of(check_plan(json.dumps(plan), name), name).tensors)
        assert_equal(TextTokenizer(packed, name), plan)


@pytest.mark.parametrize("raw", ["", "AAAA", "not base64", "/////w=="])
def test_a_damaged_charsmap_is_refused(raw: str) -> None:
    plan = unigram({"type": "Precompiled", "precompiled_charsmap": raw})
    with pytest.raises(ModelFileError):
        TextTokenizer(json.dumps(plan), "x")


@pytest.mark.parametrize(("text", "value"), [("-3.5", -3.5), ("0", 0), ("0.0", 0), ("1e400", math.inf), ("1e-400", 0)])
def test_floats_are_read(text: str, value: float) -> None:
    assert read_float(text) == value


def test_floats_are_read_as_the_reference_reads_them() -> None:
    """By its own account: what it writes again."""
    dice = random.Random(0)
    texts = [f"-{dice.randrange(30)}.{dice.randrange(10 ** dice.randrange(1, 17))}" for _ in range(500)]
    plan = plan_of("unigram")
    plan["model"]["vocab"] = [["<unk>", 0], *([f"x{place}", text] for place, text in enumerate(texts))]
    plan["model"]["unk_id"] = 0
    whole = json.dumps(plan)
    for text in texts:
        whole = whole.replace(f'"{text}"', text, 1)
    scores = json.loads(Tokenizer.from_str(whole).to_str())["model"]["vocab"]
    assert [read_float(text) for text in texts] == [score for _, score in scores[1:]]


def test_without_the_core() -> None:
    program = "import nestling; m = nestling.load('nano'); print(m.backend); print(m.encode('a cat').tobytes().hex())"
    printed = {}
    for pure in ("", "1"):
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={"NESTLING_PURE": pure}
        )
        printed[pure] = done.stdout.splitlines()
    assert printed["1"][0] == "python (NESTLING_PURE is set)"
    assert printed[""][0].startswith("core (")
    assert printed[""][1] == printed["1"][1]


def test_backend_says_why() -> None:
    assert nestling.load("nano").backend.startswith(("core (", "python ("))

"""What a user, or a file, may throw at the core: huge, tiny, changing, broken or crafted input."""

import gc
import os
import random
import string
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import nestling
from nestling import _core
from nestling.text.packed import PackedTokenizer
from nestling.text.plan import check_plan, dump_plan
from nestling.text.tokenizer import TextTokenizer
from tests.conftest import plan_of

MEGABYTES = 10
SCRIPTS = "The quick fox, naïve café; 東京 서울 привет мир مرحبا नमस्ते สวัสดี 👩‍💻 [MASK] e\u0301 "


@pytest.fixture(scope="module")
def nano() -> nestling.StaticModel:
    return nestling.load("nano")


@pytest.fixture(scope="module")
def tokenizer(nano: nestling.StaticModel) -> Any:
    """The core's."""
    assert nano.tokenizer.core is not None
    return nano.tokenizer.core


def ids_of(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    ids, offsets = tokenizer.encode(texts)
    return [part.tolist() for part in np.split(ids, offsets[1:-1])]


# --- large and small ---


@pytest.mark.parametrize("unit", ["the cat sat on the mat. ", SCRIPTS, "é ", "[MASK]", "\r\n", "\u0301"])
def test_a_text_of_ten_megabytes(unit: str, nano: nestling.StaticModel, tokenizer: Any) -> None:
    times = MEGABYTES * 2**20 // len(unit.encode())
    once, whole = (tokenizer.encode([text])[0] for text in (unit, unit * times))
    assert np.array_equal(whole, np.tile(once, times))
    assert np.isfinite(nano.encode(unit * times, overflow="split")).all()
    mean = nano.with_pooling("mean")
    np.testing.assert_allclose(mean.encode(unit * times, overflow="split"), mean.encode(unit), atol=1e-3)


@pytest.mark.parametrize("letter", ["x", "é", "한"])
def test_a_word_of_ten_megabytes_is_unknown(letter: str, nano: nestling.StaticModel, tokenizer: Any) -> None:
    word = letter * (MEGABYTES * 2**20 // len(letter.encode()))
    unknown = nano.tokenizer.unknown
    assert ids_of(tokenizer, [word, f"{word} the", f"the.{word}"]) == [
        [unknown],
        [unknown, *ids_of(tokenizer, ["the"])[0]],
        [*ids_of(tokenizer, ["the."])[0], unknown],
    ]


def test_a_million_empty_texts(nano: nestling.StaticModel, tokenizer: Any) -> None:
    texts = [""] * 1_000_000
    ids, offsets = tokenizer.encode(texts)
    assert (len(ids), len(offsets), offsets.any()) == (0, 1_000_001, False)
    assert not nano.encode(texts, dim=32, dtype="int8").any()


def test_no_texts(nano: nestling.StaticModel, tokenizer: Any) -> None:
    ids, offsets = tokenizer.encode([])
    assert (ids.tolist(), offsets.tolist()) == ([], [0])
    assert nano.encode([]).shape == (0, 128)


def test_one_text_or_a_list_of_one(nano: nestling.StaticModel) -> None:
    texts = [chr(code) for code in range(0, 0x3000, 7)]
    together = nano.encode(texts)
    assert np.array_equal(together, np.stack([nano.encode(text) for text in texts]))
    assert np.array_equal(together, np.concatenate([nano.encode([text]) for text in texts]))


@pytest.mark.parametrize("threads", [1, 2, 3, 64, 100_000, 2**31])
def test_any_number_of_threads(threads: int, nano: nestling.StaticModel, sentences: list[str]) -> None:
    texts = sentences * 100
    assert np.array_equal(nano.encode(texts, threads=threads), np.tile(nano.encode(sentences), (100, 1)))


# --- what Python can do to texts ---


class Text(str):
    """A str that is not exactly one, and lies about itself."""

    def __len__(self) -> int:
        return 3

    def encode(self, *args: Any, **kwargs: Any) -> bytes:
        return b"another"

    def __str__(self) -> str:
        return "another"


@pytest.mark.parametrize("text", ["", "the cat", "café", "東京", "👩‍💻 emoji"])
def test_subclasses_of_str(text: str, nano: nestling.StaticModel, tokenizer: Any) -> None:
    assert np.array_equal(nano.encode([Text(text), text])[0], nano.encode(text))
    assert np.array_equal(nano.encode(Text(text)), nano.encode(text))
    assert ids_of(tokenizer, [Text(text)]) == ids_of(tokenizer, [text])


@pytest.mark.parametrize("broken", ["\ud800", "the \udfff", "é\udc00", "👩\ud83d", 7, None, b"the"])
@pytest.mark.parametrize("count", [1, 5, 9, 300, 20_000])
@pytest.mark.parametrize("threads", [1, 2])
def test_the_first_broken_text_is_named(broken: object, count: int, threads: int, nano: nestling.StaticModel) -> None:
    for first in {0, count // 2, count - 1}:
        texts: list[Any] = ["a text"] * count
        texts[first:] = [broken] * (count - first)
        out = np.empty((count, 4), np.uint8)
        found = nano._core.encode(texts, out, 32, -1, False, True, 3, threads)
        assert -1 - found == first
        with pytest.raises((nestling.errors.InputError, nestling.errors.InputTypeError), match=rf"texts\[{first}\]"):
            nano.encode(texts, threads=threads)


@pytest.mark.parametrize("texts", [["\ud800"], ["fine", 7], [None], ["é", b"bytes"]])
def test_ids_of_broken_texts_are_refused(texts: list[Any], tokenizer: Any) -> None:
    with pytest.raises(ValueError, match="half a character"):
        tokenizer.encode(texts)


@pytest.mark.parametrize("threads", [1, 2])
def test_generators_tuples_and_arrays(threads: int, nano: nestling.StaticModel, sentences: list[str]) -> None:
    expected = nano.encode(sentences)
    for texts in (iter(sentences), tuple(sentences), (text for text in sentences), np.array(sentences, object)):
        assert np.array_equal(nano.encode(texts, threads=threads), expected)


@pytest.mark.parametrize("encode", ["vectors", "ids"])
def test_texts_replaced_while_they_are_read(encode: str, nano: nestling.StaticModel, tokenizer: Any) -> None:
    """The list drops its texts; the core still holds them."""
    before, after = (f"a text of {MARK} about {MARK}s" for MARK in ("cat", "dog"))
    texts = ["".join([before]) for _ in range(60_000)]
    stop = threading.Event()

    def replace() -> None:
        while not stop.is_set():
            for i in range(len(texts)):
                texts[i] = "".join([after])

    other = threading.Thread(target=replace)
    other.start()
    try:
        if encode == "vectors":
            found = {row.tobytes() for row in nano.encode(texts, dtype="int8")}
            allowed = {row.tobytes() for row in nano.encode([before, after], dtype="int8")}
        else:
            found = {tuple(ids) for ids in ids_of(tokenizer, texts)}
            allowed = {tuple(ids) for ids in ids_of(tokenizer, [before, after])}
    finally:
        stop.set()
        other.join()
    assert found <= allowed


@pytest.mark.parametrize("encode", ["vectors", "ids"])
def test_texts_that_vanish_while_they_are_read(encode: str, nano: nestling.StaticModel, tokenizer: Any) -> None:
    """A list that becomes shorter is refused at the first text that is gone, unless all were read in time."""
    for _ in range(5):
        texts = [f"text {i} of many" for i in range(60_000)]
        out = np.empty((len(texts), 4), np.uint8)
        other = threading.Thread(target=texts.clear)
        other.start()
        with suppress(ValueError):  # of its size, or of the first text that is gone
            if encode == "vectors":
                found = nano._core.encode(texts, out, 32, -1, False, True, 3, 1)
                assert found == 0 or (-1 - found) % 16_384 == 0
            else:
                assert len(tokenizer.encode(texts)[1]) in (1, 60_001)
        other.join()
        assert texts == []


def test_a_list_that_becomes_shorter_is_said(nano: nestling.StaticModel) -> None:
    for _ in range(5):
        texts = [f"text {i} of many" for i in range(60_000)]
        other = threading.Thread(target=texts.clear)
        other.start()
        count, said = 0, ""
        try:
            count = len(nano.encode(texts))
        except nestling.InputError as error:
            said = str(error)
        other.join()
        assert "changed while it was read" in said or count in (0, 60_000)  # before or after


@pytest.mark.parametrize("size", [-1, 1, 128])
def test_an_output_of_another_size_is_refused(size: int, nano: nestling.StaticModel) -> None:
    out = np.zeros(128 * 2 + size, np.float32)
    with pytest.raises(ValueError, match="another size"):
        nano._core.encode(["a", "b"], out, 128, -1, False, True, 0, 1)
    assert not out.any()


@pytest.mark.parametrize("dim", [0, 129, 2**40])
def test_a_dim_that_is_not_there_is_refused(dim: int, nano: nestling.StaticModel) -> None:
    with pytest.raises(ValueError, match="dim"):
        nano._core.encode(["a"], np.zeros(128, np.float32), dim, -1, False, True, 0, 1)


def test_read_only_output_is_refused(nano: nestling.StaticModel) -> None:
    out = np.zeros(128, np.float32)
    out.flags.writeable = False
    with pytest.raises((ValueError, BufferError)):
        nano._core.encode(["a"], out, 128, -1, False, True, 0, 1)


def test_many_threads_share_a_model(nano: nestling.StaticModel, sentences: list[str]) -> None:
    expected, found = nano.encode(sentences), []

    def work() -> None:
        found.extend(np.array_equal(nano.encode(sentences, threads=2), expected) for _ in range(10))

    others = [threading.Thread(target=work) for _ in range(6)]
    for other in others:
        other.start()
    for other in others:
        other.join()
    assert found == [True] * 60


# --- memory ---


def resident_bytes() -> int:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_memory_stays_bounded_over_a_million_words(nano: nestling.StaticModel, tokenizer: Any) -> None:
    """Words are remembered, but only so many: kept all, these would take over 60 MB."""
    rng = random.Random(1)

    def some_words() -> list[str]:
        letters = string.ascii_lowercase + "éüñ"
        return [" ".join("".join(rng.choices(letters, k=9)) for _ in range(1000)) for _ in range(20)]

    def read(times: int) -> None:
        for _ in range(times):
            nano.encode(some_words(), dim=32)
            tokenizer.encode(some_words())

    read(5)
    before = resident_bytes()
    read(25)
    assert resident_bytes() - before < 24 * 2**20


# --- crafted vocabularies ---


def leb128(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + leb128(number >> 7)


def front_coded(pieces: list[bytes], shared: list[int] | None = None) -> bytes:
    shared = shared or [0] * len(pieces)
    numbers = [len(pieces), *shared, *map(len, pieces)]
    return b"".join(map(leb128, numbers)) + b"".join(pieces)


def build(raw: bytes, order: list[int] | None = None, **options: Any) -> Any:
    ids = None if order is None else np.array(order, np.uint32)
    given = {"added": [], "unknown": "[UNK]", "most_chars": 100, "cased": False, **options}
    return _core.Tokenizer.wordpiece(raw, ids, **given)


GOOD = [b"[UNK]", b"a", "é".encode(), "東".encode(), b"##b"]


def test_a_good_vocabulary_is_taken() -> None:
    assert ids_of(build(front_coded(GOOD)), ["ab 東 x"]) == [[1, 4, 3, 0]]
    assert ids_of(build(front_coded([*GOOD, b"c"], [0, 0, 0, 0, 0, 3])), ["a"]) == [[1]]
    assert ids_of(build(front_coded(GOOD), [9, 3, 2, 7, 0]), ["ab 東 x"]) == [[3, 0, 7, 9]]


BROKEN = {
    "nothing": b"",
    "cut": front_coded(GOOD)[:-1],
    "more": front_coded(GOOD) + b"x",
    "numbers that end": leb128(5) + b"\x00\x00",
    "a number without end": b"\xff" * 40,
    "a number of 35 bits": b"\x85\x80\x80\x80\x80\x00",
    "four million and one": leb128(4_000_001),
    "four million, of which none is there": leb128(4_000_000),
    "2 to the 32": leb128(2**32),
    "2 to the 64": leb128(2**64),
    "shared with nothing": front_coded(GOOD, [1, 0, 0, 0, 0]),
    "shared beyond": front_coded(GOOD, [0, 6, 0, 0, 0]),
    "a huge share": leb128(1) + leb128(2**32 - 1) + leb128(0),
    "a huge rest": leb128(1) + leb128(0) + leb128(2**32 - 1) + b"x",
    "rests that wrap": leb128(2) + b"\x00\x00" + leb128(2**32 - 1) * 2,
    "bytes that double": front_coded([b"x" * 1_000_000] + [b""] * 200, [0] + [1_000_000] * 200),
    "no UTF-8": front_coded([b"[UNK]", b"\xff"]),
    "half a character": front_coded([b"[UNK]", "é".encode()[:1]]),
    "a surrogate": front_coded([b"[UNK]", b"\xed\xa0\x80"]),
    "an overlong character": front_coded([b"[UNK]", b"\xc0\x80"]),
    "beyond Unicode": front_coded([b"[UNK]", b"\xf4\x90\x80\x80"]),
    "no unknown piece": front_coded(GOOD[1:]),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_vocabularies_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"^.{5}"):
        build(BROKEN[name])


TWICE, FEW, MANY = [0, 1, 2, 3, 3], [0, 1, 2, 3], [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("order", [TWICE, FEW, MANY, [], [0, 1, 2, 3, 4_000_000], [0, 1, 2, 3, 2**32 - 1]])
def test_broken_orders_are_refused(order: list[int]) -> None:
    with pytest.raises(ValueError, match=r"^.{5}"):
        build(front_coded(GOOD), order)


@pytest.mark.parametrize(
    "options",
    [
        {"most_chars": 0},
        {"most_chars": 1001},
        {"unknown": ""},
        {"unknown": "b"},
        {"added": [("", 5, False, False)]},
        {"added": [("[X]", 6, False, False)]},
        {"added": [("[X]", 4_000_000, False, False)]},
        {"added": [("letters", 5, False, False)]},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^.{5}"):
        build(front_coded(GOOD), **options)


def test_empty_pieces_do_no_harm() -> None:
    assert ids_of(build(front_coded([b"", b"[UNK]", b"", b"##", b"a"])), ["a ab"]) == [[4, 1]]


def test_pieces_with_zero_bytes_are_not_taken_for_others() -> None:
    """A word of at most 16 bytes is kept with zeros behind; a text's own zeros are dropped before."""
    plan = plan_of("wordpiece")
    plan["model"]["vocab"] = {"[UNK]": 0, "a\0": 1, "a": 2, "b\0": 3, "##\0": 4, "##c": 5}
    plan["added_tokens"] = []
    ours = TextTokenizer(dump_plan(plan), "zeros").encode(["a b ac a\0"])
    assert ours.ids.tolist() == [2, 0, 2, 5, 2]


# Hashes of pieces.hpp, to choose words that collide.
FACTOR, SEED = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xA0761D6478BD642F)


def mixed(low: npt.NDArray[np.uint64], high: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    return low ^ (high * FACTOR)


def words_of_one_hash(count: int, alphabet: str) -> list[str]:
    """Words of 16 ASCII characters whose halves cancel out, so that no seed tells them apart."""
    rng = np.random.default_rng(0)
    wanted = np.isin(np.arange(256), np.frombuffer(alphabet.encode("ascii"), np.uint8))
    found: list[str] = []
    while len(found) < count:
        high = rng.integers(97, 123, (500_000, 8), np.uint8).view("<u8")[:, 0]
        low = high * FACTOR ^ np.uint64(0x6161616161616161)
        fitting = wanted[low[:, None].view(np.uint8)].all(axis=1)
        found += [(low[i : i + 1].tobytes() + high[i : i + 1].tobytes()).decode() for i in np.flatnonzero(fitting)]
    return found[:count]


def test_words_that_hash_alike() -> None:
    """A few are told apart by their bytes; many would make each look-up long, and are refused."""
    words = words_of_one_hash(21, string.ascii_letters + string.digits)
    halves = np.frombuffer("".join(words).encode(), "<u8").reshape(-1, 2)
    assert len(set(mixed(halves[:, 0], halves[:, 1]).tolist())) == 1
    few = build(front_coded([b"[UNK]", *(word.encode() for word in words[:20])]), cased=True)
    assert ids_of(few, [" ".join(words)])[0] == [*range(1, 21), 0]
    many = words_of_one_hash(80, "".join(map(chr, range(1, 128))))
    with pytest.raises(ValueError, match="hashing"):
        build(front_coded([b"[UNK]", *(word.encode() for word in many)]))


# --- through the Python API ---


@pytest.mark.parametrize(
    "change",
    [
        lambda plan: plan["normalizer"].update(clean_text=False),
        lambda plan: plan["normalizer"].update(handle_chinese_chars=False),
        lambda plan: plan["normalizer"].update(strip_accents=False),
        lambda plan: plan["normalizer"].update(strip_accents=True, lowercase=False),
        lambda plan: plan.update(normalizer=None),
        lambda plan: plan.update(pre_tokenizer={"type": "Whitespace"}),
        lambda plan: plan["model"].update(continuing_subword_prefix="@@"),
        lambda plan: plan["added_tokens"][0].update(lstrip=True),
        lambda plan: plan["added_tokens"][1].update(rstrip=True),
        lambda plan: plan["added_tokens"][0].update(single_word=True),
        lambda plan: plan["added_tokens"][0].update(normalized=True),
        lambda plan: plan["added_tokens"].append({**plan["added_tokens"][0], "content": "the", "id": 600}),
        lambda plan: plan["added_tokens"].append({**plan["added_tokens"][0], "content": "é", "id": 600}),
        lambda plan: plan["added_tokens"].append({**plan["added_tokens"][0], "content": " x", "id": 600}),
        lambda plan: plan["model"]["vocab"].update({"\u1d165\u3099": 600}),
    ],
)
def test_other_plans_give_the_ids_of_the_reference(change: Callable[[dict[str, Any]], None]) -> None:
    """Whether the core does it or leaves it to the twin."""
    from benchmarks.exactness import reference_of

    plan = plan_of("wordpiece")
    change(plan)
    texts = ["the the\t[PAD] thex [UNK]  a[PAD]b é x[UNK] Thé", "東京 \u1d165\u3099 a\0b x\u200by [pad]", " x the é"]
    expected = reference_of(plan).encode_batch(texts, add_special_tokens=False)
    tokenizer = TextTokenizer(PackedTokenizer.of(check_plan(dump_plan(plan), "changed"), "changed"), "changed")
    assert tokenizer.encode(texts).ids.tolist() == [id_ for one in expected for id_ in one.ids]


@pytest.mark.parametrize("progress", [False, True])
def test_a_broken_text_beyond_the_first_slice_of_a_bar(progress: bool, nano: nestling.StaticModel) -> None:
    texts = ["a b"] * 70_000
    texts[-1] = "a \ud800"
    with pytest.raises(nestling.InputError, match=r"texts\[69999\] holds a lone surrogate"):
        nano.encode(texts, progress=progress)
    replaced = nano.encode(texts, progress=progress, errors="replace")
    assert replaced[0].tobytes() == nano.encode("a b").tobytes()
    assert replaced[-1].tobytes() == nano.encode("a \ufffd").tobytes()

"""Hostile files: thousands of damaged ones, and crafted tokenizers of the kinds that made other readers crash.

Each is refused with a NestlingError, or loads and gives finite vectors of unit length or zeros. Mutants are seeded.
"""

import json
import random
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nestling
from nestling.errors import InputError, ModelFileError, NestlingError
from nestling.files.parts import Document, Parts
from nestling.model.static import StaticModel
from nestling.text.tokenizer import TextTokenizer
from nestling.text.twin import encode_batch, parse_tokenizer
from tests.conftest import DIM, SAMPLES, model_of, plan_of
from tests.files.test_nest import SCHEMES, coded, put_together, taken_apart

TEXTS = ["The quick brown fox, naïve café", "東京 \U0001f642 [UNK] <s> a.b", "x" * 300]
SECONDS = 5.0


def outcome(path: Path) -> str:
    """Load and use a file, which works or raises a NestlingError; says which."""
    began = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = nestling.load(path)
            check_vectors(model.encode(TEXTS))
            assert model.fingerprint.startswith("sha256:")
        return "loads"
    except NestlingError as error:
        return "refused" if all((error.given, error.expected, error.do)) else f"refused without a word: {error!r}"
    finally:
        assert time.perf_counter() - began < SECONDS


def check_vectors(vectors: Any) -> None:
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    assert np.isfinite(vectors).all()
    assert np.all((lengths == 0) | (np.abs(lengths - 1) < 1e-4))


# --- mutants of bytes


def flip(raw: bytearray, dice: random.Random) -> None:
    for _ in range(dice.choice((1, 1, 2, 8, 64))):
        raw[dice.randrange(len(raw))] ^= 1 << dice.randrange(8)


def overwrite(raw: bytearray, dice: random.Random) -> None:
    start = dice.randrange(len(raw))
    raw[start : start + dice.choice((1, 2, 4, 8, 32))] = dice.choice(
        (
            b"\0" * 8,
            b"\xff" * 8,
            b"\x7f\x80\x00\x00",
            b"9" * 20,
            b"[" * 64,
            b'"',
            b"\\",
            b"-1",
            b"1e999",
            b"NaN",
            b"null",
        )
    )


def truncate(raw: bytearray, dice: random.Random) -> None:
    del raw[dice.randrange(len(raw)) :]


def extend(raw: bytearray, dice: random.Random) -> None:
    raw += dice.randbytes(dice.choice((1, 8, 1000)))


def splice(raw: bytearray, dice: random.Random) -> None:
    start, end, length = (dice.randrange(len(raw)) for _ in range(3))
    raw[start : start + length // 8] = raw[end : end + length // 8]


MUTATIONS = (flip, flip, overwrite, overwrite, truncate, extend, splice)


def mutants(whole: bytes, count: int, seed: str, near: int = 0) -> Iterator[bytes]:
    """near: when given, every second mutant is damaged in the first `near` bytes only, where a header stands."""
    dice = random.Random(seed)
    for index in range(count):
        split = near if near and index % 2 else len(whole)
        raw = bytearray(whole[:split])
        for _ in range(dice.choice((1, 1, 1, 3))):
            if raw:
                dice.choice(MUTATIONS)(raw, dice)
        yield bytes(raw) + whole[split:]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """A saved model of a kind, as "nest" or in another layout; made once."""
    folder = tmp_path_factory.mktemp("pristine")

    def path_of(kind: str, layout: Any) -> Path:
        path = folder / f"{kind}-{layout}"
        if not path.exists():
            model_of(kind).save(path, layout=layout)
        return path

    return path_of


Pristine = Callable[[str, str], Path]


def test_damaged_nest_files(kind: str, pristine: Pristine, tmp_path: Path) -> None:
    whole = pristine(kind, "nest").read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    found = []
    for raw in mutants(whole, 400, f"nest {kind}", near=header):
        (tmp_path / "bad.nest").write_bytes(raw)
        found.append(outcome(tmp_path / "bad.nest"))
    assert set(found) == {"refused", "loads"}
    assert found.count("refused") > 100
    assert found.count("loads") > 20


def test_damaged_folders(kind: str, pristine: Pristine, tmp_path: Path) -> None:
    for layout, names in {
        "model2vec": ("model.safetensors", "config.json", "README.md"),
        "sentence-transformers": (
            "0_StaticEmbedding/model.safetensors",
            "modules.json",
            "config_sentence_transformers.json",
        ),
    }.items():
        source, folder = pristine(kind, layout), tmp_path / layout
        for file in source.rglob("*"):
            if file.is_file():
                (folder / file.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
                (folder / file.relative_to(source)).write_bytes(file.read_bytes())
        for name in names:
            whole = (source / name).read_bytes()
            for raw in mutants(whole, 60, f"{name} {kind}", near=150):
                (folder / name).write_bytes(raw)
                assert outcome(folder) in ("refused", "loads")
            (folder / name).write_bytes(whole)
        assert outcome(folder) == "loads"


def test_damaged_tokenizer_bytes(kind: str, pristine: Pristine, tmp_path: Path) -> None:
    folder = copied(pristine(kind, "model2vec"), tmp_path / "m2v")
    found = []
    for raw in mutants((folder / "tokenizer.json").read_bytes(), 300, f"bytes {kind}", near=900):
        (folder / "tokenizer.json").write_bytes(raw)
        found.append(outcome(folder))
    assert set(found) == {"refused", "loads"}
    assert found.count("refused") > 100


def copied(source: Path, folder: Path) -> Path:
    folder.mkdir()
    for file in source.iterdir():
        if file.is_file():
            (folder / file.name).write_bytes(file.read_bytes())
    return folder


# --- mutants of values: whole JSON and well-formed tensors, with something odd in one place

ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**32 - 1, 2**63, 2**64, 10**40, 0.5, -0.0, 1e308, float("nan"), float("inf"),
    "", "a", "\0", "\ud800", "##", "Ġ", "▁", "[UNK]", "<unk>", "x" * 10_000, "(", "(?=", "(a*)*b", "\\", "é́",
    [], {}, [[]], [None], {"type": "Sequence"}, {"type": "ByteLevel"}, {"type": "Lowercase"}, {"": ""}, [0, 1],
)  # fmt: skip


def damage_value(value: Any, dice: random.Random) -> Any:
    """A copy of a JSON value with one place changed, found by walking down from the top at random."""
    if isinstance(value, dict) and value and dice.random() < 0.9:
        key = dice.choice(list(value))
        done = dice.random()
        if done < 0.1:
            return {name: entry for name, entry in value.items() if name != key}
        if done < 0.2:
            return {**value, str(dice.choice(ODD)): dice.choice(ODD)}
        return {**value, key: damage_value(value[key], dice)}
    if isinstance(value, list) and value and dice.random() < 0.9:
        place = dice.randrange(len(value))
        done = dice.random()
        if done < 0.1:
            return value[:place] + value[place + 1 :]
        if done < 0.2:
            return [*value, dice.choice(value)]
        return [*value[:place], damage_value(value[place], dice), *value[place + 1 :]]
    return dice.choice(ODD)


def test_damaged_tokenizer_values(kind: str, pristine: Pristine, tmp_path: Path) -> None:
    folder = copied(pristine(kind, "model2vec"), tmp_path / "m2v")
    dice, whole = random.Random(f"values {kind}"), plan_of(kind)
    found = []
    for _ in range(400):
        plan = damage_value(whole, dice)
        while dice.random() < 0.3:
            plan = damage_value(plan, dice)
        (folder / "tokenizer.json").write_text(json.dumps(plan))
        found.append(outcome(folder))
    assert set(found) == {"refused", "loads"}
    assert found.count("refused") > 100
    assert found.count("loads") > 20


def test_damaged_documents_and_configs(pristine: Pristine, tmp_path: Path) -> None:
    dice = random.Random("documents")
    document, tensors = taken_apart(pristine("bpe", "nest"))
    document |= {"prompts": {"query": "q: "}, "lineage": [{"role": "data", "name": "x", "licence": "y"}]}
    found = [
        outcome(put_together(tmp_path / "bad.nest", json.dumps(damage_value(document, dice)), tensors))
        for _ in range(300)
    ]
    assert set(found) == {"refused", "loads"}
    assert found.count("refused") > 100
    folder = copied(pristine("bpe", "model2vec"), tmp_path / "m2v")
    for name in ("config.json", "modules.json", "config_sentence_transformers.json"):
        config = json.loads((folder / name).read_text())
        for _ in range(60):
            (folder / name).write_text(json.dumps(damage_value(config, dice)))
            assert outcome(folder) in ("refused", "loads")
        (folder / name).write_text(json.dumps(config))
    assert outcome(folder) == "loads"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_damaged_tensors(kind: str, scheme: str, tmp_path: Path) -> None:
    """Bytes, shapes and types of one tensor changed under a header that is right; compressed ones changed within."""
    path = tmp_path / "x.nest"
    coded(kind, scheme).save(path)
    document, tensors = taken_apart(path)
    dice = random.Random(f"{kind} {scheme}")
    found = []
    for _ in range(60):
        name = dice.choice(list(tensors))
        changed = damage_tensor(name, tensors[name], dice)
        found.append(outcome(put_together(path, document, {**tensors, name: changed})))
    assert set(found) == {"refused", "loads"}


def damage_tensor(name: str, tensor: Any, dice: random.Random) -> Any:
    way = dice.randrange(6)
    if way == 0 and len(tensor):
        return tensor[dice.randrange(len(tensor)) :]
    if way == 1:
        with np.errstate(all="ignore"):
            return tensor.astype(
                dice.choice((np.float64, np.float32, np.float16, np.int64, np.int32, np.uint8, np.int8))
            )
    if way == 2:
        return tensor[..., None] if dice.random() < 0.5 else tensor.ravel()
    inside = name in ("tokenizer.vocabulary", "tokenizer.plan") and way == 3
    raw = bytearray(zlib.decompress(tensor.tobytes()) if inside else tensor.tobytes())
    if raw:
        (flip if dice.random() < 0.5 else overwrite)(raw, dice)
    if inside:
        return np.frombuffer(zlib.compress(bytes(raw)), np.uint8)
    return np.frombuffer(bytes(raw[: tensor.nbytes]).ljust(tensor.nbytes, b"\0"), tensor.dtype).reshape(tensor.shape)


def test_a_model_that_loads_although_damaged_saves_and_loads_again(pristine: Pristine, tmp_path: Path) -> None:
    """What we accept we can write: no value is read that the writer or the next reader refuses."""
    dice = random.Random("again")
    folder = copied(pristine("wordpiece", "model2vec"), tmp_path / "m2v")
    plan, config = plan_of("wordpiece"), json.loads((folder / "config.json").read_text())
    loaded = 0
    for index in range(250):
        (folder / "tokenizer.json").write_text(json.dumps(plan if index % 4 else damage_value(plan, dice)))
        (folder / "config.json").write_text(json.dumps(damage_value(config, dice)))
        try:
            model = nestling.load(folder)
        except NestlingError:
            continue
        model.save(tmp_path / "again.nest")
        again = nestling.load(tmp_path / "again.nest")
        assert again.fingerprint == model.fingerprint
        assert all(check.largest_difference == 0 for check in again.verify())
        loaded += 1
    assert loaded > 20


# --- crafted tokenizers


def plan_with(kind: str, model: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    plan = plan_of(kind)
    return {**plan, **changes, "model": {**plan["model"], **(model or {})}}


def bpe_with(pieces: dict[str, int] | None = None, merges: list[Any] | None = None, **model: Any) -> dict[str, Any]:
    plan = plan_of("bpe")
    vocabulary = {**plan["model"]["vocab"], **(pieces or {})}
    return plan_with("bpe", {"vocab": vocabulary, "merges": plan["model"]["merges"] + (merges or []), **model})


def without(kind: str, *keys: str) -> dict[str, Any]:
    plan = plan_of(kind)
    for key in keys:
        del plan["model"][key]
    return plan


def renumbered(kind: str, number: Callable[[int], Any]) -> dict[str, Any]:
    vocabulary = plan_of(kind)["model"]["vocab"]
    return plan_with(kind, {"vocab": {piece: number(index) for piece, index in vocabulary.items()}}, added_tokens=[])


SPLIT = {"type": "Split", "behavior": "Isolated", "invert": False}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    # huggingface/tokenizers 2094 and 2198: merges of pieces that are not there
    "a merge of an unknown left part": (bpe_with(merges=[["qzx", "a"]]), "merge ('qzx', 'a') of pieces"),
    "a merge of an unknown right part": (bpe_with(merges=[["a", "qzx"]]), "merge ('a', 'qzx') of pieces"),
    "a merge into nothing": (bpe_with(merges=[["z", "z"]]), "merge ('z', 'z') into a piece that the vocabulary lacks"),
    "a merge of one": (bpe_with(merges=[["a"]]), "merge ('a',) of pieces"),
    "a merge of three": (bpe_with(merges=[["a", "b", "c"]]), "merge ('a', 'b', 'c') of pieces"),
    "a merge of none": (bpe_with(merges=[[]]), "merge () of pieces"),
    "a merge of null": (bpe_with(merges=[None]), "merges that is no list of pairs"),
    "a merge that is a number": (bpe_with(merges=[5]), "merges that is no list of pairs"),
    "a merge of numbers": (bpe_with(merges=[[0, 1]]), "merge (0, 1) of pieces"),
    "a merge of lists": (bpe_with(merges=[[["a"], ["b"]]]), "of pieces that the vocabulary lacks"),
    "a merge that is an object": (bpe_with(merges=[{"a": 1, "b": 2}]), "merges that is no list of pairs"),
    "a merge without a space": (bpe_with(merges=["ab"]), "merge ('ab',) of pieces"),
    "merges that are an object": (plan_with("bpe", {"merges": {}}), "merges that is no list of pairs"),
    "no merges": (without("bpe", "merges"), "merges that is no list of pairs"),
    "a prefix longer than the pieces": (bpe_with(continuing_subword_prefix="#" * 50), "cannot be built"),
    "a prefix that cuts a character": (
        bpe_with({"aé": 700}, [["a", "é"]], continuing_subword_prefix="a"),
        "The tokenizer of x",
    ),
    "a prefix that is a number": (bpe_with(continuing_subword_prefix=5), "continuing_subword_prefix '5' that is no"),
    "a prefix that is a list": (bpe_with(continuing_subword_prefix=["a"]), "continuing_subword_prefix"),
    "dropout": (bpe_with(dropout=0.1), "dropout 0.1, which makes ids random"),
    "a negative dropout": (bpe_with(dropout=-1), "dropout -1"),
    # ids
    "a huge id": (bpe_with({"qzx": 2**31}), "a token id that is no whole number from 0 to 3,999,999"),
    "an id just too large": (bpe_with({"qzx": 4_000_000}), "a token id that is no whole number from 0 to 3,999,999"),
    "an id beyond 64 bits": (bpe_with({"qzx": 2**70}), "a token id that is no whole number"),
    "a negative id": (bpe_with({"qzx": -1}), "a token id that is no whole number"),
    "a float id": (bpe_with({"qzx": 1.0}), "a token id that is no whole number"),
    "a true id": (bpe_with({"qzx": True}), "a token id that is no whole number"),
    "an id of null": (bpe_with({"qzx": None}), "a token id that is no whole number"),
    "two pieces with one id": (bpe_with({"qzx": 5}), "two pieces with one id"),
    "a vocabulary that is a list": (plan_with("bpe", {"vocab": [["a", 0]]}), "a vocabulary that is no object"),
    "a vocabulary of null": (plan_with("wordpiece", {"vocab": None}), "a vocabulary that is no object"),
    "no vocabulary": (without("wordpiece", "vocab"), "a vocabulary that is no object"),
    "an added token with a huge id": (
        plan_with("wordpiece", added_tokens=[{"id": 2**32, "content": "x"}]),
        "added token 'x' with a bad id",
    ),
    "an added token of nothing": (plan_with("bpe", added_tokens=[{"id": 0, "content": ""}]), "added token without"),
    "an added token that is a text": (plan_with("bpe", added_tokens=["x"]), "an added token without content"),
    "added tokens that are an object": (plan_with("bpe", added_tokens={"x": 1}), "added_tokens that is no list"),
    # Unigram
    "unk_id at the end": (plan_with("unigram", {"unk_id": 600}), "unk_id 600, out of range"),
    "unk_id below zero": (plan_with("unigram", {"unk_id": -1}), "unk_id -1, out of range"),
    "unk_id huge": (plan_with("unigram", {"unk_id": 2**63}), "unk_id 9223372036854775808, out of range"),
    "unk_id that is a text": (plan_with("unigram", {"unk_id": "2"}), "unk_id '2', out of range"),
    "no pieces at all": (plan_with("unigram", {"vocab": []}), "a vocabulary that is no list of 1 to"),
    "a piece without a score": (plan_with("unigram", {"vocab": [["a"]]}), "that is no [piece, score]"),
    "a score of a text": (plan_with("unigram", {"vocab": [["a", "b"]]}), "with a score that is no finite number"),
    "a score of NaN": (plan_with("unigram", {"vocab": [["a", float("nan")]]}), "score that is no finite number"),
    "a score of infinity": (plan_with("unigram", {"vocab": [["a", float("inf")]]}), "score that is no finite number"),
    "a score beyond all": (plan_with("unigram", {"vocab": [["a", 10**400]]}), "score that is no finite number"),
    # WordPiece
    "no unk_token": (without("wordpiece", "unk_token"), "cannot be built"),
    "an unk_token of a number": (plan_with("wordpiece", {"unk_token": 5}), "cannot be built"),
    "characters below zero": (plan_with("wordpiece", {"max_input_chars_per_word": -1}), "cannot be built"),
    "characters beyond 64 bits": (plan_with("wordpiece", {"max_input_chars_per_word": 2**64}), "cannot be built"),
    # what stands around the model
    "an invalid regex": (plan_with("bpe", pre_tokenizer={**SPLIT, "pattern": {"Regex": "("}}), "cannot be built"),
    "an invalid regex in a normalizer": (
        plan_with("bpe", normalizer={"type": "Replace", "pattern": {"Regex": "[z-a]"}, "content": ""}),
        "cannot be built",
    ),
    "an unknown normalizer": (plan_with("wordpiece", normalizer={"type": "Evil"}), "cannot be built"),
    "a broken character map": (
        plan_with("unigram", normalizer={"type": "Precompiled", "precompiled_charsmap": ""}),
        "cannot be built",
    ),
    "half a character": (plan_with("wordpiece", {"unk_token": "\ud800"}), "not valid JSON"),
    "an unknown model": (plan_with("wordpiece", {"type": "Evil"}), "model type 'Evil'"),
    "a model of another kind": (plan_with("wordpiece", {"type": "Unigram"}), "no list of 1 to"),
    "a type that is a list": (plan_with("wordpiece", {"type": ["BPE"]}), "model type ['BPE']"),
    "no model": ({"version": "1.0"}, "no object `model`"),
    "a model of null": ({"model": None}, "no object `model`"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_crafted_tokenizer_is_refused(name: str) -> None:
    plan, said = REFUSED[name]
    with pytest.raises(ModelFileError) as refused:
        TextTokenizer(json.dumps(plan), "x")
    error = refused.value
    assert said in str(error)
    assert "tokenizer of x" in error.given
    assert len(str(error)) < 500


@pytest.mark.parametrize("name", REFUSED)
def test_a_crafted_tokenizer_is_refused_in_a_folder(name: str, pristine: Pristine, tmp_path: Path) -> None:
    folder = copied(pristine("wordpiece", "model2vec"), tmp_path / "m2v")
    (folder / "tokenizer.json").write_text(json.dumps(REFUSED[name][0]))
    with pytest.raises(ModelFileError, match=r"m2v|of wordpiece"):
        nestling.load(folder)


PADDING = {"direction": "Right", "pad_to_multiple_of": 64, "pad_id": 0, "pad_type_id": 0, "pad_token": "<s>"}
CUT = {"max_length": 1, "strategy": "LongestFirst", "direction": "Left", "stride": 0}
HARD = "naïve 東京 \U0001f642 \u2d30"
PANICS = {
    "a chunk of nothing": plan_with("bpe", pre_tokenizer={"type": "FixedLength", "length": 0}),
    "a character map that points out": plan_with(
        "unigram", normalizer={"type": "Precompiled", "precompiled_charsmap": "BAAAAP////8="}
    ),
    "an empty pattern": plan_with("bpe", normalizer={"type": "Replace", "pattern": {"String": ""}, "content": "x"}),
}
FAILS = {
    "an unk_token that is no piece": plan_with("wordpiece", {"unk_token": "nothing"}),
    "an unk_token that is no piece of BPE": plan_with("bpe", {"unk_token": "nothing"}, pre_tokenizer=None),
    "an unk_id left out": plan_with("unigram", {"unk_id": None}),
    "an unk_id left out, with a byte fallback": plan_with("unigram", {"unk_id": None, "byte_fallback": True}),
    "no words": plan_with("wordpiece", {"vocab": {}}, added_tokens=[]),
}


@pytest.mark.parametrize("name", [*PANICS, *FAILS])
def test_a_tokenizer_that_fails_on_a_text_says_so(name: str) -> None:
    """A panic of the Rust code is a BaseException, which would end a program that catches Exception."""
    tokenizer = TextTokenizer(json.dumps({**PANICS, **FAILS}[name]), "x")
    with pytest.raises(InputError, match="The tokenizer of x failed on one of 1 texts: "):
        tokenizer.twin.encode([HARD])


def test_the_panics_are_panics() -> None:
    """Otherwise the test above would prove nothing about them."""
    for plan in PANICS.values():
        backend = parse_tokenizer(json.dumps(plan), "x")
        with pytest.raises(BaseException, match=r"\w") as raised:
            backend.encode_batch_fast([HARD])
        assert not isinstance(raised.value, Exception)


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit, MemoryError, GeneratorExit])
def test_what_is_no_failure_of_the_tokenizer_passes(interrupt: type[BaseException]) -> None:
    class Interrupted:
        def encode_batch_fast(self, *_: object, **__: object) -> None:
            raise interrupt

    with pytest.raises(interrupt):
        encode_batch(Interrupted(), ["x"], "x")  # type: ignore[arg-type]


WORKS: dict[str, dict[str, Any]] = {
    "ids with holes": renumbered("wordpiece", lambda index: index * 7),
    "ids from a million": renumbered("wordpiece", lambda index: 1_000_000 + index),
    "the largest id": bpe_with({"qzx": 3_999_999}),
    "fixed padding": plan_with("bpe", padding={**PADDING, "strategy": {"Fixed": 500}}),
    "padding to the longest": plan_with("wordpiece", padding={**PADDING, "strategy": "BatchLongest", "pad_token": "x"}),
    "truncation": plan_with("unigram", truncation=CUT),
    "truncation with a stride": plan_with("bpe", truncation={**CUT, "stride": 9}),
    "a word of a thousand million characters": plan_with("wordpiece", {"max_input_chars_per_word": 10**9}),
    "a word of no characters": plan_with("wordpiece", {"max_input_chars_per_word": 0}),
    "a prefix longer than the pieces": plan_with("wordpiece", {"continuing_subword_prefix": "#" * 1000}),
    "no prefix": plan_with("wordpiece", {"continuing_subword_prefix": ""}),
    "an added token on another's id": plan_with(
        "wordpiece",
        added_tokens=[{"id": 7, "content": "quick brown", "special": False}
                      | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), True)],
    ),
    "a post-processor with ids that are not there": plan_with(
        "bpe", post_processor={"type": "BertProcessing", "sep": ["x", 9_999_999], "cls": ["y", 99_999]}
    ),
    "a normalizer in a list": plan_with("wordpiece", normalizer=["x"]),
    "pieces twice": plan_with("unigram", {"vocab": [["<unk>", 0], ["a", -1], ["a", -2], ["", -3]], "unk_id": 0}),
    "scores at the bounds": plan_with("unigram", {"vocab": [["<unk>", 9e29], ["a", -9e29], ["x", 9e29]], "unk_id": 0}),
    "an empty BPE": plan_with("bpe", {"vocab": {}, "merges": []}, added_tokens=[]),
    "a split at nothing": plan_with("bpe", pre_tokenizer={**SPLIT, "pattern": {"String": ""}}),
}  # fmt: skip


@pytest.mark.parametrize("name", WORKS)
def test_an_odd_tokenizer_gives_ids_that_are_in_the_table(name: str) -> None:
    tokenizer = TextTokenizer(json.dumps(WORKS[name]), "x")
    ids = tokenizer.encode([*TEXTS, ""]).ids
    assert tokenizer.size <= 4_000_000
    assert ids.min(initial=0) >= 0
    assert ids.max(initial=0) < max(tokenizer.size, 1)
    if tokenizer.size < 10_000:
        rows = np.ones((tokenizer.size, DIM), np.float32)
        model = StaticModel(Parts(Document("float", DIM, (DIM,)), {"rows": rows}, tokenizer.packed))
        check_vectors(model.encode(TEXTS))


@pytest.mark.parametrize("name", ["fixed padding", "padding to the longest", "truncation", "truncation with a stride"])
def test_padding_and_truncation_of_a_tokenizer_change_nothing(name: str) -> None:
    odd = TextTokenizer(json.dumps(WORKS[name]), "x")
    plan = {**WORKS[name], "padding": None, "truncation": None}
    plain = TextTokenizer(json.dumps(plan), "x")
    mine, theirs = odd.encode(TEXTS), plain.encode(TEXTS)
    assert mine.ids.tolist() == theirs.ids.tolist()
    assert mine.offsets.tolist() == theirs.offsets.tolist()
    assert len(mine.ids) > 20


@pytest.mark.parametrize("depth", [100, 500, 2_000, 100_000])
def test_a_bottomless_tokenizer_is_refused(depth: int, pristine: Pristine, tmp_path: Path) -> None:
    whole = (SAMPLES / "wordpiece.json").read_text().rstrip().removesuffix("}")
    folder = copied(pristine("wordpiece", "model2vec"), tmp_path / "m2v")
    for opening, closing in (("[", "]"), ('{"a":', "}"), ('{"type":"Sequence","normalizers":[', "]}")):
        (folder / "tokenizer.json").write_text(
            f'{whole}, "x": {opening * depth}{1 if depth % 2 else "[]"}{closing * depth}}}'
        )
        assert outcome(folder) == "refused"


def test_the_first_mutant_of_each_kind_is_as_seeded() -> None:
    """The mutants are the same on every machine, so that a failure can be repeated."""
    assert next(mutants(b"0123456789", 1, "seed")) == next(mutants(b"0123456789", 1, "seed"))
    assert len({bytes(raw) for raw in mutants(bytes(100), 50, "seed")}) > 25

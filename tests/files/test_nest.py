"""The .nest file: round trips to the bit, golden bytes, and every field and tensor damaged in turn.

The golden hashes are written by: python -m tests.files.test_nest --write
Run it only when the format is meant to change; the diff then shows which part did.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import safetensors.numpy

import nestling
from nestling.errors import ModelFileError
from nestling.files.nest import read_document, write_nest
from nestling.files.parts import Document, Parts, Source
from nestling.model.load import requantize
from nestling.model.rows import ProductRows, Table
from nestling.model.static import StaticModel
from nestling.shrink.codebook import block_widths, to_centroids, to_products
from nestling.text.packed import PackedTokenizer, pack_tokenizer
from nestling.text.plan import check_plan
from tests.conftest import DIM, KINDS, model_of, plan_of

Tensors = dict[str, npt.NDArray[Any]]
GOLDEN = Path(__file__).parents[1] / "golden" / "nest.json"
ZLIB_NG = "ng" in zlib.ZLIB_RUNTIME_VERSION  # compresses to other bytes, which unpack to the same

SCHEMES: dict[str, Callable[[StaticModel], Table]] = {
    "float32": lambda model: model.table,
    "float16": lambda model: requantize(model.table, "float16"),
    "weighted": lambda model: replace(model.table, weights=np.linspace(0, 2, model.table.size, dtype=np.float32)),
    "int8": lambda model: requantize(model.table, "int8"),
    "int4": lambda model: requantize(model.table, "int4"),
    "centroids": lambda model: to_centroids(model.table.expanded(), counts_of(model), 50, rounds=3),
    "product": lambda model: to_products(model.table.expanded(), counts_of(model), block_widths(DIM, 4), rounds=3),
    "exact": lambda model: to_products(model.table.expanded(), counts_of(model), (3, 13), 20, rounds=3),
}


def counts_of(model: StaticModel) -> npt.NDArray[np.uint32]:
    assert model.counts is not None
    return model.counts


def coded(kind: str, scheme: str, **changes: Any) -> StaticModel:
    """A small model with the rows of a scheme. centroids, product and exact have weights with levels."""
    model = model_of(kind, **changes)
    return model.with_table(SCHEMES[scheme](model))


# --- round trips


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_round_trip_gives_the_same_bits(
    kind: str, scheme: str, tmp_path: Path, odd_texts: list[str], sentences: list[str]
) -> None:
    model = coded(kind, scheme, prompts={"query": "q: "}, max_tokens=9)
    model.save(tmp_path / "x.nest")
    again = nestling.load(tmp_path / "x.nest")
    texts = odd_texts + sentences[:100]
    for options in ({}, {"dim": 8}, {"task": "query"}, {"normalize": False}, {"overflow": "split"}):
        with_cuts = {"overflow": "split", **options}
        mine, read = model.encode(texts, **with_cuts), again.encode(texts, **with_cuts)
        assert mine.tobytes() == read.tobytes()
    assert again.fingerprint == model.fingerprint
    assert again.document == model.document
    assert again.tokenizer.json == model.tokenizer.json
    np.testing.assert_array_equal(counts_of(again), counts_of(model))
    checks = again.verify()
    assert [check.text for check in checks] == list(model.document.canaries)
    assert all(check.largest_difference == 0 for check in checks)
    again.save(tmp_path / "y.nest")
    assert (tmp_path / "y.nest").read_bytes() == (tmp_path / "x.nest").read_bytes()


def test_every_field_of_the_document_comes_back(tmp_path: Path) -> None:
    about = {
        "name": "Ünïcode \U0001f642",
        "description": "two\nlines",
        "drop": (3, 1, 599),
        "max_tokens": 7,
        "prompts": {"query": "q: ", "document": "東京 "},
        "licence": "MIT",
        "lineage": (Source("teacher", "owner/name", "Apache-2.0"), Source("data", "words", "CC0-1.0")),
        "recipe": "0" * 64,
        "scores": {"sts": {"16": 0.5, "8": 0.25}},
        "canaries": ("", "a", "東京"),
    }
    model_of("wordpiece", **about).save(tmp_path / "x.nest")
    document, fingerprint = read_document(tmp_path / "x.nest")
    assert document == Document("float", DIM, (DIM, 8, 4), **about)
    assert fingerprint == nestling.load(tmp_path / "x.nest").fingerprint


@pytest.mark.parametrize("change", ["string merges", "whole scores", "no type"])
def test_what_a_plan_may_write_in_two_ways_has_one_fingerprint(tmp_path: Path, change: str) -> None:
    """Older tokenizer.json files write merges as "a b", and some write a score of 0 as 0."""
    plan = plan_of("unigram" if change == "whole scores" else "bpe")
    if change == "string merges":
        plan["model"]["merges"] = [" ".join(pair) for pair in plan["model"]["merges"]]
    if change == "whole scores":
        plan["model"]["vocab"] = [[piece, round(score)] for piece, score in plan["model"]["vocab"]]
    if change == "no type":
        del plan["model"]["type"]
    rows = np.random.default_rng(1).standard_normal((700, DIM)).astype(np.float32)
    tokenizer = PackedTokenizer.of(check_plan(json.dumps(plan), "x"), "x")
    model = StaticModel(Parts(Document("float", DIM, (DIM,), canaries=("the",)), {"rows": rows}, tokenizer))
    model.save(tmp_path / "x.nest")
    again = nestling.load(tmp_path / "x.nest")
    assert again.fingerprint == model.fingerprint
    assert again.verify()[0].largest_difference == 0


def test_plain_safetensors_reads_it(kind: str, tmp_path: Path) -> None:
    model = model_of(kind)
    model.save(tmp_path / "x.nest")
    tensors = safetensors.numpy.load_file(tmp_path / "x.nest")
    np.testing.assert_array_equal(tensors["rows"], model.table.expanded())
    np.testing.assert_array_equal(tensors["canaries"], model.encode(model.document.canaries))
    with safetensors.safe_open(tmp_path / "x.nest", framework="np") as file:
        document = json.loads(file.metadata()["nest"])
    assert (document["format"], document["version"], document["name"]) == ("nest", 1, kind)


# --- golden bytes


def hashes(kind: str, path: Path) -> dict[str, str]:
    """sha256 of the saved model, of its document, and of each tensor, compressed ones unpacked."""
    model_of(kind).save(path)
    found = {"file": path.read_bytes()}
    with safetensors.safe_open(path, framework="np") as file:
        found["document"] = file.metadata()["nest"].encode()
        for name in sorted(file.keys()):
            raw = file.get_tensor(name).tobytes()
            found[name] = zlib.decompress(raw) if name in ("tokenizer.vocabulary", "tokenizer.plan") else raw
    return {name: hashlib.sha256(raw).hexdigest() for name, raw in found.items()}


def test_golden_bytes(kind: str, tmp_path: Path) -> None:
    golden, found = json.loads(GOLDEN.read_text())[kind], hashes(kind, tmp_path / "x.nest")
    if ZLIB_NG:
        golden["file"] = found["file"]
    assert found == golden


# --- damage


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A saved WordPiece model of every scheme."""
    folder = tmp_path_factory.mktemp("saved")
    for scheme in SCHEMES:
        coded("wordpiece", scheme).save(folder / f"{scheme}.nest")
    return {scheme: folder / f"{scheme}.nest" for scheme in SCHEMES}


def taken_apart(path: Path) -> tuple[dict[str, Any], Tensors]:
    with safetensors.safe_open(path, framework="np") as file:
        return json.loads(file.metadata()["nest"]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def put_together(path: Path, document: Any, tensors: Tensors) -> Path:
    text = document if isinstance(document, str) else json.dumps(document)
    whole = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    path.write_bytes(safetensors.numpy.save(whole, {"nest": text}))
    return path


def refusal(path: Path, said: str = "") -> str:
    """The message with which loading `path` is refused: three sentences, naming the file or the model."""
    with pytest.raises(ModelFileError) as refused:
        nestling.load(path)
    error = refused.value
    assert [bool(part) and part[-1] in ".;" for part in (error.given, error.expected, error.do)] == [True] * 3, error
    assert path.name in str(error) or "wordpiece" in str(error)
    assert said in str(error)
    return str(error)


DAMAGED_DOCUMENTS: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown key": ({"code": "import os"}, "the document has unknown keys: code"),
    "another format": ({"format": "egg"}, "format is 'egg'"),
    "no format": ({"format": None}, "format is 'None'"),
    "a later version": ({"version": 2}, "version is '2'; this version of nestling reads 1"),
    "a version that is a text": ({"version": "1"}, "version is '1'"),
    "a version that is true": ({"version": True}, "version is 'True'"),
    "another architecture": ({"architecture": "recurrent"}, "architecture is 'recurrent'"),
    "another pooling": ({"pooling": "cls"}, "pooling is 'cls'"),
    "a fingerprint of a number": ({"fingerprint": 5}, "fingerprint is missing"),
    "an unknown scheme": ({"scheme": "pickle"}, "scheme 'pickle', expected one of float"),
    "a scheme of another form": ({"scheme": "int8"}, "tensor 'rows' of dtype float32"),
    "a scheme that is a list": ({"scheme": ["float"]}, "scheme is"),
    "dims that rise": ({"dims": [4, 8, 16]}, "expected tiers that fall from 16"),
    "dims twice": ({"dims": [16, 16]}, "expected tiers that fall from 16"),
    "dims without dim": ({"dims": [8, 4]}, "expected tiers that fall from 16"),
    "no dims": ({"dims": []}, "expected tiers that fall from 16"),
    "a dim of zero": ({"dims": [16, 0]}, "too small"),
    "a negative dim": ({"dims": [16, -8]}, "too small"),
    "a float dim": ({"dims": [16, 8.0]}, "dims is no list of int"),
    "dims that are a text": ({"dims": "16"}, "dims is no list of int"),
    "dim of zero": ({"dim": 0, "dims": [0]}, "dim is 0"),
    "dim of minus one": ({"dim": -1, "dims": [-1]}, "dim is -1"),
    "dim too large": ({"dim": 10**9, "dims": [10**9]}, "dim is 1000000000"),
    "dim true": ({"dim": True}, "dim is 'True'"),
    "dim of another table": ({"dim": 17, "dims": [17]}, "canaries do not fit the document"),
    "a name of null": ({"name": None}, "name is 'None', expected str"),
    "a licence that is a list": ({"licence": []}, "licence is '[]', expected str"),
    "a dropped id below zero": ({"drop": [-1]}, "too small"),
    "a dropped text": ({"drop": ["1"]}, "drop is no list of int"),
    "a dropped float": ({"drop": [1.5]}, "drop is no list of int"),
    "max_tokens of zero": ({"max_tokens": 0}, "max_tokens is '0'"),
    "max_tokens of minus one": ({"max_tokens": -1}, "max_tokens is '-1'"),
    "max_tokens that is a float": ({"max_tokens": 5.0}, "max_tokens is 5.0"),
    "max_tokens that is true": ({"max_tokens": True}, "max_tokens is True"),
    "prompts that are a list": ({"prompts": ["q: "]}, "prompts is no object of strings"),
    "a prompt of a number": ({"prompts": {"query": 5}}, "prompts is no object of strings"),
    "scores that are a list": ({"scores": [1]}, "scores is no object of objects"),
    "a score that is a text": ({"scores": {"sts": {"16": "good"}}}, "no finite number"),
    "lineage that is an object": ({"lineage": {}}, "lineage is no list of dict"),
    "lineage without licence": ({"lineage": [{"role": "data", "name": "x"}]}, "lineage holds an entry without"),
    "lineage of null": (
        {"lineage": [{"role": "data", "name": "x", "licence": None}]},
        "lineage holds an entry without role, name and licence",
    ),
    "a recipe of a number": ({"recipe": 5}, "recipe is 5"),
    "another number of canaries": ({"canaries": ["one"]}, "canaries do not fit the document"),
    "a canary that is a number": ({"canaries": [1, 2]}, "canaries is no list of str"),
    "a dropped id beyond the table": ({"drop": [5, 600]}, "drop holds 600, the table has 600 rows"),
    "a dropped id beyond any table": ({"drop": [10**30]}, "the table has 600 rows"),
    "a score of NaN": ({"scores": {"STS": {"16": float("nan")}}}, "no finite number"),
    "an endless score": ({"scores": {"STS": {"16": 10**400}}}, "no finite number"),
    "a score that is true": ({"scores": {"STS": {"16": True}}}, "no finite number"),
    "half a character": ({"canaries": ["\ud800", "b"]}, "not valid JSON"),
}


@pytest.mark.parametrize("name", DAMAGED_DOCUMENTS)
def test_a_damaged_document_is_refused(saved: dict[str, Path], tmp_path: Path, name: str) -> None:
    changes, said = DAMAGED_DOCUMENTS[name]
    document, tensors = taken_apart(saved["float32"])
    refusal(put_together(tmp_path / "bad.nest", {**document, **changes}, tensors), said)


@pytest.mark.parametrize(
    "key", ["format", "version", "architecture", "pooling", "fingerprint", "scheme", "dim", "dims"]
)
def test_a_missing_key_is_refused(saved: dict[str, Path], tmp_path: Path, key: str) -> None:
    document, tensors = taken_apart(saved["float32"])
    del document[key]
    assert key in refusal(put_together(tmp_path / "bad.nest", document, tensors))


@pytest.mark.parametrize("text", ["", "[]", "5", "null", '{"format":"nest","format":"nest"}', "{", "[" * 100_000])
def test_a_document_that_is_none_is_refused(saved: dict[str, Path], tmp_path: Path, text: str) -> None:
    refusal(put_together(tmp_path / "bad.nest", text, taken_apart(saved["float32"])[1]))


@pytest.mark.parametrize("metadata", [None, {"pt": "x"}, {"nest": "{}", "more": "x"}])
def test_a_safetensors_file_without_the_document_is_refused(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    (tmp_path / "bad.nest").write_bytes(safetensors.numpy.save({"rows": np.zeros((2, 2))}, metadata))
    refusal(tmp_path / "bad.nest", "has no document")


def test_a_limit_beyond_any_text_does_no_harm(saved: dict[str, Path], tmp_path: Path) -> None:
    document, tensors = taken_apart(saved["float32"])
    model = nestling.load(put_together(tmp_path / "odd.nest", {**document, "max_tokens": 10**30}, tensors))
    assert np.isfinite(model.encode(["the quick", ""])).all()


def change(tensors: Tensors, name: str, place: Any, value: Any) -> Tensors:
    changed = tensors[name].copy()
    changed[place] = value
    return {**tensors, name: changed}


Change = Callable[[Tensors], Tensors]
DAMAGED_TENSORS: dict[str, tuple[str, Change, str]] = {
    "NaN in a row": ("float32", lambda t: change(t, "rows", (5, 5), np.nan), "'rows' with values that are not finite"),
    "infinity in a row": ("float32", lambda t: change(t, "rows", (5, 5), np.inf), "'rows' with values that"),
    "minus infinity in a row": ("float32", lambda t: change(t, "rows", (0, 0), -np.inf), "'rows' with values"),
    "sums that overflow": ("float32", lambda t: {**t, "rows": np.full((600, 16), 3e38, np.float32)}, "or over 1e+12"),
    "NaN in a half row": ("float16", lambda t: change(t, "rows", (5, 5), np.nan), "'rows' with values that"),
    "infinity in a half row": ("float16", lambda t: change(t, "rows", (5, 5), np.inf), "'rows' with values that"),
    "double rows": ("float32", lambda t: {**t, "rows": t["rows"].astype(np.float64)}, "of dtype float64"),
    "a column too few": ("float32", lambda t: {**t, "rows": t["rows"][:, 1:]}, "(600, 15), expected (None, 16)"),
    "flat rows": ("float32", lambda t: {**t, "rows": t["rows"].ravel()}, "of shape (9600,)"),
    "no rows": ("float32", lambda t: {n: v for n, v in t.items() if n != "rows"}, "no tensor 'rows'"),
    "a row too few": ("float32", lambda t: {**t, "rows": t["rows"][:-1]}, "ids up to 599, the table has 599 rows"),
    "an empty table": ("float32", lambda t: {**t, "rows": t["rows"][:0]}, "the table has 0 rows"),
    "NaN in a weight": ("weighted", lambda t: change(t, "weights", 3, np.nan), "'weights' with values that"),
    "a weight too few": ("weighted", lambda t: {**t, "weights": t["weights"][1:]}, "'weights' of shape (599,)"),
    "weights that are codes": ("weighted", lambda t: {**t, "weights": t["weights"].astype(np.uint8)}, "of dtype uint8"),
    "levels without weights": ("float32", lambda t: {**t, "weights.levels": np.ones(4, np.float32)}, "no tensor"),
    "NaN in a scale": ("int8", lambda t: change(t, "scales", 3, np.nan), "'scales' with values that are not finite"),
    "a scale beyond bounds": ("int8", lambda t: change(t, "scales", 3, 3e38), "'scales' with values that"),
    "a scale too few": ("int8", lambda t: {**t, "scales": t["scales"][1:]}, "'scales' of shape (599,)"),
    "no scales": ("int8", lambda t: {n: v for n, v in t.items() if n != "scales"}, "no tensor 'scales'"),
    "half the nibbles": ("int4", lambda t: {**t, "rows": t["rows"][:, :4]}, "'rows' of shape (600, 4), expected"),
    "an id of 50 in a mapping": ("centroids", lambda t: change(t, "mapping", 9, 50), "'mapping' with values from 0"),
    "an id of -1 in a mapping": (
        "centroids",
        lambda t: change({**t, "mapping": t["mapping"].astype(np.int32)}, "mapping", 9, -1),
        "'mapping' with values from -1",
    ),
    "a mapping of floats": (
        "centroids",
        lambda t: {**t, "mapping": t["mapping"].astype(np.float32)},
        "'mapping' of dtype float32",
    ),
    "a flat mapping": ("centroids", lambda t: {**t, "mapping": t["mapping"][:, None]}, "'mapping' of shape (600, 1)"),
    "no centroids": ("centroids", lambda t: {**t, "rows": t["rows"][:0], "scales": t["scales"][:0]}, "'mapping' with"),
    "a code beyond the book": ("exact", lambda t: {**t, "words": t["words"][:20]}, "'codes' with values from"),
    "a block too many": ("exact", lambda t: {**t, "codes": np.zeros((580, 3), np.uint8)}, "'codes' of shape (580, 3)"),
    "widths too narrow": ("exact", lambda t: change(t, "words.widths", 0, 2), "adds up to 15 columns, expected 16"),
    "a width of zero": ("exact", lambda t: {**t, "words.widths": np.array([16, 0], np.uint16)}, "words.widths"),
    "an infinite block": ("exact", lambda t: change(t, "words.scales", 0, np.inf), "'words.scales' with values"),
    "an exact id beyond": ("exact", lambda t: change(t, "exact.ids", 19, 600), "'exact.ids' with values from"),
    "an exact id twice": ("exact", lambda t: change(t, "exact.ids", 1, t["exact.ids"][0]), "not ascending"),
    "exact ids that fall": ("exact", lambda t: {**t, "exact.ids": t["exact.ids"][::-1]}, "not ascending"),
    "an exact id too few": ("exact", lambda t: {**t, "exact.ids": t["exact.ids"][1:]}, "'exact.ids' of shape (19,)"),
    "an exact scale of NaN": ("exact", lambda t: change(t, "exact.scales", 0, np.nan), "'scales' with values"),
    "a level of NaN": ("exact", lambda t: change(t, "weights.levels", 7, np.nan), "'weights.levels' with values"),
    "a weight beyond the levels": (
        "exact",
        lambda t: {**t, "weights.levels": t["weights.levels"][:4]},
        "'weights' with values from",
    ),
    "too many words": (
        "exact",
        lambda t: {**t, "words": np.resize(t["words"], (257, 16))},
        "257 words, expected at most 256",
    ),
    "too many levels": (
        "exact",
        lambda t: {**t, "weights.levels": np.ones(257, np.float32)},
        "257 weights.levels, expected at most 256",
    ),
    "a tensor more": ("float32", lambda t: {**t, "code": np.ones(3, np.uint8)}, "code, which scheme 'float' does not"),
    "a tensor of another scheme": ("int8", lambda t: {**t, "mapping": np.ones(3, np.uint16)}, "tensors mapping, which"),
    "a tokenizer's tensor more": (
        "float32",
        lambda t: {**t, "tokenizer.code": np.ones(3, np.uint8)},
        "unknown tensors code",
    ),
    "canaries too narrow": ("float32", lambda t: {**t, "canaries": t["canaries"][:, :8]}, "canaries do not fit"),
    "canaries too few": ("float32", lambda t: {**t, "canaries": t["canaries"][:1]}, "canaries do not fit"),
    "double canaries": ("float32", lambda t: {**t, "canaries": t["canaries"].astype(np.float64)}, "canaries do not"),
    "flat canaries": ("float32", lambda t: {**t, "canaries": t["canaries"].ravel()}, "canaries do not fit"),
    "no canaries": ("float32", lambda t: {n: v for n, v in t.items() if n != "canaries"}, "canaries do not fit"),
    "a canary of NaN": ("float32", lambda t: change(t, "canaries", (0, 0), np.nan), "canaries with values that"),
    "counts of floats": ("float32", lambda t: {**t, "counts": t["counts"].astype(np.float32)}, "counts is no (n,)"),
    "a count too few": ("float32", lambda t: {**t, "counts": t["counts"][1:]}, "599 counts for 600 rows"),
    "no vocabulary": ("float32", lambda t: {n: v for n, v in t.items() if n != "tokenizer.vocabulary"}, "unpacked"),
    "no plan": ("float32", lambda t: {n: v for n, v in t.items() if n != "tokenizer.plan"}, "cannot be unpacked"),
    "an id too few": (
        "float32",
        lambda t: {**t, "tokenizer.order": t["tokenizer.order"][1:]},
        "as many ids as pieces",
    ),
    "an id twice": ("float32", lambda t: change(t, "tokenizer.order", 0, 9), "two pieces with one id"),
    "an id beyond the table": (
        "float32",
        lambda t: change(t, "tokenizer.order", 0, 65_000),
        "ids up to 65000, the table has 600",
    ),
    "ids that are floats": (
        "float32",
        lambda t: {**t, "tokenizer.order": t["tokenizer.order"].astype(np.float32)},
        "a token id that is no whole number",
    ),
}


@pytest.mark.parametrize("name", DAMAGED_TENSORS)
def test_a_damaged_tensor_is_refused(saved: dict[str, Path], tmp_path: Path, name: str) -> None:
    scheme, damage, said = DAMAGED_TENSORS[name]
    document, tensors = taken_apart(saved[scheme])
    refusal(put_together(tmp_path / "bad.nest", document, damage(tensors)), said)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_verify_catches_a_changed_byte_of_every_tensor_of_the_table(
    saved: dict[str, Path], tmp_path: Path, scheme: str
) -> None:
    document, tensors = taken_apart(saved[scheme])
    for name in set(tensors) - {"canaries", "counts"}:
        if name.startswith("tokenizer.") or name == "words.widths" or not tensors[name].size:
            continue
        raw = bytearray(tensors[name].tobytes())
        raw[0] ^= 1
        changed = np.frombuffer(bytes(raw), tensors[name].dtype).reshape(tensors[name].shape)
        model = nestling.load(put_together(tmp_path / "bad.nest", document, {**tensors, name: changed}))
        with pytest.raises(ModelFileError, match="states fingerprint sha256:"):
            model.verify()


def test_verify_catches_a_changed_limit_or_prompt(saved: dict[str, Path], tmp_path: Path) -> None:
    document, tensors = taken_apart(saved["float32"])
    for changes in ({"max_tokens": 3}, {"prompts": {"query": "q"}}, {"drop": []}):
        model = nestling.load(put_together(tmp_path / "bad.nest", {**document, **changes}, tensors))
        with pytest.raises(ModelFileError, match="states fingerprint sha256:"):
            model.verify()


def test_verify_shows_a_canary_that_moved(saved: dict[str, Path], tmp_path: Path) -> None:
    document, tensors = taken_apart(saved["float32"])
    model = nestling.load(put_together(tmp_path / "x.nest", document, change(tensors, "canaries", 0, -1.0)))
    first, second = model.verify()
    assert first.largest_difference > 0.5
    assert second.largest_difference == 0


# --- small files that want to be large


def leb128(number: int) -> bytes:
    raw = b""
    while number > 127:
        raw, number = raw + bytes([number & 127 | 128]), number >> 7
    return raw + bytes([number])


def bombs() -> dict[str, tuple[str, bytes]]:
    """Zlib streams of a few hundred kilobytes at most, by the tensor that they stand in for."""
    many = 100_000
    return {
        "beyond the cap": ("tokenizer.vocabulary", zeros(300_000_000)),
        "a plan beyond the cap": ("tokenizer.plan", zeros(300_000_000)),
        "pieces without end": ("tokenizer.vocabulary", zlib.compress(leb128(30_000_000) + b"\0" * 60_000_000, 9)),
        "pieces that grow": (
            "tokenizer.vocabulary",
            zlib.compress(
                leb128(many) + b"".join(map(leb128, range(many))) + b"\1" * many + b"a" * many,
                9,
            ),
        ),
    }


def zeros(count: int) -> bytes:
    stream = zlib.compressobj(9)
    chunk = bytes(1_000_000)
    return b"".join(stream.compress(chunk) for _ in range(count // len(chunk))) + stream.flush()


BOMBS = bombs()


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_cannot_fill_the_memory(saved: dict[str, Path], tmp_path: Path, name: str) -> None:
    tensor, packed = BOMBS[name]
    document, tensors = taken_apart(saved["float32"])
    bomb = put_together(tmp_path / "bad.nest", document, {**tensors, tensor: np.frombuffer(packed, np.uint8)})
    assert bomb.stat().st_size < 500_000
    tracemalloc.start()
    began = time.perf_counter()
    refusal(bomb)
    took, peak = time.perf_counter() - began, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert took < 10
    assert peak < 350_000_000


def test_product_codes_that_would_unfold_beyond_any_memory_are_refused(tmp_path: Path) -> None:
    codes, dim = 100_000, 65_536
    rows = ProductRows(
        np.zeros((codes, 2), np.uint8),
        np.zeros((1, dim), np.int8),
        np.ones(2, np.float32),
        (dim // 2, dim // 2),
        requantize(Table(model_of("wordpiece").table.rows), "int8").keep(np.arange(0)).rows,  # type: ignore[arg-type]
        np.zeros(0, np.uint16),
    )
    tensors = {**rows.tensors(), "exact.rows": np.zeros((0, dim), np.int8), "canaries": np.zeros((0, dim), np.float32)}
    packed = pack_tokenizer(plan_of("wordpiece"), "wordpiece")
    document = {"format": "nest", "version": 1, "architecture": "static", "pooling": "mean", "fingerprint": ""}
    document |= {"scheme": "product", "dim": dim, "dims": [dim], "name": "wordpiece"}  # type: ignore[dict-item]
    tensors |= {f"tokenizer.{name}": tensor for name, tensor in packed.items()}
    refusal(put_together(tmp_path / "bad.nest", document, tensors), "100,000 codes of 65,536 columns")


# --- saving


FULL_DISK = """
import resource, signal, sys
sys.path.insert(0, sys.argv[2])
from tests.conftest import model_of
model = model_of("wordpiece")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))
try:
    model.save(sys.argv[1])
except OSError as error:
    print(error.strerror)
"""

KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[2])
from nestling import safe
from tests.conftest import model_of
safe._sync = lambda path: os.kill(os.getpid(), signal.SIGKILL)
model_of("wordpiece", name="new").save(sys.argv[1])
"""


@pytest.mark.parametrize(("code", "ending"), [(FULL_DISK, 0), (KILLED, -signal.SIGKILL)])
def test_a_save_that_fails_leaves_the_old_file(tmp_path: Path, code: str, ending: int) -> None:
    path = tmp_path / "x.nest"
    model_of("bpe").save(path)
    before = path.read_bytes()
    command = [sys.executable, "-c", code, str(path), str(Path(__file__).parents[2])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == ending, done.stderr
    assert done.stdout == ("File too large\n" if ending == 0 else "")
    assert path.read_bytes() == before
    assert nestling.load(path).verify()
    if ending == 0:
        assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "layout", "said"),
    [
        ("", "nest", r"'.' is a folder\. The name of a file"),
        ("", None, r"does not end in \.nest, and no layout was given; .* Write NAME\.nest"),
        ("folder.nest", None, r"folder\.nest' is a folder\."),
        ("gone/a.nest", None, r"The folder .*gone is not there\. One to write into was expected\. Make it first\."),
        ("pipe.nest", None, r"pipe\.nest' is no regular file\."),
        ("a.out", None, r"a\.out does not end in \.nest"),
        ("file/deep", "model2vec", r"The folder .*file is not there\."),
    ],
)
def test_a_target_that_cannot_be_is_refused(
    name: str, layout: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder.nest").mkdir()
    Path("file").touch()
    os.mkfifo("pipe.nest")
    with pytest.raises(nestling.InputError, match=said):
        model_of("wordpiece").save(name, layout=layout)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.nest", "pipe.nest"]


@pytest.mark.parametrize(
    "changes", [{"name": 5}, {"prompts": {"query": 5}}, {"description": "\ud800"}, {"licence": None}, {"drop": (-1,)}]
)
def test_what_could_not_be_read_again_is_not_written(changes: dict[str, Any], tmp_path: Path) -> None:
    model = model_of("wordpiece")
    parts = replace(model.parts(), document=replace(model.document, **changes))
    with pytest.raises(nestling.InputError, match="Correct the model's document"):
        write_nest(
            tmp_path / "x.nest", parts, np.zeros((len(model.document.canaries), model.dim), np.float32), "sha256:"
        )
    assert not list(tmp_path.iterdir())


def write_golden() -> None:
    path = GOLDEN.with_name("golden.nest")
    try:
        GOLDEN.write_text(json.dumps({kind: hashes(kind, path) for kind in KINDS}, indent=2) + "\n")
    finally:
        path.unlink(missing_ok=True)


if __name__ == "__main__" and sys.argv[1:] == ["--write"]:
    write_golden()

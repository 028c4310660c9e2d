"""The transformer: the same bits in any batch, tasks by tokens, nothing cut in silence; parts that fit one another."""

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer

import nestling
from nestling.errors import InputError, ModelFileError
from nestling.files.parts import Parts, document_from_json, document_to_json
from nestling.make.student import Student
from nestling.model.inspect import describe, describe_as_text
from nestling.model.load import load_static
from nestling.model.pack import to_int8
from nestling.model.pool import repeat_weights
from nestling.model.rows import Int8Rows, Table
from nestling.model.transformer import BODY, Runtime, TransformerModel
from nestling.sentence_transformers import load_sentence_transformer
from nestling.shrink.transformer import with_small_body
from tests.students import LONGEST, parts_of, student_of

DIM = 32


@pytest.fixture(scope="module")
def student() -> Student:
    return student_of("wordpiece")


@pytest.fixture(scope="module")
def parts(student: Student) -> Parts:
    return parts_of(student, "wordpiece")


@pytest.fixture(scope="module")
def model(parts: Parts) -> TransformerModel:
    return TransformerModel(parts)


@pytest.fixture(scope="module")
def floats(parts: Parts) -> TransformerModel:
    return TransformerModel(parts, runtime="onnxruntime")


def by_torch(
    student: Student, ids: npt.NDArray[np.int64], weights: npt.NDArray[np.float32] | None = None
) -> npt.NDArray[np.float32]:
    weights = np.ones(len(ids), np.float32) if weights is None else weights
    with torch.no_grad():
        sums = student(torch.from_numpy(ids), torch.tensor([0]), torch.from_numpy(weights))
    vector: npt.NDArray[np.float32] = sums[0].numpy()
    return vector / np.linalg.norm(vector)


def test_gives_what_the_student_gives(
    student: Student, model: TransformerModel, floats: TransformerModel, sentences: list[str]
) -> None:
    for text in sentences[:20]:
        ids = model.tokenizer.encode([text]).ids.astype(np.int64)
        ids = ids[~np.isin(ids, model.document.drop)][:LONGEST]
        for task, given in (("", ids), ("qry", np.array([model.document.task_tokens["qry"], *ids[: LONGEST - 1]]))):
            wanted = by_torch(student, given)
            np.testing.assert_allclose(floats.encode(text, task=task), wanted, atol=2e-6)
            assert 1 - 1e-3 < model.encode(text, task=task) @ wanted < 1 - 1e-8


def test_sublinear_pooling_shortens_the_rows_of_repeated_tokens(student: Student, parts: Parts) -> None:
    document = replace(parts.document, pooling="sublinear")
    model = TransformerModel(replace(parts, document=document))
    floats = model.with_runtime("onnxruntime")
    text = "again and again and again"
    ids = model.tokenizer.encode([text]).ids.astype(np.int64)
    weights = repeat_weights(ids, np.array([0, len(ids)]))
    assert len(set(weights.tolist())) == 3
    task = np.array([model.document.task_tokens["sym"]])
    wanted = by_torch(student, ids, weights)
    whole = by_torch(student, np.concatenate([task, ids]), np.concatenate([np.ones(1, np.float32), weights]))
    np.testing.assert_allclose(floats.encode(text), wanted, atol=2e-6)
    np.testing.assert_allclose(floats.encode(text, task="sym"), whole, atol=2e-6)
    assert model.encode(text) @ wanted > 0.999
    assert model.encode(text, task="sym") @ whole > 0.999
    assert model.fingerprint != TransformerModel(parts).fingerprint


def test_tasks_and_routes(model: TransformerModel) -> None:
    texts = ["how do i cancel my order", "orders"]
    assert model.tasks == ("qry", "doc", "sym")
    assert np.array_equal(model.encode_query(texts), model.encode(texts, task="qry"))
    assert np.array_equal(model.encode_document(texts), model.embed(texts, task="doc"))
    vectors = [model.encode(texts[0], task=task) for task in (None, *model.tasks)]
    assert min(np.abs(one - other).max() for one, other in combinations(vectors, 2)) > 0.01
    routed = model.with_table(model.table, routes={"text": "sym"})
    assert np.array_equal(routed.encode(texts), model.encode(texts, task="sym"))
    assert np.array_equal(routed.encode_query(texts), model.encode(texts, task="sym"))
    assert np.array_equal(routed.encode(texts, task="doc"), model.encode(texts, task="doc"))
    assert np.array_equal(routed.encode(texts, task=""), model.encode(texts))
    assert np.array_equal(routed.encode_query(texts, task="qry"), model.encode(texts, task="qry"))
    assert np.array_equal(model.encode_document(texts, task=""), model.encode(texts))
    with pytest.raises(InputError, match="It has qry, doc, sym"):
        model.embed(texts, task="query")


@pytest.mark.parametrize("runtime", ["core", "onnxruntime"])
def test_the_same_bits_in_any_batch(
    model: TransformerModel, runtime: Runtime, sentences: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model.with_runtime(runtime)
    texts = [*sentences[:200], "", " ".join(sentences[:3])]
    whole = model.encode(texts, threads=1)
    assert np.array_equal(model.encode(texts, threads=2), whole)
    assert np.array_equal(model.encode(texts[::-1])[::-1], whole)
    for place in (0, 57, 201):
        assert np.array_equal(model.encode(texts[place]), whole[place])
    monkeypatch.setattr("nestling.model.graph_reader.TOKENS_AT_ONCE", 100)
    monkeypatch.setattr("nestling.model.pool.UNIT_TEXTS", 31)
    assert np.array_equal(model.encode(texts), whole)
    assert np.array_equal(model.encode(texts, progress=True), whole)
    assert not whole[200].any()
    np.testing.assert_allclose(np.linalg.norm(np.delete(whole, 200, axis=0), axis=1), 1, atol=1e-6)


def test_onnxruntime_on_demand(model: TransformerModel, sentences: list[str], tmp_path: Path) -> None:
    model.save(tmp_path / "small.nest")
    floats = nestling.load(tmp_path / "small.nest", runtime="onnxruntime", dim=16)
    assert isinstance(floats, TransformerModel)
    assert floats.backend.startswith("onnxruntime")
    assert np.einsum("ij,ij->i", floats.encode(sentences[:60]), model.encode(sentences[:60], dim=16)).min() > 0.998
    assert floats.fingerprint != model.with_dim(16).fingerprint
    floats.save(tmp_path / "again.nest")
    assert nestling.load(tmp_path / "again.nest").fingerprint == model.with_dim(16).fingerprint
    named = nestling.load(tmp_path / "small.nest", dtype="int8-fast")
    assert np.array_equal(named.encode(sentences[:9]), model.encode(sentences[:9]))
    for wrong in ({"runtime": "onnxruntime"}, {"dtype": "int8-fast"}):
        with pytest.raises(InputError, match="A transformer was expected"):
            nestling.load("nano", **wrong)
    with pytest.raises(InputError, match="runtime"):
        model.with_runtime("torch")  # type: ignore[arg-type]


def test_options_are_those_of_every_model(model: TransformerModel, sentences: list[str]) -> None:
    texts = sentences[:30]
    whole = model.encode(texts)
    assert model.encode([]).shape == (0, DIM)
    cut = whole[:, :16] / np.linalg.norm(whole[:, :16], axis=1, keepdims=True)
    np.testing.assert_allclose(model.encode(texts, dim=16), cut, atol=1e-6)
    assert np.array_equal(model.with_dim(16).encode(texts), model.encode(texts, dim=16))
    assert model.with_dim(16).dims == (16, 8)
    assert model.encode(texts, dtype="binary").shape == (30, DIM // 8)
    with pytest.raises(InputError, match="dim=20"):
        model.encode(texts, dim=20)
    with pytest.raises(InputError, match="task='other'"):
        model.encode(texts, task="other")


def test_long_texts_are_cut_aloud_or_split(model: TransformerModel) -> None:
    word = next(piece for piece in model.tokenizer.pieces if piece.isalpha() and len(piece) > 2)
    long, short = f"{word} " * 400, f"{word} " * LONGEST
    with pytest.warns(nestling.CutWarning, match="1 of 2 texts"):
        vectors = model.encode([long, "a cat"], overflow="cut")
    assert np.array_equal(vectors[0], model.encode(short))
    with pytest.raises(InputError, match="401 tokens, one for its task included"):
        model.encode_query(long, overflow="error")
    split = model.encode(long, normalize=False)
    first, second = (model.encode(f"{word} " * count, normalize=False) for count in (LONGEST, 400 - LONGEST))
    np.testing.assert_allclose(split, (first * LONGEST + second * (400 - LONGEST)) / 400, rtol=1e-4, atol=1e-5)


def test_few_bits_for_table_and_matrices(
    model: TransformerModel, floats: TransformerModel, sentences: list[str]
) -> None:
    small = with_small_body(model)
    assert np.array_equal(small.encode(sentences[:50]), model.encode(sentences[:50]))  # which the core rounds anyway
    small = small.with_table(Table(Int8Rows(*to_int8(small.table.expanded()))))
    near = (small.encode(sentences[:50]) * floats.encode(sentences[:50])).sum(axis=1)
    assert 0.999 < near.min() < 1
    assert small.fingerprint != model.fingerprint


@pytest.mark.parametrize("word", [2, 3, 4])
def test_matrices_in_codes(
    model: TransformerModel, floats: TransformerModel, sentences: list[str], tmp_path: Path, word: int
) -> None:
    small = with_small_body(model, word)
    codes, words = (small.parts().tensors[name] for name in (UP, UP + ".words"))
    assert codes.shape == (DIM, 48 // word)
    assert words.shape == (256, word)
    near = (small.encode(sentences[:50]) * floats.encode(sentences[:50])).sum(axis=1)
    assert 0.9 < near.min() < 0.99999
    small.save(tmp_path / "small.nest")
    again = nestling.load(tmp_path / "small.nest")
    assert np.array_equal(again.encode(sentences[:9]), small.encode(sentences[:9]))
    graph = small.with_runtime("onnxruntime").encode(sentences[:50])
    assert (small.encode(sentences[:50]) * graph).sum(axis=1).min() > 0.999
    assert with_small_body(model, word).fingerprint == small.fingerprint != with_small_body(model, word, 1).fingerprint


def test_rows_take_back_what_others_lose(model: TransformerModel) -> None:
    """Where columns of what is multiplied tell of one another, the product is nearer; with no such moments it is as
    without any."""
    matrix = model.parts().tensors[UP]
    random = np.random.default_rng(0)
    seen = random.standard_normal((500, 4)) @ random.standard_normal((4, DIM)) + 0.1 * random.standard_normal(
        (500, DIM)
    )

    def error(moments: dict[str, npt.NDArray[np.float64]]) -> float:
        tensors = with_small_body(model, 3, 0, moments).parts().tensors
        small = tensors[UP + ".words"][tensors[UP]].reshape(matrix.shape) * tensors[UP + ".scales"]
        return float(np.square(seen @ (small - matrix)).mean())

    name = UP.removeprefix("body.")
    assert error({name: seen.T @ seen}) < 0.3 * error({})
    assert abs(error({name: np.eye(DIM)}) / error({}) - 1) < 0.1


@pytest.mark.parametrize("runtime", ["core", "onnxruntime"])
def test_it_goes_into_other_processes(model: TransformerModel, runtime: Any, sentences: list[str]) -> None:
    model = model.with_runtime(runtime)
    other = pickle.loads(pickle.dumps(model))
    assert (other.fingerprint, other.backend) == (model.fingerprint, model.backend)
    assert np.array_equal(other.encode(sentences[:9]), model.encode(sentences[:9]))


def test_moments_of_no_matrix_are_refused(model: TransformerModel) -> None:
    with pytest.raises(ValueError, match="moments of up, which are no matrices"):
        with_small_body(model, 2, 0, {"up": np.eye(DIM)})


def test_a_head_and_a_length_beyond_any_memory_are_refused(parts: Parts) -> None:
    """Of two megabytes: rotary positions of 65,536 tokens in heads of 65,536 columns would be 16 GB each."""
    wide = 65_536
    none = {name: each for name, each in parts.tensors.items() if not name.startswith(BODY)}
    up, last = np.zeros((parts.document.inner or 0, wide), np.int8), np.ones(wide, np.float32)
    body = {UP: up, UP + ".scales": last, BODY + "last.weight": last}
    document = replace(parts.document, head=wide, max_tokens=65_536)
    with pytest.raises(ModelFileError, match=r"65,536 tokens in heads of 65,536 columns, expected at most 16,777,216"):
        TransformerModel(replace(parts, document=document, tensors={**none, **body}))


def test_a_file_gives_the_same_model(model: TransformerModel, tmp_path: Path, sentences: list[str]) -> None:
    path = tmp_path / "small.nest"
    model.save(path)
    again = nestling.load(path)
    assert isinstance(again, TransformerModel)
    assert again.fingerprint == model.fingerprint
    assert np.array_equal(again.encode(sentences[:9]), model.encode(sentences[:9]))
    assert all(check.cosine > 0.999999 for check in again.verify())
    assert nestling.load(path, dim=16).dim == 16
    assert nestling.load(path, dtype="int8").table.rows.scheme == "int8"
    with pytest.raises(InputError, match="is a transformer"):
        load_static(path)


def without(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda tensors: tensors.pop(name)


def with_one(name: str, value: npt.NDArray[Any]) -> Callable[[dict[str, Any]], object]:
    return lambda tensors: tensors.update({name: value})


def coded_up(words: npt.NDArray[Any]) -> Callable[[dict[str, Any]], object]:
    """The first matrix in codes of these words."""
    return lambda tensors: tensors.update({UP: np.full((32, 24), 255, np.uint8), UP + ".words": words})


UP = BODY + "up.weight"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (without(UP), "no tensor 'up.weight'"),
        (without(BODY + "blocks.0.wide.weight"), "no tensor 'blocks.0.wide.weight'"),
        (without(BODY + "last.weight"), "no tensor 'last.weight'"),
        (with_one(UP, np.ones((3, 4), np.float32)), "multiples|shape"),
        (with_one(UP, np.ones((32, 0), np.float32)), "shape"),
        (with_one(UP, np.ones((16, 48), np.float32)), "see 16 columns of 32"),
        (with_one(UP, np.ones((32, 48), np.int8)), "no tensor 'up.weight.scales'"),
        (with_one(UP, np.ones((32, 24), np.uint8)), "no tensor 'up.weight.words'"),
        (coded_up(np.zeros((256, 2), np.int8)), "no tensor 'up.weight.scales'"),
        (coded_up(np.zeros((255, 2), np.int8)), "values from 255 to 255, expected 0 to 254"),
        (coded_up(np.zeros((257, 2), np.int8)), "'up.weight.words' of shape"),
        (coded_up(np.zeros((256, 5), np.int8)), "'up.weight.words' of shape"),
        (coded_up(np.zeros((256, 0), np.int8)), "'up.weight.words' of shape"),
        (coded_up(np.zeros((256, 2), np.uint8)), "'up.weight.words' of dtype"),
        (with_one(BODY + "no.words", np.ones((4, 2), np.int8)), "no.words, which no blocks have"),
        (with_one(UP, np.full((32, 48), np.nan, np.float32)), "up.weight"),
        (with_one(UP, np.full((32, 48), 1001, np.float32)), "not finite or over 1000"),
        (
            lambda tensors: tensors.update(
                {
                    BODY + "blocks.0.wide.weight": np.ones((48, 70_000), np.float32),
                    BODY + "blocks.0.narrow.weight": np.ones((70_000, 48), np.float32),
                }
            ),
            "at most 65,536",
        ),
        (with_one(BODY + "no.scales", np.ones(4, np.float32)), "no.scales, which no blocks have"),
        (with_one(BODY + "blocks.7.wide.weight", np.ones((48, 192), np.float32)), "one after the other"),
        (with_one(BODY + "blocks.0.wide.weight", np.ones((48, 100), np.float32)), "shape"),
        (with_one(BODY + "places", np.ones((9, 48), np.float32)), "no tensor 'up.bias'"),
        (with_one(BODY + "weigh.weight", np.ones((40, 1), np.float32)), "weigh.weight"),
        (without(BODY + "weigh.weight"), None),  # blocks that give a vector of their own, of 48 columns
        (lambda tensors: tensors.update(rows=tensors["rows"][:-1]), "ids go up to"),
        (lambda tensors: tensors.update(rows=tensors["rows"][:, :-1]), "rows"),
    ],
)
def test_parts_that_do_not_fit_are_refused(parts: Parts, change: Callable[[Any], object], reason: str | None) -> None:
    tensors = dict(parts.tensors)
    change(tensors)
    if reason is None:
        assert TransformerModel(replace(parts, tensors=tensors)).encode("a cat").shape == (DIM,)
        return
    with pytest.raises(ModelFileError, match=reason):
        TransformerModel(replace(parts, tensors=tensors))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (without("graph"), "no tensor 'graph'"),
        (with_one("graph", np.zeros(9, np.uint8)), "cannot be run"),
        (without(UP), "cannot be run"),
        (with_one(UP, np.ones((3, 4), np.float32)), "cannot be run"),
        (with_one(BODY + "no.scales", np.ones(4, np.float32)), "without its matrix"),
        (with_one(BODY + "weigh.weight", np.ones((40, 1), np.float32)), "be run"),
    ],
)
def test_graphs_that_do_not_fit_are_refused(parts: Parts, change: Callable[[Any], object], reason: str) -> None:
    tensors = dict(parts.tensors)
    change(tensors)
    with pytest.raises(ModelFileError, match=reason):
        TransformerModel(replace(parts, tensors=tensors), runtime="onnxruntime")


def test_heads_that_do_not_fit_are_refused(parts: Parts) -> None:
    for head in (7, 32, 64):
        with pytest.raises(ModelFileError, match="heads that add up to 48"):
            TransformerModel(replace(parts, document=replace(parts.document, head=head)))


def test_vectors_that_are_not_finite_are_refused(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    model = TransformerModel(parts, runtime="onnxruntime")
    monkeypatch.setattr(model._reader.__class__, "sums", lambda *_: np.full((2, DIM), np.nan, np.float32))
    with pytest.raises(ModelFileError, match="not finite"):
        model.encode(["a text", "another"])


def test_pieces_that_are_finite_alone_are_refused_too(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    model = TransformerModel(parts, runtime="onnxruntime")
    monkeypatch.setattr(
        model._reader.__class__, "sums", lambda _, batch, __: np.full((len(batch.starts) - 1, DIM), 2e38, np.float32)
    )
    with pytest.raises(ModelFileError, match="not finite"):
        model.encode("cat " * (LONGEST + 1))


def test_a_document_that_makes_no_sense_is_not_written(model: TransformerModel, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="something else than tasks"):
        model.with_table(model.table, routes={"query": "qrx"}).save(tmp_path / "a.nest")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"max_tokens": None}, "max_tokens is None"),
        ({"max_tokens": 1}, "max_tokens is 1"),
        ({"max_tokens": 65_537}, "at most 65,536"),
        ({"inner": 0}, "without inner"),
        ({"head": 0}, "without inner and head"),
        ({"head": 70_000}, "head is 70000"),
        ({"inner": 70_000}, "inner is 70000"),
        ({"routes": {"query": "asked"}}, "something else than tasks"),
        ({"routes": {"passage": "doc"}}, "something else than tasks"),
        ({"task_tokens": {"qry": -1}}, "no token id"),
        ({"task_tokens": {"qry": 1.5}}, "no token id"),
        ({"prompts": {"qry": "q: "}}, "a prompt and a token"),
        ({"architecture": "static"}, "a static model does not have"),
    ],
)
def test_documents_that_make_no_sense_are_refused(parts: Parts, change: dict[str, object], reason: str) -> None:
    plain = json.loads(json.dumps(document_to_json(parts.document)))
    with pytest.raises(ValueError, match=reason):
        document_from_json(plain | change)


@pytest.mark.parametrize("pooling", ["mean", "sublinear"])
def test_as_one_onnx_file(parts: Parts, sentences: list[str], tmp_path: Path, pooling: str) -> None:
    model = TransformerModel(replace(parts, document=replace(parts.document, pooling=pooling)))
    texts = [*sentences[:60], "again and again and ag\u2603in", "\u2603", "", "\u2603 a \u2603 cat \u2603 again"]
    model.save(tmp_path / "folder", layout="onnx")
    tokenizer = Tokenizer.from_file(str(tmp_path / "folder/tokenizer.json"))
    tokenizer.enable_padding()
    encoded = tokenizer.encode_batch(texts, add_special_tokens=False)
    given = {"input_ids": [each.ids for each in encoded], "attention_mask": [each.attention_mask for each in encoded]}
    session = onnxruntime.InferenceSession(tmp_path / "folder/model.onnx")
    (vectors,) = session.run(None, {name: np.array(rows, np.int64) for name, rows in given.items()})
    floats = model.with_runtime("onnxruntime")
    np.testing.assert_allclose(vectors, floats.encode(texts), atol=5e-6)
    assert not vectors[61].any()
    said = json.loads((tmp_path / "folder/config.json").read_text())["nestling"]
    assert said["dims"] == [DIM, 16, 8]
    tokenizer.no_padding()
    ids = [
        said["task_tokens"][said["routes"].get("query", "qry")],
        *tokenizer.encode(texts[0], add_special_tokens=False).ids,
    ]
    (asked,) = session.run(None, {"input_ids": np.array([ids]), "attention_mask": np.ones((1, len(ids)), np.int64)})
    np.testing.assert_allclose(asked[0], floats.encode_query(texts[0]), atol=5e-6)
    long = tokenizer.encode("cat " * 2 * LONGEST, add_special_tokens=False).ids
    assert len(long) + 1 == LONGEST == said["max_tokens"]
    assert "`task_tokens`" in (tmp_path / "folder/README.md").read_text()
    with pytest.raises(ModelFileError, match="written as ONNX, for other runtimes"):
        nestling.load(tmp_path / "folder")


def test_no_onnx_file_without_a_graph(parts: Parts, tmp_path: Path) -> None:
    tensors = {name: each for name, each in parts.tensors.items() if name != "graph"}
    model = TransformerModel(replace(parts, tensors=tensors))
    assert model.encode("a cat").shape == (DIM,)
    with pytest.raises(ModelFileError, match="no tensor 'graph'"):
        model.save(tmp_path / "folder", layout="onnx")
    assert not list(tmp_path.iterdir())


def test_a_smaller_tier_as_one_onnx_file(model: TransformerModel, tmp_path: Path) -> None:
    small = model.with_dim(16)
    small.save(tmp_path / "folder", layout="onnx")
    session = onnxruntime.InferenceSession(tmp_path / "folder/model.onnx")
    ids = model.tokenizer.encode(["again and again"]).ids.astype(np.int64)[None]
    (vectors,) = session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
    floats = small.with_runtime("onnxruntime")
    np.testing.assert_allclose(vectors[0], floats.encode("again and again"), atol=5e-6)


def test_as_a_sentence_transformer(parts: Parts, sentences: list[str], tmp_path: Path) -> None:
    model, texts = TransformerModel(parts), sentences[:30]
    model.save(tmp_path / "model.nest")
    theirs = load_sentence_transformer(tmp_path / "model.nest")
    assert np.array_equal(theirs.encode(texts), model.encode(texts))
    assert np.array_equal(theirs.encode_query(texts), model.encode_query(texts))
    assert np.array_equal(theirs.encode(texts, prompt_name="sym"), model.encode(texts, task="sym"))
    for prompt in ("note: ", "sym "):
        assert np.array_equal(theirs.encode(texts, prompt=prompt), model.encode([prompt + text for text in texts]))
    assert theirs.get_embedding_dimension() == DIM
    assert theirs.max_seq_length == LONGEST
    theirs.save(str(tmp_path / "folder"))
    assert nestling.load(tmp_path / "folder").fingerprint == model.fingerprint


def test_as_a_folder_for_sentence_transformers(parts: Parts, sentences: list[str], tmp_path: Path) -> None:
    model, texts = TransformerModel(parts), sentences[:30]
    model.save(tmp_path / "folder", layout="sentence-transformers")
    assert nestling.load(tmp_path / "folder").fingerprint == model.fingerprint
    for theirs in (
        SentenceTransformer(str(tmp_path / "folder"), trust_remote_code=True),  # the installed nestling, nothing else
        load_sentence_transformer(tmp_path / "folder"),
    ):
        assert np.array_equal(theirs.encode(texts), model.encode(texts))
        assert np.array_equal(theirs.encode_document(texts), model.encode_document(texts))
        assert theirs.prompts["query"] == "[qry] "
    assert not [path.name for path in (tmp_path / "folder").rglob("*.py")]


def test_only_known_layouts(model: TransformerModel, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no layout was given"):
        model.save(tmp_path / "folder")
    with pytest.raises(InputError, match="layout='model2vec'"):
        model.save(tmp_path / "folder", layout="model2vec")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_info_says_what_it_is(model: TransformerModel) -> None:
    facts = describe(model, size=1234)
    assert facts["tasks"] == ["qry", "doc", "sym"]
    assert facts["bytes"]["blocks"] > 48 * 12 * 48 * 2 * 4
    assert facts["head"] == 16
    text = describe_as_text(facts)
    assert "603 x 32, float" in text
    assert "tasks        qry, doc, sym\nquery        task qry by default\n" in text
    assert "backend      core" in text or "backend      python" in text


def hostile(kind: str, graph: bytes) -> bytes:
    """The graph with something that no student needs."""
    model = onnx.load_from_string(graph)
    inner = onnx.helper.make_graph([], "inner", [], [])
    if kind == "loop":
        model.graph.node.append(onnx.helper.make_node("Loop", ["", ""], ["x"], body=inner))
    elif kind == "within":
        model.graph.node[0].attribute.append(onnx.helper.make_attribute("body", inner))
    elif kind == "constant":
        tensor = onnx.numpy_helper.from_array(np.zeros(3, np.float32), "t")
        model.graph.node[0].attribute.append(onnx.helper.make_attribute("value", tensor))
    elif kind == "domain":
        model.graph.node[0].domain = "com.evil"
    elif kind == "functions":
        model.functions.append(onnx.helper.make_function("evil", "F", [], [], [], []))
    elif kind == "nothing":
        del model.graph.node[:]
    serialized: bytes = model.SerializeToString()
    return serialized


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("loop", "asks for Loop"),
        ("within", "graphs or tensors within"),
        ("constant", "graphs or tensors within"),
        ("domain", "no student needs"),
        ("functions", "functions of its own"),
        ("nothing", "0 nodes"),
    ],
)
def test_graphs_that_do_more_than_a_student_are_refused(parts: Parts, kind: str, reason: str) -> None:
    graph = np.frombuffer(hostile(kind, parts.tensors["graph"].tobytes()), np.uint8)
    with pytest.raises(ModelFileError, match=reason):
        TransformerModel(replace(parts, tensors={**parts.tensors, "graph": graph}), runtime="onnxruntime")


def sized(number: int, body: bytes, tag: bytes = b"") -> bytes:
    """A field of a protobuf message. tag: instead of its shortest."""
    return (tag or bytes([number * 8 + 2])) + bytes([len(body)]) + body


LOCATION, SECRET = sized(1, b"location"), sized(2, b"secret.bin")


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (LOCATION + SECRET, "names files"),
        (SECRET + LOCATION, "names files"),
        (LOCATION + sized(2, b"/") + SECRET, "names files"),
        (sized(1, b"offset") + LOCATION + SECRET, "names files"),
        (LOCATION + sized(2, b"secret.bin", tag=b"\x92\x00"), "names files"),
        (LOCATION, "names files"),
        (sized(1, b"path") + SECRET, "names files"),
        (LOCATION + sized(2, b"/") + sized(2, b"secret.bin", tag=b"\x92\x80\x80\x80\x10"), "no ONNX"),
    ],
)
def test_graphs_that_name_files_are_refused(
    parts: Parts, entry: bytes, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However the name is spelt: a tensor more, of a file that is there, in a second part of the graph."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.bin").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    tensor = b"\x08\x04\x10\x01" + sized(8, b"more") + sized(13, entry) + b"\x70\x01"
    own = np.frombuffer(parts.tensors["graph"].tobytes() + sized(7, sized(5, tensor)), np.uint8)
    with pytest.raises(ModelFileError, match=reason):
        TransformerModel(replace(parts, tensors={**parts.tensors, "graph": own}), runtime="onnxruntime")
    with pytest.raises(ModelFileError, match=reason):
        TransformerModel(replace(parts, tensors={**parts.tensors, "graph": own})).save(tmp_path / "a", layout="onnx")
    assert not (tmp_path / "a").exists()


def test_a_graph_gives_a_row_for_each_text(floats: TransformerModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nestling.model.graph_reader.run_graph", lambda *_: np.ones((1, DIM), np.float32))
    with pytest.raises(ModelFileError, match=r"float32 of shape \(1, 32\) for 2 texts"):
        floats.encode(["a text", "another"])


def test_damaged_files_say_so_or_run(model: TransformerModel, tmp_path: Path) -> None:
    """Bytes turned at random: an error in three parts, or vectors, never anything else."""
    model.save(tmp_path / "whole.nest")
    whole, random = (tmp_path / "whole.nest").read_bytes(), np.random.default_rng(0)
    header, refused = int.from_bytes(whole[:8], "little"), 0
    graph = whole.index(b"before_attention", 8 + header)
    for trial in range(150):
        raw = bytearray(whole)
        low, high = ((graph - 2000, graph + 6000), (0, header), (0, len(raw)))[trial % 3]
        for place in random.integers(low, high, random.integers(1, 4)):
            raw[place] = random.integers(0, 256)
        (tmp_path / "turned.nest").write_bytes(raw)
        runtime: Runtime = "core" if trial % 3 else "onnxruntime"
        try:
            turned = nestling.load(tmp_path / "turned.nest", runtime=runtime)
            vectors = turned.encode(["a cat sat on the mat", "again"])
        except ModelFileError:
            refused += 1
        else:
            assert np.isfinite(vectors).all()
    assert 20 < refused < 150

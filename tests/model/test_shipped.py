"""The shipped models: small enough, good enough, themselves."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import nestling
from nestling.files.card import card
from nestling.files.nest import read_document
from nestling.model.common import Model
from nestling.model.transformer import TransformerModel
from nestling.sentence_transformers import load_sentence_transformer

ROOT = Path(__file__).parents[2]
STS = "STSBenchmark test, Spearman"
LARGEST = {"nano": 700_000, "static": 7_500_000, "micro": 3_000_000, "mini": 10_000_000}
LEAST = {"nano": 0.77, "static": 0.79, "micro": 0.79, "mini": 0.80}  # of STS Benchmark, at full width
STATIC = ("nano", "static")
TEXTS = ["The quick brown fox jumps over the lazy dog.", "How do I cancel my order?", "café 東京"]


@pytest.fixture(params=LARGEST)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model(name: str) -> Model:
    return nestling.load(name)


@pytest.fixture
def path(name: str) -> Path:
    return nestling.shipped()[name]


def test_these_are_all() -> None:
    assert set(nestling.shipped()) == set(LARGEST)


def test_is_small_with_its_tokenizer(name: str, path: Path) -> None:
    assert path.stat().st_size <= LARGEST[name]


def test_gives_the_vectors_it_was_saved_with(model: Model) -> None:
    checks = model.verify()
    assert len(checks) == 3
    assert all(check.cosine >= 0.9999 for check in checks)


def test_knows_near_from_far(model: Model) -> None:
    documents = ["The cat sat on the mat.", "Shares fell sharply on Monday.", "A kitten rests on a rug."]
    kitty = model.similarity(model.encode_query("a sleeping kitty"), model.encode_document(documents))[0]
    assert kitty.argmax() == 2
    assert kitty.argmin() == 1


def test_says_its_score_and_where_it_comes_from(name: str, model: Model, path: Path) -> None:
    document, _ = read_document(path)
    assert document.scores[STS][str(model.dim)] >= LEAST[name]
    assert list(document.scores[STS]) == [str(tier) for tier in model.dims]
    assert [(source.role, source.licence) for source in document.lineage][:1] == [("teacher", "MIT")]
    assert [source.role for source in document.lineage[-2:]] == ["data", "data"]
    assert {source.licence for source in document.lineage[:-2]} <= {"MIT", "Apache-2.0"}
    written = path.with_suffix(".md").read_text(encoding="utf-8")
    assert written == card(document, path.stat().st_size)
    assert f"{document.scores[STS][str(model.dim)]:.4f}" in written


def test_the_report_is_of_this_file(name: str, model: Model, path: Path) -> None:
    report = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))
    assert report["fingerprint"] == model.fingerprint
    assert report["size"] == path.stat().st_size
    assert report["scores"][STS] == model.document.scores[STS]


@pytest.mark.parametrize("name", STATIC, indirect=True)
@pytest.mark.parametrize("layout", ["model2vec", "sentence-transformers"])
def test_other_libraries_give_the_same_vectors(model: nestling.StaticModel, layout: str, tmp_path: Path) -> None:
    model = model.with_pooling("mean")
    model.save(tmp_path / "copy", layout=layout)
    if layout == "model2vec":
        from model2vec import StaticModel

        theirs = StaticModel.from_pretrained(tmp_path / "copy").encode(TEXTS)
    else:
        from sentence_transformers import SentenceTransformer

        theirs = SentenceTransformer(str(tmp_path / "copy"), device="cpu").encode(TEXTS)
    theirs = theirs / np.linalg.norm(theirs, axis=1, keepdims=True)
    assert np.einsum("ij,ij->i", model.encode(TEXTS), theirs).min() >= 0.9999


def test_each_is_a_sentence_transformer(name: str, model: Model) -> None:
    theirs = load_sentence_transformer(name)
    np.testing.assert_array_equal(theirs.encode(TEXTS), model.encode(TEXTS))
    np.testing.assert_array_equal(theirs.encode_query(TEXTS), model.encode_query(TEXTS))
    assert theirs.max_seq_length == model.max_tokens


@pytest.mark.parametrize("name", [name for name in LARGEST if name not in STATIC], indirect=True)
def test_transformers_elsewhere_give_the_same_vectors(name: str, model: TransformerModel, tmp_path: Path) -> None:
    model.save(tmp_path / "copy", layout="onnx")
    session = onnxruntime.InferenceSession(tmp_path / "copy" / "model.onnx", providers=["CPUExecutionProvider"])
    tokens = model.tokenizer.encode(TEXTS)
    for place, wanted in enumerate(model.with_runtime("onnxruntime").encode(TEXTS)):
        ids = tokens.ids[tokens.offsets[place] : tokens.offsets[place + 1]].astype(np.int64)
        ids = np.concatenate([[model.document.task_tokens["sym"]], ids])[None]
        (found,) = session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
        np.testing.assert_allclose(found[0], wanted, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in LARGEST if name not in STATIC], indirect=True)
def test_transformers_know_tasks_and_order(model: TransformerModel) -> None:
    assert model.tasks == ("qry", "doc", "sym")
    texts = ["dog bites man", "man bites dog"]
    one, other = model.encode(texts)
    assert one @ other < 0.9999
    near = np.einsum("ij,ij->i", model.encode(TEXTS), model.with_runtime("onnxruntime").encode(TEXTS))
    assert near.min() > 0.999
    assert np.abs(model.encode(TEXTS, task="qry") - model.encode(TEXTS, task="sym")).max() > 1e-3


def test_order_is_nothing_to_static_models() -> None:
    one, other = nestling.load("static").encode(["dog bites man", "man bites dog"])
    assert one @ other > 0.999999

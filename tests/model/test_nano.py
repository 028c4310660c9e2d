"""The shipped model: small enough, good enough, itself."""

import json
from pathlib import Path

import numpy as np
import pytest

import nestling
from nestling.files.card import card
from nestling.files.nest import read_document

ROOT = Path(__file__).parents[2]
PATH = nestling.shipped()["nano"]
STS = "STSBenchmark test, Spearman"


@pytest.fixture(scope="module")
def nano() -> nestling.StaticModel:
    return nestling.load("nano")


def test_is_small_with_its_tokenizer() -> None:
    assert PATH.stat().st_size <= 700_000


def test_gives_the_vectors_it_was_saved_with(nano: nestling.StaticModel) -> None:
    checks = nano.verify()
    assert len(checks) == 3
    assert all(check.cosine >= 0.9999 for check in checks)


def test_golden_vectors(nano: nestling.StaticModel, odd_texts: list[str]) -> None:
    golden = np.load(ROOT / "tests" / "golden" / "vectors.npz")["nano"]
    np.testing.assert_allclose(nano.encode(odd_texts), golden, atol=1e-6)


def test_knows_near_from_far(nano: nestling.StaticModel) -> None:
    documents = ["The cat sat on the mat.", "Shares fell sharply on Monday.", "A kitten rests on a rug."]
    kitty = nano.similarity(nano.encode_query("a sleeping kitty"), nano.encode_document(documents))[0]
    assert kitty.argmax() == 2
    assert kitty.argmin() == 1


def test_says_its_score_and_where_it_comes_from(nano: nestling.StaticModel) -> None:
    document, _ = read_document(PATH)
    assert document.scores[STS]["128"] >= 0.70
    assert list(document.scores[STS]) == [str(tier) for tier in nano.dims]
    assert (document.lineage[0].role, document.lineage[0].licence) == ("teacher", "MIT")
    written = PATH.with_suffix(".md").read_text(encoding="utf-8")
    assert written == card(document, PATH.stat().st_size)
    assert f"{document.scores[STS]['128']:.4f}" in written


def test_the_report_is_of_this_file(nano: nestling.StaticModel) -> None:
    report = json.loads((ROOT / "benchmarks" / "results" / "nano.json").read_text(encoding="utf-8"))
    assert report["fingerprint"] == nano.fingerprint
    assert report["size"] == PATH.stat().st_size
    assert report["scores"][STS] == nano.document.scores[STS]


@pytest.mark.parametrize("layout", ["model2vec", "sentence-transformers"])
def test_other_libraries_give_the_same_vectors(nano: nestling.StaticModel, layout: str, tmp_path: Path) -> None:
    texts = ["The quick brown fox jumps over the lazy dog.", "How do I cancel my order?", "café 東京"]
    nano.save(tmp_path / "nano", layout=layout)
    if layout == "model2vec":
        from model2vec import StaticModel

        theirs = StaticModel.from_pretrained(tmp_path / "nano").encode(texts)
    else:
        from sentence_transformers import SentenceTransformer

        theirs = SentenceTransformer(str(tmp_path / "nano"), device="cpu").encode(texts)
    theirs = theirs / np.linalg.norm(theirs, axis=1, keepdims=True)
    assert np.einsum("ij,ij->i", nano.encode(texts), theirs).min() >= 0.9999

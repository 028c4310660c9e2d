"""Spearman against scipy's, on real cosines, with ties; and files that lack something."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import rankdata, spearmanr

from nestling.errors import InputError, NestlingError
from nestling.model.static import StaticModel
from nestling.score.sts import ranks, score_sts, spearman


def write(path: Path, **columns: list[object]) -> Path:
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


@settings(deadline=None)
@given(values=arrays(np.float64, st.integers(1, 30), elements=st.integers(-4, 4).map(float)))
def test_ranks_share_ties(values: npt.NDArray[np.float64]) -> None:
    np.testing.assert_allclose(ranks(values), rankdata(values) - 1)


@settings(deadline=None)
@given(data=st.data(), n=st.integers(2, 30))
def test_spearman_is_scipy_s(data: st.DataObject, n: int) -> None:
    some = arrays(np.float64, n, elements=st.integers(-5, 5).map(float))
    left, right = data.draw(some), data.draw(some)
    if len(set(left.tolist())) == 1 or len(set(right.tolist())) == 1:
        assert np.isnan(spearman(left, right))
    else:
        assert spearman(left, right) == pytest.approx(spearmanr(left, right).statistic, abs=1e-12)


def test_score(model: StaticModel, sentences: list[str], tmp_path: Path) -> None:
    """Every tier, with gold scores that hold ties."""
    left, right = sentences[:120], sentences[120:240]
    gold = np.random.default_rng(0).integers(0, 6, 120).astype(float)
    path = write(tmp_path / "pairs.parquet", sentence1=left, sentence2=right, score=gold.tolist(), more=gold.tolist())
    scores = score_sts(model, path)
    assert list(scores) == ["16", "8", "4"]
    for dim, score in scores.items():
        one, other = (model.encode(side, dim=int(dim)).astype(np.float64) for side in (left, right))
        cosines = (one * other).sum(axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
        assert score == pytest.approx(spearmanr(cosines, gold).statistic, abs=1e-4)
        assert score == round(score, 4)


def test_gold_that_agrees_scores_one(model: StaticModel, sentences: list[str], tmp_path: Path) -> None:
    left, right = sentences[:50], sentences[50:100]
    cosines = (model.encode(left) * model.encode(right)).sum(axis=1)
    path = write(tmp_path / "p.parquet", sentence1=left, sentence2=right, score=(cosines * 7 - 1).tolist())
    assert score_sts(model, path)["16"] == 1.0
    path = write(tmp_path / "p.parquet", sentence1=left, sentence2=right, score=(-cosines).tolist())
    assert score_sts(model, path)["16"] == -1.0


def test_missing_columns_and_files(model: StaticModel, tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.parquet", sentence1=["a"], text=["b"])
    with pytest.raises(InputError, match=r"has columns sentence1, text\. sentence1, sentence2, score are needed\. Ren"):
        score_sts(model, path)
    with pytest.raises(InputError, match=r"gone\.parquet is not there\. A Parquet file of scored sentence pairs"):
        score_sts(model, tmp_path / "gone.parquet")


def test_a_file_that_is_no_parquet(model: StaticModel, tmp_path: Path) -> None:
    (tmp_path / "pairs.parquet").write_text("sentence1,sentence2,score\n")
    with pytest.raises(InputError, match=r"pairs\.parquet cannot be read: .* A whole Parquet file was expected\."):
        score_sts(model, tmp_path / "pairs.parquet")


def test_missing_values(model: StaticModel, tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.parquet", sentence1=["a", "b"], sentence2=["b", "c"], score=[1.0, None])
    with pytest.raises(InputError, match=r"has pairs without a score\. A number for each was expected\."):
        score_sts(model, path)
    path = write(tmp_path / "pairs.parquet", sentence1=["a", None], sentence2=["b", "c"], score=[1.0, 2.0])
    with pytest.raises(NestlingError, match=r"texts\[1\] is of type NoneType; a str was expected\."):
        score_sts(model, path)

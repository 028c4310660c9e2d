"""Semantic textual similarity: does the cosine of two sentences rank pairs as people do?"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from nestling.errors import InputError
from nestling.files.texts import read_table
from nestling.model.common import Model


def spearman(left: npt.NDArray[np.floating], right: npt.NDArray[np.floating]) -> float:
    """Spearman's rank correlation of two (n,) arrays, ties sharing their mean rank; NaN where one is constant."""
    with np.errstate(invalid="ignore"):
        return float(np.corrcoef(ranks(left), ranks(right))[0, 1])


def ranks(values: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Ranks from 0, ties sharing their mean rank: (n,) -> (n,) float64."""
    _, places, repeats = np.unique(values, return_inverse=True, return_counts=True)
    shared: npt.NDArray[np.float64] = (np.cumsum(repeats) - (repeats + 1) / 2)[places]
    return shared


def score_sts(model: Model, path: Path) -> dict[str, float]:
    """mteb's cosine_spearman of each tier on one STS split: dim -> Spearman, rounded to four digits.

    path: a Parquet file with the columns sentence1, sentence2 and score.
    """
    pairs = read_table(path, ("sentence1", "sentence2", "score"), "scored sentence pairs")
    gold = np.asarray(pairs["score"], np.float64)
    if not np.isfinite(gold).all():
        raise InputError(f"{path} has pairs without a score.", "A number for each was expected.", "Drop those pairs.")
    scores = {}
    for dim in model.dims:
        left, right = (model.encode(pairs[side], dim=dim, overflow="split") for side in ("sentence1", "sentence2"))
        scores[str(dim)] = round(spearman(np.einsum("ij,ij->i", left, right), gold), 4)
    return scores

"""What a score is the summary of, example by example, so that two models can be compared on the same examples.

Kinds: "mean" (the score is their mean: right or wrong, nDCG of a query, V-measure of a set, correlation of a document),
"spearman" (of `values` and `gold`), "average_precision" (of `values`, for `gold` 0 or 1).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

from nestling.safe import atomic_write, read_json

Floats = npt.NDArray[np.float64]
FROM_PREDICTIONS = ("STS", "PairClassification", "Classification", "Summarization", "BitextMining")
QUERY_METRICS = {"ndcg_at": "ndcg_cut", "map_at": "map_cut", "precision_at": "P", "recall_at": "recall"}


@dataclass(frozen=True)
class Examples:
    """values: (n,) float64. gold: (n,), or empty for "mean"."""

    kind: str
    values: Floats
    gold: Floats


def watch_queries(task: Any) -> dict[str, Floats]:
    """Have a retrieval task keep the main metric of each query: subset -> (queries,), in the order of their ids."""
    kept: dict[str, Floats] = {}
    stem, _, cut = task.metadata.main_score.rpartition("_")
    if task.metadata.type not in ("Retrieval", "Reranking") or stem not in QUERY_METRICS:
        return kept
    metric, of_the_task = f"{QUERY_METRICS[stem]}_{cut}", task.task_specific_scores

    def keep(scores: dict[str, dict[str, float]], *more: Any, hf_subset: str, **named: Any) -> dict[str, float]:
        kept[hf_subset] = np.array([scores[query][metric] for query in sorted(scores)])
        own: dict[str, float] = of_the_task(scores, *more, hf_subset=hf_subset, **named)
        return own

    task.task_specific_scores = keep
    return kept


def collect(
    task: Any, subset: str, split: str, predictions: Path, scores: Mapping[str, Any], queries: dict[str, Floats]
) -> Examples | None:
    """The examples of a task that was just run; None for kinds of tasks that are not compared example by example.

    predictions: the folder that mteb wrote to.
    """
    kind = task.metadata.type
    if kind in ("Retrieval", "Reranking"):
        return _mean(queries[subset]) if subset in queries else None
    if kind == "Clustering":
        sets = scores["v_measures"]
        return _mean([value for level in sets.values() for value in level] if isinstance(sets, dict) else sets)
    if kind not in FROM_PREDICTIONS:
        return None
    given = read_json(predictions / task.prediction_file_name)[subset][split]
    table = task.dataset.get(subset, task.dataset)
    rows = table[split]
    if kind == "STS":
        return Examples("spearman", _floats(given["cosine_scores"]), _floats(rows["score"]))
    if kind == "PairClassification":
        return Examples("average_precision", _floats(given["cosine_scores"]), _floats(rows["labels"]))
    if kind == "Classification":
        gold = np.array(rows["label"])
        return _mean(np.mean([np.array(one) == gold for one in given], axis=0))
    if kind == "Summarization":
        pairs = zip(given["human_scores"], given["cosine_scores"], strict=True)
        return _mean([spearmanr(human, ours).statistic for human, ours in pairs])
    found = given["sentence1-sentence2"]
    return _mean([entry["corpus_id"] == row for row, entry in enumerate(found)])


def keep_examples(folder: Path, task: str, subset: str, examples: Examples) -> None:
    """Write them beside the result file, as float32."""
    path = _path(folder, task, subset)
    path.parent.mkdir(exist_ok=True)
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file, kind=examples.kind, values=examples.values.astype("<f4"), gold=examples.gold.astype("<f4")
        )


def read_examples(folder: Path, task: str, subset: str = "default") -> Examples | None:
    """The examples of a result, or None where none were kept."""
    path = _path(folder, task, subset)
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as stored:
        return Examples(str(stored["kind"]), stored["values"].astype(np.float64), stored["gold"].astype(np.float64))


def _path(folder: Path, task: str, subset: str) -> Path:
    return folder / "examples" / f"{task}.{subset}.npz"


def _mean(values: Any) -> Examples:
    return Examples("mean", _floats(values), np.zeros(0))


def _floats(values: Any) -> Floats:
    return np.asarray(values, dtype=np.float64).ravel()

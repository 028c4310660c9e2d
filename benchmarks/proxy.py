"""How good a model is, in ten seconds and without any test split: what choices in recipes are made by.

    python benchmarks/proxy.py nano other.nest

STS Benchmark's validation split; classification (8 texts a label) and clustering on train splits; retrieval of the
positives of 2,400 pairs of the corpus among all of them, by nDCG at 10. x 100. Clustering moves by a point of luck.
"""

import argparse
import os
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.compute
import pyarrow.parquet
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import v_measure_score

import nestling
from nestling.score.sts import spearman

Floats = npt.NDArray[np.float32]
Encode = Callable[[list[str]], Floats]
LABELLED = {
    "Banking77Classification": ("text", "label"),
    "EmotionClassification": ("text", "label"),
    "TweetSentimentExtractionClassification": ("text", "label"),
    "SIB200Classification/eng_Latn": ("text", "category"),
}
CLUSTERED = ("Banking77Classification", "SIB200Classification/eng_Latn")
SOURCES = (
    "open_english_wordnet", "debian_package_descriptions", "arxiv_metadata", "medquad", "aws_api_docs", "tldr_pages",
    "python_docstrings", "open_trivia_qa", "arxiv_daily", "world_factbook", "open_technical_docs", "openstax",
    "schema_guided_dialogue", "dstc9_travel_faq", "digitalgov", "scitldr",
)  # fmt: skip
TEXTS, PAIRS, DRAWS = 3_000, 150, 6


class Proxy:
    """The proxy's data, read once. data: the folder that NESTLING_DATA names. Its pairs are the first of each source,
    which trials that learn from pairs leave out."""

    def __init__(self, data: Path) -> None:
        sts = pyarrow.parquet.read_table(data / "eval/STSBenchmark/validation.parquet")
        self.one, self.other = sts["sentence1"].to_pylist(), sts["sentence2"].to_pylist()
        self.gold = np.array(sts["score"].to_pylist())
        self.labelled = {name: _labelled(data / "eval" / name, *columns) for name, columns in LABELLED.items()}
        self.pairs = first_pairs(data)
        self.pool = sorted({positive for _, positive in self.pairs})

    def __call__(self, encode: Encode) -> dict[str, float]:
        """Scores by type, and their mean."""
        left, right = _unit(encode(self.one)), _unit(encode(self.other))
        vectors = {name: _unit(encode(texts)) for name, (texts, _) in self.labelled.items()}
        scores = {
            "sts": spearman(np.einsum("ij,ij->i", left, right), self.gold),
            "classification": _mean(_accuracy(vectors[name], labels) for name, (_, labels) in self.labelled.items()),
            "clustering": _mean(_v_measure(vectors[name], self.labelled[name][1]) for name in CLUSTERED),
            "retrieval": self._ndcg(encode),
        }
        return {name: round(100 * score, 2) for name, score in {**scores, "mean": _mean(scores.values())}.items()}

    def _ndcg(self, encode: Encode) -> float:
        place = {text: index for index, text in enumerate(self.pool)}
        cosines = _unit(encode([anchor for anchor, _ in self.pairs])) @ _unit(encode(self.pool)).T
        own = cosines[np.arange(len(self.pairs)), [place[positive] for _, positive in self.pairs]]
        rank = (cosines > own[:, None]).sum(axis=1)
        return float(np.where(rank < 10, 1 / np.log2(rank + 2), 0).mean())


def first_pairs(data: Path) -> list[tuple[str, str]]:
    """The first 150 pairs of each source that the proxy takes."""
    table = pyarrow.parquet.read_table(data / "corpus/pairs.parquet")
    parts = [table.filter(pyarrow.compute.equal(table["source"], name)).slice(0, PAIRS) for name in SOURCES]
    return [(row["anchor"], row["positive"]) for part in parts for row in part.to_pylist()]


def _labelled(folder: Path, text: str, label: str) -> tuple[list[str], npt.NDArray[np.int64]]:
    table = pyarrow.parquet.read_table(folder / "train.parquet")
    chosen = np.random.default_rng(0).permutation(len(table))[:TEXTS]
    texts, labels = table[text].to_pylist(), np.unique(table[label].to_pylist(), return_inverse=True)[1]
    return [texts[index] for index in chosen], labels[chosen]


def _accuracy(vectors: Floats, labels: npt.NDArray[np.int64]) -> float:
    scores = []
    for draw in range(DRAWS):
        order = np.random.default_rng(draw).permutation(len(labels))
        chosen = np.concatenate([order[labels[order] == label][:8] for label in np.unique(labels)])
        rest = np.setdiff1d(order, chosen)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that 100 iterations are few, as in mteb
            fitted = LogisticRegression(max_iter=100).fit(vectors[chosen], labels[chosen])
        scores.append(fitted.score(vectors[rest], labels[rest]))
    return _mean(scores)


def _v_measure(vectors: Floats, labels: npt.NDArray[np.int64]) -> float:
    fits = (KMeans(labels.max() + 1, n_init=1, random_state=draw).fit_predict(vectors) for draw in range(DRAWS))
    return _mean(v_measure_score(labels, fit) for fit in fits)


def _mean(values: Iterable[float]) -> float:
    return float(np.mean([*values]))


def _unit(vectors: Floats) -> Floats:
    unit: Floats = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return unit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("NESTLING_DATA") or "../shared"))
    parser.add_argument("--dim", type=int)
    given = parser.parse_args()
    proxy = Proxy(given.data)
    for name in given.models:
        model = nestling.load(name, dim=given.dim)
        print(name, proxy(lambda texts, model=model: model.encode(texts, overflow="split")))


if __name__ == "__main__":
    main()

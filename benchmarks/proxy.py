"""How good a model is, in ten seconds and without any test split: what choices in recipes are made by.

    python benchmarks/proxy.py nano other.nest

STS Benchmark's validation split; classification (8 texts a label) and clustering on train splits; retrieval of the
positives of 2,400 pairs among all of them, by nDCG at 10: half of them from the sources that recipes learn from, half
from three that they never learn from. x 100. Clustering moves by a point of luck.
"""

import argparse
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.compute
import pyarrow.parquet
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import v_measure_score

import nestling
from nestling.make.recipe import data_folder
from nestling.model.output import unit
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
APART = ("t0_prompt_sample", "reuters_news", "multi30k_captions")  # their licences keep them out of every recipe
TEXTS, PAIRS, DRAWS = 3_000, 1_200, 6


class Proxy:
    """The proxy's data, read once. data: the folder that NESTLING_DATA names. Its pairs are the first of each source,
    which trials that learn from pairs leave out."""

    def __init__(self, data: Path) -> None:
        sts = pyarrow.parquet.read_table(data / "eval/STSBenchmark/validation.parquet")
        self.one, self.other = sts["sentence1"].to_pylist(), sts["sentence2"].to_pylist()
        self.gold = np.array(sts["score"].to_pylist())
        self.labelled = {name: _labelled(data / "eval" / name, *columns) for name, columns in LABELLED.items()}
        self.pairs = [first_pairs(data, SOURCES), first_pairs(data, APART)]

    def __call__(self, encode: Encode) -> dict[str, float]:
        """Scores by type, and their mean."""
        left, right = unit(encode(self.one)), unit(encode(self.other))
        vectors = {name: unit(encode(texts)) for name, (texts, _) in self.labelled.items()}
        scores = {
            "sts": spearman(np.einsum("ij,ij->i", left, right), self.gold),
            "classification": _mean(_accuracy(vectors[name], labels) for name, (_, labels) in self.labelled.items()),
            "clustering": _mean(_v_measure(vectors[name], self.labelled[name][1]) for name in CLUSTERED),
            "retrieval": _mean(_ndcg(encode, pairs) for pairs in self.pairs),
        }
        return {name: round(100 * score, 2) for name, score in {**scores, "mean": _mean(scores.values())}.items()}


def first_pairs(data: Path, sources: Sequence[str] = SOURCES) -> list[tuple[str, str]]:
    """1,200 pairs: the first of each source, as many of each."""
    table = pyarrow.parquet.read_table(data / "corpus/pairs.parquet")
    parts = [table.filter(pyarrow.compute.equal(table["source"], name)) for name in sources]
    return [
        (row["anchor"], row["positive"]) for part in parts for row in part.slice(0, PAIRS // len(sources)).to_pylist()
    ]


def _ndcg(encode: Encode, pairs: Sequence[tuple[str, str]]) -> float:
    pool = sorted({positive for _, positive in pairs})
    place = {text: index for index, text in enumerate(pool)}
    cosines = unit(encode([anchor for anchor, _ in pairs])) @ unit(encode(pool)).T
    own = cosines[np.arange(len(pairs)), [place[positive] for _, positive in pairs]]
    rank = (cosines > own[:, None]).sum(axis=1)
    return float(np.where(rank < 10, 1 / np.log2(rank + 2), 0).mean())


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--data", type=Path, default=data_folder())
    parser.add_argument("--dim", type=int)
    given = parser.parse_args()
    proxy = Proxy(given.data)
    for name in given.models:
        model = nestling.load(name, dim=given.dim)
        print(name, proxy(lambda texts, model=model: model.encode(texts, overflow="split")))


if __name__ == "__main__":
    main()

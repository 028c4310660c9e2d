"""The references' schemes on our own table, to see what ours gain at equal bytes.

    python benchmarks/references.py

Takes the float model that recipes/static.toml trains (from the cache, or trains it), keeps the 29,525 most counted
tokens, and stores them as the references do: int8 with one scale for the whole table (potion-mxbai-256d-v2), and 2,000
k-means centroids, unweighted, with a float32 weight a token (potion-mxbai-micro); a text is the mean of its tokens, as
theirs is. A third has the centroids too, and as many tokens as then fit into nano's bytes; a fourth is `static` as it
ships, but with that mean, to see what sublinear pooling is worth. All go to the cache as .nest files, whose packed
tokenizer is smaller than theirs; benchmarks/baselines.py scores them.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.cluster import KMeans

import nestling
from nestling.make.recipe import Places, cache_folder, data_folder, read_recipe
from nestling.make.run import Run
from nestling.model.pack import to_int8
from nestling.model.rows import CentroidRows, Int8Rows, Table
from nestling.model.static import StaticModel
from nestling.shrink.budget import file_size, without_counts
from nestling.shrink.vocabulary import prune_vocabulary

RECIPE = Path(__file__).parent.parent / "recipes" / "static.toml"
TOKENS, CENTROIDS, SEED = 29_525, 2_000, 42


def main() -> None:
    run = Run(read_recipe(RECIPE), Places(cache_folder(), data_folder()), progress=True)
    full = run.full()
    model = prune_vocabulary(full, TOKENS)
    for name, code in (("reference-int8", one_scale), ("reference-2000-centroids", centroids)):
        write(run, as_theirs(model, code(model.table.expanded()), name))
    model = most_within(full, nestling.shipped()["nano"].stat().st_size, "reference-700KB")
    write(run, as_theirs(model, centroids(model.table.expanded()), "reference-700KB"))

    path = run.places.cache / "peers" / "reference-mean.nest"
    shipped = nestling.load("static")
    shipped.with_table(shipped.table, dims=shipped.dims, name="reference-mean", pooling="mean").save(path)


def as_theirs(model: StaticModel, table: Table, name: str) -> StaticModel:
    return without_counts(model.with_table(table, name=name, licence="Apache-2.0", pooling="mean"))


def most_within(full: StaticModel, most: int, name: str) -> StaticModel:
    """The most tokens that `most` bytes hold with 2,000 centroids; which these are hardly matters to the bytes."""
    less, more = CENTROIDS, TOKENS
    while more - less > 50:
        tokens = (less + more) // 2
        model = prune_vocabulary(full, tokens)
        places = np.arange(model.table.size)  # which may be more than asked for: characters stay
        rough = to_table(model.table.expanded()[:CENTROIDS], places % CENTROIDS, np.ones(len(places)))
        less, more = (tokens, more) if file_size(as_theirs(model, rough, name)) < most else (less, tokens)
    return prune_vocabulary(full, less)


def write(run: Run, model: StaticModel) -> None:
    path = run.places.cache / "peers" / f"{model.name}.nest"
    path.parent.mkdir(parents=True, exist_ok=True)
    model.save(path)
    print(f"{path}: {path.stat().st_size:,} bytes, {model.table.size:,} tokens")


def one_scale(rows: npt.NDArray[np.float32]) -> Table:
    """model2vec's int8: the whole table over its largest value."""
    half = rows.astype(np.float16).astype(np.float32)
    scale = np.abs(half).max() / 127
    values = np.clip(np.rint(half / scale), -127, 127).astype(np.int8)
    return Table(Int8Rows(values, np.full(len(rows), scale, np.float32)))


def centroids(rows: npt.NDArray[np.float32]) -> Table:
    """model2vec's vocabulary quantization: k-means over unit rows, whose lengths stay as weights."""
    lengths = np.linalg.norm(rows, axis=1)
    fitted = KMeans(CENTROIDS, init="random", random_state=SEED, n_init=1).fit(rows / lengths[:, None])
    return to_table(fitted.cluster_centers_.astype(np.float32), fitted.labels_, lengths)


def to_table(words: npt.NDArray[np.float32], labels: npt.NDArray[Any], lengths: npt.NDArray[Any]) -> Table:
    """int8 centroids, which of them each token has, and its weight."""
    return Table(CentroidRows(Int8Rows(*to_int8(words)), labels.astype(np.int32)), lengths.astype(np.float32))


if __name__ == "__main__":
    main()

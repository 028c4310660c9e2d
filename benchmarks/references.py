"""The references' schemes on our own table, to see what ours gain at equal bytes.

    python benchmarks/references.py

Takes the float model that recipes/static.toml trains (from the cache, or trains it), keeps the 29,525 most counted
tokens, and stores them as the references do: int8 with one scale for the whole table (potion-mxbai-256d-v2), and 2,000
k-means centroids, unweighted, with a float32 weight a token (potion-mxbai-micro); a text is the mean of its tokens, as
theirs is. A third is `static` as it ships, but with that mean, to see what sublinear pooling is worth. All go to the
cache as .nest files, whose packed tokenizer is smaller than theirs; benchmarks/baselines.py scores them.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.cluster import KMeans

import nestling
from nestling.make.recipe import Places, cache_folder, data_folder, read_recipe
from nestling.make.run import Run
from nestling.model.pack import to_int8
from nestling.model.rows import CentroidRows, Int8Rows, Table
from nestling.shrink.budget import without_counts
from nestling.shrink.vocabulary import prune_vocabulary

RECIPE = Path(__file__).parent.parent / "recipes" / "static.toml"
TOKENS, CENTROIDS, SEED = 29_525, 2_000, 42


def main() -> None:
    run = Run(read_recipe(RECIPE), Places(cache_folder(), data_folder()), progress=True)
    model = prune_vocabulary(run.full(), TOKENS)
    for name, code in (("reference-int8", one_scale), ("reference-2000-centroids", centroids)):
        path = run.places.cache / "peers" / f"{name}.nest"
        path.parent.mkdir(parents=True, exist_ok=True)
        coded = model.with_table(code(model.table.expanded()), name=name, licence="Apache-2.0", pooling="mean")
        without_counts(coded).save(path)
        print(f"{path}: {path.stat().st_size:,} bytes")

    path = run.places.cache / "peers" / "reference-mean.nest"
    shipped = nestling.load("static")
    shipped.with_table(shipped.table, dims=shipped.dims, name="reference-mean", pooling="mean").save(path)


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
    values, scales = to_int8(fitted.cluster_centers_.astype(np.float32))
    return Table(CentroidRows(Int8Rows(values, scales), fitted.labels_.astype(np.int32)), lengths.astype(np.float32))


if __name__ == "__main__":
    main()

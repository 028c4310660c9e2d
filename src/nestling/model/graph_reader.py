"""Reads texts through a transformer's ONNX graph with onnxruntime: in float32, and slower than the core.

Texts run in parts of about one length, padded to a multiple of eight tokens, and never alone: so each is computed in
the same way whatever comes beside it, and a text gives the same bits in any batch, with any number of threads. The
limit on tokens of a part bounds the memory.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from nestling.errors import ModelFileError
from nestling.model.blocks import Array, Batch, Floats
from nestling.model.graph import open_graph, run_graph
from nestling.model.pool import over_units
from nestling.model.rows import Table
from nestling.safe import DAMAGED

STEP = 8  # tokens, of which a padded length is a multiple
TOKENS_AT_ONCE = 4096  # padded


class GraphReader:
    """graph: ONNX, without weights. weights: by the names that it has for them. vector: columns that it gives, at
    least. Raises ModelFileError for a graph that is none, or gives something else."""

    def __init__(self, graph: bytes, weights: dict[str, Array], table: Table, vector: int) -> None:
        self._session = open_graph(graph, weights)
        self._table, self._vector = table, vector
        self._means(np.zeros((1, STEP), np.int64), np.ones((1, STEP), np.float32))

    @property
    def backend(self) -> str:
        """onnxruntime, and its version."""
        import onnxruntime

        return f"onnxruntime {onnxruntime.__version__}"

    def sums(self, batch: Batch, threads: int) -> Floats:
        """The sums over the tokens of pieces: (n, vector) float32."""
        lengths = np.diff(batch.starts)
        sums = np.zeros((len(lengths), self._vector), np.float32)
        parts = list(_parts(lengths))

        def work(span: tuple[int, int]) -> int:
            width, places = parts[span[0]]
            sums[places] = self._padded(batch, places, width) * lengths[places, None].astype(np.float32)
            return 0

        over_units(work, [(place, place + 1) for place in range(len(parts))], min(threads, len(parts)) or 1, False)
        return sums

    def _padded(self, batch: Batch, places: npt.NDArray[np.int64], width: int) -> Floats:
        """The means of pieces padded to `width`. One alone runs twice, as one among many does."""
        whole = places if len(places) > 1 else np.repeat(places, 2)
        mask = np.arange(width) < np.diff(batch.starts)[whole, None]
        tokens = (batch.starts[whole][:, None] + np.arange(width))[mask]
        ids, weights = np.zeros(mask.shape, np.int64), np.zeros(mask.shape, np.float32)
        ids[mask], weights[mask] = batch.ids[tokens], batch.weights[tokens]
        return self._means(ids, weights)[: len(places)]

    def _means(self, ids: npt.NDArray[np.int64], weights: Floats) -> Floats:
        rows = self._table.gather(ids.ravel()).reshape(*ids.shape, -1)
        means = run_graph(self._session, rows, weights)
        wrong = means.ndim != 2 or len(means) != len(ids) or means.shape[1] < self._vector
        if wrong or means.dtype != np.float32:
            raise ModelFileError(
                f"The graph gives {means.dtype} of shape {means.shape} for {len(ids)} texts.",
                f"float32, a row for each, and at least {self._vector} columns were expected.",
                DAMAGED,
            )
        return means[:, : self._vector]


def _parts(lengths: npt.NDArray[np.int64]) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
    """Padded width, and the places of the pieces that it fits, few enough for a part; longest first."""
    widths = -(-lengths // STEP) * STEP
    for width in sorted(set(widths[lengths > 0].tolist()), reverse=True):
        places = np.flatnonzero(widths == width)
        for part in np.array_split(places, -(-len(places) * width // TOKENS_AT_ONCE)):
            if len(part):
                yield width, part

"""The small transformer: rows of a table, through a few blocks that onnxruntime runs, and their mean.

Texts run in parts of about one length, padded to a multiple of eight tokens, and never alone: so each is computed in
the same way whatever comes beside it, and a text gives the same bits in any batch, with any number of threads. The
limit on tokens of a part bounds the memory. In sublinear pooling the rows of a token that a text repeats are shorter
each time (pool.py).
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from nestling.errors import InputError, ModelFileError
from nestling.files.foreign import write_onnx, write_sentence_transformers_module
from nestling.files.nest import write_nest
from nestling.files.parts import Parts
from nestling.files.whole_graph import whole_graph
from nestling.model.common import Array, Floats, How, Model, checked_layout, unfit
from nestling.model.graph import INT8, SCALES, open_graph, run_graph
from nestling.model.native import usable_cores
from nestling.model.output import finish
from nestling.model.pool import over_units, repeat_weights
from nestling.model.rows import Table, expect
from nestling.safe import DAMAGED, check_target
from nestling.text.tokenizer import TextTokenizer

BODY = "body."  # before the names of the matrices
GRAPH, FAST = "graph", "graph.int8"
STEP = 8  # tokens, of which a padded length is a multiple
TOKENS_AT_ONCE = 4096  # padded
Layout = Literal["nest", "onnx", "sentence-transformers"]
Piece = tuple[Array, Array]  # ids of tokens, and what each weighs


class TransformerModel(Model):
    """A loaded transformer. Made by `nestling.load`; safe to share between threads.

    fast: whether matrices are multiplied in whole numbers, which rounds each token's columns to 8 bits.
    """

    usual_overflow = "split"

    def __init__(
        self,
        parts: Parts,
        stored_canaries: Array | None = None,
        stored_fingerprint: str | None = None,
        fast: bool = False,
    ) -> None:
        super().__init__(stored_canaries, stored_fingerprint)
        self.fast = fast
        self.document = document = parts.document
        self.counts = parts.counts
        self.tokenizer = TextTokenizer(parts.tokenizer, document.name)
        try:
            beside = beside_table(parts.tensors)
            own = {name: each for name, each in parts.tensors.items() if name not in beside}
            self.table = Table.from_tensors(own, document.scheme, document.inner or 0)
            self._beside = beside
            weights = _matrices(beside, fast)
            graph = expect(beside, FAST if fast else GRAPH, ("u1",), (None,)).tobytes()
            needed = max([self.tokenizer.size - 1, *document.task_tokens.values(), *document.drop])
            if self.table.size <= needed:
                raise ValueError(f"ids go up to {needed}, the table has {self.table.size} rows")
        except ValueError as error:
            raise unfit(document.name, error) from error
        self._counted = np.ones(self.table.size, bool)
        self._counted[list(document.drop)] = False
        self._session = open_graph(graph, weights)
        self._means(self.table.gather(np.zeros(STEP, np.int64))[None], np.ones((1, STEP), np.int64))

    @property
    def backend(self) -> str:
        """What runs: onnxruntime, and its version."""
        import onnxruntime

        return f"onnxruntime {onnxruntime.__version__}"

    def _columns(self) -> str:
        return f"{self.document.inner} -> {self.dim}"

    def _said(self) -> tuple[Any, ...]:
        document = self.document
        said = (document.scheme, document.dim, document.inner, sorted(document.drop), document.max_tokens)
        tasks = [sorted(each.items()) for each in (document.prompts, document.task_tokens, document.routes)]
        return (*said, *tasks, document.pooling, *(("int8-fast, 7 bits",) if self.fast else ()))

    def parts(self) -> Parts:
        return self._parts_with(self.table)

    def _parts_with(self, table: Table) -> Parts:
        return Parts(self.document, {**table.tensors(), **self._beside}, self.tokenizer.packed, self.counts)

    def with_table(self, table: Table, **changes: Any) -> "TransformerModel":
        """The same model with another table, of as many columns, and changes to its document."""
        document = replace(self.document, **{"scheme": table.rows.scheme, "scores": {}, **changes})
        return TransformerModel(replace(self._parts_with(table), document=document), fast=self.fast)

    def with_int8_fast(self) -> "TransformerModel":
        """The same model, its matrices multiplied in whole numbers: vectors a little different; whether that is
        faster depends on the model and the processor (docs/transformers.md).
        Raises InputError where the file has no graph or no int8 matrices for that."""
        if FAST not in self._beside or not any(name.endswith(SCALES) for name in self._beside):
            raise InputError(
                f"{self.name} has no matrices in int8, or no graph for them.",
                "Both are needed for int8-fast.",
                "Load it without dtype.",
            )
        return TransformerModel(self.parts(), fast=True)

    def with_dim(self, dim: int) -> "TransformerModel":
        dims = self.dims[self.dims.index(self.check_dim(dim)) :]
        return self if dim == self.dim else self.with_table(self.table, dim=dim, dims=dims)

    def save(self, path: str | Path, layout: Layout | None = None) -> None:
        """Write the model: one `.nest` file, or a folder for others, atomically.

        layout: "nest" (the default where the path ends in .nest); "onnx": one graph from token ids to vectors, in
        float32, beside its tokenizer; or "sentence-transformers", whose module is the installed nestling's. The model
        is written as its file has it; int8-fast is a way to run it.
        """
        path = Path(path)
        chosen = checked_layout(path, layout, ("nest", "onnx", "sentence-transformers"))
        check_target(path, suffixes=(".nest",) if chosen == "nest" else (), folder=chosen != "nest")
        model = TransformerModel(self.parts()) if self.fast else self
        if chosen == "nest":
            canaries = model.encode(self.document.canaries, overflow="split")
            write_nest(path, model.parts(), canaries, model.fingerprint)
        elif chosen == "sentence-transformers":
            write_sentence_transformers_module(path, self.document, model.save)
        else:
            graph = whole_graph(
                self._beside[GRAPH].tobytes(),
                _matrices(self._beside),
                self.table.expanded(),
                self.document.drop,
                self.document.sublinear,
                self.dim,
            )
            write_onnx(path, self.parts(), graph)

    def _fill(self, texts: Sequence[str] | str, vectors: Array, dim: int, how: How) -> int:
        texts = [texts] if isinstance(texts, str) else texts
        pieces, owners, cut = self._pieces(texts, how)
        means = np.zeros((len(pieces), self.dim), np.float32)
        batches = list(_batches([len(piece) for piece, _ in pieces]))

        def work(span: tuple[int, int]) -> int:
            width, places = batches[span[0]]
            means[places] = self._run([pieces[place] for place in places], width)[:, : self.dim]
            return 0

        spans = [(place, place + 1) for place in range(len(batches))]
        over_units(work, spans, how.threads or min(usable_cores(), max(len(spans), 1)), how.progress)
        lengths = np.array([len(piece) for piece, _ in pieces], np.float32)
        sums, counts = np.zeros((len(texts), dim), np.float32), np.zeros(len(texts))
        np.add.at(sums, owners, means[:, :dim] * lengths[:, None])
        np.add.at(counts, owners, lengths)
        vectors[:] = finish(sums, counts, how.normalize, how.dtype)
        return cut

    def _pieces(self, texts: Sequence[str], how: How) -> tuple[list[Piece], npt.NDArray[np.int64], int]:
        """The ids of each text and what each weighs, the task's before them, in pieces within the limit; which text
        each piece is of, and how many texts were cut. A text without a known token has no piece."""
        ids, offsets = self._known(texts)
        weights = repeat_weights(ids, offsets) if self.document.sublinear else np.ones(len(ids), np.float32)
        task = [self.document.task_tokens[how.task]] if how.task in self.document.task_tokens else []
        assert self.max_tokens is not None, "a transformer has a limit"
        room = self.max_tokens - len(task)
        long = np.flatnonzero(np.diff(offsets) > room)
        if len(long) and how.overflow == "error":
            raise self._too_long(int(long[0]), int(offsets[long[0] + 1] - offsets[long[0]]) + len(task), bool(task))
        pieces, owners = [], []
        for index, (start, stop) in enumerate(pairwise(offsets.tolist())):
            for first in range(start, min(stop, start + room) if how.overflow == "cut" else stop, room):
                span = slice(first, min(first + room, stop))
                pieces.append((np.concatenate([task, ids[span]]), np.concatenate([np.ones(len(task)), weights[span]])))
                owners.append(index)
        return pieces, np.array(owners, np.int64), len(long) if how.overflow == "cut" else 0

    def _known(self, texts: Sequence[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The ids of the texts, end to end, without those that are dropped, and where each text's begin."""
        tokens = self.tokenizer.encode(texts)
        known = self._counted[tokens.ids]
        return tokens.ids[known].astype(np.int64), np.concatenate([[0], np.cumsum(known)])[tokens.offsets]

    def _run(self, pieces: Sequence[Piece], width: int) -> Floats:
        """The means of pieces padded to `width`: (n, dim). One alone runs twice, as one among many does."""
        whole = pieces if len(pieces) > 1 else [*pieces, *pieces]
        ids, mask = np.zeros((2, len(whole), width), np.int64)
        weights = np.zeros((len(whole), width), np.float32)
        for place, (piece, weight) in enumerate(whole):
            ids[place, : len(piece)], weights[place, : len(piece)] = piece, weight
            mask[place, : len(piece)] = 1
        rows = self.table.gather(ids.ravel()).reshape(*ids.shape, -1) * weights[..., None]
        means = self._means(rows, mask)[: len(pieces)]
        if not np.isfinite(means).all():
            raise ModelFileError(
                f"{self.name} gives a vector with values that are not finite.", "Finite ones were expected.", DAMAGED
            )
        return means

    def _means(self, rows: Floats, mask: npt.NDArray[np.int64]) -> Floats:
        """What the graph says of padded texts: (n, length, inner), (n, length) -> (n, dim) or wider."""
        means = run_graph(self._session, rows, mask)
        wrong = means.ndim != 2 or len(means) != len(mask) or means.shape[1] < self.dim or means.dtype != np.float32
        if wrong:
            raise ModelFileError(
                f"The graph of {self.name} gives {means.dtype} of shape {means.shape} for {len(mask)} texts.",
                f"float32, a row for each, and at least {self.dim} columns were expected.",
                DAMAGED,
            )
        return means


def beside_table(tensors: dict[str, Array]) -> dict[str, Array]:
    """The tensors of a transformer that are not its table's: matrices, their scales, graphs."""
    return {name: each for name, each in tensors.items() if name in (GRAPH, FAST) or name.startswith(BODY)}


def _matrices(beside: dict[str, Array], fast: bool = False) -> dict[str, Array]:
    """The weights by the names that the graphs have for them: as float32, and, if it is to be `fast`, in whole numbers
    too, where they are kept so."""
    weights: dict[str, Array] = {}
    for name in beside:
        if name in (GRAPH, FAST):
            continue
        if name.endswith(SCALES):
            if name.removesuffix(SCALES) not in beside:
                raise ValueError(f"{name} without its matrix")
            continue
        own = name.removeprefix(BODY)
        if beside[name].ndim == 1:
            weights[own] = expect(beside, name, ("f4",), (None,))
            continue
        values = expect(beside, name, ("f4", "i1"), (None, None))
        if values.dtype == np.int8:
            scales = expect(beside, name + SCALES, ("f4",), (values.shape[1],))
            if fast:
                weights |= {own + INT8: _in_7_bits(values), own + SCALES: 2 * scales}
            values = values.astype(np.float32) * scales
        weights[own] = values
    return weights


def _in_7_bits(values: Array) -> Array:
    """Half of int8 values. Products of two bytes are added up in pairs, in 16 bits, where a processor has nothing
    better (AVX2): with 8 bits on both sides they overflow there, in silence."""
    halves: Array = np.rint(values / np.float32(2)).astype(np.int8)
    return halves


def _batches(lengths: Sequence[int]) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
    """Padded width, and the places of the texts that it fits, few enough for a part; longest first."""
    widths = -(-np.array(lengths, np.int64) // STEP) * STEP
    for width in sorted(set(widths.tolist()), reverse=True):
        places = np.flatnonzero(widths == width)
        for part in np.array_split(places, -(-len(places) * width // TOKENS_AT_ONCE)):
            if len(part):
                yield width, part

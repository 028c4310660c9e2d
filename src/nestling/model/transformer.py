"""The small transformer: what each token of a text weighs in its context, and the mean of the rows so weighed.

Blocks say what the tokens weigh (blocks.py); the C++ core reads texts through them where it is installed, else its twin
in numpy (twin.py), with the same bits. onnxruntime does it on demand, in float32 (graph_reader.py). In sublinear
pooling the rows of a token that a text repeats are shorter each time (pool.py).
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from nestling.errors import one_of
from nestling.files.foreign import write_onnx, write_sentence_transformers_module
from nestling.files.nest import write_nest
from nestling.files.parts import Parts
from nestling.files.whole_graph import whole_graph
from nestling.model.blocks import Batch, Blocks, read_blocks
from nestling.model.common import Array, Floats, How, checked_layout, unfit
from nestling.model.in_core import CoreModel
from nestling.model.layout import lay_out
from nestling.model.matrices import float_weights
from nestling.model.native import CoreReader, reader_of, usable_cores, with_bar
from nestling.model.output import finish
from nestling.model.pool import repeat_weights, units_of
from nestling.model.rows import Table, expect
from nestling.safe import check_target
from nestling.text.tokenizer import TextTokenizer

BODY = "body."  # before the names of the matrices
GRAPH = "graph"
Layout = Literal["nest", "onnx", "sentence-transformers"]
Runtime = Literal["core", "onnxruntime"]
RUNTIMES = ("core", "onnxruntime")


class Reader(Protocol):
    """What reads texts through blocks."""

    @property
    def backend(self) -> str:
        """What runs, and with what."""

    def sums(self, batch: Batch, threads: int) -> Floats:
        """The sums over the tokens of pieces: (n, columns of a vector) float32."""


class TransformerModel(CoreModel):
    """A loaded transformer. Made by `nestling.load`; safe to share between threads.

    runtime: "core", which multiplies in whole numbers, with the same bits on every machine; or "onnxruntime", which
    does it in float32 (docs/transformers.md).
    """

    usual_overflow = "split"
    _texts_a_step = 1024

    def __init__(
        self,
        parts: Parts,
        stored_canaries: Array | None = None,
        stored_fingerprint: str | None = None,
        runtime: Runtime = "core",
    ) -> None:
        super().__init__(stored_canaries, stored_fingerprint)
        one_of("runtime", runtime, RUNTIMES)
        self.runtime: Runtime = runtime
        self.document = document = parts.document
        self.counts = parts.counts
        self.tokenizer = TextTokenizer(parts.tokenizer, document.name)
        try:
            self._beside = beside_table(parts.tensors)
            own = {name: each for name, each in parts.tensors.items() if name not in self._beside}
            self.table = Table.from_tensors(own, document.scheme, document.inner or 0)
            needed = max([self.tokenizer.size - 1, *document.task_tokens.values(), *document.drop])
            if self.table.size <= needed:
                raise ValueError(f"ids go up to {needed}, the table has {self.table.size} rows")
            self._reader = self._with_core() if runtime == "core" else self._with_onnxruntime()
        except ValueError as error:
            raise unfit(document.name, error) from error
        self._counted = np.ones(self.table.size, bool)
        self._counted[list(document.drop)] = False

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.parts(), *self._stored, self.runtime)

    def _with_core(self) -> Reader:
        how = self.table.size, self.document.drop, self.document.sublinear
        reader = reader_of(self._blocks(), lay_out(self.table), *how, tokenizer=self.tokenizer.core)
        if isinstance(reader, CoreReader):
            self._reads_in_core(reader.encode)
        return reader

    def _blocks(self) -> Blocks:
        document = self.document
        blocks = read_blocks(self._body(), self.table.dim, document.head or 0, document.max_tokens or 0)
        if blocks.vector < self.dim:
            raise ValueError(f"blocks that give {blocks.vector} columns, expected {self.dim}")
        return blocks

    def _body(self) -> dict[str, Array]:
        """The weights of the blocks by their own names."""
        return {name.removeprefix(BODY): each for name, each in self._beside.items() if name != GRAPH}

    def weights(self) -> dict[str, Floats]:
        """The weights of the blocks by name, float32, as they lie in the file: matrices (in, out), but for those behind
        the sum."""
        return float_weights(self._body())

    def _with_onnxruntime(self) -> Reader:
        from nestling.model.graph_reader import GraphReader

        graph = expect(self._beside, GRAPH, ("u1",), (None,)).tobytes()
        return GraphReader(graph, self.weights(), self.table, self.dim)

    @property
    def backend(self) -> str:
        """What runs: the core, and the instruction set of its kernels; its twin, and why; or onnxruntime."""
        return self._reader.backend

    def _columns(self) -> str:
        return f"{self.document.inner} -> {self.dim}"

    def _said(self) -> tuple[Any, ...]:
        document = self.document
        columns = (document.dim, document.inner, document.head)
        said = (document.scheme, *columns, sorted(document.drop), document.max_tokens)
        tasks = [sorted(each.items()) for each in (document.prompts, document.task_tokens, document.routes)]
        return (*said, *tasks, document.pooling, *(() if self.runtime == "core" else (self.runtime,)))

    def parts(self) -> Parts:
        return self._parts_with(self.table)

    def _parts_with(self, table: Table) -> Parts:
        return Parts(self.document, {**table.tensors(), **self._beside}, self.tokenizer.packed, self.counts)

    def with_table(self, table: Table, **changes: Any) -> "TransformerModel":
        """The same model with another table, of as many columns, and changes to its document."""
        document = replace(self.document, **{"scheme": table.rows.scheme, "scores": {}, **changes})
        return TransformerModel(replace(self._parts_with(table), document=document), runtime=self.runtime)

    def with_runtime(self, runtime: Runtime) -> "TransformerModel":
        """The same model, run by the core or by onnxruntime: another fingerprint, as its vectors differ a little.
        Raises MissingExtraError where onnxruntime is not installed."""
        return self if runtime == self.runtime else TransformerModel(self.parts(), runtime=runtime)

    def with_dim(self, dim: int) -> "TransformerModel":
        dims = self.dims[self.dims.index(self.check_dim(dim)) :]
        return self if dim == self.dim else self.with_table(self.table, dim=dim, dims=dims)

    def save(self, path: str | Path, layout: Layout | None = None) -> None:
        """Write the model: one `.nest` file, or a folder for others, atomically.

        layout: "nest" (the default where the path ends in .nest); "onnx": one graph from token ids to vectors, in
        float32, beside its tokenizer; or "sentence-transformers", whose module is the installed nestling's.
        """
        path = Path(path)
        chosen = checked_layout(path, layout, ("nest", "onnx", "sentence-transformers"))
        check_target(path, folder=chosen != "nest")
        model = self.with_runtime("core")
        if chosen == "nest":
            canaries = model.encode(self.document.canaries, overflow="split")
            write_nest(path, model.parts(), canaries, model.fingerprint)
        elif chosen == "sentence-transformers":
            write_sentence_transformers_module(path, self.document, model.save)
        else:
            self.with_runtime("onnxruntime")  # which looks at what is in the graph
            graph = whole_graph(
                self._beside[GRAPH].tobytes(),
                self.weights(),
                self.table.expanded(),
                self.document.drop,
                self.document.sublinear,
                self.dim,
            )
            write_onnx(path, self.parts(), graph)

    def _in_python(self, texts: Sequence[str], vectors: Array, dim: int, how: How) -> int:
        all_cut = 0
        for start, stop in with_bar(units_of(texts), len(texts)) if how.progress else units_of(texts):
            batch, owners, cut = self._pieces(texts[start:stop], start, how)
            sums, counts = self._of_texts(batch, owners, stop - start, how.threads or usable_cores())
            vectors[start:stop] = finish(sums[:, :dim], counts, how.normalize, how.dtype)
            all_cut += cut
        return all_cut

    def _length(self, text: str) -> int:
        return len(self._known([text])[0])

    def _task_id(self, task: str | None) -> tuple[int, ...]:
        return (-1 if task is None else self.document.task_tokens.get(task, -1),)

    def _of_texts(
        self, batch: Batch, owners: npt.NDArray[np.int64], texts: int, threads: int
    ) -> tuple[Floats, npt.NDArray[np.int64]]:
        """The sums of texts, and of how many tokens they are. owners: the text that each piece is of."""
        sums, counts = self._reader.sums(batch, threads), np.zeros(texts, np.int64)
        np.add.at(counts, owners, np.diff(batch.starts))
        if not np.array_equal(owners, np.arange(texts)):
            pieces, sums = sums, np.zeros((texts, sums.shape[1]), np.float32)
            with np.errstate(over="ignore"):
                np.add.at(sums, owners, pieces)
        if not np.isfinite(sums).all():
            raise self._not_finite()
        return sums, counts

    def _pieces(self, texts: Sequence[str], first: int, how: How) -> tuple[Batch, npt.NDArray[np.int64], int]:
        """The tokens of each text in pieces within the limit, the task's before each; which text each piece is of, and
        how many texts were cut. A text without a known token has no piece. first: the place of the first text."""
        ids, offsets = self._known(texts)
        weights = repeat_weights(ids, offsets) if self.document.sublinear else np.ones(len(ids), np.float32)
        task = [self.document.task_tokens[how.task]] if how.task in self.document.task_tokens else []
        assert self.max_tokens is not None, "a transformer has a limit"
        room = self.max_tokens - len(task)
        lengths = np.diff(offsets)
        long = np.flatnonzero(lengths > room)
        if len(long) and how.overflow == "error":
            raise self._too_long(first + int(long[0]), int(lengths[long[0]]) + len(task), bool(task))
        if how.overflow == "cut":
            lengths = np.minimum(lengths, room)
        pieces = -(-lengths // room)
        owners = np.repeat(np.arange(len(texts)), pieces)
        within = np.arange(len(owners)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        sizes = np.minimum(room, lengths[owners] - within * room)
        starts = np.concatenate([[0], np.cumsum(sizes + len(task))])
        is_task = np.zeros(starts[-1], np.bool_)
        is_task[starts[:-1] if task else []] = True
        piece_starts = offsets[:-1][owners] + within * room
        taken = np.repeat(piece_starts - (np.cumsum(sizes) - sizes), sizes) + np.arange(sizes.sum())
        whole, own = np.full(len(is_task), task[0] if task else 0, np.uint32), np.ones(len(is_task), np.float32)
        whole[~is_task], own[~is_task] = ids[taken], weights[taken]
        return Batch(whole, own, starts), owners, len(long) if how.overflow == "cut" else 0

    def _known(self, texts: Sequence[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The ids of the texts, end to end, without those that are dropped, and where each text's begin."""
        tokens = self.tokenizer.encode(texts)
        known = self._counted[tokens.ids]
        return tokens.ids[known].astype(np.int64), np.concatenate([[0], np.cumsum(known)])[tokens.offsets]


def beside_table(tensors: dict[str, Array]) -> dict[str, Array]:
    """The tensors of a transformer that are not its table's: matrices, their scales, the graph."""
    return {name: each for name, each in tensors.items() if name == GRAPH or name.startswith(BODY)}

"""The small transformer: rows of a table, through a few blocks that onnxruntime runs, and their mean.

Texts run in parts of about one length, padded to a multiple of eight tokens, and never alone: so each is computed in
the same way whatever comes beside it, and a text gives the same bits in any batch, with any number of threads. The
limit on tokens of a part bounds the memory.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nestling.errors import ModelFileError
from nestling.files.nest import write_nest
from nestling.files.parts import Parts
from nestling.model.common import Array, Floats, How, Model, sorted_json
from nestling.model.graph import open_graph, run_graph
from nestling.model.native import usable_cores
from nestling.model.output import finish
from nestling.model.pool import over_units
from nestling.model.rows import Table, expect
from nestling.safe import DAMAGED, check_target
from nestling.text.plan import dump_plan
from nestling.text.tokenizer import TextTokenizer

BODY = "body."  # before the names of the matrices
SCALES = ".scales"  # behind that of an int8 matrix
STEP = 8  # tokens, of which a padded length is a multiple
TOKENS_AT_ONCE = 4096  # padded
Ids = npt.NDArray[np.int64]


class TransformerModel(Model):
    """A loaded transformer. Made by `nestling.load`; safe to share between threads."""

    def __init__(
        self, parts: Parts, stored_canaries: Array | None = None, stored_fingerprint: str | None = None
    ) -> None:
        super().__init__(stored_canaries, stored_fingerprint)
        self.document = document = parts.document
        self.counts = parts.counts
        self.tokenizer = TextTokenizer(parts.tokenizer, document.name)
        try:
            own = {name: each for name, each in parts.tensors.items() if name != "graph" and not name.startswith(BODY)}
            self.table = Table.from_tensors(own, document.scheme, document.inner or 0)
            self._body = {name: each for name, each in parts.tensors.items() if name.startswith(BODY)}
            self._weights = _matrices(self._body)
            self._graph = expect(parts.tensors, "graph", ("u1",), (None,)).tobytes()
            needed = max([self.tokenizer.size - 1, *document.task_tokens.values(), *document.drop])
            if self.table.size <= needed:
                raise ValueError(f"ids go up to {needed}, the table has {self.table.size} rows")
        except ValueError as error:
            raise ModelFileError(
                f"Model {document.name}: {error}.", "Tensors that fit one another were expected.", DAMAGED
            ) from error
        self._session = open_graph(self._graph, self._weights)
        given = run_graph(
            self._session, self.table.gather(np.zeros(STEP, np.int64))[None], np.ones((1, STEP), np.int64)
        )
        if given.ndim != 2 or given.shape[1] < document.dim or given.dtype != np.float32:
            raise ModelFileError(
                f"The graph of {document.name} gives {given.dtype} of shape {given.shape} for a text.",
                f"float32 and at least {document.dim} columns were expected.",
                DAMAGED,
            )

    def __repr__(self) -> str:
        document = self.document
        shape = f"{self.table.size:,} rows x {document.inner} -> {document.dim}"
        return f"<TransformerModel {document.name}: {shape}, {document.scheme}, {document.licence}>"

    @property
    def backend(self) -> str:
        """What runs: onnxruntime, and its version."""
        import onnxruntime

        return f"onnxruntime {onnxruntime.__version__}"

    @cached_property
    def fingerprint(self) -> str:
        """A sha256 over all that changes vectors: table, matrices, graph, tokenizer, tasks, limit."""
        document, digest = self.document, hashlib.sha256()
        said = (document.scheme, document.dim, document.inner, sorted(document.drop), document.max_tokens)
        digest.update(repr((*said, sorted(document.prompts.items()), sorted(document.task_tokens.items()))).encode())
        digest.update(hashlib.sha256(dump_plan(sorted_json(self.tokenizer.json)).encode("utf-8")).digest())
        for name, tensor in sorted(self.parts().tensors.items()):
            digest.update(f"{name} {tensor.dtype.str} {tensor.shape}".encode())
            digest.update(np.ascontiguousarray(tensor).tobytes())
        return f"sha256:{digest.hexdigest()}"

    def parts(self) -> Parts:
        graph = np.frombuffer(self._graph, np.uint8)
        tensors = {**self.table.tensors(), **self._body, "graph": graph}
        return Parts(self.document, tensors, self.tokenizer.packed, self.counts)

    def with_table(self, table: Table, **changes: Any) -> "TransformerModel":
        """The same model with another table, of as many columns, and changes to its document."""
        document = replace(self.document, **{"scheme": table.rows.scheme, "scores": {}, **changes})
        tensors = {**self._body, "graph": self.parts().tensors["graph"], **table.tensors()}
        return TransformerModel(replace(self.parts(), document=document, tensors=tensors))

    def with_dim(self, dim: int) -> "TransformerModel":
        dims = self.dims[self.dims.index(self.check_dim(dim)) :]
        return self if dim == self.dim else self.with_table(self.table, dim=dim, dims=dims)

    def save(self, path: str | Path) -> None:
        """Write the model as one `.nest` file, atomically."""
        check_target(path, suffixes=(".nest",))
        canaries = self.encode(self.document.canaries, overflow="split")
        write_nest(path, self.parts(), canaries, self.fingerprint)

    def _fill(self, texts: Sequence[str] | str, vectors: Array, how: How) -> int:
        texts = [texts] if isinstance(texts, str) else texts
        pieces, owners, cut = self._pieces(texts, how)
        means = np.zeros((len(pieces), self.dim), np.float32)
        batches = list(_batches([len(piece) for piece in pieces]))

        def work(span: tuple[int, int]) -> int:
            width, places = batches[span[0]]
            means[places] = self._run([pieces[place] for place in places], width)[:, : self.dim]
            return 0

        spans = [(place, place + 1) for place in range(len(batches))]
        over_units(work, spans, how.threads or min(usable_cores(), max(len(spans), 1)), how.progress)
        weights = np.array([len(piece) for piece in pieces], np.float32)
        sums, counts = np.zeros((len(texts), how.dim), np.float32), np.zeros(len(texts))
        np.add.at(sums, owners, means[:, : how.dim] * weights[:, None])
        np.add.at(counts, owners, weights)
        vectors[:] = finish(sums, counts, how.normalize, how.dtype)
        return cut

    def _pieces(self, texts: Sequence[str], how: How) -> tuple[list[Ids], npt.NDArray[np.int64], int]:
        """The ids of each text, the task's before them, in pieces within the limit; which text each piece is of, and
        how many texts were cut. A text without a known token has no piece."""
        tokens = self.tokenizer.encode(texts)
        known = ~np.isin(tokens.ids, self.document.drop)
        head = [self.document.task_tokens[how.task]] if how.task in self.document.task_tokens else []
        room = (self.max_tokens or len(tokens.ids) + 1) - len(head)
        pieces, owners, cut = [], [], 0
        for index in range(len(texts)):
            span = slice(tokens.offsets[index], tokens.offsets[index + 1])
            ids = tokens.ids[span][known[span]].astype(np.int64)
            if len(ids) > room and how.overflow == "error":
                raise self._too_long(index, len(ids) + len(head))
            if len(ids) > room and how.overflow == "cut":
                ids, cut = ids[:room], cut + 1
            for start in range(0, len(ids), room):
                pieces.append(np.concatenate([head, ids[start : start + room]]).astype(np.int64))
                owners.append(index)
        return pieces, np.array(owners, np.int64), cut

    def _run(self, pieces: Sequence[Ids], width: int) -> Floats:
        """The means of pieces padded to `width`: (n, dim). One alone runs twice, as one among many does."""
        whole = pieces if len(pieces) > 1 else [*pieces, *pieces]
        ids, mask = np.zeros((2, len(whole), width), np.int64)
        for place, piece in enumerate(whole):
            ids[place, : len(piece)] = piece
            mask[place, : len(piece)] = 1
        rows = self.table.gather(ids.ravel()).reshape(*ids.shape, -1)
        means = run_graph(self._session, rows, mask)[: len(pieces)]
        if not np.isfinite(means).all():
            raise ModelFileError(
                f"{self.name} gives a vector with values that are not finite.", "Finite ones were expected.", DAMAGED
            )
        return means


def _matrices(body: dict[str, Array]) -> dict[str, Floats]:
    """The matrices by the names that the graph has for them, as float32."""
    weights: dict[str, Floats] = {}
    for name in body:
        if name.endswith(SCALES):
            if name.removesuffix(SCALES) not in body:
                raise ValueError(f"{name} without its matrix")
            continue
        values = expect(body, name, ("f4", "i1"), (None, None))
        if values.dtype == np.int8:
            scales = expect(body, name + SCALES, ("f4",), (values.shape[1],))
            values = values.astype(np.float32) * scales
        weights[name.removeprefix(BODY)] = values
    return weights


def _batches(lengths: Sequence[int]) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
    """Padded width, and the places of the texts that it fits, few enough for a part; longest first."""
    widths = -(-np.array(lengths, np.int64) // STEP) * STEP
    for width in np.unique(widths)[::-1]:
        places = np.flatnonzero(widths == width)
        for part in np.array_split(places, -(-len(places) * int(width) // TOKENS_AT_ONCE)):
            if len(part):
                yield int(width), part

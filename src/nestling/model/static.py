"""The static model: a text's vector is the mean of its tokens' rows, at unit length. In sublinear pooling a token that
is repeated in a text counts less each time.

The C++ core does it where it is installed and knows the tokenizer exactly; `backend` says so. Else it is done here, in
numpy, with the same bits (pool.py, output.py). A text gives the same vector alone, in any batch, with any number of
threads.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from nestling.errors import InputError, one_of
from nestling.files.nest import write_nest
from nestling.files.parts import POOLINGS, Parts
from nestling.model.common import Array, Floats, How, Overflow, checked_layout, unfit
from nestling.model.in_core import CoreModel
from nestling.model.layout import RowLayout, lay_out
from nestling.model.native import native_model
from nestling.model.output import finish
from nestling.model.pool import over_units, sum_rows, units_of
from nestling.model.rows import CentroidRows, Table
from nestling.safe import check_target
from nestling.text.tokenizer import TextTokenizer
from nestling.text.tokens import Tokens

Layout = Literal["nest", "model2vec", "sentence-transformers"]


class StaticModel(CoreModel):
    """A loaded static embedding model. Made by `nestling.load`; safe to share between threads."""

    def __init__(
        self, parts: Parts, stored_canaries: Array | None = None, stored_fingerprint: str | None = None
    ) -> None:
        super().__init__(stored_canaries, stored_fingerprint)
        self.document = parts.document
        self.counts = parts.counts
        name = parts.document.name
        self.tokenizer = TextTokenizer(parts.tokenizer, name)
        try:
            self.table = Table.from_tensors(parts.tensors, parts.document.scheme, parts.document.dim)
            if self.table.size < self.tokenizer.size:
                raise ValueError(
                    f"the tokenizer gives ids up to {self.tokenizer.size - 1}, the table has {self.table.size} rows"
                )
            if parts.counts is not None and len(parts.counts) != self.table.size:
                raise ValueError(f"{len(parts.counts)} counts for {self.table.size} rows")
            beyond = [index for index in parts.document.drop if index >= self.table.size]
            if beyond:
                raise ValueError(f"drop holds {beyond[0]}, the table has {self.table.size} rows")
        except ValueError as error:
            raise unfit(name, error) from error
        self._dropped = np.zeros(self.table.size, np.bool_)
        self._dropped[list(self.document.drop)] = True
        self._core: Any = None
        if self.tokenizer.core is not None:
            how = self.table.size, parts.document.drop, self.document.sublinear
            self._core = native_model(self.tokenizer.core, self._layout, *how)
            self._reads_in_core(self._core.encode)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.parts(), *self._stored)

    @property
    def backend(self) -> str:
        """What runs: "core", with the instruction set of its kernels; or "python", with the reason."""
        return f"python ({self.tokenizer.why_not})" if self._encode is None else f"core ({self._core.isa})"

    @cached_property
    def _layout(self) -> RowLayout:
        return lay_out(self.table)

    def _said(self) -> tuple[Any, ...]:
        document = self.document
        said = (
            document.scheme,
            document.dim,
            sorted(document.drop),
            document.max_tokens,
            sorted(document.prompts.items()),
        )
        return said if document.pooling == "mean" else (*said, document.pooling)

    def _in_python(self, texts: Sequence[str], vectors: Array, dim: int, how: How) -> int:

        def work(span: tuple[int, int]) -> int:
            tokens, kept, cut = self._tokenize(texts[span[0] : span[1]], how.overflow, span[0])
            sums = sum_rows(self._layout, ~self._dropped, tokens.ids, tokens.offsets, dim, self.document.sublinear)
            vectors[span[0] : span[1]] = finish(sums, kept, how.normalize, how.dtype)
            return cut

        return sum(over_units(work, units_of(texts), how.threads, how.progress))

    def _length(self, text: str) -> int:
        return int(self.tokenizer.encode([text]).lengths[0])

    def save(self, path: str | Path, layout: Layout | None = None) -> None:
        """Write the model: one `.nest` file, or a folder in another library's layout, atomically.

        layout: "nest" (the default where the path ends in .nest), "model2vec" or "sentence-transformers". Their rows
        are written as float32, with what they cannot hold folded in; centroids stay centroids in model2vec's. They know
        no pooling but the mean: of a sublinear model, save `with_pooling("mean")`.
        """
        path = Path(path)
        chosen = checked_layout(path, layout, ("nest", "model2vec", "sentence-transformers"))
        from nestling.files.foreign import write_model2vec, write_sentence_transformers

        if chosen != "nest" and self.document.sublinear:
            raise InputError(
                f"{self.name} weighs a token that comes k times by the root of k.",
                f"The layout {chosen} has the mean of all tokens.",
                'Save model.with_pooling("mean"): other vectors for texts that repeat a token, a little less good.',
            )
        check_target(path, folder=chosen != "nest")
        if chosen == "nest":
            write_nest(path, self.parts(), self.encode(self.document.canaries, overflow="split"), self.fingerprint)
        elif chosen == "model2vec":
            write_model2vec(path, self.parts(), *self._for_model2vec())
        else:
            write_sentence_transformers(path, self.parts(), self._folded())

    def parts(self) -> Parts:
        """What the model consists of, ready to be written or changed."""
        return Parts(self.document, self.table.tensors(), self.tokenizer.packed, self.counts)

    def with_dim(self, dim: int) -> "StaticModel":
        return self if dim == self.dim else self.with_table(self.table.cut(self.check_dim(dim)))

    def with_table(self, table: Table, **changes: Any) -> "StaticModel":
        """The same model with another table, and changes to its document."""
        tiers = tuple(tier for tier in self.dims if tier < table.dim)
        described = {
            "scheme": table.rows.scheme,
            "dim": table.dim,
            "dims": (table.dim, *tiers),
            "scores": {},
            **changes,
        }
        return StaticModel(replace(self.parts(), document=replace(self.document, **described), tensors=table.tensors()))

    def with_pooling(self, pooling: str) -> "StaticModel":
        """The same table, pooled otherwise: "mean"; or "sublinear", where k occurrences of a token in a text weigh the
        root of k together."""
        one_of("pooling", pooling, POOLINGS)
        return self.with_table(self.table, dims=self.dims, pooling=pooling)

    def _tokenize(
        self, texts: Sequence[str], overflow: Overflow | None, first: int
    ) -> tuple[Tokens, npt.NDArray[np.int64], int]:
        """Tokens of the texts within the limit, how many of each are not dropped, and how many texts were cut."""
        tokens = self.tokenizer.encode(texts)
        limit = self.max_tokens
        long = np.flatnonzero(tokens.lengths > (limit or np.inf)) if overflow != "split" else np.zeros(0, np.int64)
        if len(long) and overflow == "error":
            raise self._too_long(first + int(long[0]), int(tokens.lengths[long[0]]))
        if len(long) and limit is not None:
            place = np.arange(len(tokens.ids)) - np.repeat(tokens.offsets[:-1], tokens.lengths)
            upto = np.concatenate([[0], np.cumsum(np.minimum(tokens.lengths, limit))])
            tokens = Tokens(tokens.ids[place < limit], upto)
        counted = np.concatenate([[0], np.cumsum(~self._dropped[tokens.ids])])
        return tokens, np.diff(counted[tokens.offsets]), len(long)

    def _folded(self) -> Floats:
        """One float32 row a token id, weights folded in and dropped tokens zero."""
        rows = self.table.expanded()[: self.tokenizer.size]
        rows[self._dropped[: self.tokenizer.size]] = 0
        return rows

    def _for_model2vec(self) -> tuple[Array, dict[str, Array]]:
        rows = self.table.rows
        if not isinstance(rows, CentroidRows) or set(self.document.drop) - {self.tokenizer.unknown}:
            return self._folded(), {}
        weights = np.ones(self.table.size, np.float32) if self.table.factors is None else self.table.factors
        centroids = rows.centroids.gather(np.arange(rows.centroids.size))
        size = self.tokenizer.size
        return centroids, {"weights": weights[:size], "mapping": rows.mapping[:size].astype(np.int32)}

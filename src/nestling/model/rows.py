"""The rows of an embedding table, in five forms: float, int8, 4-bit, centroids, and product codes.

Every form answers one question, `gather(ids) -> float32 rows`, and can keep a prefix of the dims or some of the
tokens. A table is rows times token weights; the weights have two forms, float32 and one byte a token.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import numpy.typing as npt

from nestling.model.pack import pack_nibbles, unpack_nibbles
from nestling.text.native import core_module

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.integer[Any]]
LARGEST = 1e12  # of a stored float: rows times weights, summed over any text, stay far from the end of float32
MOST_WORDS = 256  # that one byte tells apart
MOST_UNFOLDED = 8_000_000_000  # bytes of the float rows of product codes, which a small file could make endless


class Rows(Protocol):
    """What every form of rows offers. scheme: its name in a file; names: of the tensors that it may have there."""

    scheme: ClassVar[str]
    names: ClassVar[frozenset[str]]

    @property
    def size(self) -> int:
        """How many tokens there are."""

    @property
    def dim(self) -> int:
        """How many columns a row has."""

    def gather(self, ids: Ids) -> Floats:
        """The rows of some tokens. (k,) ids -> (k, dim) float32."""

    def cut(self, dim: int) -> "Rows":
        """The same rows, first `dim` columns only."""

    def keep(self, ids: Ids) -> "Rows":
        """The rows of these tokens, in this order."""

    def tensors(self) -> dict[str, Array]:
        """What to store; `from_tensors` undoes it."""


@dataclass(frozen=True)
class FloatRows:
    """values: (n, dim) float32 or float16."""

    scheme: ClassVar[str] = "float"
    names: ClassVar[frozenset[str]] = frozenset({"rows"})
    values: Array

    size = property(lambda self: self.values.shape[0])
    dim = property(lambda self: self.values.shape[1])

    def gather(self, ids: Ids) -> Floats:
        return self.values[ids].astype(np.float32, copy=False)

    def cut(self, dim: int) -> Self:
        return replace(self, values=np.ascontiguousarray(self.values[:, :dim]))

    def keep(self, ids: Ids) -> Self:
        return replace(self, values=self.values[ids])

    def tensors(self) -> dict[str, Array]:
        return {"rows": self.values}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Array], dim: int) -> Self:
        return cls(expect(tensors, "rows", ("f4", "f2"), (None, dim)))


@dataclass(frozen=True)
class Int8Rows:
    """values: (n, dim) int8; scales: (n,) float32 or float16. A row is values * scale."""

    scheme: ClassVar[str] = "int8"
    names: ClassVar[frozenset[str]] = frozenset({"rows", "scales"})
    values: Array
    scales: Array

    size = property(lambda self: self.values.shape[0])
    dim = property(lambda self: self.values.shape[1])

    def gather(self, ids: Ids) -> Floats:
        return self.values[ids].astype(np.float32) * self.scales[ids].astype(np.float32)[:, None]

    def cut(self, dim: int) -> Self:
        return replace(self, values=np.ascontiguousarray(self.values[:, :dim]))

    def keep(self, ids: Ids) -> Self:
        return replace(self, values=self.values[ids], scales=self.scales[ids])

    def tensors(self) -> dict[str, Array]:
        return {"rows": self.values, "scales": self.scales}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Array], dim: int) -> Self:
        values = expect(tensors, "rows", ("i1",), (None, dim))
        return cls(values, expect(tensors, "scales", ("f4", "f2"), (len(values),)))


@dataclass(frozen=True)
class Int4Rows(Int8Rows):
    """Like Int8Rows with values from -7 to 7; stored two to a byte, kept one to a byte in memory."""

    scheme: ClassVar[str] = "int4"

    def tensors(self) -> dict[str, Array]:
        return {"rows": pack_nibbles(self.values), "scales": self.scales}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Array], dim: int) -> Self:
        packed = expect(tensors, "rows", ("u1",), (None, (dim + 1) // 2))
        return cls(unpack_nibbles(packed, dim), expect(tensors, "scales", ("f4", "f2"), (len(packed),)))


@dataclass(frozen=True)
class CentroidRows:
    """centroids: rows of any simpler form; mapping: (n,) uint16 or int32, the centroid of each token."""

    scheme: ClassVar[str] = "centroids"
    names: ClassVar[frozenset[str]] = frozenset({"rows", "scales", "mapping"})
    centroids: FloatRows | Int8Rows
    mapping: Array

    size = property(lambda self: self.mapping.shape[0])
    dim = property(lambda self: self.centroids.dim)

    def gather(self, ids: Ids) -> Floats:
        return self.centroids.gather(self.mapping[ids])

    def cut(self, dim: int) -> Self:
        return replace(self, centroids=self.centroids.cut(dim))

    def keep(self, ids: Ids) -> Self:
        return replace(self, mapping=self.mapping[ids])

    def tensors(self) -> dict[str, Array]:
        return {**self.centroids.tensors(), "mapping": self.mapping}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Array], dim: int) -> Self:
        form = Int8Rows if "scales" in tensors else FloatRows
        centroids = form.from_tensors(tensors, dim)
        mapping = expect(tensors, "mapping", ("u2", "i4", "u4"), (None,))
        expect_range(mapping, "mapping", centroids.size)
        return cls(centroids, mapping)


@dataclass(frozen=True)
class ProductRows:
    """Product codes: each block of columns takes one of 256 (or fewer) code words, and some tokens have exact rows.

    codes: (n - e, blocks) uint8, of the tokens without an exact row, in id order. words: (k, dim) int8, block b of
    code word c is words[c, its columns] * scales[b]. widths: columns of each block, adding up to dim.
    exact: the e rows that are kept; exact_ids: (e,) their tokens, ascending.
    """

    scheme: ClassVar[str] = "product"
    names: ClassVar[frozenset[str]] = frozenset(
        {"codes", "words", "words.scales", "words.widths", "exact.rows", "exact.scales", "exact.ids"}
    )
    codes: Array
    words: Array
    scales: Array
    widths: tuple[int, ...]
    exact: Int8Rows
    exact_ids: Array

    size = property(lambda self: self.codes.shape[0] + self.exact_ids.shape[0])
    dim = property(lambda self: self.words.shape[1])

    def float_words(self) -> Floats:
        """The code words with their scales, (k, dim) float32."""
        words: Floats = self.words.astype(np.float32) * np.repeat(self.scales.astype(np.float32), self.widths)
        return words

    def unfolded(self) -> npt.NDArray[np.int8]:
        """All rows without their scales, (n, dim) int8: of the words where `coded`, else the exact ones."""
        decoded = np.empty((len(self.codes), self.dim), np.int8)
        core, _ = core_module()
        if core is not None:
            core.unfold_product(self.codes, self.words, np.asarray(self.widths, np.uint32), decoded)
        else:
            ends = np.cumsum(self.widths).tolist()
            for block, (end, width) in enumerate(zip(ends, self.widths, strict=True)):
                decoded[:, end - width : end] = self.words[:, end - width : end][self.codes[:, block]]
        if not len(self.exact_ids):
            return decoded
        rows = np.empty((self.size, self.dim), np.int8)
        rows[self.coded] = decoded
        rows[self.exact_ids] = self.exact.values
        return rows

    @cached_property
    def coded(self) -> npt.NDArray[np.bool_]:
        """(n,): which tokens have codes; the others have exact rows."""
        coded = np.ones(self.size, np.bool_)
        coded[self.exact_ids] = False
        return coded

    @cached_property
    def _unfolded(self) -> Floats:
        """All rows at once, (n, dim) float32: decoding a code takes one look-up a block, so it is done once a load."""
        rows = self.unfolded().astype(np.float32)
        rows[self.coded] *= np.repeat(self.scales.astype(np.float32), self.widths)
        rows[self.exact_ids] *= self.exact.scales.astype(np.float32)[:, None]
        return rows

    def gather(self, ids: Ids) -> Floats:
        rows: Floats = self._unfolded[ids]
        return rows

    def cut(self, dim: int) -> Self:
        ends = np.minimum(np.cumsum(self.widths), dim)
        widths = tuple(int(width) for width in np.diff(ends, prepend=0) if width > 0)
        blocks = len(widths)
        return replace(
            self,
            codes=np.ascontiguousarray(self.codes[:, :blocks]),
            words=np.ascontiguousarray(self.words[:, :dim]),
            scales=self.scales[:blocks],
            widths=widths,
            exact=self.exact.cut(dim),
        )

    def keep(self, ids: Ids) -> Self:
        place = np.full(self.size, -1, np.int64)
        place[self.exact_ids] = np.arange(len(self.exact_ids))
        coded = np.cumsum(place < 0) - 1
        is_exact = place[ids] >= 0
        return replace(
            self,
            codes=self.codes[coded[ids[~is_exact]]],
            exact=self.exact.keep(place[ids[is_exact]]),
            exact_ids=np.flatnonzero(is_exact).astype(self.exact_ids.dtype),
        )

    def tensors(self) -> dict[str, Array]:
        exact = {f"exact.{name}": tensor for name, tensor in self.exact.tensors().items()}
        blocks = {"words": self.words, "words.scales": self.scales, "words.widths": np.asarray(self.widths, np.uint16)}
        return {"codes": self.codes, **blocks, **exact, "exact.ids": self.exact_ids}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Array], dim: int) -> Self:
        widths = expect(tensors, "words.widths", ("u2",), (None,))
        words = expect(tensors, "words", ("i1",), (None, dim))
        if len(words) > MOST_WORDS:
            raise ValueError(f"{len(words):,} words, expected at most {MOST_WORDS}")
        if widths.sum(dtype=np.int64) != dim or not widths.all():
            raise ValueError(f"words.widths adds up to {widths.sum()} columns, expected {dim}")
        codes = expect(tensors, "codes", ("u1",), (None, len(widths)))
        if len(codes) * dim * 4 > MOST_UNFOLDED:
            raise ValueError(f"{len(codes):,} codes of {dim:,} columns, which unfold to over {MOST_UNFOLDED:,} bytes")
        expect_range(codes, "codes", len(words))
        scales = expect(tensors, "words.scales", ("f4",), (len(widths),))
        inner = {name.removeprefix("exact."): tensor for name, tensor in tensors.items() if name.startswith("exact.")}
        exact = Int8Rows.from_tensors(inner, dim)
        exact_ids = expect(tensors, "exact.ids", ("u2", "u4"), (exact.size,))
        expect_range(exact_ids, "exact.ids", len(codes) + exact.size)
        if np.any(exact_ids[1:] <= exact_ids[:-1]):
            raise ValueError("exact.ids is not ascending")
        return cls(codes, words, scales, tuple(int(width) for width in widths), exact, exact_ids)


FORMS: dict[str, type[FloatRows | Int8Rows | Int4Rows | CentroidRows | ProductRows]] = {
    form.scheme: form for form in (FloatRows, Int8Rows, Int4Rows, CentroidRows, ProductRows)
}


@dataclass(frozen=True)
class Table:
    """Rows times token weights: (n,) float32, or (n,) uint8 codes into `levels`, (<= 256,) float32, or none."""

    rows: Rows
    weights: Array | None = None
    levels: Floats | None = None

    size = property(lambda self: self.rows.size)
    dim = property(lambda self: self.rows.dim)

    @cached_property
    def factors(self) -> Floats | None:
        """(n,) float32 token weights, or None where all are 1."""
        if self.weights is None or self.levels is None:
            return self.weights
        factors: Floats = self.levels[self.weights]
        return factors

    def gather(self, ids: Ids) -> Floats:
        """(k,) ids -> (k, dim) float32."""
        rows = self.rows.gather(ids)
        return rows if self.factors is None else rows * self.factors[ids][:, None]

    def expanded(self) -> Floats:
        """The whole table, (n, dim) float32."""
        return self.gather(np.arange(self.size))

    def cut(self, dim: int) -> "Table":
        """First `dim` columns only."""
        return replace(self, rows=self.rows.cut(dim))

    def keep(self, ids: Ids) -> "Table":
        """These tokens, in this order."""
        return replace(self, rows=self.rows.keep(ids), weights=None if self.weights is None else self.weights[ids])

    def tensors(self) -> dict[str, Array]:
        """What to store; `from_tensors` undoes it."""
        weights = {"weights": self.weights, "weights.levels": self.levels}
        return {**self.rows.tensors(), **{name: tensor for name, tensor in weights.items() if tensor is not None}}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Array], scheme: str, dim: int) -> "Table":
        """Check and take the tensors of a table. Raises ValueError where they do not fit scheme, dim or each other."""
        if scheme not in FORMS:
            raise ValueError(f"scheme {scheme!r}, expected one of {', '.join(FORMS)}")
        unknown = set(tensors) - FORMS[scheme].names - {"weights", "weights.levels"}
        if unknown:
            raise ValueError(f"tensors {', '.join(sorted(unknown))}, which scheme {scheme!r} does not have")
        rows: Rows = FORMS[scheme].from_tensors(tensors, dim)
        if "weights.levels" in tensors:
            levels = expect(tensors, "weights.levels", ("f4",), (None,))
            if len(levels) > MOST_WORDS:
                raise ValueError(f"{len(levels):,} weights.levels, expected at most {MOST_WORDS}")
            weights = expect(tensors, "weights", ("u1",), (rows.size,))
            expect_range(weights, "weights", len(levels))
            return cls(rows, weights, levels)
        return cls(rows, expect(tensors, "weights", ("f4",), (rows.size,)) if "weights" in tensors else None)


def expect(
    tensors: Mapping[str, Array],
    name: str,
    dtypes: tuple[str, ...],
    shape: tuple[int | None, ...],
    largest: float = LARGEST,
) -> Array:
    """The tensor `name`, its dtype one of `dtypes`, its shape as given (None: any). Raises ValueError otherwise.

    Floats must be within `largest`: one NaN or infinity in a table would spread into every vector that touches it.
    """
    if name not in tensors:
        raise ValueError(f"no tensor {name!r}")
    tensor = tensors[name]
    if tensor.dtype.str[1:] not in dtypes:
        raise ValueError(f"tensor {name!r} of dtype {tensor.dtype}, expected {' or '.join(dtypes)}")
    if tensor.ndim != len(shape) or any(
        want not in (None, have) for want, have in zip(shape, tensor.shape, strict=True)
    ):
        raise ValueError(f"tensor {name!r} of shape {tensor.shape}, expected {shape}")
    least, most = (float(tensor.min()), float(tensor.max())) if tensor.size else (0.0, 0.0)
    if tensor.dtype.kind == "f" and not -largest <= least <= most <= largest:
        raise ValueError(f"tensor {name!r} with values that are not finite or over {largest:g}")
    return tensor


def expect_range(tensor: Array, name: str, end: int) -> None:
    """Raise ValueError unless every value is from 0 to end - 1."""
    if tensor.size and (int(tensor.min()) < 0 or int(tensor.max()) >= end):
        raise ValueError(f"tensor {name!r} with values from {tensor.min()} to {tensor.max()}, expected 0 to {end - 1}")

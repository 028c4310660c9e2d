"""The matrices of a transformer, as a file holds them: float32; int8 with a scale a column; or codes, each of which
stands for a word of some values side by side in a row, with such scales."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from nestling.model.pack import to_int8
from nestling.model.rows import expect, expect_range

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]

SCALES, WORDS = ".scales", ".words"  # behind the name of a matrix
MOST_WORDS, SIZES = 256, (1, 2, 3, 4, 8)  # of words, and of values in one
LARGEST = 1e3  # of a float: whatever is made of such ones before the vector is finite


@dataclass(frozen=True)
class Matrix:
    """values: (in, out) int8; scales: (out,) float32, of its columns; bias: (out,) float32."""

    values: npt.NDArray[np.int8]
    scales: Floats
    bias: Floats | None = None

    @cached_property
    def wide(self) -> npt.NDArray[np.float64]:
        """The values where products of whole numbers are exact, and numpy is fast."""
        return self.values.astype(np.float64)


def take_matrix(left: dict[str, Array], name: str, rows: int | None = None, columns: int | None = None) -> Matrix:
    """The matrix of this name, (rows, columns), taken out of `left` with what belongs to it; a float one is rounded.

    Raises ValueError where it is not as it should be.
    """
    stored = expect(left, name, ("f4", "i1", "u1"), (rows, None), LARGEST)
    values, scales = _take(left, name)
    if not all(values.shape) or columns not in (None, values.shape[1]):
        raise ValueError(f"tensor {name!r} of shape {stored.shape}, expected {(rows, columns)}")
    if scales is None:
        turned, scales = to_int8(np.ascontiguousarray(values.T))
        values = turned.T
    return Matrix(np.ascontiguousarray(values), scales.astype(np.float32))


def float_weights(tensors: Mapping[str, Array]) -> dict[str, Floats]:
    """All matrices and vectors among tensors, by name, as float32. Raises ValueError where one is not as it should be,
    or something belongs to none."""
    left, weights = dict(tensors), dict[str, Floats]()
    for name in tensors:
        if name.endswith((SCALES, WORDS)):
            continue
        if left[name].ndim == 1:
            weights[name] = expect(left, name, ("f4",), (None,))
            del left[name]
            continue
        expect(left, name, ("f4", "i1", "u1"), (None, None))
        values, scales = _take(left, name)
        weights[name] = values if scales is None else values.astype(np.float32) * scales
    if left:
        raise ValueError(f"{', '.join(sorted(left))[:200]} without its matrix")
    return weights


def _take(left: dict[str, Array], name: str) -> tuple[Array, Floats | None]:
    """Values of a matrix, float32 or int8, and the scales of the columns of the latter."""
    values = left.pop(name)
    if values.dtype.kind == "f":
        return values, None
    if values.dtype == np.uint8:
        words = expect(left, name + WORDS, ("i1",), (None, None))
        if len(words) > MOST_WORDS or words.shape[1] not in SIZES:
            raise ValueError(f"tensor {name + WORDS!r} of shape {words.shape}")
        expect_range(values, name, len(words))
        del left[name + WORDS]
        values = _spelt(values, words)
    scales = expect(left, name + SCALES, ("f4",), (values.shape[1],), LARGEST)
    del left[name + SCALES]
    return values, scales


def _spelt(codes: Array, words: Array) -> npt.NDArray[np.int8]:
    """The values that codes stand for, (rows, columns of codes) -> (rows, columns): words as numbers of 1, 2, 4 or 8
    bytes, which is fast."""
    size = words.shape[1]
    room = 1 << (size - 1).bit_length()
    padded = np.zeros((len(words), room), np.int8)
    padded[:, :size] = words
    spelt = padded.view(f"u{room}")[:, 0].take(codes).view(np.int8).reshape(*codes.shape, room)
    return spelt[..., :size].reshape(len(codes), -1)

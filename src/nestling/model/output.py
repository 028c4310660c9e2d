"""From pooled sums to what `encode` returns, and cosines between such vectors."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nestling.errors import InputError, InputTypeError, one_of

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
DTYPES = ("float32", "float16", "int8", "binary")


def dtype_name(dtype: object) -> Any:
    """The name of a dtype of numpy's; anything else as it is."""
    if isinstance(dtype, type) and issubclass(dtype, np.generic):
        dtype = np.dtype(dtype)
    return dtype.name if isinstance(dtype, np.dtype) else dtype


def output_width(dim: int, dtype: str, normalize: bool) -> int:
    """Columns that `finish` gives. Raises InputError for a dtype that does not exist or makes no sense."""
    one_of("dtype", dtype, DTYPES)
    if not normalize and dtype in ("int8", "binary"):
        raise InputError(
            f"dtype={dtype!r} came with normalize=False;",
            "it keeps directions only.",
            "Use float32 or float16 for lengths.",
        )
    return -(-dim // 8) if dtype == "binary" else dim


def output_array(out: Array | None, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """`out` if it can take what `encode` gives; a new array if it is None."""
    if out is None:
        return np.empty(shape, dtype)
    if not isinstance(out, np.ndarray):
        raise InputTypeError(
            f"out is of type {type(out).__name__};", "an array was expected.", "Allocate one, or leave it out."
        )
    if out.shape != shape or out.dtype != dtype or not out.flags.c_contiguous or not out.flags.writeable:
        raise InputError(
            f"out has shape {out.shape} and dtype {out.dtype}.",
            f"A writeable, contiguous array of shape {shape} and dtype {dtype} was expected.",
            "Allocate it so, or leave it out.",
        )
    return out


def unit(vectors: Floats) -> Floats:
    """Each row at unit length, (n, d) float32; a row of zeros stays one. For work on tables and scores, by numpy's own
    sums: the vectors that `encode` gives are made by `finish`."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    rows: Floats = (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32, copy=False)
    return rows


def finish(sums: Floats, counts: Array, normalize: bool, dtype: str) -> Array:
    """Sums of rows -> vectors: (n, d) float32 -> (n, d) float32, float16, int8 or (n, ceil(d / 8)) uint8.

    counts: (n,) rows of each sum, of which normalize=False takes the mean. Zeros stay zeros. The core does the same
    steps in the same order (core/output.hpp).
    """
    if dtype == "binary":
        return np.packbits(sums > 0, axis=1)
    if dtype == "int8":
        largest = np.abs(sums).max(axis=1, initial=0)
        return np.rint(
            sums * (np.float32(127) / np.where(largest > 1e-36, largest, np.float32(np.inf)))[:, None]
        ).astype(np.int8)
    if normalize:
        return _unit_sums(sums).astype(dtype, copy=False)
    return (sums / np.maximum(counts, 1).astype(np.float32)[:, None]).astype(dtype, copy=False)


def _unit_sums(sums: Floats) -> Floats:
    """Sums at unit length, by sixteen partial sums of squares: (n, d) -> (n, d) float32. Zeros stay zeros."""
    parts = np.zeros((len(sums), 16), np.float32)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        for start in range(0, sums.shape[1], 16):
            block = sums[:, start : start + 16]
            parts[:, : block.shape[1]] += block * block
        for half in (8, 4, 2, 1):
            parts[:, :half] += parts[:, half : 2 * half]
        unit: Floats = (sums * (np.float32(1) / np.sqrt(parts[:, 0]))[:, None]).astype(np.float32)
    for row in np.flatnonzero(~((parts[:, 0] > 1e-20) & (parts[:, 0] < 1e30))):  # squares that float32 cannot hold
        wide = sums[row].astype(np.float64)
        total = np.cumsum(wide * wide)[-1]
        unit[row] = wide * (1 / np.sqrt(total) if total > 0 else 0)
    return unit


def unit_rows(rows: Array) -> Floats:
    """Rows of any finite numbers at unit length; rows of zeros stay zeros. (n, d) -> (n, d) float32."""
    if rows.dtype.itemsize > 4:  # of values that float32 may not hold
        rows = rows.astype(np.float64)
        largest = np.abs(rows).max(axis=1, initial=0, keepdims=True)
        rows = rows / np.where(largest > 0, largest, 1)
    rows = rows.astype(np.float32, copy=False)
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
    unit: Floats = (rows / np.where(lengths > 0, lengths, 1)[:, None]).astype(np.float32)
    return unit


def cosine_matrix(queries: npt.ArrayLike, documents: npt.ArrayLike, dims: Sequence[int] = ()) -> Floats:
    """(n, d) and (m, d), one vector counting as n = 1 -> (n, m) float32.

    Packed signs (uint8) are compared by the bits they share: 1 - 2 * different / bits. How many bits there are, the
    first of `dims` that packs to so many bytes says; all of them count if none does.
    """
    left, right = _matrix(queries), _matrix(documents)
    if left.shape[1] != right.shape[1] or (left.dtype == np.uint8) != (right.dtype == np.uint8):
        raise InputError(
            f"Vectors of shape {left.shape} and dtype {left.dtype} came with {right.shape} and {right.dtype}.",
            "Vectors of one dim, both packed or neither, were expected.",
            "Encode both with the same dim and dtype.",
        )
    if left.dtype == np.uint8:
        width = left.shape[1]
        bits = next((dim for dim in dims if -(-dim // 8) == width), 8 * width)
        signs_left, signs_right = (
            np.unpackbits(side, axis=1, count=bits).astype(np.float32) * 2 - 1 for side in (left, right)
        )
        packed: Floats = signs_left @ signs_right.T / np.float32(max(bits, 1))
        return packed
    cosines: Floats = unit_rows(left) @ unit_rows(right).T
    return cosines


def _matrix(vectors: npt.ArrayLike) -> Array:
    try:
        array = np.asarray(vectors)
    except ValueError as error:
        raise InputError(
            "Vectors of different lengths were given.",
            "One vector or a matrix of vectors was expected.",
            "Pass what encode returns.",
        ) from error
    if array.ndim not in (1, 2) or array.dtype.kind not in "fiu":
        raise InputError(
            f"An array of shape {array.shape} and dtype {array.dtype} was given.",
            "One vector or a matrix of vectors was expected.",
            "Pass what encode returns.",
        )
    if not np.isfinite(array).all():
        raise InputError(
            "A vector holds a NaN or an infinity.", "Finite values were expected.", "Pass what encode returns."
        )
    return array[None, :] if array.ndim == 1 else array

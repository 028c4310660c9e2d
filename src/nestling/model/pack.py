"""Float rows -> rows of few bits, with one scale a row, and back.

A single scale for a whole table is set by its largest row, and rare rows lose most of their bits; a scale a row
costs two or four bytes and keeps them.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.int8]


def to_int8(rows: Floats) -> tuple[Bytes, Floats]:
    """(n, d) float32 -> (n, d) int8 and (n,) float32 scales; |error| <= scale / 2. Rows of zeros get scale 1."""
    largest = np.abs(rows).max(axis=1, initial=0)
    scales = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    return np.rint(rows / scales[:, None]).astype(np.int8), scales


def to_int4(rows: Floats) -> tuple[Bytes, Floats]:
    """(n, d) float32 -> (n, d) int8 from -7 to 7 and (n,) float32 scales.

    With so few steps the largest value is worth clipping: of nine scales a row, the one with the least squared
    error is taken.
    """
    largest = np.abs(rows).max(axis=1, initial=0)
    full = np.where(largest > 0, largest / 7, 1).astype(np.float32)
    best = np.full(len(rows), np.inf, np.float32)
    values, scales = np.zeros(rows.shape, np.int8), full.copy()
    for share in np.linspace(0.6, 1.0, 9, dtype=np.float32):
        trial_scales = (full * share).astype(np.float32)
        trial = np.clip(np.rint(rows / trial_scales[:, None]), -7, 7)
        error = ((trial * trial_scales[:, None] - rows) ** 2).sum(axis=1)
        better = error < best
        best[better], scales[better], values[better] = error[better], trial_scales[better], trial[better]
    return values, scales


def pack_nibbles(values: Bytes) -> npt.NDArray[np.uint8]:
    """(n, d) int8 from -7 to 7 -> (n, ceil(d / 2)) uint8; the even column in the low half, each value plus 8."""
    padded = np.zeros((values.shape[0], values.shape[1] + values.shape[1] % 2), np.uint8)
    padded[:, : values.shape[1]] = (values + np.int8(8)).view(np.uint8)
    packed: npt.NDArray[np.uint8] = padded[:, 0::2] | padded[:, 1::2] << 4
    return packed


def unpack_nibbles(packed: npt.NDArray[Any], dim: int) -> Bytes:
    """Undo `pack_nibbles`: (n, ceil(dim / 2)) uint8 -> (n, dim) int8."""
    values = np.empty((packed.shape[0], packed.shape[1] * 2), np.int8)
    values[:, 0::2] = (packed & 15).view(np.int8) - 8
    values[:, 1::2] = (packed >> 4).view(np.int8) - 8
    return np.ascontiguousarray(values[:, :dim])


def to_levels(weights: Floats) -> tuple[npt.NDArray[np.uint8], Floats]:
    """(n,) float32 weights >= 0 -> (n,) uint8 codes and (256,) float32 levels, evenly spaced in the logarithm.

    Level 0 is exactly 0; a weight is kept to within half a step, which is under 2 % for weights within a factor of 100.
    """
    positive = weights[weights > 0]
    low, high = (np.log([positive.min(), positive.max()]) if positive.size else np.zeros(2)).astype(np.float64)
    levels = np.zeros(256, np.float32)
    levels[1:] = np.exp(np.linspace(low, high, 255))
    step = (high - low) / 254 or 1.0
    codes = np.rint((np.log(np.maximum(weights, levels[1]), dtype=np.float64) - low) / step) + 1
    return np.where(weights > 0, np.clip(codes, 1, 255), 0).astype(np.uint8), levels

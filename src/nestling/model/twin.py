"""Reading texts through a transformer's blocks in numpy, as the C++ core does it: the plain twin, to the bit.

Matrices are multiplied in whole numbers, which no order of adding up changes: each token's columns are rounded to 8
bits of their own largest. What is left of floats is added up in an order that depends on the text alone (no fused
multiply-add). So a text has the same bits alone, in any batch, with any number of threads, on any machine.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from nestling.model.blocks import STRIP, Batch, Block, Blocks, Norm
from nestling.model.layout import RowLayout
from nestling.model.matrices import Matrix

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[Any]

TEXTS_AT_ONCE, TOKENS_AT_ONCE = 64, 4096  # that are worked on
MAGIC = np.float32(12582912)  # 1.5 * 2^23: what is added to it is rounded to a whole number
HIDDEN = np.float32(-1e30)  # near no token
LEAST_EXPONENT = np.float32(-87)
EXPONENTIAL: Floats = np.array(
    [1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1], np.float32
)
LOG2_E, LN2_HIGH, LN2_LOW = np.float32(1.44269504), np.float32(0.693359375), np.float32(-2.12194440e-4)
LEAST_BELL = np.float32(-6)
BELL: Floats = np.array([3.38326682e-4, 4.98977163e-3, 3.61452910e-2, -0.318567564, 0.797812781], np.float32)


class Twin:
    """Reads texts through blocks in numpy, as the core's Reader does. why: the core does not."""

    def __init__(self, blocks: Blocks, layout: RowLayout, why: str = "asked for") -> None:
        self._blocks, self._layout = blocks, layout
        self.backend = f"python ({why})"

    def sums(self, batch: Batch, threads: int = 1) -> Floats:
        """The sums over the tokens of pieces: (n, vector) float32. threads: for the core; there is one here."""
        blocks, lengths = self._blocks, np.diff(batch.starts)
        sums = np.zeros((len(lengths), blocks.vector), np.float32)
        for length in np.unique(lengths[lengths > 0]).tolist():
            places = np.flatnonzero(lengths == length)
            most = max(1, min(TEXTS_AT_ONCE, TOKENS_AT_ONCE // length))
            for part in np.array_split(places, -(-len(places) // most)):
                tokens = batch.starts[part][:, None] + np.arange(length)
                sums[part] = self._alike(batch.ids[tokens], batch.weights[tokens])
        return sums

    def _alike(self, ids: Ints, weights: Floats) -> Floats:
        """Of pieces of one length: (n, length) -> (n, vector)."""
        blocks = self._blocks
        rows = gather(self._layout, ids) * weights[..., None]
        x = _times(_normal(blocks.seeing, rows[..., blocks.first : blocks.first + blocks.seen]), blocks.up)
        if blocks.places is not None:
            x = x + blocks.places[: x.shape[1]]
        if blocks.input is not None:
            x = _normal(blocks.input, x)
        for block in blocks.blocks:
            x = self._through(block, x)
        if blocks.last is not None:
            x = _normal(blocks.last, x)
        if blocks.weigh is None:
            whole = _added_up(x, weights)
            return whole if blocks.out is None else _times(whole, blocks.out)
        factors = np.float32(1) + sum_of_parts(x * blocks.weigh)
        sums = _added_up(rows[..., : blocks.inner], factors)
        return sums if blocks.back is None else sums + _times(_added_up(x, weights), blocks.back)

    def _through(self, block: Block, x: Floats) -> Floats:
        before = self._blocks.turns is not None  # where positions are rotary, norms stand before
        joined = _times(_normal(block.attention, x) if before else x, block.queries_keys_values)
        x = x + _times(self._attend(joined), block.attended)
        x = x if before else _normal(block.attention, x)
        wide = _gelu(_times(_normal(block.feed, x) if before else x, block.wide))
        x = x + _times(wide, block.narrow)
        return x if before else _normal(block.feed, x)

    def _attend(self, joined: Floats) -> Floats:
        """Queries, keys and values, (n, length, 3 dim) -> what each token takes from all: (n, length, dim)."""
        blocks = self._blocks
        n, length, _ = joined.shape
        parts = joined.reshape(n, length, 3, blocks.dim // blocks.head, blocks.head).transpose(2, 0, 3, 1, 4)
        queries, keys, values = parts
        if blocks.turns is not None:
            queries, keys = (_turned(each, *blocks.turns) for each in (queries, keys))
        near = np.zeros((*queries.shape[:3], length), np.float32)
        for column in range(blocks.head):
            near += queries[..., column, None] * keys[..., None, :, column]
        top = np.maximum(near.max(axis=-1, keepdims=True), HIDDEN)
        near = _exponential((near - top) * np.float32(1 / np.sqrt(blocks.head)))
        padded = np.zeros((*near.shape[:3], -(-length // STRIP) * STRIP), np.float32)
        padded[..., :length] = near
        mixed = np.zeros_like(queries)
        for token in range(length):
            mixed += near[..., token, None] * values[..., token, None, :]
        mixed *= (np.float32(1) / sum_of_parts(padded))[..., None]
        return np.ascontiguousarray(mixed.transpose(0, 2, 1, 3)).reshape(n, length, blocks.dim)


def gather(layout: RowLayout, ids: Ints) -> Floats:
    """The rows of tokens: (...) -> (..., columns) float32, as the core's Table::row has them."""
    places = ids if layout.places is None else layout.places[ids]
    rows: Floats = layout.rows[places].astype(np.float32)
    if layout.coded is not None and layout.scales is not None:
        coded = layout.coded[ids]
        rows[coded] *= layout.scales
    rows *= layout.factors[ids][..., None] if isinstance(layout.factors, np.ndarray) else layout.factors
    return rows


def sum_of_parts(x: Floats) -> Floats:
    """Sums over the last axis: sixteen partial ones, then halves onto halves."""
    parts = np.zeros((*x.shape[:-1], STRIP), np.float32)
    for start in range(0, x.shape[-1], STRIP):
        parts += x[..., start : start + STRIP]
    half = STRIP
    while half > 1:
        half //= 2
        parts = parts[..., :half] + parts[..., half:]
    total: Floats = parts[..., 0]
    return total


def _added_up(x: Floats, factors: Floats) -> Floats:
    """Sums over the tokens, one after the other, each times its factor: (n, length, columns) -> (n, columns)."""
    total = np.zeros((x.shape[0], x.shape[2]), np.float32)
    for token in range(x.shape[1]):
        total += x[:, token] * factors[:, token, None]
    return total


def _times(x: Floats, matrix: Matrix) -> Floats:
    largest = np.maximum(np.abs(x).max(axis=-1, keepdims=True), np.float32(1e-9))
    with np.errstate(invalid="ignore", over="ignore"):  # of weights that a hostile file made too large
        whole = np.rint(x * (np.float32(127) / largest)).astype(np.float64) @ matrix.wide
        product: Floats = whole.astype(np.float32) * (largest / np.float32(127)) * matrix.scales
    return product if matrix.bias is None else product + matrix.bias


def _normal(norm: Norm, x: Floats) -> Floats:
    count = np.float32(x.shape[-1])
    with np.errstate(invalid="ignore", over="ignore"):
        if norm.bias is not None:
            x = x - (sum_of_parts(x) / count)[..., None]
        squares = sum_of_parts(x * x) / count + np.float32(norm.epsilon)
        x = x * (np.float32(1) / np.sqrt(squares))[..., None]
    x = x if norm.weights is None else x * norm.weights
    return x if norm.bias is None else x + norm.bias


def _turned(x: Floats, cosines: Floats, sines: Floats) -> Floats:
    """Each pair of columns (i, i + half) turned by the angle of its place: (n, heads, length, head) -> the same."""
    one, other = np.split(x, 2, axis=-1)
    cosines, sines = cosines[: x.shape[2]], sines[: x.shape[2]]
    return np.concatenate([one * cosines - other * sines, other * cosines + one * sines], axis=-1)


def _exponential(x: Floats) -> Floats:
    """e^x for x <= 0 (Cephes' expf); what is below e^-87 is e^-87."""
    x = np.maximum(x, LEAST_EXPONENT)
    magic = x * LOG2_E + MAGIC
    n = magic - MAGIC
    r = x - n * LN2_HIGH - n * LN2_LOW
    y = np.full_like(x, EXPONENTIAL[0])
    for each in EXPONENTIAL[1:]:
        y = y * r + each
    y = y * r * r + r + np.float32(1)
    bits = y.view(np.uint32) + (magic.view(np.uint32) << np.uint32(23))
    exponential: Floats = bits.view(np.float32)
    return exponential


def _gelu(x: Floats) -> Floats:
    """x * (1 + erf(x / sqrt(2))) / 2, where 1 - erf(|x| / sqrt(2)) is e to a polynomial: within 1e-6 of it."""
    size = np.abs(x)
    t = np.maximum(-size, LEAST_BELL)
    y = np.full_like(x, BELL[0])
    for each in BELL[1:]:
        y = y * t + each
    with np.errstate(over="ignore", invalid="ignore"):
        gelu: Floats = (x + size * (np.float32(1) - _exponential(y * t))) * np.float32(0.5)
    return gelu

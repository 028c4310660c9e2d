"""What stands behind a transformer's table: blocks that look at a whole text and say what each of its tokens weighs.

What they are made of, and how it is read from the tensors of a file. Two kinds are known. Blocks with rotary positions
normalise what goes into their parts, by its mean square, and have no biases. Layers of an encoder add positions,
normalise each sum around its mean, and have biases; they see the last columns of a row, of which some, or all, are
their own, behind those that are weighed. The C++ core reads texts through them, and its twin in numpy (twin.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nestling.model.matrices import LARGEST, Matrix, take_matrix
from nestling.model.pack import to_int8
from nestling.model.rows import expect

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]

STRIP = 16  # of which all columns are multiples: partial sums, and what a kernel works on at once
MOST_COLUMNS = 65_536  # of which products of bytes add up to what int32 holds
MOST_TURNS = 1 << 24  # tokens times columns of a head
THETA, LOG_THETA = 10_000.0, 9.210340371976184  # of rotary positions
TWO_OVER_PI, QUARTER_HIGH, QUARTER_LOW = 0.6366197723675814, 1.5707963267341256, 6.077100506506192e-11  # of a turn
BEHIND = ("back.weight", "out.weight")  # matrices that stand behind the sum, and lie (out, in)
SEEN, WITHIN, AROUND = 1e-7, 1e-6, 1e-12  # beside mean squares: of what is seen, within blocks, and around a mean


class Batch(NamedTuple):
    """Tokens of pieces of texts, end to end: ids and what each counts, (total,) uint32 and float32; where each piece
    begins and the last one ends, (n + 1,) int64."""

    ids: npt.NDArray[np.uint32]
    weights: Floats
    starts: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Norm:
    """With a bias, to unit variance around the mean; else to a mean square of one. No weights are ones."""

    weights: Floats | None
    bias: Floats | None
    epsilon: float


@dataclass(frozen=True)
class Block:
    """attention, feed: the norms before these parts, or behind the sums of what they give and what went in."""

    queries_keys_values: Matrix
    attended: Matrix
    wide: Matrix
    narrow: Matrix
    attention: Norm
    feed: Norm


@dataclass(frozen=True)
class Blocks:
    """inner: columns of a row that are weighed, from the first on; 0: no row is. first, seen: those that the blocks
    see. dim: columns within; head: of an attention head. longest: tokens of a piece. up: from what is seen. input,
    last: norms of what goes in and what comes out. weigh: (dim,), of what comes out: what a row weighs beside one.
    back: from the sum of what comes out to what is added; out: to what is instead. turns: cosines and sines of rotary
    positions, (longest, head / 2) each. places: (longest, dim) of others."""

    inner: int
    first: int
    seen: int
    dim: int
    head: int
    longest: int
    up: Matrix
    blocks: tuple[Block, ...]
    input: Norm | None = None
    last: Norm | None = None
    weigh: Floats | None = None
    back: Matrix | None = None
    out: Matrix | None = None
    turns: tuple[Floats, Floats] | None = None
    places: Floats | None = None

    @property
    def vector(self) -> int:
        """Columns of a text's vector."""
        return self.inner or (self.out.values.shape[1] if self.out else self.dim)

    @property
    def seeing(self) -> Norm:
        """The norm of what is seen."""
        return Norm(None, None, SEEN)


def read_blocks(tensors: Mapping[str, Array], stride: int, head: int, longest: int) -> Blocks:
    """The blocks that the tensors of a file are, by their names without "body."; float matrices are rounded to int8.

    stride: columns of the table. head: of an attention head. longest: tokens of a piece. Raises ValueError where they
    do not fit one another, or are of no kind that is known.
    """
    left = dict(tensors)

    def matrix(name: str, rows: int | None, columns: int | None, bias: bool) -> Matrix:
        found = take_matrix(left, name + ".weight", rows, columns)
        own = _vector(left, name + ".bias", found.values.shape[1]) if bias else None
        return Matrix(found.values, found.scales, own)

    encoder = "places" in tensors
    up = matrix("up", None, None, encoder)
    seen, dim = up.values.shape

    def norm(name: str) -> Norm:
        bias = _vector(left, name + ".bias", dim) if encoder else None
        return Norm(_vector(left, name + ".weight", dim), bias, AROUND if encoder else WITHIN)

    def block(own: str) -> Block:
        wide = matrix(own + "wide", dim, None, encoder)
        return Block(
            matrix(own + "queries_keys_values", dim, 3 * dim, encoder),
            matrix(own + "attended", dim, dim, encoder),
            wide,
            matrix(own + "narrow", wide.values.shape[1], dim, encoder),
            norm(own + ("after_attention" if encoder else "before_attention")),
            norm(own + ("after_feed" if encoder else "before_feed")),
        )

    blocks = tuple(block(f"blocks.{number}.") for number in range(_count(tensors)))
    weighs = "weigh.weight" in tensors
    inner = _weighed(tensors, stride, seen, encoder) if weighs else 0
    weigh = np.ascontiguousarray(expect(left, "weigh.weight", ("f4",), (dim, 1), LARGEST)[:, 0]) if weighs else None
    left.pop("weigh.weight", None)
    back = _turned_matrix(left, "back.weight", inner, dim) if "back.weight" in tensors and weighs else None
    out = _turned_matrix(left, "out.weight", None, dim) if "out.weight" in tensors and not weighs else None
    input_norm, last = (norm("first"), None) if encoder else (None, norm("last"))
    places = _places(left, longest, dim) if encoder else None
    if left:
        raise ValueError(f"tensors {', '.join(sorted(left))[:200]}, which no blocks have")
    fit = 0 < inner <= stride and seen <= stride <= inner + seen if encoder else seen == stride
    if not fit:
        raise ValueError(f"blocks that see {seen} columns of {stride}, and weigh {inner}")
    feeds = [each.wide.values.shape[1] for each in blocks]
    columns = {seen, dim, inner, head, *feeds, *([out.values.shape[1]] if out else [])}
    if any(each % STRIP for each in columns) or max(columns) > MOST_COLUMNS or head < 1 or dim % head:
        most = f"at most {MOST_COLUMNS:,}, and heads that add up to {dim}"
        raise ValueError(f"columns {sorted(columns)}, expected multiples of {STRIP}, {most}")
    if longest * head > MOST_TURNS:
        raise ValueError(f"{longest:,} tokens in heads of {head:,} columns, expected at most {MOST_TURNS:,} of both")
    turns = None if encoder else rotary_positions(longest, head)
    return Blocks(
        inner, stride - seen, seen, dim, head, longest, up, blocks, input_norm, last, weigh, back, out, turns, places
    )


def _weighed(tensors: Mapping[str, Array], stride: int, seen: int, encoder: bool) -> int:
    """Columns of a row that are weighed. Where layers of an encoder add vectors, these have as many; else they are all
    that the layers do not see."""
    if not encoder:
        return stride
    added = tensors["back.weight"].shape[:1] if "back.weight" in tensors else ()
    return added[0] if added else stride - seen


def _count(tensors: Mapping[str, Array]) -> int:
    numbers = {name.split(".")[1] for name in tensors if name.startswith("blocks.")}
    if numbers != {str(number) for number in range(len(numbers))}:
        raise ValueError(f"blocks {', '.join(sorted(numbers))[:200]}, expected one after the other")
    return len(numbers)


def _turned_matrix(left: dict[str, Array], name: str, rows: int | None, columns: int | None) -> Matrix:
    """Of what lies (out, in), as all does that stands behind the sum."""
    found = take_matrix(left, name, rows, columns)
    values, scales = to_int8(found.values * found.scales)
    return Matrix(np.ascontiguousarray(values.T), scales.astype(np.float32))


def _vector(left: dict[str, Array], name: str, size: int) -> Floats:
    vector = expect(left, name, ("f4",), (size,), LARGEST)
    del left[name]
    return np.ascontiguousarray(vector)


def _places(left: dict[str, Array], longest: int, dim: int) -> Floats:
    places = take_matrix(left, "places", None, dim)
    if len(places.values) < longest:
        raise ValueError(f"{len(places.values)} positions, expected {longest}")
    return np.ascontiguousarray((places.values * places.scales)[:longest])


def rotary_positions(longest: int, head: int) -> tuple[Floats, Floats]:
    """Cosines and sines of rotary positions (arXiv:2104.09864): (longest, head / 2) float32 each.

    By additions and products of float64 alone, which are the same everywhere, as a system's own functions are not.
    """
    shares = np.arange(0, head, 2) / head * (LOG_THETA / 1024)
    rates = _exponential_series(-shares)
    for _ in range(10):  # e^-1024x
        rates = rates * rates
    angles = np.arange(longest)[:, None] * rates
    quarters = np.floor(angles * TWO_OVER_PI + 0.5)
    rest = angles - quarters * QUARTER_HIGH - quarters * QUARTER_LOW
    cosines, sines = _alternating(rest, 0), _alternating(rest, 1)
    turn = quarters % 4
    turned = np.where(turn % 2 == 0, cosines, sines), np.where(turn % 2 == 0, sines, cosines)
    signs = np.where((turn == 1) | (turn == 2), -1.0, 1.0), np.where(turn > 1, -1.0, 1.0)
    return (turned[0] * signs[0]).astype(np.float32), (turned[1] * signs[1]).astype(np.float32)


def _exponential_series(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """e^x, for an x of at most a hundredth: 1 + x (1 + x / 2 (1 + x / 3 ...))."""
    total = np.ones_like(x)
    for term in range(9, 0, -1):
        total = 1 + x / term * total
    return total


def _alternating(x: npt.NDArray[np.float64], first: int) -> npt.NDArray[np.float64]:
    """The cosine (first 0) or sine (1) of an angle of at most an eighth of a turn, by their series."""
    squares, total = x * x, np.ones_like(x)
    for term in range(16 + first, first, -2):
        total = 1 - squares / (term * (term - 1)) * total
    return total * x if first else total

"""A tokenizer packed for a .nest file: 710 KB of tokenizer.json become about 55 KB.

The pieces, sorted by their UTF-8 bytes, are front-coded (how many bytes are shared with the piece before, and the
rest) and compressed; what else tokenizer.json says goes along as compressed JSON. Unpacking gives the same plan.
"""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from nestling.errors import ModelFileError
from nestling.safe import DAMAGED, MAX_JSON_BYTES, parse_json
from nestling.text.plan import MAX_VOCABULARY, check_depth, check_plan, dump_plan, merge_pairs

Array = npt.NDArray[Any]
NAMES = frozenset({"vocabulary", "plan", "order", "scores", "merges"})
MOST_UNPACKED = MAX_JSON_BYTES  # what it is unpacked to was a tokenizer.json once


class PackedTokenizer:
    """A tokenizer, from a .nest file or from a tokenizer.json; what is not asked for is not unpacked. name: for errors.

    frame: tokenizer.json without its vocabulary, scores and merges, not checked further than being JSON objects.
    vocabulary: the pieces, front-coded. order: (n,) uint32, the id of each, or None for 0, 1, 2, ...
    """

    def __init__(self, name: str, tensors: dict[str, Array] | None = None, plan: dict[str, Any] | None = None) -> None:
        self.name = name
        self._tensors, self._plan = tensors, plan

    @classmethod
    def of(cls, plan: dict[str, Any], name: str) -> Self:
        """From a checked plan."""
        return cls(name, plan=plan)

    @cached_property
    def plan(self) -> dict[str, Any]:
        """The whole tokenizer.json, checked."""
        if self._plan is not None:
            return self._plan
        return check_plan(dump_plan(unpack_tokenizer(self.tensors, self.name)), self.name)

    @cached_property
    def tensors(self) -> dict[str, Array]:
        """As a .nest file holds them."""
        return pack_tokenizer(self.plan, self.name) if self._tensors is None else self._tensors

    @cached_property
    def frame(self) -> dict[str, Any]:
        if self._plan is not None:
            bare = {key: value for key, value in self._plan["model"].items() if key not in ("vocab", "merges")}
            return {**self._plan, "model": bare}
        with _unpacking(self.name):
            _check_names(self.tensors)
            frame = parse_json(_expand(self.tensors["plan"]), f"The packed tokenizer of {self.name}")
            if not isinstance(frame["model"]["type"], str):
                raise ValueError("a model without a type")
            check_depth(frame, self.name)
            return dict(frame)

    @cached_property
    def vocabulary(self) -> bytes:
        if self._plan is not None:
            pieces = [piece.encode("utf-8", "surrogatepass") for piece, _ in self._pieces]
            return _runs(pieces, [0] * len(pieces))
        with _unpacking(self.name):
            return _expand(self.tensors["vocabulary"])

    @cached_property
    def order(self) -> npt.NDArray[np.uint32] | None:
        if self._plan is not None:
            return np.array([index for _, index in self._pieces], np.uint32)
        with _unpacking(self.name):
            order = self.tensors.get("order")
            if order is not None and (order.ndim != 1 or order.dtype.kind != "u"):
                raise ValueError("a token id that is no whole number")
            return None if order is None else order.astype(np.uint32)

    @property
    def scores(self) -> npt.NDArray[np.float64]:
        """(n,) float64, the score of each id of a Unigram model."""
        if self._plan is not None:
            return np.array([score for _, score in self._plan["model"]["vocab"]], np.float64)
        with _unpacking(self.name):
            if self.tensors["scores"].ndim != 1 or self.tensors["scores"].dtype.kind != "f":
                raise ValueError("scores that are no list of floats")
            return self.tensors["scores"].astype(np.float64)

    @cached_property
    def _pieces(self) -> list[tuple[str, int]]:
        """Pieces and their ids, in no order: sorting them would save bytes that are not kept."""
        model = self.plan["model"]
        if model["type"] == "Unigram":
            return [(piece, index) for index, (piece, _) in enumerate(model["vocab"])]
        return list(model["vocab"].items())


def pack_tokenizer(plan: dict[str, Any], name: str) -> dict[str, Array]:
    """A checked tokenizer.json -> tensors `vocabulary`, `plan` and, where needed, `order`, `scores`, `merges`.

    vocabulary, plan: (bytes,) uint8, zlib streams. order: (n,) uint16 or uint32, the id of each sorted piece, left
    out when ids are in sorted order. scores: (n,) float64 or float32 by id (Unigram). merges: (m, 2) ids (BPE).
    """
    model = dict(plan["model"])
    if model["type"] == "Unigram":
        pieces, ids = [piece for piece, _ in model["vocab"]], list(range(len(model["vocab"])))
    else:
        pieces, ids = list(model["vocab"]), list(model["vocab"].values())
    encoded = [piece.encode("utf-8") for piece in pieces]
    by_bytes = sorted(range(len(pieces)), key=lambda k: (encoded[k], ids[k]))
    order = _smallest([ids[k] for k in by_bytes])
    tensors = {"vocabulary": _compress(_front_code([encoded[k] for k in by_bytes]))}
    if not np.array_equal(order, np.arange(len(order))):
        tensors["order"] = order
    if model["type"] == "Unigram":
        tensors["scores"] = _scores([score for _, score in model["vocab"]])
    if model["type"] == "BPE":
        vocabulary = model["vocab"]
        pairs = [[vocabulary[left], vocabulary[right]] for left, right in merge_pairs(model, name)]
        tensors["merges"] = _smallest(pairs).reshape(-1, 2)
        del model["merges"]
    del model["vocab"]
    tensors["plan"] = _compress(dump_plan({**plan, "model": model}).encode("utf-8"))
    return tensors


def unpack_tokenizer(tensors: dict[str, Array], name: str) -> dict[str, Any]:
    """Undo `pack_tokenizer`. Raises ModelFileError where the tensors do not make a tokenizer."""
    with _unpacking(name):
        return _unpack(tensors, name)


@contextmanager
def _unpacking(name: str) -> Iterator[None]:
    """Turns what damaged tensors cause into a ModelFileError."""
    try:
        yield
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, zlib.error, RecursionError) as error:
        raise ModelFileError(
            f"The packed tokenizer of {name} cannot be unpacked: {type(error).__name__}: {error}.",
            "Tensors as docs/format.md describes them were expected.",
            DAMAGED,
        ) from error


def _check_names(tensors: dict[str, Array]) -> None:
    if set(tensors) - NAMES:
        raise ValueError(f"unknown tensors {', '.join(sorted(set(tensors) - NAMES))}")


def _unpack(tensors: dict[str, Array], name: str) -> dict[str, Any]:
    _check_names(tensors)
    plan = parse_json(_expand(tensors["plan"]), f"The packed tokenizer of {name}")
    model = plan["model"]
    pieces = [piece.decode("utf-8") for piece in _front_decode(_expand(tensors["vocabulary"]))]
    order = tensors["order"].tolist() if "order" in tensors else list(range(len(pieces)))
    if len(order) != len(pieces):
        raise ValueError("not as many ids as pieces")
    by_id = sorted(zip(order, pieces, strict=True))
    if model["type"] == "Unigram":
        model["vocab"] = [[piece, score] for (_, piece), score in zip(by_id, tensors["scores"].tolist(), strict=True)]
        return dict(plan)
    model["vocab"] = {piece: index for index, piece in by_id}
    if len(model["vocab"]) != len(pieces):
        raise ValueError("a piece is repeated")
    if model["type"] == "BPE":
        named = dict(by_id)
        model["merges"] = [[named[left], named[right]] for left, right in tensors["merges"].tolist()]
    return dict(plan)


def _front_code(pieces: list[bytes]) -> bytes:
    """Three runs: how many bytes each piece shares with the one before, how many follow (both LEB128), and these."""
    shared, before = [], b""
    for piece in pieces:
        shared.append(_shared(before, piece))
        before = piece
    return _runs(pieces, shared)


def _runs(pieces: list[bytes], shared: list[int]) -> bytes:
    rests = [piece[count:] for piece, count in zip(pieces, shared, strict=True)]
    return _leb128([len(pieces), *shared, *map(len, rests)]) + b"".join(rests)


def _shared(left: bytes, right: bytes) -> int:
    count = 0
    for one, other in zip(left, right, strict=False):
        if one != other:
            break
        count += 1
    return count


def _front_decode(raw: bytes) -> list[bytes]:
    (total,), place = _read_leb128(raw, 0, 1)
    if total > MAX_VOCABULARY:
        raise ValueError(f"{total:,} pieces; at most {MAX_VOCABULARY:,} are read")
    shared, place = _read_leb128(raw, place, total)
    rests, place = _read_leb128(raw, place, total)
    if place + sum(rests) != len(raw):
        raise ValueError("the pieces do not end with the bytes")
    if sum(shared) + sum(rests) > MOST_UNPACKED:
        raise ValueError(f"the pieces have over {MOST_UNPACKED:,} bytes together")
    pieces, before = [], b""
    for common, rest in zip(shared, rests, strict=True):
        if common > len(before):
            raise ValueError("a piece shares more bytes than there are")
        before = before[:common] + raw[place : place + rest]
        place += rest
        pieces.append(before)
    return pieces


def _leb128(numbers: list[int]) -> bytes:
    raw = bytearray()
    for number in numbers:
        while number > 127:
            raw.append(number & 127 | 128)
            number >>= 7
        raw.append(number)
    return bytes(raw)


def _read_leb128(raw: bytes, place: int, count: int) -> tuple[list[int], int]:
    numbers = []
    for _ in range(count):
        number = shift = 0
        while True:
            byte = raw[place]
            place += 1
            number |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
            if shift > 28:
                raise ValueError("a number is too long")
        numbers.append(number)
    return numbers, place


def _compress(raw: bytes) -> Array:
    return np.frombuffer(zlib.compress(raw, 9), np.uint8)


def _expand(packed: Array) -> bytes:
    """Decompress at most MOST_UNPACKED bytes, so that a small file cannot fill the memory."""
    stream = zlib.decompressobj()
    raw = stream.decompress(packed.astype(np.uint8, casting="equiv").tobytes(), MOST_UNPACKED)
    if not stream.eof:
        raise ValueError(f"a compressed tensor is cut short or holds over {MOST_UNPACKED:,} bytes")
    return raw


def _smallest(numbers: list[Any]) -> Array:
    wide = np.asarray(numbers, np.uint32)
    return wide.astype(np.uint16) if wide.size == 0 or wide.max() < 2**16 else wide


def _scores(scores: list[float]) -> Array:
    wide = np.asarray(scores, np.float64)
    narrow = wide.astype(np.float32)
    return narrow if np.array_equal(narrow.astype(np.float64), wide) else wide

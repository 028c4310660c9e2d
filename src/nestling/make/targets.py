"""Targets: a teacher's vectors of texts, made once and kept, for students to learn from.

The slow half of every recipe. A text is looked at once by a teacher under a prompt and a limit of tokens; all
poolings of its outputs are kept, on disk, in shards of 8,192 texts that are memory-mapped when they are read. A run
that is killed goes on with the shard that it was at.

A batch holds texts of one length, so nothing is padded, and a shard is batched by itself, so that the same texts in the
same order give the same vectors whenever a run was stopped (an int8 teacher's outputs depend on their batch mates).
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from nestling.errors import InputError, one_of
from nestling.make.settings import LOOK_DTYPES, LOOK_POOLINGS, Pooling
from nestling.model.pack import to_int8
from nestling.safe import atomic_write, write_text
from nestling.teacher import Teacher

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
TEXTS_A_SHARD = 8192


@dataclass(frozen=True)
class Look:
    """How a teacher looks at a text. prompt: goes before it. max_tokens: special ones included; the rest
    is cut off, as is what is beyond the teacher's own limit.
    dtype: of the vectors kept: "float16", or "int8" with a scale a vector."""

    prompt: str = ""
    max_tokens: int = 256
    dtype: str = "float16"

    def __post_init__(self) -> None:
        one_of("dtype", self.dtype, LOOK_DTYPES)


class Targets:
    """The vectors that `teacher` gave, or will give, to texts looked at in one way; kept under `cache`/targets.

    targets = Targets(teacher, cache_folder())
    targets.fill(texts, progress=True)
    sentences = targets.gather(texts, "sentence")   # (n, dim) float32
    """

    def __init__(self, teacher: Teacher, cache: Path, look: Look | None = None) -> None:
        look = look or Look()
        self.teacher, self.look = teacher, replace(look, max_tokens=min(look.max_tokens, teacher.max_tokens))
        said = {"teacher": teacher.name, "fingerprint": teacher.fingerprint, "pooling": teacher.pooling}
        said |= vars(self.look)
        key = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
        self.folder = cache / "targets" / f"{teacher.name.split('/')[-1]}-{key[:12]}"
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self.folder / "about.json", json.dumps(said, indent=1, sort_keys=True))
        self._sorted: tuple[list[str], Array, Array, Array] | None = None

    def fill(self, texts: Iterable[str], progress: bool = False) -> int:
        """Make the vectors of the texts that have none yet. Returns how many of all the texts, each counted once, are
        longer than max_tokens, whenever they were looked at."""
        known, each = set(self._index()[1].tolist()), dict(_distinct(texts))
        missing = [text for key, text in each.items() if key not in known]
        cut = self._longer(self._read([text for key, text in each.items() if key in known]))
        with tqdm(total=len(missing), desc=f"targets {self.teacher.name}", unit="text", disable=not progress) as bar:
            for start in range(0, len(missing), TEXTS_A_SHARD):
                part = missing[start : start + TEXTS_A_SHARD]
                ids = list(self._read(part))
                self._save(part, self._through_teacher(ids))
                cut += self._longer(ids)
                bar.update(len(part))
        return cut

    def gather(self, texts: Sequence[str], pooling: Pooling) -> Floats:
        """The kept vectors, (n, dim) float32. InputError where a text has none: `fill` comes first."""
        names, keys, shards, places = self._index()
        wanted = hash_texts(texts)
        if not len(keys) and len(wanted):
            raise _missing(texts[0])
        found = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1) if len(keys) else np.zeros(0, np.int64)
        if not np.array_equal(keys[found], wanted):
            raise _missing(texts[int(np.flatnonzero(keys[found] != wanted)[0])])
        vectors = np.empty((len(wanted), self.teacher.dim), np.float32)
        for shard in np.unique(shards[found]):
            rows = np.flatnonzero(shards[found] == shard)
            vectors[rows] = self._load(names[shard], places[found[rows]], LOOK_POOLINGS.index(pooling))
        return vectors

    def _names(self) -> list[str]:
        """Names of the finished shards: those whose keys, which are written last, are there."""
        return sorted(path.name.removesuffix(".keys.npy") for path in self.folder.glob("*.keys.npy"))

    def _index(self) -> tuple[list[str], Array, Array, Array]:
        """Names of the finished shards and, sorted by key, of every vector the key of its text, its shard and its row.

        Read again only when there are other shards; names and places are of one moment, since another run may add some.
        """
        names = self._names()
        if self._sorted is None or self._sorted[0] != names:
            each = [np.load(self.folder / f"{name}.keys.npy", allow_pickle=False).view("S16")[:, 0] for name in names]
            keys = np.concatenate([np.zeros(0, "S16"), *each])
            shards = np.repeat(np.arange(len(each), dtype=np.int32), [len(part) for part in each])
            places = np.concatenate([np.arange(len(part), dtype=np.int32) for part in [(), *each]])
            order = np.argsort(keys, kind="stable")
            self._sorted = names, keys[order], shards[order], places[order]
        return self._sorted

    def _save(self, texts: Sequence[str], vectors: Floats) -> None:
        """Under a name that the texts decide, so that two runs at once do not get in each other's way."""
        keys = hash_texts(texts)
        name = hashlib.sha256(keys.tobytes()).hexdigest()[:16]
        if self.look.dtype == "int8":
            values, scales = to_int8(vectors.reshape(-1, self.teacher.dim))
            save_array(self.folder / f"{name}.scales.npy", scales.reshape(len(texts), -1))
            save_array(self.folder / f"{name}.vectors.npy", values.reshape(vectors.shape))
        else:
            save_array(self.folder / f"{name}.vectors.npy", vectors.astype(np.float16))
        save_array(self.folder / f"{name}.keys.npy", np.frombuffer(keys.tobytes(), np.uint8).reshape(-1, 16))

    def _load(self, name: str, places: npt.NDArray[np.int32], pooling: int) -> Floats:
        kept = np.load(self.folder / f"{name}.vectors.npy", mmap_mode="r", allow_pickle=False)
        vectors: Floats = kept[places, pooling].astype(np.float32)
        if self.look.dtype == "int8":
            scales = np.load(self.folder / f"{name}.scales.npy", allow_pickle=False)
            vectors *= scales[places, pooling, None]
        return vectors

    def _read(self, texts: Sequence[str]) -> Iterator[list[int]]:
        """The teacher's ids of each text behind the prompt, whole, without special ones."""
        tokenizer = self.teacher.bare_tokenizer
        for start in range(0, len(texts), TEXTS_A_SHARD):
            prompted = [self.look.prompt + text for text in texts[start : start + TEXTS_A_SHARD]]
            yield from (entry.ids for entry in tokenizer.encode_batch_fast(prompted, add_special_tokens=False))

    @property
    def _most(self) -> int:
        """Tokens of a text, with its prompt, that the teacher sees."""
        return self.look.max_tokens - sum(map(len, self.teacher.ends()))

    def _longer(self, texts: Iterable[list[int]]) -> int:
        most = self._most
        return sum(len(ids) > most for ids in texts)

    def _through_teacher(self, texts: Sequence[list[int]]) -> Floats:
        """Ids of n texts -> (n, poolings, dim) float32."""
        (before, after), most = self.teacher.ends(), self._most
        ids = [[*before, *own[:most], *after] for own in texts]
        vectors = np.zeros((len(texts), len(LOOK_POOLINGS), self.teacher.dim), np.float32)

        def work(batch: list[int]) -> None:
            states = self.teacher.forward(np.array([ids[index] for index in batch], np.int64))
            inner = states[:, len(before) : states.shape[1] - len(after)]
            if inner.shape[1]:
                vectors[batch, 0] = inner.mean(axis=1)
            vectors[batch, 1] = states[:, 0] if self.teacher.pooling == "cls" else states.mean(axis=1)

        through_all(work, [len(row) for row in ids], self.teacher)
        return vectors


def through_all(work: Callable[[list[int]], None], lengths: Sequence[int], teacher: Teacher) -> None:
    """Call `work` on the places of texts of one length, as many at once as suits the teacher, on all its threads."""
    with ThreadPoolExecutor(teacher.workers) as pool:
        for _ in pool.map(work, _batches(lengths, teacher.tokens_a_batch)):
            pass


def _batches(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Places of texts of one length, at most `tokens` tokens together, long ones first."""
    order = sorted(range(len(lengths)), key=lambda place: (-lengths[place], place))
    for length, group in groupby(order, key=lambda place: lengths[place]):
        places, most = list(group), max(tokens // max(length, 1), 1)
        for start in range(0, len(places), most):
            yield places[start : start + most]


def hash_texts(texts: Iterable[str]) -> npt.NDArray[np.bytes_]:
    """A key of 16 bytes for each text: (n,) S16."""
    return np.frombuffer(b"".join(map(_key, texts)), "S16")


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8"), digest_size=16).digest()


def _distinct(texts: Iterable[str]) -> Iterator[tuple[bytes, str]]:
    """Each text once, with its key as numpy gives it back."""
    for text in dict.fromkeys(texts):
        yield _key(text).rstrip(b"\0"), text


def save_array(path: Path, array: Array) -> None:
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def _missing(text: str) -> InputError:
    return InputError(f"{text[:60]!r} has no target.", "Vectors were expected for every text.", "Call fill first.")

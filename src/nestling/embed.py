"""A file of texts into a file of vectors, in constant memory, and on again after a break.

The source is embedded in parts of `rows_per_part` texts. A finished part lies in the folder `<target>.parts`
until the last one is done; then they are joined into the target, which appears whole or not at all. The name of
a part says how many of its texts were cut; beside the parts, `job.json` says what they were made from, so that
parts of two models, files or options never mix.
"""

import hashlib
import json
import re
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
import numpy.typing as npt

from nestling.errors import InputError, InputTypeError, one_of, whole_number
from nestling.files.texts import parquet_packages, read_texts
from nestling.model.common import CutWarning, Dtype, Model, Overflow, cut_message
from nestling.model.load import load
from nestling.model.output import dtype_name
from nestling.safe import atomic_write, check_target, write_text

Array = npt.NDArray[Any]
JOB = "job.json"
OWN = re.compile(r"job\.json|\d{8}\.\d+\.npy")
LEFT = re.compile(rf"\.(?:{OWN.pattern})\.\d+\.[0-9a-f]+")  # by a write that was broken off
Role = Literal["query", "document"]


@runtime_checkable
class Encoder(Protocol):
    """What `embed_file` needs of a model."""

    @property
    def fingerprint(self) -> str:
        """Names everything that changes a vector."""

    @property
    def max_tokens(self) -> int | None:
        """The longest text, None for no limit."""

    def encode_counting(
        self,
        texts: list[str],
        /,
        *,
        dim: int | None = None,
        overflow: Overflow | None = None,
        dtype: Dtype = "float32",
        threads: int | None = None,
    ) -> tuple[Array, int]:
        """n texts -> (n, dim) of `dtype`, or (n, ceil(dim / 8)) uint8 when it is "binary", and how many were cut."""


@dataclass(frozen=True)
class EmbedReport:
    """What a run of `embed_file` did."""

    rows: int  # texts in the source, and so vectors in the target
    parts_made: int  # embedded by this run
    parts_found: int  # left by a run that was broken off
    cut: int  # texts that were longer than the model takes, in all parts
    seconds: float


def embed_file(
    model: Encoder | str | Path,
    source: Path | str,
    target: Path | str,
    *,
    column: str | None = None,
    role: Role | None = None,
    dim: int | None = None,
    dtype: Dtype = "float32",
    overflow: Overflow | None = None,
    threads: int | None = None,
    rows_per_part: int = 50_000,
    progress: bool = False,
) -> EmbedReport:
    """Embed every text of `source` (see `read_texts`) and write the vectors to `target`, row i for text i.

    model: a loaded one, or what `load` takes. column, rows_per_part: of the source. role: whether the texts are each a
    "query" or a "document", which models with tasks embed as `encode_query` and `encode_document` do. The rest is as in
    `encode`; where texts were cut, one CutWarning at the end says how many, those of an earlier run included.

    .npy:     one array, (n, dim) of `dtype`, or (n, ceil(dim / 8)) uint8 when it is "binary".
    .parquet: the columns `text` and `embedding`, a fixed-size list; the key `nestling` of the file's metadata
              holds JSON with the model's fingerprint, dim and dtype. Needs the extra [parquet].

    A run that was broken off goes on when it is called again the same way, and ends with the same bytes.

        embed_file(model, "questions.jsonl", "questions.npy", column="question", dtype="int8")
    """
    started = time.perf_counter()
    source, target = Path(source), Path(target)
    _check_target(source, target)
    whole_number("rows_per_part", rows_per_part, 1)
    dtype = dtype_name(dtype)
    model = _loaded(model)
    overflow = overflow or getattr(model, "usual_overflow", "cut")
    read = partial(read_texts, source, column=column, batch=rows_per_part)
    task = _task_of(model, role)
    encode = partial(model.encode_counting, dim=dim, dtype=dtype, overflow=overflow, threads=threads, **task)
    batches, (empty, _), stamp = read(), encode([]), _stamp(source)
    about = {"model": model.fingerprint, "dim": model.encode_counting([], dim=dim)[0].shape[1], "dtype": dtype}
    reading = {"sha256": _sha256(source), "suffix": source.suffix, "column": column}
    job = about | task | reading | {"overflow": overflow, "rows_per_part": rows_per_part}
    parts = _Parts(Path(f"{target}.parts"), json.dumps(job, indent=1))

    rows, made, found, cut = _fill(parts, batches, encode, empty.shape[1], progress)
    _check_unchanged(source, stamp)
    with atomic_write(target) as temporary:
        if target.suffix.lower() == ".npy":
            _write_npy(temporary, parts.arrays(), rows, empty)
        else:
            _write_parquet(temporary, parts.arrays(), read(), empty, json.dumps(about))
        _check_unchanged(source, stamp)
    parts.remove()
    if cut:
        warnings.warn(cut_message(cut, rows, model.max_tokens), CutWarning, stacklevel=2)
    return EmbedReport(rows, made, found, cut, time.perf_counter() - started)


def _loaded(model: Encoder | str | Path) -> Encoder:
    if isinstance(model, (str, Path)):
        return load(model)
    if not isinstance(model, Encoder):
        raise InputTypeError(
            f"A model of type {type(model).__name__} was given;",
            "a loaded model, or what load takes, was expected.",
            'Pass nestling.load("nano"), say.',
        )
    return model


def _task_of(model: Encoder, role: Role | None) -> dict[str, str]:
    """How `encode_counting` is told what the texts are; a model without a task for them embeds them as any text."""
    if role is None:
        return {}
    one_of("role", role, get_args(Role))
    if not isinstance(model, Model):
        raise InputError(
            f"role={role!r} was given.", "A model of nestling, which has roles, was expected.", "Leave it out."
        )
    task = model.route(role)
    return {"task": task} if task else {}


class _Parts:
    """The finished parts of one job, in a folder of their own: `NUMBER.CUT.npy`, numbered from 00000000."""

    def __init__(self, folder: Path, job: str) -> None:
        self.folder, self.job = folder, job
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder} is a file.", "Parts are kept in a folder there.", "Move it away.")
        if folder.is_dir() and any(not file.name.startswith(".") for file in folder.iterdir()):
            self._check_job()

    def _files(self, own: re.Pattern[str] = OWN) -> list[Path]:
        """What is there of a job, its description last."""
        return sorted(
            (file for file in self.folder.glob("*") if own.fullmatch(file.name)),
            key=lambda file: (file.name == JOB, file.name),
        )

    def _check_job(self) -> None:
        file = self.folder / JOB
        found = file.read_bytes().decode("utf-8", "replace") if file.is_file() else ""
        if not found:
            raise InputError(f"{self.folder} holds no parts.", "A new folder was expected.", "Choose another target.")
        if found != self.job:
            raise InputError(
                f"{self.folder} holds parts of another job: {_lines_missing(self.job, found)}.",
                f"This one is: {_lines_missing(found, self.job)}.",
                "Delete the folder to start again, or choose another target.",
            )

    def cut_in(self, number: int, shape: tuple[int, ...]) -> int | None:
        """How many texts of a part, of this shape, were cut; None if it is not there."""
        found = next((file for file in self.folder.glob(f"{number:08d}.*") if OWN.fullmatch(file.name)), None)
        if found is None:
            return None
        if _read_part(found, "r").shape != shape:
            raise _damaged_part(found, f"its shape is not {shape}")
        return int(found.name.split(".")[1])

    def save(self, number: int, vectors: Array, cut: int) -> None:
        """Keep a finished part. The job is written before the first part and removed after the last."""
        self.folder.mkdir(exist_ok=True)
        if not (self.folder / JOB).exists():
            write_text(self.folder / JOB, self.job)
        with atomic_write(self.folder / f"{number:08d}.{cut}.npy") as temporary:
            _write_npy(temporary, [vectors], len(vectors), vectors[:0])

    def arrays(self) -> Iterator[Array]:
        return map(_read_part, (file for file in self._files() if file.suffix == ".npy"))

    def remove(self) -> None:
        """The parts, and the folder if nothing else is in it."""
        for file in [*self._files(LEFT), *self._files()]:
            file.unlink()
        with suppress(OSError):
            self.folder.rmdir()


def _fill(
    parts: _Parts,
    batches: Iterable[list[str]],
    encode: Callable[[list[str]], tuple[Array, int]],
    width: int,
    progress: bool,
) -> tuple[int, int, int, int]:
    """Make the parts that are not there yet. Returns the texts of all, parts made, parts found, and texts cut."""
    from tqdm import tqdm

    rows = made = found = all_cut = 0
    hidden = None if progress else True  # None: where there is no terminal
    with tqdm(unit=" texts", unit_scale=True, disable=hidden) as bar:
        for number, texts in enumerate(batches):
            cut = parts.cut_in(number, (len(texts), width))
            if cut is None:
                vectors, cut = _encoded(encode, texts, rows)
                parts.save(number, vectors, cut)
                made += 1
            else:
                found += 1
            all_cut += cut
            rows += len(texts)
            bar.update(len(texts))
    return rows, made, found, all_cut


def _encoded(encode: Callable[[list[str]], tuple[Array, int]], texts: list[str], first: int) -> tuple[Array, int]:
    """The vectors of a part; an error says where in the file it begins."""
    try:
        return encode(texts)
    except InputError as error:
        raise InputError(f"Counted from row {first:,}: {error.given}", error.expected, error.do) from error


def _read_part(path: Path, mapped: Literal["r"] | None = None) -> Array:
    try:
        part: Array = np.load(path, mapped, allow_pickle=False)
        return part
    except (ValueError, EOFError) as error:
        raise _damaged_part(path, error) from error


def _damaged_part(path: Path, why: object) -> InputError:
    return InputError(
        f"The part {path} is damaged: {why}.", "A whole .npy file was expected.", "Delete it and run again."
    )


def _write_npy(path: Path, arrays: Iterable[Array], rows: int, empty: Array) -> None:
    """Write arrays as one of `rows` rows.

    By plain writes: on a full disk they raise, where a write through a memory-map ends the process.
    """
    header = {
        "descr": np.lib.format.dtype_to_descr(empty.dtype),
        "fortran_order": False,
        "shape": (rows, empty.shape[1]),
    }
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for array in arrays:
            file.write(np.ascontiguousarray(array).data)


def _write_parquet(path: Path, arrays: Iterable[Array], batches: Iterable[list[str]], empty: Array, about: str) -> None:
    """Write texts and their vectors, a row group a part."""
    arrow, parquet = parquet_packages(f"Writing {path}")
    vector = arrow.list_(arrow.from_numpy_dtype(empty.dtype), empty.shape[1])
    schema = arrow.schema({"text": arrow.large_string(), "embedding": vector}, metadata={"nestling": about})
    with parquet.ParquetWriter(path, schema, use_dictionary=False) as writer:
        for texts, array in zip(batches, arrays, strict=True):
            vectors = arrow.FixedSizeListArray.from_arrays(array.reshape(-1), type=vector)
            writer.write_table(arrow.table([texts, vectors], schema=schema), row_group_size=len(texts))


def _check_target(source: Path, target: Path) -> None:
    check_target(target, suffixes=(".npy", ".parquet"))
    if target.resolve() == source.resolve():
        raise InputError(f"{target} is both source and target.", "Two files were expected.", "Choose another target.")
    if target.suffix.lower() == ".parquet":
        parquet_packages(f"Writing {target}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _check_unchanged(source: Path, stamp: tuple[int, int]) -> None:
    if _stamp(source) != stamp:
        raise InputError(
            f"{source} was written to while it was read.",
            "A file that stays as it is was expected.",
            "Delete the folder of parts beside the target, and run again.",
        )


def _lines_missing(text: str, found: str) -> str:
    """The lines of `found` that `text` lacks, for a message."""
    missing = [line.strip(" ,") for line in found.splitlines() if line not in text.splitlines()]
    return ", ".join(missing) or "unknown"

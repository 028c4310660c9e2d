"""Bytes on disk, safely: atomic writes, bounded JSON, checked safetensors.

Nothing here trusts a file. Sizes are capped and a safetensors header is checked whole before anything is allocated, and
a write either happens whole or leaves the old file as it was.
"""

import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nestling.errors import InputError, ModelFileError

MAX_JSON_BYTES = 100_000_000
MAX_HEADER_BYTES = 10_000_000
MOST_VALUES = 2**48  # of a tensor, and of each of its sides
NUMPY_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
               "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1"}  # fmt: skip

Array = npt.NDArray[Any]


def check_target(path: Path | str, *, suffixes: tuple[str, ...] = (), folder: bool = False) -> None:
    """Raise InputError unless a file (or, with `folder`, a folder) can be written to `path`; called before the work.

    suffixes: what the name must end in, in small letters; none for any.
    """
    target = Path(os.path.realpath(path))
    if suffixes and Path(path).suffix.lower() not in suffixes:
        raise InputError(
            f"{path} has the unknown suffix {Path(path).suffix!r}.",
            f"A name that ends in {' or '.join(suffixes)} was expected.",
            "Rename the target.",
        )
    if folder and target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(
            f"{path} is there already.", "A new or empty folder was expected.", "Delete it or choose another."
        )
    if folder and target == Path.cwd():
        raise InputError(f"{path} is the folder you are in.", "Another was expected.", "Give it a name.")
    if not folder and target.exists() and not target.is_file():
        kind = "a folder" if target.is_dir() else "no regular file"
        raise InputError(f"{str(path)!r} is {kind}.", "The name of a file to write was expected.", "Choose another.")
    home = next(parent for parent in target.parents if parent.exists()) if folder else target.parent
    if not home.is_dir():
        raise InputError(f"The folder {home} is not there.", "One to write into was expected.", "Make it first.")
    if not os.access(home, os.W_OK | os.X_OK):
        raise InputError(f"The folder {home} cannot be written to.", "One that can was expected.", "Choose another.")


@contextmanager
def atomic_write(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on a clean exit it replaces `path`, otherwise it is removed.

    Of a symlink, what it points to is replaced. The file and its folder are synced, so that after a crash `path` holds
    the old bytes or the new, never a part.
    """
    check_target(path)
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.{os.getpid()}.{os.urandom(4).hex()}")
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(target)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
    _sync(target.parent)


def write_text(path: Path | str, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _sync(path: Path) -> None:
    if os.name == "nt":
        return  # where a folder cannot be opened
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_json(path: Path, most: int = MAX_JSON_BYTES) -> Any:
    """Parse a JSON file of at most `most` bytes, refusing what `parse_json` refuses."""
    return parse_json(read_bytes(path, most), str(path))


def read_bytes(path: Path, most: int) -> bytes:
    """The bytes of a regular file of at most `most` bytes."""
    try:
        size = _regular_size(path)
        if size > most:
            raise ModelFileError(f"{path} has {size:,} bytes;", f"at most {most:,} are read.", "Check the file.")
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error, "A readable file was expected.") from error


def _unreadable(path: Path, error: OSError, expected: str) -> ModelFileError:
    return ModelFileError(f"{path} cannot be read: {error.strerror or error}.", expected, "Check the path.")


def _regular_size(path: Path) -> int:
    """Bytes of a regular file. Opening a pipe would wait for ever, and a device may have no end."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError("it is no regular file")
    return found.st_size


def parse_json(raw: bytes, name: str, parse_float: Callable[[str], float] | None = None) -> Any:
    """JSON from bytes, refusing repeated keys, bad UTF-8, halves of characters and bottomless nesting.

    name: says in an error where they came from. parse_float: as in `json.loads`.
    """
    try:
        text = raw.decode("utf-8")
        value = json.loads(text, object_pairs_hook=no_repeats, parse_float=parse_float)
        if HALF_ESCAPE.search(text):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        return value
    except (ValueError, RecursionError) as error:
        raise ModelFileError(
            f"{name} is not valid JSON: {error}.", "UTF-8 JSON without repeated keys was expected.", DAMAGED
        ) from error


HALF_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")  # of a pair, as it should be, or alone, which no UTF-8 can hold
DAMAGED = "The file is damaged or hostile: get it again from where it came."


def no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For `json.loads`: an object of these pairs; ValueError if a key is repeated."""
    whole = dict(pairs)
    if len(whole) != len(pairs):
        raise ValueError("a key is repeated")
    return whole


def write_tensors(path: Path | str, tensors: dict[str, Array], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file atomically; the same tensors, in any order, give the same bytes.

    metadata: of one key, because safetensors writes more in a random order.
    """
    from safetensors.numpy import save as to_safetensors

    contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    with atomic_write(path) as temporary:
        temporary.write_bytes(to_safetensors(contiguous, metadata))


def read_header(path: Path) -> dict[str, Any]:
    """The header of a safetensors file: name -> {dtype, shape, data_offsets}, and `__metadata__`.

    Refuses, before anything is allocated, a header that is too long, tensors that overlap, leave holes or end
    elsewhere than the file, shapes that disagree with their bytes, and unknown dtypes.
    """
    try:
        size = _regular_size(path)
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, MAX_HEADER_BYTES):
                raise _damaged(path, f"a header of {length:,} bytes in a file of {size:,}")
            header = parse_json(file.read(length), f"the header of {path}")
    except OSError as error:
        raise _unreadable(path, error, "A safetensors file was expected.") from error
    _check_header(path, header, size - 8 - length)
    return dict(header)


def _check_header(path: Path, header: Any, body: int) -> None:
    if not isinstance(header, dict):
        raise _damaged(path, "a header that is no JSON object")
    about = header.get("__metadata__", {})
    if not isinstance(about, dict) or not all(isinstance(value, str) for value in about.values()):
        raise _damaged(path, "metadata that is no object of strings")
    spans = []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        shape, offsets = _shape_and_offsets(path, name, entry)
        itemsize = np.dtype(NUMPY_TYPES[entry["dtype"]]).itemsize
        huge = prod(max(side, 1) for side in shape) >= MOST_VALUES  # numpy refuses it beside a side of 0, too
        if huge or prod(shape) * itemsize != offsets[1] - offsets[0]:
            raise _damaged(path, f"tensor {name!r} whose shape {shape} disagrees with its bytes")
        spans.append(offsets)
    end = 0
    for start, stop in sorted(spans):
        if start != end:
            raise _damaged(path, "tensors that overlap or leave holes")
        end = stop
    if end != body:
        raise _damaged(path, f"tensors of {end:,} bytes in a body of {body:,}")


def _shape_and_offsets(path: Path, name: str, entry: Any) -> tuple[list[int], tuple[int, int]]:
    def whole_numbers(value: Any) -> bool:
        return isinstance(value, list) and all(type(v) is int and 0 <= v < MOST_VALUES for v in value)

    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _damaged(path, f"tensor {name!r} without dtype, shape and data_offsets")
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not (whole_numbers(shape) and whole_numbers(offsets) and len(offsets) == 2 and len(shape) <= 4):
        raise _damaged(path, f"tensor {name!r} with a bad shape or data_offsets")
    if not isinstance(entry["dtype"], str) or entry["dtype"] not in NUMPY_TYPES:
        known = ", ".join(NUMPY_TYPES)
        raise ModelFileError(
            f"{path}: tensor {name!r} has dtype {entry['dtype']!r};", f"read are {known}.", "Convert it."
        )
    return shape, (offsets[0], offsets[1])


def _damaged(path: Path, what: str) -> ModelFileError:
    return ModelFileError(f"{path} has {what}.", "A well-formed safetensors file was expected.", DAMAGED)


def read_tensors(path: Path) -> dict[str, Array]:
    """Every tensor of a safetensors file whose header `read_header` accepts.

    By plain reads, once into memory: a file that shrinks while it is mapped would end the process.
    """
    header = read_header(path)
    tensors = {}
    try:
        with path.open("rb") as file:
            start = 8 + int.from_bytes(file.read(8), "little")
            for name, entry in sorted(header.items()):
                if name == "__metadata__":
                    continue
                first, last = entry["data_offsets"]
                dtype = np.dtype(NUMPY_TYPES[entry["dtype"]])
                file.seek(start + first)
                values = np.fromfile(file, dtype, (last - first) // dtype.itemsize)
                if values.nbytes != last - first:
                    raise _damaged(path, f"tensor {name!r} that ends early")
                tensors[name] = values.reshape(entry["shape"])
    except OSError as error:
        raise _unreadable(path, error, "A safetensors file was expected.") from error
    return tensors

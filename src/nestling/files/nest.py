"""The .nest file: everything needed to embed a string, as one safetensors file (docs/format.md).

The tensors of the table stand beside those of the packed tokenizer (`tokenizer.*`), the vectors of the canary texts
(`canaries`) and, in files that are still to be shrunk, the token counts (`counts`). One JSON document in
`__metadata__` says the rest.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nestling.errors import InputError, ModelFileError
from nestling.files.parts import Document, Parts, document_from_json, document_to_json
from nestling.safe import DAMAGED, parse_json, read_header, read_tensors, write_tensors
from nestling.text.packed import PackedTokenizer

FORMAT = "nest"
VERSION = 1
TOKENIZER = "tokenizer."

Array = npt.NDArray[Any]


def write_nest(path: Path | str, parts: Parts, canaries: npt.NDArray[np.float32], fingerprint: str) -> None:
    """Write parts as one file, atomically. canaries: (texts, dim) float32, the vectors of the canary texts.

    Raises InputError for a document that could not be read again.
    """
    tensors = {
        **parts.tensors,
        **{TOKENIZER + name: tensor for name, tensor in parts.tokenizer.tensors.items()},
        "canaries": canaries,
    }
    if parts.counts is not None:
        tensors["counts"] = parts.counts
    whole = {
        "format": FORMAT,
        "version": VERSION,
        "architecture": parts.document.architecture,
        "pooling": parts.document.pooling,
        "fingerprint": fingerprint,
        **document_to_json(parts.document),
    }
    try:
        text = json.dumps(whole, ensure_ascii=False, separators=(",", ":"))
        _from_text(text, path)
    except (TypeError, ValueError, ModelFileError) as error:
        given = getattr(error, "given", f"The document of {path} is no JSON: {error}.")
        raise InputError(given, "One that can be read again was expected.", "Correct the model's document.") from error
    write_tensors(path, tensors, {FORMAT: text})


def read_document(path: Path) -> tuple[Document, str]:
    """The document of a .nest file and the fingerprint it states, without reading the tensors."""
    metadata = read_header(path).get("__metadata__")
    if not isinstance(metadata, dict) or set(metadata) != {FORMAT} or not isinstance(metadata[FORMAT], str):
        raise ModelFileError(
            f"{path} has no document.", 'A .nest file keeps one under "nest" in its metadata.', "Load a .nest file."
        )
    return _from_text(metadata[FORMAT], path)


def _from_text(text: str, path: Path | str) -> tuple[Document, str]:
    whole = parse_json(text.encode("utf-8", "surrogatepass"), f"The document of {path}")
    try:
        fingerprint = _take_fixed_keys(whole)
        return document_from_json(whole), fingerprint
    except ValueError as error:
        raise _wrong(path, error) from error


def _take_fixed_keys(whole: Any) -> str:
    """Check and remove the keys that say what kind of file this is. Returns the fingerprint."""
    if not isinstance(whole, dict):
        raise ValueError("the document is no JSON object")
    expected = {"format": FORMAT, "version": VERSION}
    for key, value in expected.items():
        given = whole.pop(key, None)
        if given != value or type(given) is not type(value):
            raise ValueError(f"{key} is {str(given)[:60]!r}; this version of nestling reads {value!r}")
    fingerprint = whole.pop("fingerprint", None)
    if not isinstance(fingerprint, str):
        raise ValueError("fingerprint is missing")
    if missing := {"architecture", "pooling"} - set(whole):
        raise ValueError(f"{' and '.join(sorted(missing))} is missing")
    return fingerprint


def _wrong(path: Path | str, error: ValueError) -> ModelFileError:
    return ModelFileError(f"{path}: {error}.", "A .nest file as docs/format.md describes it was expected.", DAMAGED)


def read_nest(path: Path) -> tuple[Parts, Array, str]:
    """Read a .nest file -> its parts, the stored canary vectors (texts, dim) float32, and the stated fingerprint."""
    document, fingerprint = read_document(path)
    tensors = read_tensors(path)
    packed = {name.removeprefix(TOKENIZER): tensors.pop(name) for name in list(tensors) if name.startswith(TOKENIZER)}
    canaries, counts = tensors.pop("canaries", None), tensors.pop("counts", None)
    if canaries is None or canaries.shape != (len(document.canaries), document.dim) or canaries.dtype != np.float32:
        raise _wrong(path, ValueError("canaries do not fit the document"))
    if not np.isfinite(canaries).all():
        raise _wrong(path, ValueError("canaries with values that are not finite"))
    if counts is not None and (counts.ndim != 1 or counts.dtype != np.uint32):
        raise _wrong(path, ValueError("counts is no (n,) uint32"))
    return Parts(document, tensors, PackedTokenizer(document.name, packed), counts), canaries, fingerprint

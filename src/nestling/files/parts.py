"""What a model consists of, whatever the layout on disk: a document, tensors, and a tokenizer plan.

The layouts (nest.py, foreign.py) turn bytes into parts and parts into bytes; the model is built from parts.
"""

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from nestling.text.packed import PackedTokenizer

Array = npt.NDArray[Any]
MAX_DIM = 65_536
MOST_TOKENS = 65_536  # of a text that a transformer looks at
POOLINGS = ("mean", "sublinear")
ROLES = {"query", "document", "text"}
ARCHITECTURES = ("static", "transformer")


@dataclass(frozen=True)
class Source:
    """Something a model was made from. role: "teacher" or "data"; name: hub id or data set; licence: as it states."""

    role: str
    name: str
    licence: str


@dataclass(frozen=True)
class Document:
    """What a model says about itself. Every field is stored; an unknown one is an error.

    scheme: form of the rows (model/rows.py). dim: columns of a vector. dims: the tiers, largest first.
    architecture: one of ARCHITECTURES. Of a transformer, inner: columns of the table; head: of an attention head.
    pooling: one of POOLINGS. drop: token ids that are not pooled. max_tokens: the longest text, None for no limit.
    prompts: task -> prefix. task_tokens: task -> the id that goes before a text. routes: "query", "document" or
    "text" (any other) -> the task of such texts, where none is asked for. recipe: sha256 of the recipe. scores: task ->
    dim -> score. canaries: texts whose vectors are stored.
    """

    scheme: str
    dim: int
    dims: tuple[int, ...]
    name: str = "unnamed"
    description: str = ""
    architecture: str = "static"
    inner: int | None = None
    head: int | None = None
    pooling: str = "mean"
    drop: tuple[int, ...] = ()
    max_tokens: int | None = None
    prompts: dict[str, str] = field(default_factory=dict)
    task_tokens: dict[str, int] = field(default_factory=dict)
    routes: dict[str, str] = field(default_factory=dict)
    licence: str = "unknown"
    lineage: tuple[Source, ...] = ()
    recipe: str | None = None
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    canaries: tuple[str, ...] = ()

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that have a prompt, or a token, of their own."""
        return (*self.prompts, *self.task_tokens)

    @property
    def sublinear(self) -> bool:
        """Whether a token that a text repeats counts less each time."""
        return self.pooling == "sublinear"


@dataclass(frozen=True)
class Parts:
    """document, the tensors of the table (model/rows.py names them), and the tokenizer."""

    document: Document
    tensors: dict[str, Array]
    tokenizer: PackedTokenizer
    counts: npt.NDArray[np.uint32] | None = None


def document_to_json(document: Document) -> dict[str, Any]:
    """Plain JSON values; `document_from_json` undoes it."""
    plain = {entry.name: getattr(document, entry.name) for entry in fields(Document)}
    for name in ("inner", "head", "task_tokens", "routes"):
        if not plain[name]:
            del plain[name]  # which a static model does not have
    return {**plain, "lineage": [vars(source) for source in document.lineage]}


def document_from_json(plain: Any) -> Document:
    """Check and build a document. Raises ValueError saying what is wrong."""
    if not isinstance(plain, dict):
        raise ValueError("the document is no JSON object")
    unknown = set(plain) - {entry.name for entry in fields(Document)}
    if unknown:
        raise ValueError(f"the document has unknown keys: {', '.join(sorted(unknown))}")
    missing = {"scheme", "dim", "dims"} - set(plain)
    if missing:
        raise ValueError(f"the document lacks {', '.join(sorted(missing))}")
    values = {**plain, "lineage": [_source(entry) for entry in _listed(plain, "lineage", dict)]}
    kinds = {"scheme": str, "pooling": str, "name": str, "description": str, "licence": str, "dim": int}
    kinds |= {"architecture": str, "inner": int, "head": int, "task_tokens": dict, "routes": dict}
    for name, kind in kinds.items():
        if name in plain and type(plain[name]) is not kind:
            raise ValueError(f"{name} is {str(plain[name])[:60]!r}, expected {kind.__name__}")
    for name in ("dims", "drop", "canaries", "lineage"):
        _listed(plain, name, {"canaries": str, "lineage": dict}.get(name, int))
        values[name] = tuple(values.get(name, ()))
    for name in ("max_tokens", "recipe"):
        expected = int if name == "max_tokens" else str
        if plain.get(name) is not None and type(plain[name]) is not expected:
            raise ValueError(f"{name} is {plain[name]!r}, expected {expected.__name__} or null")
    _check_texts_and_scores(plain)
    document = Document(**values)
    check_numbers(document)
    return document


def check_numbers(document: Document) -> None:
    """Raise ValueError unless the dims and limits of a document make sense."""
    if not 0 < document.dim <= MAX_DIM:
        raise ValueError(f"dim is {document.dim}, expected 1 to {MAX_DIM}")
    if not document.dims or document.dims[0] != document.dim or list(document.dims) != sorted(set(document.dims))[::-1]:
        raise ValueError(f"dims is {document.dims}, expected tiers that fall from {document.dim}")
    if document.dims[-1] < 1 or any(index < 0 for index in document.drop):
        raise ValueError("dims or drop holds a number that is too small")
    if document.architecture not in ARCHITECTURES:
        raise ValueError(f"architecture is {document.architecture[:60]!r}, expected {' or '.join(ARCHITECTURES)}")
    own = (document.inner, document.head, document.task_tokens or None, document.routes or None)
    if document.architecture == "static" and any(each is not None for each in own):
        raise ValueError("inner, head, task_tokens or routes, which a static model does not have")
    if document.architecture == "transformer" and not (document.inner and document.head):
        raise ValueError("a transformer without inner and head")
    if document.architecture == "transformer" and (document.max_tokens is None or document.max_tokens < 2):
        raise ValueError(f"max_tokens is {document.max_tokens}, expected at least 2 of a transformer")
    if document.architecture == "transformer" and (document.max_tokens or 0) > MOST_TOKENS:
        raise ValueError(f"max_tokens is {document.max_tokens}, expected at most {MOST_TOKENS:,} of a transformer")
    for name, columns in (("inner", document.inner), ("head", document.head)):
        if columns is not None and not 0 < columns <= MAX_DIM:
            raise ValueError(f"{name} is {columns}, expected 1 to {MAX_DIM}")
    if any(type(token) is not int or token < 0 for token in document.task_tokens.values()):
        raise ValueError("task_tokens holds something that is no token id")
    if set(document.task_tokens) & set(document.prompts):
        raise ValueError("a task with a prompt and a token")
    if set(document.routes) - ROLES or set(map(str, document.routes.values())) - set(document.tasks):
        raise ValueError("routes holds something else than tasks for query, document and text")
    if document.pooling not in POOLINGS:
        raise ValueError(f"pooling is {document.pooling[:60]!r}, expected {' or '.join(POOLINGS)}")
    if document.max_tokens is not None and (type(document.max_tokens) is not int or document.max_tokens < 1):
        raise ValueError(f"max_tokens is {str(document.max_tokens)[:60]!r}, expected a whole number from 1")


def _listed(plain: dict[str, Any], name: str, kind: type) -> list[Any]:
    values = plain.get(name, [])
    if not isinstance(values, list) or any(type(value) is not kind for value in values):
        raise ValueError(f"{name} is no list of {kind.__name__}")
    return values


def _source(plain: dict[str, Any]) -> Source:
    if set(plain) != {"role", "name", "licence"} or any(type(value) is not str for value in plain.values()):
        raise ValueError("lineage holds an entry without role, name and licence")
    return Source(**plain)


def _check_texts_and_scores(plain: dict[str, Any]) -> None:
    prompts, scores = plain.get("prompts", {}), plain.get("scores", {})
    if not isinstance(prompts, dict) or any(type(prompt) is not str for prompt in prompts.values()):
        raise ValueError("prompts is no object of strings")
    if not isinstance(scores, dict) or any(not isinstance(row, dict) for row in scores.values()):
        raise ValueError("scores is no object of objects")
    values = [value for row in scores.values() for value in row.values()]
    if any(type(value) not in (int, float) or not abs(value) < 1e9 for value in values):
        raise ValueError("scores holds something that is no finite number")

"""`Probe`: a small trained head over a frozen model's vectors. It says which of two labels a text has.

A head is standardisation and then a logistic regression ("lr", "lr-balanced"), or one hidden layer of 256 ReLU units
before it ("mlp"). It is trained by nestling.score.probes, and needs numpy alone to run (docs/probe.md).
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt

from nestling.errors import InputError, ModelFileError
from nestling.files.parts import MAX_DIM
from nestling.model.load import load, shipped
from nestling.model.output import unit_rows
from nestling.safe import DAMAGED, parse_json, read_header, read_tensors, write_tensors
from nestling.text.check import check_texts

FORMAT = "probe"
VERSION = 1
HIDDEN = 256
Head = Literal["lr", "lr-balanced", "mlp"]
HEADS: tuple[Head, ...] = get_args(Head)

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


class Embedder(Protocol):
    """A model whose vectors a probe reads: one of `nestling.load`, or an encoder of nestling.score."""

    @property
    def name(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    def encode(self, texts: list[str]) -> Any: ...


@dataclass(frozen=True)
class About:
    """What a probe says about itself; every field is stored.

    kind: of the head. task: the question it answers. labels: the negative and the positive. threshold: probability
    from which a text is positive. model, source, fingerprint: name of the embedding model, where `nestling.load` finds
    it, and what it must be. dim: columns of a vector. data: names of the training sets.
    """

    kind: Head
    task: str
    labels: tuple[str, str]
    threshold: float
    model: str
    source: str
    fingerprint: str
    dim: int
    seed: int
    data: tuple[str, ...]


KEYS = {"format": str, "version": int, "kind": str, "task": str, "labels": list, "threshold": float, "model": str,
        "source": str, "fingerprint": str, "dim": int, "seed": int, "data": list}  # fmt: skip


class Probe:
    """A trained head. Made by `Probe.load` or nestling.score.probes.train_probe; safe to share between threads."""

    def __init__(self, about: About, tensors: dict[str, Array], model: Embedder | None = None) -> None:
        """tensors: as `shapes` names them, kept as float32. model: the embedding model; None to load it when needed."""
        self.about = about
        self.tensors = {name: tensor.astype(np.float32) for name, tensor in tensors.items()}
        self._wide = {name: tensor.astype(np.float64) for name, tensor in self.tensors.items()}
        self._model = None if model is None else _same(about, model)

    def __repr__(self) -> str:
        return f"<Probe {self.about.task}: {self.about.kind} over {self.about.model}, {self.about.dim} dims>"

    @classmethod
    def load(cls, path: str | Path, *, model: Embedder | None = None) -> "Probe":
        """Read a probe. model: the embedding model; without it, the one that the file names is loaded when first used.

        Raises ModelFileError for a file that is damaged or of another kind, InputError for another embedding model.
        """
        path = Path(path).expanduser()
        header = read_header(path)
        try:
            about = _about_from_json(_document(header))
            _check_shapes(about, header)
            tensors = read_tensors(path)
            _check_values(tensors)
        except ValueError as error:
            raise ModelFileError(
                f"{path}: {error}.", "A probe as docs/probe.md describes it was expected.", DAMAGED
            ) from error
        return cls(about, tensors, model)

    def save(self, path: str | Path) -> None:
        """Write one safetensors file, atomically. The same probe gives the same bytes."""
        whole = {"format": FORMAT, "version": VERSION, **asdict(self.about)}
        write_tensors(path, self.tensors, {FORMAT: json.dumps(whole, ensure_ascii=False, separators=(",", ":"))})

    @property
    def model(self) -> Embedder:
        """The embedding model. Raises InputError if it is not at hand, or is another one."""
        if self._model is None:
            self._model = _same(self.about, _find(self.about))
        return self._model

    def predict(self, texts: str | Iterable[str]) -> list[str]:
        """The label of each text; one `str` counts as one text."""
        return [self.about.labels[int(positive)] for positive in self.decide(self._embed(texts))]

    def predict_proba(self, texts: str | Iterable[str]) -> Floats:
        """Probability of the positive label: n texts -> (n,) float64."""
        return self.probabilities(self._embed(texts))

    def decide(self, vectors: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Is it positive? (n, dim) -> (n,) bool."""
        return self.probabilities(vectors) >= self.about.threshold

    def probabilities(self, vectors: npt.ArrayLike) -> Floats:
        """Probability of the positive label: (n, dim) -> (n,) float64. A row gives the same bits in any batch."""
        rows, parts = self._check_vectors(vectors), self._wide
        units = (rows - parts["mean"]) / parts["scale"]
        if self.about.kind == "mlp":
            units = np.maximum(_row_by_row(units, parts["hidden.weight"]) + parts["hidden.bias"], 0)
        logits = (_row_by_row(units, parts["weight"]) + parts["bias"])[:, 0]
        halves: Floats = np.tanh(logits / 2) / 2  # the logistic function, without its overflow
        return halves + 0.5

    def _embed(self, texts: str | Iterable[str]) -> Array:
        """Vectors of the texts, (n, dim); of a wider model the first dims, at unit length again."""
        listed, _ = check_texts(texts)
        vectors = np.asarray(self.model.encode(listed))
        if vectors.shape[1] <= self.about.dim:
            return vectors
        return unit_rows(vectors[:, : self.about.dim])

    def _check_vectors(self, vectors: npt.ArrayLike) -> Floats:
        rows = np.asarray(vectors, np.float64)
        if rows.ndim != 2 or rows.shape[1] != self.about.dim or not np.isfinite(rows).all():
            raise InputError(
                f"Vectors of shape {rows.shape} were given, or some are not finite.",
                f"(n, {self.about.dim}) finite numbers were expected, from {self.about.model}.",
                "Pass what its encode gives.",
            )
        return rows


def shapes(kind: str, dim: int) -> dict[str, tuple[int, ...]]:
    """The tensors of a head and their shapes; all are float32."""
    hidden = {"hidden.weight": (dim, HIDDEN), "hidden.bias": (HIDDEN,)} if kind == "mlp" else {}
    return {"mean": (dim,), "scale": (dim,), **hidden, "weight": (HIDDEN if hidden else dim, 1), "bias": (1,)}


def _row_by_row(rows: Floats, weights: Floats) -> Floats:
    """rows @ weights, each row by itself: BLAS sums a matrix of another height in another order."""
    product: Floats = np.matmul(rows[:, None, :], weights)[:, 0]
    return product


def _same(about: About, model: Embedder) -> Embedder:
    if model.fingerprint == about.fingerprint:
        return model
    raise InputError(
        f"The model {model.name} has fingerprint {model.fingerprint}.",
        f"This probe was trained on {about.model}, {about.fingerprint}.",
        "Pass that model, or train the probe again.",
    )


def _find(about: About) -> Embedder:
    """The model that a probe names, if it is shipped or a path. A file that was sent must not reach the network."""
    if about.source in shipped() or Path(about.source).expanduser().exists():
        return load(about.source)
    raise InputError(
        f"This probe needs the model {about.source}, which is neither shipped nor a path here.",
        f"Its fingerprint is {about.fingerprint}.",
        "Load it yourself and pass it: Probe.load(path, model=...).",
    )


def _document(header: dict[str, Any]) -> Any:
    metadata = header.get("__metadata__")
    if not isinstance(metadata, dict) or set(metadata) != {FORMAT} or not isinstance(metadata[FORMAT], str):
        raise ValueError(f"its metadata are no document under {FORMAT!r} alone")
    return parse_json(metadata[FORMAT].encode("utf-8", "surrogatepass"), "the document")


def _about_from_json(plain: Any) -> About:
    """Check and build what a probe says about itself. Raises ValueError saying what is wrong."""
    if not isinstance(plain, dict) or set(plain) != set(KEYS):
        raise ValueError(f"the document has other keys than {', '.join(KEYS)}")
    for key, expected in KEYS.items():
        if type(plain[key]) is not expected:
            raise ValueError(f"{key} is {str(plain[key])[:60]!r}, expected {expected.__name__}")
    if any(type(one) is not str for one in (*plain["labels"], *plain["data"])):
        raise ValueError("labels or data holds something that is no string")
    known = (plain.pop("format"), plain.pop("version")) == (FORMAT, VERSION)
    about = About(**{**plain, "labels": tuple(plain["labels"]), "data": tuple(plain["data"])})
    if not known or about.kind not in HEADS:
        raise ValueError(f"its format, version or kind is not {FORMAT}, {VERSION} and one of {', '.join(HEADS)}")
    if len(about.labels) != 2 or len(set(about.labels)) != 2:
        raise ValueError("labels are not two different ones")
    if not (0 < about.dim <= MAX_DIM and about.seed >= 0 and 0 <= about.threshold <= 1):
        raise ValueError("dim, seed or threshold is out of range")
    return about


def _check_shapes(about: About, header: dict[str, Any]) -> None:
    """Raise ValueError unless the header lists the tensors of this head, before any is read."""
    found = {name: (one["dtype"], tuple(one["shape"])) for name, one in header.items() if name != "__metadata__"}
    if found != {name: ("F32", shape) for name, shape in shapes(about.kind, about.dim).items()}:
        raise ValueError(f"its tensors are not those of {about.kind} over {about.dim} dims")


def _check_values(tensors: dict[str, Array]) -> None:
    if not all(np.isfinite(tensor).all() for tensor in tensors.values()) or not (tensors["scale"] > 0).all():
        raise ValueError("a tensor has values that are not finite, or a scale that is not above 0")

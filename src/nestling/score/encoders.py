"""Everything that can be scored, seen alike: texts in, unit rows out.

Ours, model2vec and StaticEmbedding folders (numpy), sentence-transformers folders (torch), ONNX folders with a
teacher.json (onnxruntime), and WordLlama from its installed package.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from nestling.errors import InputError, MissingExtraError, ModelFileError
from nestling.files.hub import find_folder
from nestling.files.parts import Document, Parts
from nestling.model.common import Model
from nestling.model.load import load, shipped
from nestling.model.output import unit_rows
from nestling.model.static import StaticModel
from nestling.safe import read_json
from nestling.teacher import load_teacher
from nestling.text.packed import PackedTokenizer
from nestling.text.plan import check_plan
from nestling.text.twin import parse_tokenizer

Vectors = npt.NDArray[np.float32]
Role = Literal["query", "document", "text"]
WORDLLAMA = "wordllama"
NOT_WEIGHTS = (".md", ".txt", ".py", ".gitattributes", "teacher.json", "data_config.json")


class Encoder(Protocol):
    """name, licence, fingerprint: what it is. kind: for people. dims: the tiers, widest first. size: bytes of all files
    needed to embed a string. max_tokens: longer texts are cut there; None for no limit."""

    name: str
    kind: str
    licence: str
    fingerprint: str
    dims: tuple[int, ...]
    size: int
    max_tokens: int | None

    def encode(self, texts: Sequence[str], role: Role = "text") -> Vectors:
        """(n, dims[0]) float32, unit rows or zeros."""
        ...


def load_encoder(source: str) -> Encoder:
    """An encoder from a shipped name, a .nest file, a folder, "wordllama", or the hub id of a static model."""
    if source == WORDLLAMA:
        return _wordllama()
    path = shipped().get(source) or find_folder(source)
    if path.is_dir() and any(path.glob("*.onnx")):
        return Onnx(path)
    if path.is_dir() and _is_transformer(path):
        return SentenceTransformers(path)
    return Own(load(source), _size_of(path))


class Own:
    """A model of nestling, or one that it reads."""

    def __init__(self, model: Model, size: int) -> None:
        self.model, self.size, self.kind = model, size, model.document.architecture
        self.name, self.licence, self.fingerprint = model.name, model.licence, model.fingerprint
        self.dims = model.dims
        self.max_tokens = model.max_tokens if model.usual_overflow == "cut" else None

    def encode(self, texts: Sequence[str], role: Role = "text") -> Vectors:
        encode: dict[Role, Callable[..., Vectors]] = {
            "query": self.model.encode_query,
            "document": self.model.encode_document,
            "text": self.model.encode,
        }
        return encode[role](list(texts))


class Onnx:
    """An ONNX folder. Texts run one by one: int8 graphs quantize a batch as a whole, and a text's vector must not
    depend on its neighbours."""

    kind = "transformer, ONNX"

    def __init__(self, folder: Path) -> None:
        self.teacher = load_teacher(str(folder))
        lacking = [key for key in ("pooling", "max_tokens") if key not in self.teacher.card]
        if lacking:
            raise ModelFileError(
                f"{folder}/teacher.json lacks {' and '.join(lacking)}.",
                "Its pooling (cls or mean) and max_tokens were expected.",
                "Add them as the model's own card says.",
            )
        self.name, self.licence, self.fingerprint = self.teacher.name, self.teacher.licence, self.teacher.fingerprint
        self.dims: tuple[int, ...] = (self.teacher.dim,)
        self.size = _size_of(folder)
        self.max_tokens: int | None = self.teacher.max_tokens
        self._prefixes = _prefixes(self.teacher.card)
        self._tokenizer = parse_tokenizer(self.teacher.tokenizer_json, self.name)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self.max_tokens)

    def encode(self, texts: Sequence[str], role: Role = "text") -> Vectors:
        whole = [self._prefixes[role] + text for text in texts]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            rows = list(pool.map(self._one, whole))
        return np.array(rows, np.float32).reshape(len(whole), self.dims[0])

    def _one(self, text: str) -> Vectors:
        states = self.teacher.forward(np.array([self._tokenizer.encode(text).ids], np.int64))[0]
        vector: Vectors = states[0] if self.teacher.pooling == "cls" else states.mean(axis=0)
        return vector / np.linalg.norm(vector)


class SentenceTransformers:
    """A sentence-transformers folder, run by that library in float32."""

    kind = "transformer, torch"

    def __init__(self, folder: Path) -> None:
        self.teacher = load_teacher(str(folder))
        self.model = self.teacher.encoder
        self.name, self.licence, self.fingerprint = self.teacher.name, self.teacher.licence, self.teacher.fingerprint
        self.dims: tuple[int, ...] = (self.teacher.dim,)
        self.size = _size_of(folder)
        self.max_tokens: int | None = self.model.max_seq_length
        self._prefixes = _prefixes(self.teacher.card)

    def encode(self, texts: Sequence[str], role: Role = "text") -> Vectors:
        whole = [self._prefixes[role] + text for text in texts]
        if not whole:
            return np.zeros((0, self.dims[0]), np.float32)
        vectors: Vectors = self.model.encode(
            whole, batch_size=32, normalize_embeddings=True, show_progress_bar=False, convert_to_numpy=True
        ).astype(np.float32)
        return vectors


class Derived:
    """An encoder made of another, whose facts it has."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder, self.dims = encoder, encoder.dims
        self.name, self.kind, self.licence, self.size = encoder.name, encoder.kind, encoder.licence, encoder.size
        self.fingerprint, self.max_tokens = encoder.fingerprint, encoder.max_tokens


class Remembering(Derived):
    """The encoder, which embeds no text twice."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(encoder)
        self._met: dict[Role, dict[str, Vectors]] = {"query": {}, "document": {}, "text": {}}

    def encode(self, texts: Sequence[str], role: Role = "text") -> Vectors:
        found = embed_once(texts, self._met[role], lambda new: self.encoder.encode(new, role))
        return found.reshape(len(texts), self.dims[0])


class Tier(Derived):
    """The first `dim` columns of an encoder's vectors, at unit length again."""

    def __init__(self, encoder: Encoder, dim: int) -> None:
        if dim not in encoder.dims:
            raise InputError(
                f"dim={dim} is no tier of {encoder.name}.",
                f"Its tiers are {', '.join(map(str, encoder.dims))}.",
                "Choose among them.",
            )
        super().__init__(encoder)
        self.dim, self.dims = dim, (dim,)

    def encode(self, texts: Sequence[str], role: Role = "text") -> Vectors:
        return unit_rows(self.encoder.encode(texts, role)[:, : self.dim])


def with_tiers(encoder: Encoder, dims: Sequence[int]) -> list[Encoder]:
    """The encoder and the tiers of it that are named; the tiers need no text embedded again."""
    shared = Remembering(encoder) if dims else encoder
    return [shared, *(Tier(shared, dim) for dim in dims)]


def embed_once(texts: Sequence[str], met: dict[str, Vectors], encode: Callable[[list[str]], npt.ArrayLike]) -> Vectors:
    """(n, dim) float32 of n texts, of which `encode` gets those that were not met before, each once."""
    new = [text for text in dict.fromkeys(texts) if text not in met]
    if new:
        met.update(zip(new, np.asarray(encode(new), np.float32), strict=True))
    return np.array([met[text] for text in texts], np.float32)


def _prefixes(card: Mapping[str, Any]) -> dict[str, str]:
    """role -> what goes before a text. Where documents have a prefix too, a bare text counts as a query."""
    query, document = card.get("query_prefix", ""), card.get("document_prefix", "")
    return {"query": query, "document": document, "text": query if document else ""}


def _is_transformer(folder: Path) -> bool:
    modules = read_json(folder / "modules.json") if (folder / "modules.json").exists() else []
    return isinstance(modules, list) and any("Transformer" in str(module.get("type")) for module in modules)


def _size_of(path: Path) -> int:
    """Bytes of a file, or of all in a folder that embedding needs."""
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    return sum(one.stat().st_size for one in files if not one.name.endswith(NOT_WEIGHTS) or len(files) == 1)


def _wordllama() -> Own:
    """WordLlama's 256 dims, l2_supercat, from the files of the installed package."""
    spec = find_spec("wordllama")
    if spec is None or spec.origin is None:
        raise MissingExtraError("wordllama", "bench", "Scoring WordLlama")
    from safetensors.numpy import load_file

    folder = Path(spec.origin).parent
    weights = folder / "weights" / "l2_supercat_256.safetensors"
    tokenizer = folder / "tokenizers" / "l2_supercat_tokenizer_config.json"
    rows: npt.NDArray[Any] = load_file(weights)["embedding.weight"].astype(np.float32)
    plan = check_plan(tokenizer.read_text(encoding="utf-8"), "wordllama")
    about = Document("float", 256, (256, 128, 64), name="WordLlama-256", licence="MIT")
    return Own(
        StaticModel(Parts(about, {"rows": rows}, PackedTokenizer.of(plan, about.name))),
        _size_of(weights) + _size_of(tokenizer),
    )

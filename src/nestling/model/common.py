"""What every model offers: the menu of options, checks, and how a model says what it is. What it embeds with is its own
(in_core.py, static.py, transformer.py)."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, TypedDict, TypeGuard, Unpack, get_args

import numpy as np
import numpy.typing as npt

from nestling.errors import InputError, InputTypeError, ModelFileError, one_of, whole_number
from nestling.files.parts import Document, Parts, Source
from nestling.model.output import cosine_matrix, dtype_name, output_array, output_width
from nestling.model.rows import Table
from nestling.safe import DAMAGED
from nestling.text.check import Errors, check_texts, with_titles
from nestling.text.plan import dump_plan
from nestling.text.tokenizer import TextTokenizer

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Overflow = Literal["cut", "error", "split"]
Dtype = Literal["float32", "float16", "int8", "binary"]
MOST_THREADS = 256


class CutWarning(UserWarning):
    """Texts were longer than the model's max_tokens and were cut; said once a call."""


class Options(TypedDict, total=False):
    """The options of `encode`, all keyword-only."""

    dim: int | None
    overflow: Overflow | None
    normalize: bool
    dtype: Dtype
    threads: int | None
    out: Array | None
    progress: bool
    errors: Errors


@dataclass(frozen=True)
class How:
    """The options of one call of `encode`."""

    dim: int | None = None
    task: str | None = None
    overflow: Overflow | None = None
    normalize: bool = True
    dtype: Dtype = "float32"
    threads: int | None = None
    out: Array | None = None
    progress: bool = False
    errors: Errors = "strict"


@dataclass(frozen=True)
class Check:
    """What `verify` found for one canary text."""

    text: str
    cosine: float
    largest_difference: float


class Model(ABC):
    """A loaded embedding model. Made by `nestling.load`; safe to share between threads."""

    document: Document
    tokenizer: TextTokenizer
    table: Table
    takes_any_text = False  # whether `_fill` looks itself at what is in a text

    def __init__(self, stored_canaries: Array | None, stored_fingerprint: str | None) -> None:
        self._stored = (stored_canaries, stored_fingerprint)

    def __repr__(self) -> str:
        said = f"{self.table.size:,} rows x {self._columns()}, {self.document.scheme}, {self.licence}"
        return f"<{type(self).__name__} {self.name}: {said}>"

    @property
    @abstractmethod
    def backend(self) -> str:
        """What runs, and with what."""

    @abstractmethod
    def parts(self) -> Parts:
        """What the model consists of, ready to be written or changed."""

    @abstractmethod
    def save(self, path: str | Path) -> None:
        """Write the model, atomically."""

    @abstractmethod
    def with_table(self, table: Table) -> "Model":
        """The same model with another table."""

    @abstractmethod
    def with_dim(self, dim: int) -> "Model":
        """The same model with this tier as its widest."""

    def _columns(self) -> str:
        """Of the table, and of a vector where these are others."""
        return str(self.dim)

    @abstractmethod
    def _said(self) -> tuple[Any, ...]:
        """What changes vectors besides tensors and tokenizer."""

    @abstractmethod
    def _fill(self, texts: Sequence[str] | str, vectors: Array, dim: int, how: How) -> int:
        """Embed texts, whose options were checked, into `vectors`, (n, width). Returns how many were cut."""

    @cached_property
    def fingerprint(self) -> str:
        """A sha256 over all that changes vectors: tensors, tokenizer, dropped tokens, limit, tasks, pooling."""
        import hashlib

        digest = hashlib.sha256(repr(self._said()).encode("utf-8"))
        digest.update(hashlib.sha256(dump_plan(sorted_json(self.tokenizer.json)).encode("utf-8")).digest())
        for name, tensor in sorted(self.parts().tensors.items()):
            digest.update(f"{name} {tensor.dtype.str} {tensor.shape}".encode())
            digest.update(np.ascontiguousarray(tensor).tobytes())
        return f"sha256:{digest.hexdigest()}"

    def _plainly(self, texts: str | Iterable[str]) -> tuple[Array, int] | None:
        """The vectors without any option, and how many texts were cut; None where that has no shorter way."""
        return None

    @property
    def name(self) -> str:
        """What the file calls itself."""
        return self.document.name

    @property
    def dim(self) -> int:
        """Columns of a vector when no `dim=` is given."""
        return self.document.dim

    @property
    def dims(self) -> tuple[int, ...]:
        """The tiers that `dim=` accepts, largest first."""
        return self.document.dims

    @property
    def max_tokens(self) -> int | None:
        """The longest text in tokens, that of a task included, and without unknown ones; None for no limit."""
        return self.document.max_tokens

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that have a prompt, or a token, of their own."""
        return self.document.tasks

    @property
    def licence(self) -> str:
        """The model's own licence, as it states it; `lineage` has those of what it was made from."""
        return self.document.licence

    usual_overflow: ClassVar[Overflow] = "cut"  # where the caller says nothing

    @property
    def lineage(self) -> tuple[Source, ...]:
        """The teacher and data sets that the model was made from, with their licences."""
        return self.document.lineage

    def encode(
        self,
        texts: str | Iterable[str],
        *,
        dim: int | None = None,
        task: str | None = None,
        overflow: Overflow | None = None,
        normalize: bool = True,
        dtype: Dtype = "float32",
        threads: int | None = None,
        out: Array | None = None,
        progress: bool = False,
        errors: Errors = "strict",
    ) -> Array:
        """Embed texts: n texts -> (n, dim), one `str` -> (dim,), no texts -> (0, dim).

        dim: one of `dims`; the prefix is cut and renormalised. task: one of `tasks`, whose prompt or token goes
        before a text, or "" for none; default what the model's file says, which for most is none.
        overflow: what to do with a text of more than `max_tokens` tokens: "cut" it (a CutWarning says so), raise an
        "error", or "split" it, which takes the mean over all of its tokens; default "split" for transformers, and
        "cut" for static models that have a limit, as where they come from. normalize: rows of unit length (a text
        without a known token is a row of zeros); False gives the mean of the weighted rows. dtype: "float32" and
        "float16"; "int8", each row scaled to its largest value, to compare by cosine; "binary", a bit for each value
        above zero, packed: (n, ceil(dim / 8)) uint8, where a row of zeros looks like one that is negative throughout.
        threads: workers over the texts, 256 at most, default all cores that the process may use, but one for a few
        short texts and without the core. out: an array of the right shape and dtype to fill. progress: a bar on
        stderr. errors: "strict" or "replace", for lone surrogates.

        Raises InputTypeError (a TypeError) for what is no text, InputError (a ValueError) for an option out of range.
        """
        plain = dim is None and task is None and threads is None and out is None and overflow is None
        plain = plain and normalize is True and progress is False and dtype == "float32" and errors == "strict"
        done = self._plainly(texts) if plain else None
        if done is None:
            done = self._embed(texts, How(dim, task, overflow, normalize, dtype, threads, out, progress, errors))
        vectors, cut = done
        if cut:
            warnings.warn(cut_message(cut, len(np.atleast_2d(vectors)), self.max_tokens), CutWarning, stacklevel=2)
        return vectors

    def encode_counting(
        self, texts: str | Iterable[str], *, task: str | None = None, **options: Unpack[Options]
    ) -> tuple[Array, int]:
        """What `encode` gives, and how many texts were cut, without a warning."""
        return self._embed(texts, How(task=task, **options))

    def _embed(self, texts: str | Iterable[str], how: How) -> tuple[Array, int]:
        """Check the options and the texts, and embed these: their vectors, and how many were cut."""
        dim = self.check_dim(how.dim)
        task = self.document.routes.get("text") if how.task is None else how.task
        how = replace(
            how,
            task=task,
            overflow=how.overflow or self.usual_overflow,
            normalize=_true_or_false("normalize", how.normalize),
            dtype=dtype_name(how.dtype),
            threads=None if how.threads is None else min(whole_number("threads", how.threads, 1), MOST_THREADS),
            progress=_true_or_false("progress", how.progress),
        )
        one_of("overflow", how.overflow, get_args(Overflow))
        width = output_width(dim, how.dtype, how.normalize)
        prompt = self._prompt(how.task)
        listed: list[str] | str
        if self.takes_any_text and not prompt and as_is(texts):
            listed = texts
        else:
            listed = [prompt + text for text in check_texts(texts, how.errors)[0]]
        count = 1 if isinstance(listed, str) else len(listed)
        shape = (width,) if isinstance(texts, str) else (count, width)
        vectors = output_array(how.out, shape, np.dtype(np.uint8 if how.dtype == "binary" else how.dtype))
        return vectors, self._fill(listed, vectors.reshape(count, width), dim, how)

    def embed(self, sentences: str | Iterable[str], *, task: str | None = None, **options: Unpack[Options]) -> Array:
        """`encode`, by the name that it has in other libraries of models with task tokens."""
        return self.encode(sentences, task=task, **options)

    def encode_query(self, texts: str | Iterable[str], *, task: str | None = None, **options: Unpack[Options]) -> Array:
        """`encode` with the model's prompt or token for queries, if it has one; `task` names another, or "" none."""
        return self.encode(texts, task=self.route("query") if task is None else task, **options)

    def encode_document(
        self,
        texts: str | Iterable[str],
        *,
        titles: Iterable[str | None] | None = None,
        task: str | None = None,
        **options: Unpack[Options],
    ) -> Array:
        """`encode` with the model's prompt or token for documents, if it has one; a title goes before its text. `task`
        names another, or "" none."""
        if titles is not None:
            texts = with_titles(texts, titles, options.get("errors", "strict"))
        return self.encode(texts, task=self.route("document") if task is None else task, **options)

    def route(self, role: str) -> str | None:
        """The task of texts that are a "query" or a "document", as the model's file says; None where it has none."""
        task = self.document.routes.get(role, role)
        return task if task in self.tasks else None

    def similarity(self, queries: npt.ArrayLike, documents: npt.ArrayLike) -> Floats:
        """Cosines of queries with documents, of any dtype `encode` gives: (n, dim), (m, dim) -> (n, m) float32."""
        return cosine_matrix(queries, documents, self.dims)

    def count_tokens(self, texts: str | Iterable[str]) -> int | npt.NDArray[np.int64]:
        """Tokens of each text, unknown ones included: (n,) int64, or an int for one `str`."""
        listed, single = check_texts(texts)
        lengths = self.tokenizer.encode(listed).lengths
        return int(lengths[0]) if single else lengths

    def check_dim(self, dim: int | None) -> int:
        """The dim if it is a tier, all dims for None. Raises InputError for any other."""
        if dim is None:
            return self.dim
        if whole_number("dim", dim) not in self.dims:
            tiers = ", ".join(map(str, self.dims))
            raise InputError(f"dim={dim!r} is not a tier of {self.name}.", f"It offers {tiers}.", "Choose one of them.")
        return dim

    def verify(self) -> list[Check]:
        """Embed the canary texts again and compare with the stored vectors.

        Raises ModelFileError if the content does not have the stated fingerprint.
        """
        vectors, stated = self._stored
        if vectors is None or stated is None:
            return []
        if stated != self.fingerprint:
            raise ModelFileError(
                f"Model {self.name} states fingerprint {stated}, its content has {self.fingerprint}.",
                "The same were expected.",
                DAMAGED,
            )
        mine = self.encode(self.document.canaries, overflow="split")
        cosines = np.einsum("ij,ij->i", mine, vectors, dtype=np.float64)
        gaps = np.abs(mine - vectors).max(axis=1, initial=0)
        return [Check(*row) for row in zip(self.document.canaries, cosines.tolist(), gaps.tolist(), strict=True)]

    def _prompt(self, task: str | None) -> str:
        if task and task not in self.tasks:
            known = ", ".join(self.tasks) or "none"
            raise InputError(
                f"task={task!r} is not a task of {self.name}.",
                f"It has {known}.",
                'Leave task out, choose one, or pass "" for none.',
            )
        return self.document.prompts.get(task, "") if task else ""

    def _too_long(self, index: int, tokens: int, task: bool = False) -> InputError:
        return InputError(
            f"texts[{index}] has {tokens} tokens{', one for its task included' if task else ''}.",
            f"{self.name} takes at most {self.max_tokens}.",
            'Shorten it, or pass overflow="split" or "cut".',
        )


def checked_layout(path: Path, layout: str | None, known: tuple[str, ...]) -> str:
    """The layout to write, by the ending of the path where none is given. known: "nest", and those of folders."""
    found = layout or ("nest" if path.suffix == ".nest" else None)
    if found is None:
        folders = " or ".join(f'"{name}"' for name in known[1:])
        raise InputError(
            f"{path} does not end in .nest, and no layout was given;",
            "one or the other was expected.",
            f"Write NAME.nest, or pass layout={folders} for a folder.",
        )
    one_of("layout", found, known)
    return found


def unfit(name: str, error: ValueError) -> ModelFileError:
    """The error for parts of a model that do not fit one another."""
    return ModelFileError(f"Model {name}: {error}.", "Tensors that fit one another were expected.", DAMAGED)


def _true_or_false(name: str, value: object) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise InputTypeError(f"{name}={value!r} was given;", "True or False was expected.", "Pass one of them.")
    return bool(value)


def as_is(texts: str | Iterable[str]) -> TypeGuard[str | list[str]]:
    """Whether the core takes the texts as they came; it looks itself at what is in them."""
    return isinstance(texts, str) or type(texts) is list


def cut_message(cut: int, texts: int, limit: int | None) -> str:
    """What a CutWarning says."""
    return (
        f"{cut:,} of {texts:,} texts had more than {limit} tokens and were cut; "
        'overflow="split" (--overflow split) uses all of them.'
    )


def sorted_json(value: Any) -> Any:
    """The same JSON value with the keys of its objects in order."""
    if isinstance(value, dict):
        return {key: sorted_json(value[key]) for key in sorted(value)}
    return [sorted_json(entry) for entry in value] if isinstance(value, list) else value

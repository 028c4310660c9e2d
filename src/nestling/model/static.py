"""The static model: a text's vector is the mean of its tokens' rows, at unit length. In sublinear pooling a token that
is repeated in a text counts less each time.

The C++ core does it where it is installed and knows the tokenizer exactly; `backend` says so. Else it is done here, in
numpy, with the same bits (pool.py, output.py). A text gives the same vector alone, in any batch, with any number of
threads.
"""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypedDict, TypeGuard, Unpack

import numpy as np
import numpy.typing as npt

from nestling.errors import InputError, ModelFileError, one_of, whole_number
from nestling.files.nest import write_nest
from nestling.files.parts import POOLINGS, Document, Parts, Source
from nestling.model.layout import RowLayout, lay_out
from nestling.model.native import DTYPES, CoreModel, native_model, usable_cores, with_bar
from nestling.model.output import cosine_matrix, finish, output_array, output_width
from nestling.model.pool import over_units, sum_rows, units_of
from nestling.model.rows import CentroidRows, Table
from nestling.safe import DAMAGED, check_target
from nestling.text.check import Errors, check_texts, with_titles
from nestling.text.plan import dump_plan
from nestling.text.tokenizer import TextTokenizer
from nestling.text.tokens import Tokens

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Overflow = Literal["cut", "error", "split"]
Dtype = Literal["float32", "float16", "int8", "binary"]
MOST_TOKENS = 2**62  # of a text, which the core counts in 64 bits
Layout = Literal["nest", "model2vec", "sentence-transformers"]


class CutWarning(UserWarning):
    """Texts were longer than the model's max_tokens and were cut; said once a call."""


class Options(TypedDict, total=False):
    """The options of `StaticModel.encode`, all keyword-only."""

    dim: int | None
    overflow: Overflow
    normalize: bool
    dtype: Dtype
    threads: int | None
    out: Array | None
    progress: bool
    errors: Errors


@dataclass(frozen=True)
class How:
    """The options of one call of `encode`, checked."""

    dim: int
    overflow: Overflow
    normalize: bool
    dtype: Dtype
    threads: int | None
    progress: bool
    errors: Errors


@dataclass(frozen=True)
class Check:
    """What `StaticModel.verify` found for one canary text."""

    text: str
    cosine: float
    largest_difference: float


class StaticModel:
    """A loaded static embedding model. Made by `nestling.load`; safe to share between threads."""

    def __init__(
        self, parts: Parts, stored_canaries: Array | None = None, stored_fingerprint: str | None = None
    ) -> None:
        self.document: Document = parts.document
        self.counts = parts.counts
        name = parts.document.name
        self.tokenizer = TextTokenizer(parts.tokenizer, name)
        try:
            self.table = Table.from_tensors(parts.tensors, parts.document.scheme, parts.document.dim)
            if self.table.size < self.tokenizer.size:
                raise ValueError(
                    f"the tokenizer gives ids up to {self.tokenizer.size - 1}, the table has {self.table.size} rows"
                )
            if parts.counts is not None and len(parts.counts) != self.table.size:
                raise ValueError(f"{len(parts.counts)} counts for {self.table.size} rows")
            beyond = [index for index in parts.document.drop if index >= self.table.size]
            if beyond:
                raise ValueError(f"drop holds {beyond[0]}, the table has {self.table.size} rows")
        except ValueError as error:
            raise ModelFileError(
                f"Model {name}: {error}.", "Tensors that fit one another were expected.", DAMAGED
            ) from error
        self._dropped = np.zeros(self.table.size, np.bool_)
        self._dropped[list(self.document.drop)] = True
        self._stored = (stored_canaries, stored_fingerprint)
        self._core: CoreModel = None
        if self.tokenizer.core is not None:
            how = self.table.size, parts.document.drop, self.document.sublinear
            self._core = native_model(self.tokenizer.core, self._layout, *how)

    def __repr__(self) -> str:
        document = self.document
        shape = f"{self.table.size:,} rows x {document.dim}"
        return f"<StaticModel {document.name}: {shape}, {document.scheme}, {document.licence}>"

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
        """The longest text in tokens, None for no limit."""
        return self.document.max_tokens

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that have a prompt of their own."""
        return tuple(self.document.prompts)

    @property
    def licence(self) -> str:
        """The model's own licence, as it states it; `lineage` has those of what it was made from."""
        return self.document.licence

    @property
    def lineage(self) -> tuple[Source, ...]:
        """The teacher and data sets that the model was made from, with their licences."""
        return self.document.lineage

    @property
    def backend(self) -> str:
        """What runs: "core", with the instruction set of its kernels; or "python", with the reason."""
        return f"python ({self.tokenizer.why_not})" if self._core is None else f"core ({self._core.isa})"

    @cached_property
    def _layout(self) -> RowLayout:
        return lay_out(self.table)

    @cached_property
    def fingerprint(self) -> str:
        """A sha256 over all that changes vectors: table, tokenizer, dropped tokens, limit, prompts, pooling."""
        import hashlib

        digest = hashlib.sha256()
        document = self.document
        said: tuple[Any, ...] = (
            document.scheme,
            document.dim,
            sorted(document.drop),
            document.max_tokens,
            sorted(document.prompts.items()),
        )
        if document.pooling != "mean":
            said += (document.pooling,)
        digest.update(repr(said).encode("utf-8"))
        digest.update(hashlib.sha256(dump_plan(_sorted(self.tokenizer.json)).encode("utf-8")).digest())
        for name, tensor in sorted(self.table.tensors().items()):
            digest.update(f"{name} {tensor.dtype.str} {tensor.shape}".encode())
            digest.update(np.ascontiguousarray(tensor).tobytes())
        return f"sha256:{digest.hexdigest()}"

    def encode(
        self,
        texts: str | Iterable[str],
        *,
        dim: int | None = None,
        task: str | None = None,
        overflow: Overflow = "cut",
        normalize: bool = True,
        dtype: Dtype = "float32",
        threads: int | None = None,
        out: Array | None = None,
        progress: bool = False,
        errors: Errors = "strict",
    ) -> Array:
        """Embed texts: n texts -> (n, dim), one `str` -> (dim,), no texts -> (0, dim).

        dim: one of `dims`; the prefix is cut and renormalised. task: one of `tasks`, whose prompt goes before a text.
        overflow: what to do with a text of more than `max_tokens` tokens: "cut" it (a CutWarning says so), raise an
        "error", or "split" it, which takes the mean over all of its tokens. normalize: rows of unit length (a text
        without a known token is a row of zeros); False gives the mean of the weighted rows. dtype: "float32" and
        "float16"; "int8", each row scaled to its largest value, to compare by cosine; "binary", a bit for each value
        above zero, packed: (n, ceil(dim / 8)) uint8, where a row of zeros looks like one that is negative throughout.
        threads: workers over the texts, default all cores that the process may use, but one for a few short texts and
        without the core. out: an array of the right shape and dtype to fill. progress: a bar on stderr. errors:
        "strict" or "replace", for lone surrogates.

        Raises InputTypeError (a TypeError) for what is no text, InputError (a ValueError) for an option out of range.
        """
        plain = dim is None and task is None and threads is None and out is None
        plain = plain and overflow == "cut" and normalize and not progress and dtype == "float32" and errors == "strict"
        cut = -1
        if plain and self._core is not None and _as_is(texts):
            vectors, cut = self._by_core_plainly(texts)
        if cut < 0:
            vectors, cut = self.encode_counting(
                texts,
                task=task,
                dim=dim,
                overflow=overflow,
                normalize=normalize,
                dtype=dtype,
                threads=threads,
                out=out,
                progress=progress,
                errors=errors,
            )
        if cut:
            warnings.warn(cut_message(cut, len(np.atleast_2d(vectors)), self.max_tokens), CutWarning, stacklevel=2)
        return vectors

    def encode_counting(
        self,
        texts: str | Iterable[str],
        *,
        dim: int | None = None,
        task: str | None = None,
        overflow: Overflow = "cut",
        normalize: bool = True,
        dtype: Dtype = "float32",
        threads: int | None = None,
        out: Array | None = None,
        progress: bool = False,
        errors: Errors = "strict",
    ) -> tuple[Array, int]:
        """What `encode` gives, and how many texts were cut, without a warning."""
        dim = self.dim if dim is None else self.check_dim(dim)
        one_of("overflow", overflow, ("cut", "error", "split"))
        one_of("errors", errors, ("strict", "replace"))
        width = output_width(dim, dtype, normalize)
        threads = None if threads is None else whole_number("threads", threads, 1)
        prompt = self._prompt(task)
        single = isinstance(texts, str)
        listed: list[str] | str
        if self._core is not None and not prompt and _as_is(texts):
            listed = texts
        else:
            listed = [prompt + text for text in check_texts(texts, errors)[0]]
        count = 1 if isinstance(listed, str) else len(listed)
        shape = (width,) if single else (count, width)
        vectors = output_array(out, shape, np.dtype(np.uint8 if dtype == "binary" else dtype))
        how = How(dim, overflow, normalize, dtype, threads, progress, errors)
        work = self._by_twin if self._core is None else self._by_core
        cut = work(listed, vectors.reshape(count, width), how)
        return vectors, cut

    def _by_core_plainly(self, texts: str | list[str]) -> tuple[Array, int]:
        """Without options, in microseconds a call: the vectors and how many were cut, below 0 if the core stopped."""
        dim = self.document.dim
        vectors = np.empty(dim if isinstance(texts, str) else (len(texts), dim), np.float32)
        return vectors, self._core.encode(texts, vectors, dim, self._core_limit("cut"), False, True, 0, usable_cores())

    def _core_limit(self, overflow: Overflow) -> int:
        """The most tokens of a text as the core takes it: -1 for no limit."""
        limit = self.document.max_tokens
        return -1 if limit is None or overflow == "split" else min(limit, MOST_TOKENS)

    def _by_core(self, texts: list[str] | str, vectors: Array, how: How) -> int:
        """Fill `vectors`, (n, width), in slices where a bar is wanted. Returns how many texts were cut."""
        options = how.dim, self._core_limit(how.overflow), how.overflow == "error", how.normalize, DTYPES[how.dtype]
        sliced = how.progress and not isinstance(texts, str)
        all_cut = 0
        for start, stop in with_bar(len(texts)) if sliced else [(0, len(texts))]:
            part = (texts[start:stop], vectors[start:stop]) if sliced else (texts, vectors)
            cut: int = self._core.encode(*part, *options, how.threads or usable_cores())
            if cut < 0:
                return self._by_core_again(texts, vectors, how, start - 1 - cut)
            all_cut += cut
        return all_cut

    def _by_core_again(self, texts: list[str] | str, vectors: Array, how: How, bad: int) -> int:
        """The core stopped at texts[bad]: say why; or put U+FFFD for half characters, and do it again."""
        checked = check_texts(texts, how.errors)[0]  # raises for what is no text
        if how.errors == "replace" and checked != texts:
            return self._by_core(checked, vectors, replace(how, errors="strict"))
        if len(checked) <= bad:
            raise InputError("The list of texts changed while it was read;", "it was to stay.", "Pass a copy of it.")
        raise self._too_long(bad, int(self.tokenizer.encode([checked[bad]]).lengths[0]))

    def _by_twin(self, texts: Sequence[str], vectors: Array, how: How) -> int:
        """The same in numpy."""

        def work(span: tuple[int, int]) -> int:
            tokens, kept, cut = self._tokenize(texts[span[0] : span[1]], how.overflow, span[0])
            sums = sum_rows(self._layout, ~self._dropped, tokens.ids, tokens.offsets, how.dim, self.document.sublinear)
            vectors[span[0] : span[1]] = finish(sums, kept, how.normalize, how.dtype)
            return cut

        return sum(over_units(work, units_of(texts), how.threads, how.progress))

    def encode_query(self, texts: str | Iterable[str], **options: Unpack[Options]) -> Array:
        """`encode` with the model's prompt for queries, if it has one."""
        return self.encode(texts, task="query" if "query" in self.tasks else None, **options)

    def encode_document(
        self, texts: str | Iterable[str], *, titles: Iterable[str | None] | None = None, **options: Unpack[Options]
    ) -> Array:
        """`encode` with the model's prompt for documents, if it has one; a title goes before its text."""
        if titles is not None:
            texts = with_titles(texts, titles, options.get("errors", "strict"))
        return self.encode(texts, task="document" if "document" in self.tasks else None, **options)

    def similarity(self, queries: npt.ArrayLike, documents: npt.ArrayLike) -> Floats:
        """Cosines of queries with documents, of any dtype `encode` gives: (n, dim), (m, dim) -> (n, m) float32."""
        return cosine_matrix(queries, documents, self.dims)

    def count_tokens(self, texts: str | Iterable[str]) -> int | npt.NDArray[np.int64]:
        """Tokens of each text, unknown ones included: (n,) int64, or an int for one `str`."""
        listed, single = check_texts(texts)
        lengths = self.tokenizer.encode(listed).lengths
        return int(lengths[0]) if single else lengths

    def save(self, path: str | Path, layout: Layout | None = None) -> None:
        """Write the model: one `.nest` file, or a folder in another library's layout, atomically.

        layout: "nest" (the default where the path ends in .nest), "model2vec" or "sentence-transformers". Their rows
        are written as float32, with what they cannot hold folded in; centroids stay centroids in model2vec's. They know
        no pooling but the mean: of a sublinear model, save `with_pooling("mean")`.
        """
        path = Path(path)
        layout = layout or ("nest" if path.suffix == ".nest" else None)
        if layout is None:
            raise InputError(
                f"{path} does not end in .nest, and no layout was given;",
                "one or the other was expected.",
                'Write NAME.nest, or pass layout="model2vec" or "sentence-transformers" for a folder.',
            )
        from nestling.files.foreign import write_model2vec, write_sentence_transformers

        one_of("layout", layout, ("nest", "model2vec", "sentence-transformers"))
        if layout != "nest" and self.document.sublinear:
            raise InputError(
                f"{self.name} weighs a token that comes k times by the root of k.",
                f"The layout {layout} has the mean of all tokens.",
                'Save model.with_pooling("mean"): other vectors for texts that repeat a token, a little less good.',
            )
        check_target(path, folder=layout != "nest")
        if layout == "nest":
            write_nest(path, self.parts(), self.encode(self.document.canaries, overflow="split"), self.fingerprint)
        elif layout == "model2vec":
            write_model2vec(path, self.parts(), *self._for_model2vec())
        else:
            write_sentence_transformers(path, self.parts(), self._folded())

    def check_dim(self, dim: int | None) -> int:
        """The dim if it is a tier, all dims for None. Raises InputError for any other."""
        if dim is None:
            return self.dim
        if whole_number("dim", dim) not in self.dims:
            tiers = ", ".join(map(str, self.dims))
            raise InputError(f"dim={dim!r} is not a tier of {self.name}.", f"It offers {tiers}.", "Choose one of them.")
        return dim

    def parts(self) -> Parts:
        """What the model consists of, ready to be written or changed."""
        return Parts(self.document, self.table.tensors(), self.tokenizer.packed, self.counts)

    def with_table(self, table: Table, **changes: Any) -> "StaticModel":
        """The same model with another table, and changes to its document."""
        tiers = tuple(tier for tier in self.dims if tier < table.dim)
        described = {
            "scheme": table.rows.scheme,
            "dim": table.dim,
            "dims": (table.dim, *tiers),
            "scores": {},
            **changes,
        }
        return StaticModel(replace(self.parts(), document=replace(self.document, **described), tensors=table.tensors()))

    def with_pooling(self, pooling: str) -> "StaticModel":
        """The same table, pooled otherwise: "mean"; or "sublinear", where k occurrences of a token in a text weigh the
        root of k together."""
        one_of("pooling", pooling, POOLINGS)
        return self.with_table(self.table, dims=self.dims, pooling=pooling)

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
        if task is not None and task not in self.tasks:
            known = ", ".join(self.tasks) or "none"
            raise InputError(
                f"task={task!r} is not a task of {self.name}.", f"It has {known}.", "Leave task out or choose one."
            )
        return self.document.prompts[task] if task else ""

    def _tokenize(
        self, texts: Sequence[str], overflow: Overflow, first: int
    ) -> tuple[Tokens, npt.NDArray[np.int64], int]:
        """Tokens of the texts within the limit, how many of each are not dropped, and how many texts were cut."""
        tokens = self.tokenizer.encode(texts)
        limit = self.max_tokens
        long = np.flatnonzero(tokens.lengths > (limit or np.inf)) if overflow != "split" else np.zeros(0, np.int64)
        if len(long) and overflow == "error":
            raise self._too_long(first + int(long[0]), int(tokens.lengths[long[0]]))
        if len(long) and limit is not None:
            place = np.arange(len(tokens.ids)) - np.repeat(tokens.offsets[:-1], tokens.lengths)
            upto = np.concatenate([[0], np.cumsum(np.minimum(tokens.lengths, limit))])
            tokens = Tokens(tokens.ids[place < limit], upto)
        counted = np.concatenate([[0], np.cumsum(~self._dropped[tokens.ids])])
        return tokens, np.diff(counted[tokens.offsets]), len(long)

    def _too_long(self, index: int, tokens: int) -> InputError:
        return InputError(
            f"texts[{index}] has {tokens} tokens.",
            f"{self.name} takes at most {self.max_tokens}.",
            'Shorten it, or pass overflow="split" or "cut".',
        )

    def _folded(self) -> Floats:
        """One float32 row a token id, weights folded in and dropped tokens zero."""
        rows = self.table.expanded()[: self.tokenizer.size]
        rows[self._dropped[: self.tokenizer.size]] = 0
        return rows

    def _for_model2vec(self) -> tuple[Array, dict[str, Array]]:
        rows = self.table.rows
        if not isinstance(rows, CentroidRows) or set(self.document.drop) - {self.tokenizer.unknown}:
            return self._folded(), {}
        weights = np.ones(self.table.size, np.float32) if self.table.factors is None else self.table.factors
        centroids = rows.centroids.gather(np.arange(rows.centroids.size))
        size = self.tokenizer.size
        return centroids, {"weights": weights[:size], "mapping": rows.mapping[:size].astype(np.int32)}


def _as_is(texts: str | Iterable[str]) -> TypeGuard[str | list[str]]:
    """Whether the core takes the texts as they came; it looks itself at what is in them."""
    return isinstance(texts, str) or type(texts) is list


def cut_message(cut: int, texts: int, limit: int | None) -> str:
    """What a CutWarning says."""
    return (
        f"{cut:,} of {texts:,} texts had more than {limit} tokens and were cut; "
        'overflow="split" (--overflow split) uses all of them.'
    )


def _sorted(value: Any) -> Any:
    """The same JSON value with the keys of its objects in order."""
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(entry) for entry in value] if isinstance(value, list) else value

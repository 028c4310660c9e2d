"""A transformer in few bytes: its matrices in int8 or codes, its table like that of a static model."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from nestling.errors import InputError
from nestling.files.parts import Parts
from nestling.model.blocks import BEHIND
from nestling.model.matrices import MOST_WORDS, SCALES, WORDS
from nestling.model.pack import to_int8
from nestling.model.rows import Int8Rows, ProductRows, Table
from nestling.model.static import StaticModel
from nestling.model.transformer import BODY, TransformerModel, beside_table
from nestling.shrink.budget import Row, file_size, shrink_to_budget
from nestling.shrink.codebook import quantize_words, small_ids
from nestling.shrink.kmeans import assign, kmeans

Floats = npt.NDArray[np.float32]
Array = npt.NDArray[Any]
WORDS_SAMPLE, WORDS_ROUNDS = 65_536, 25
DAMPING = 0.01  # of what is multiplied, beside its mean power


def with_small_body(
    model: TransformerModel, word: int = 1, seed: int = 0, moments: Mapping[str, Array] | None = None
) -> TransformerModel:
    """The same model, its matrices in few bits, but for those of one column. word: values a byte; 1 for int8, more for
    codes of words of so many values side by side, of a book for each matrix. moments: of what is multiplied by a matrix
    (in, out), by its name: (in, in); what rounding a row of it does to a product, the rows after it then take back."""
    parts = model.parts()
    body = {name.removeprefix(BODY): each for name, each in parts.tensors.items() if name.startswith(BODY)}
    if strange := set(moments or {}) - set(body):
        raise ValueError(f"moments of {', '.join(sorted(strange))}, which are no matrices of {model.name}")
    tensors = dict(parts.tensors)
    for name, matrix in body.items():
        if matrix.dtype == np.float32 and min(matrix.shape) > 1 < matrix.ndim:
            moment = None if name in BEHIND else (moments or {}).get(name)
            small = _to_int8(matrix) if word == 1 else _to_words(matrix, word, seed, moment)
            tensors |= {BODY + name + suffix: each for suffix, each in small.items()}
    return TransformerModel(replace(parts, tensors=tensors))


def _to_int8(matrix: Floats) -> dict[str, Array]:
    """int8 with a scale a column: what lies behind the matrix's name -> what is there."""
    values, scales = to_int8(np.ascontiguousarray(matrix.T))
    return {"": np.ascontiguousarray(values.T), SCALES: scales.astype(np.float32)}


def _to_words(matrix: Floats, word: int, seed: int, moment: Array | None = None) -> dict[str, Array]:
    """Codes of words: the columns, of one size, cut into words of values side by side; then each at its best scale.
    moment: (in, in), of what is multiplied by it; by itself a row counts as any other."""
    if matrix.shape[1] % word:
        raise InputError(
            f"A matrix of {matrix.shape[1]} columns was to be cut into words of {word}.",
            "Columns that add up to words were expected.",
            "Choose another word.",
        )
    sizes = np.maximum(np.sqrt(np.square(matrix).mean(axis=0)), 1e-12)
    points = np.ascontiguousarray(matrix / sizes, np.float32).reshape(-1, word)
    shares = np.ones(len(points))
    if moment is not None:
        shares = np.repeat(np.diag(moment) / np.diag(moment).mean(), matrix.shape[1] // word)
    chosen = np.random.default_rng(seed).permutation(len(points))[:WORDS_SAMPLE]
    book = kmeans(points[chosen], shares[chosen], MOST_WORDS, rounds=WORDS_ROUNDS, seed=seed)[0]
    words, scale = quantize_words(book, (word,))
    if moment is None:
        codes = assign(points, words * scale)[0].astype(np.uint8).reshape(len(matrix), -1)
    else:
        codes = _assign_rows(points.reshape(len(matrix), -1), words * scale, moment)
    values = words[codes].reshape(matrix.shape).astype(np.float32)
    said = values if moment is None else moment @ values
    scales = np.einsum("ij,ij->j", matrix, said) / np.maximum(np.einsum("ij,ij->j", values, said), 1e-12)
    return {"": codes, SCALES: scales.astype(np.float32), WORDS: words}


def _assign_rows(rows: Floats, words: Floats, moment: Array) -> npt.NDArray[np.uint8]:
    """The code of each word of the rows, (in, out) -> (in, words of a row). Where what one row is multiplied by tells
    of what others are, these take back what rounding it did to the product; those that count most come first
    (arXiv:2210.17323)."""
    moment = moment + DAMPING * np.diag(moment).mean() * np.eye(len(moment))
    order = np.argsort(-np.diag(moment), kind="stable")
    turned = np.linalg.cholesky(moment[order][:, order][::-1, ::-1])[::-1, ::-1]  # upper: turned @ turned.T
    left = np.linalg.inv(turned)  # upper too, and of the moment's inverse left.T @ left
    rest = rows[order].astype(np.float64)
    codes = np.empty((len(rows), rows.shape[1] // words.shape[1]), np.uint8)
    for place, number in enumerate(order):
        codes[number] = assign(rest[place].astype(np.float32).reshape(-1, words.shape[1]), words)[0]
        error = (rest[place] - words[codes[number]].reshape(-1)) / left[place, place]
        rest[place + 1 :] -= np.outer(left[place, place + 1 :], error)
    return codes


def shrink_transformer(
    model: TransformerModel,
    budget: int,
    texts: Sequence[str],
    *,
    widths: Sequence[int],
    shares: Sequence[float] = (),
    word: int = 1,
    seed: int = 0,
    progress: bool = False,
) -> tuple[TransformerModel, list[Row]]:
    """The model within `budget` bytes: matrices of `word` values a byte; product codes for the rows of the tokens,
    which are judged as those of a static model are (budget.py); a third of the widths is that of the columns that are
    not weighed. The rows of the tasks stay as exact ones.

    Raises InputError where no scheme fits.
    """
    if not widths:
        raise InputError("No widths of product codes were given.", "Those of a transformer are needed.", "Give widths.")
    model = with_small_body(model, word, seed)
    bare = table_alone(model)
    room = budget - (file_size(model) - file_size(bare))
    small, rows = shrink_to_budget(
        bare, room, texts, widths=widths, edge=model.dim, shares=shares, seed=seed, progress=progress
    )
    return with_tokens(model, small), rows


def table_alone(model: TransformerModel) -> StaticModel:
    """The rows of the tokens, without those of tasks, as a static model."""
    table = model.table.keep(np.arange(_tokens(model)))
    inner = model.table.dim
    document = replace(
        model.document,
        architecture="static",
        dim=inner,
        dims=(inner,),
        inner=None,
        head=None,
        task_tokens={},
        routes={},
        max_tokens=None,
    )
    return StaticModel(Parts(document, table.tensors(), model.tokenizer.packed, model.counts))


def with_tokens(model: TransformerModel, table: StaticModel) -> TransformerModel:
    """The model with the tokens and rows of a static one, and the rows of its own tasks behind these."""
    first = _tokens(model)
    tasks = {task: table.table.size + token - first for task, token in model.document.task_tokens.items()}
    rows = _append(table.table, model.table.expanded()[first:])
    beside = beside_table(model.parts().tensors)
    document = replace(model.document, scheme=rows.rows.scheme, drop=table.document.drop, task_tokens=tasks)
    return TransformerModel(Parts(document, {**rows.tensors(), **beside}, table.tokenizer.packed, table.counts))


def _tokens(model: TransformerModel) -> int:
    return min(model.document.task_tokens.values(), default=model.table.size)


def _append(table: Table, rows: Floats) -> Table:
    """Product codes with some exact rows more, whose tokens come last."""
    coded = table.rows
    assert isinstance(coded, ProductRows), "codes of given widths"
    size = table.size
    weights, levels = table.weights, table.levels
    if weights is not None and levels is not None:
        lengths = np.linalg.norm(rows, axis=1)
        nearest = 1 + np.abs(levels[None, 1:] - lengths[:, None]).argmin(axis=1)  # the first level is that of no row
        rows, weights = rows / levels[nearest][:, None], np.concatenate([weights, nearest.astype(weights.dtype)])
    values, scales = to_int8(rows)
    exact = Int8Rows(
        np.concatenate([coded.exact.values, values]),
        np.concatenate([coded.exact.scales, scales.astype(coded.exact.scales.dtype)]),
    )
    ids = np.concatenate([coded.exact_ids.astype(np.int64), np.arange(size, size + len(rows))])
    return Table(replace(coded, exact=exact, exact_ids=small_ids(ids)), weights, levels)

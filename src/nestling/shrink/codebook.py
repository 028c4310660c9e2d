"""Float rows -> code books: centroids for whole rows, or product codes for blocks of columns.

What counts is the error in a sentence's sum, not in the table: a token that occurs often must be coded well. So a
row's direction is coded with sample weight count * length^2, and its length is kept apart, one byte a token.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from nestling.errors import InputError
from nestling.model.native import usable_cores
from nestling.model.output import unit
from nestling.model.pack import to_int8, to_levels
from nestling.model.rows import CentroidRows, Int8Rows, ProductRows, Rows, Table
from nestling.shrink.kmeans import assign, kmeans

Floats = npt.NDArray[np.float32]
Counts = npt.NDArray[np.uint32]
WORDS = 256
SPLIT = 64
ROUGH_ROUNDS = 6


def importance(rows: Floats, counts: Counts) -> npt.NDArray[np.float64]:
    """Expected squared length that each token brings into a text: (n,) float64. Half a count is added to each."""
    importances: npt.NDArray[np.float64] = (counts + 0.5) * np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    return importances


def to_centroids(rows: Floats, counts: Counts, k: int, *, rounds: int = 25, seed: int = 0) -> Table:
    """Vocabulary quantization: each token takes the direction of one of k centroids, and keeps a length of its own."""
    directions, weights = unit(rows), importance(rows, counts)
    centres, mapping = kmeans(directions, weights, k, rounds=rounds, seed=seed)
    values, scales = to_int8(centres)
    coded = CentroidRows(Int8Rows(values, scales), mapping.astype(np.uint16 if len(centres) <= 2**16 else np.int32))
    return _with_lengths(coded, rows)


def block_widths(dim: int, narrow: int, wide: int = 0, last: int = 0, *, edge: int = 0) -> tuple[int, ...]:
    """Columns of each block: `narrow` ones up to column 64, where an ordered table says most, `wide` ones after it;
    from column `edge` on, if there is one, `last` ones.

    A block at the end of a part takes what is left over.
    """
    widths, ends = [], (min(SPLIT, edge), edge, dim) if last else (SPLIT, dim)
    for start, end, width in zip((0, *ends), ends, (narrow, wide or narrow, last), strict=False):
        widths += [min(width, min(end, dim) - place) for place in range(start, min(end, dim), width)]
    return tuple(widths)


def to_products(
    rows: Floats, counts: Counts, widths: tuple[int, ...], exact: int = 0, *, rounds: int = 25, seed: int = 0
) -> Table:
    """Product codes: blocks of columns, one byte each; `exact` tokens keep int8 rows. widths add up to the columns.

    The code books are fitted twice where there are exact rows: roughly on all tokens, to find those whose error weighs
    most, then on the others.
    """
    if exact:
        first = to_products(rows, counts, widths, rounds=min(rounds, ROUGH_ROUNDS), seed=seed)
        exact_ids = _worst(first.rows, rows, counts, exact)
    else:
        exact_ids = np.zeros(0, np.int64)
    directions, weights = unit(rows), importance(rows, counts)
    coded = np.setdiff1d(np.arange(len(rows)), exact_ids)
    codes = np.zeros((len(coded), len(widths)), np.uint8)
    book = np.zeros((min(WORDS, max(len(coded), 1)), rows.shape[1]), np.float32)

    def fit(block: int) -> None:
        columns = slice(ends[block] - widths[block], ends[block])
        centres, nearest = kmeans(directions[coded, columns], weights[coded], WORDS, rounds=rounds, seed=seed + block)
        book[: len(centres), columns] = centres
        codes[:, block] = nearest

    ends = np.cumsum(widths)
    with ThreadPoolExecutor(usable_cores()) as pool:
        list(pool.map(fit, range(len(widths))))
    values, scales = quantize_words(book, widths)
    return _with_lengths(
        ProductRows(codes, values, scales, widths, _exact(directions, exact_ids), small_ids(exact_ids)), rows
    )


def with_exact(table: Table, rows: Floats, counts: Counts, exact: int) -> Table:
    """The same product codes, with int8 rows for the `exact` tokens whose coding error weighs most.

    table: product codes without exact rows; rows: the float rows that it stands for.
    """
    product = table.rows
    if not isinstance(product, ProductRows) or product.exact.size:
        raise InputError(
            f"Rows of scheme {product.scheme} were given.", "Product codes alone were expected.", "Code them."
        )
    exact_ids = _worst(product, rows, counts, exact)
    coded = np.setdiff1d(np.arange(len(rows)), exact_ids)
    kept = replace(
        product, codes=product.codes[coded], exact=_exact(unit(rows), exact_ids), exact_ids=small_ids(exact_ids)
    )
    return _with_lengths(kept, rows)


def _worst(coded: Rows, rows: Floats, counts: Counts, most: int) -> npt.NDArray[np.int64]:
    """Ids of the tokens whose error, each at its best length, costs a text most: (most,) int64, ascending."""
    directions = coded.gather(np.arange(coded.size))
    along = np.einsum("ij,ij->i", rows, directions)
    explained = along**2 / np.maximum(np.einsum("ij,ij->i", directions, directions), 1e-12)
    error: npt.NDArray[np.float64] = (counts + 0.5) * (np.einsum("ij,ij->i", rows, rows) - explained)
    return np.sort(np.argsort(-error, kind="stable")[:most])


def _exact(directions: Floats, ids: npt.NDArray[np.int64]) -> Int8Rows:
    values, scales = to_int8(directions[ids])
    return Int8Rows(values, scales.astype(np.float16))


def small_ids(ids: npt.NDArray[np.int64]) -> npt.NDArray[np.unsignedinteger]:
    """Token ids in as few bytes as hold them."""
    return ids.astype(np.uint16) if ids.max(initial=0) < 2**16 else ids.astype(np.uint32)


def quantize_words(book: Floats, widths: tuple[int, ...]) -> tuple[npt.NDArray[np.int8], Floats]:
    """Code words as int8, one scale a block: (k, dim) float32 -> (k, dim) int8, (blocks,) float32."""
    ends = np.cumsum(widths)
    largest = np.array([np.abs(book[:, end - width : end]).max() for end, width in zip(ends, widths, strict=True)])
    scales: Floats = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    return np.rint(book / np.repeat(scales, widths)).astype(np.int8), scales


def _with_lengths(coded: Rows, rows: Floats) -> Table:
    """Give each token the length that brings its coded direction nearest to its row, one byte a token."""
    directions = coded.gather(np.arange(coded.size))
    along = np.einsum("ij,ij->i", rows, directions)
    lengths = np.maximum(along / np.maximum(np.einsum("ij,ij->i", directions, directions), 1e-12), 0)
    return pack_lengths(coded, lengths)


def pack_lengths(coded: Rows, lengths: npt.NDArray[np.floating[Any]]) -> Table:
    """A table of coded rows with a length a token, one byte each; lengths below 0 become 0."""
    return Table(coded, *to_levels(np.maximum(lengths, 0).astype(np.float32)))


def assign_words(table: Table, rows: Floats) -> Table:
    """The same words and exact rows, each token coded anew with those nearest to its row's direction."""
    coded, directions = table.rows, unit(rows)
    if isinstance(coded, CentroidRows):
        centroids = coded.centroids.gather(np.arange(coded.centroids.size))
        mapping = assign(directions, centroids)[0].astype(coded.mapping.dtype)
        return _with_lengths(replace(coded, mapping=mapping), rows)
    assert isinstance(coded, ProductRows), type(coded)
    words, ends, own = coded.float_words(), np.cumsum(coded.widths), directions[coded.coded]
    spans = [slice(end - width, end) for end, width in zip(ends, coded.widths, strict=True)]
    codes = np.stack([assign(own[:, span], words[:, span])[0] for span in spans], axis=1)
    return _with_lengths(replace(coded, codes=codes.astype(np.uint8)), rows)

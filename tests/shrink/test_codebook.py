"""Code books: more bits keep more of a sentence, and bits go where sentences need them."""

from itertools import groupby

import numpy as np
import numpy.typing as npt
import pytest

from nestling.errors import InputError
from nestling.model.rows import CentroidRows, ProductRows, Table
from nestling.shrink.codebook import block_widths, importance, to_centroids, to_products, with_exact

Floats = npt.NDArray[np.float32]
N, DIM = 1500, 32


@pytest.fixture(scope="module")
def rows() -> Floats:
    """Rows of many lengths, rare ones longer, as a/(a+p) makes them; the power of the columns falls."""
    random = np.random.default_rng(11)
    powers = 1 / np.sqrt(1 + np.arange(DIM) / 4)
    lengths = np.linspace(0.3, 2, N)[:, None]
    values: Floats = (random.standard_normal((N, DIM)) * powers * lengths).astype(np.float32)
    return values


@pytest.fixture(scope="module")
def counts() -> npt.NDArray[np.uint32]:
    return (1e6 / (np.arange(N) + 2)).astype(np.uint32)


@pytest.fixture(scope="module")
def texts(counts: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
    """400 texts of 12 tokens, drawn as often as they are counted."""
    return np.random.default_rng(12).choice(N, (400, 12), p=counts / counts.sum())


def fidelity(table: Table, rows: Floats, texts: npt.NDArray[np.int64]) -> float:
    """Mean cosine of a text's two vectors."""
    mine, theirs = table.expanded()[texts].mean(axis=1), rows[texts].mean(axis=1)
    lengths = np.linalg.norm(mine, axis=1) * np.linalg.norm(theirs, axis=1)
    return float((np.einsum("ij,ij->i", mine, theirs) / lengths).mean())


def test_centroids_rise_with_k(rows: Floats, counts: npt.NDArray[np.uint32], texts: npt.NDArray[np.int64]) -> None:
    scores = [fidelity(to_centroids(rows, counts, k, rounds=8), rows, texts) for k in (8, 40, 200, 1000, N)]
    assert scores == sorted(scores)
    assert scores[0] < 0.8
    assert scores[-1] > 0.999


def test_product_codes_fall_with_width(
    rows: Floats, counts: npt.NDArray[np.uint32], texts: npt.NDArray[np.int64]
) -> None:
    scores = [
        fidelity(to_products(rows, counts, block_widths(DIM, w), rounds=8), rows, texts) for w in (2, 4, 8, 16, 32)
    ]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 0.99 > 0.9 > scores[-1]


@pytest.mark.parametrize(
    ("asked", "runs"),
    [
        ((256, 4), [(4, 64)]),
        ((256, 3, 4), [(3, 21), (1, 1), (4, 48)]),
        ((48, 4, 8), [(4, 12)]),
        ((320, 4, 4, 8), [(4, 64), (8, 8)]),
        ((300, 4, 6, 8), [(4, 16), (6, 32), (8, 5), (4, 1)]),
        ((40, 4, 6, 8), [(4, 10)]),
    ],
)
def test_blocks_are_as_wide_as_their_part_says(asked: tuple[int, ...], runs: list[tuple[int, int]]) -> None:
    dim, *widths = asked
    found = block_widths(dim, *widths, edge=256)
    assert [(width, len(list(group))) for width, group in groupby(found)] == runs
    assert sum(found) == dim


def test_counts_are_worth_it(rows: Floats, counts: npt.NDArray[np.uint32], texts: npt.NDArray[np.int64]) -> None:
    """On texts where tokens occur as counted, against code books that take all tokens for equal."""
    equal = np.ones(N, np.uint32)
    for code in (lambda c: to_centroids(rows, c, 100), lambda c: to_products(rows, c, block_widths(DIM, 8))):
        assert fidelity(code(counts), rows, texts) > fidelity(code(equal), rows, texts) + 0.02


def test_exact_rows_help_and_are_the_costliest(
    rows: Floats, counts: npt.NDArray[np.uint32], texts: npt.NDArray[np.int64]
) -> None:
    widths = block_widths(DIM, 16)
    scores = [fidelity(to_products(rows, counts, widths, exact=e, rounds=8), rows, texts) for e in (0, 50, 300, 1200)]
    assert scores == sorted(scores)
    assert scores[2] > scores[0] + 0.05
    bare = to_products(rows, counts, widths, rounds=8)
    cost = (counts + 0.5) * ((bare.expanded() - rows) ** 2).sum(axis=1)
    exact_ids = with_exact(bare, rows, counts, 50).rows.exact_ids  # type: ignore[attr-defined]
    assert len(set(exact_ids.tolist()) & set(np.argsort(-cost)[:50].tolist())) >= 48


@pytest.mark.parametrize("exact", [1, 60, N])
def test_exact_rows_are_exact_to_int8(rows: Floats, counts: npt.NDArray[np.uint32], exact: int) -> None:
    """A direction within half a step of int8 (float16 scales, 2 ** -11), a length within half a step of 254."""
    table = to_products(rows, counts, block_widths(DIM, 8), exact=exact, rounds=4)
    ids = table.rows.exact_ids  # type: ignore[attr-defined]
    assert len(ids) == exact
    assert np.all(np.diff(ids.astype(np.int64)) > 0)
    lengths = np.linalg.norm(rows, axis=1)
    spread = np.log(lengths.max() / lengths.min())
    bound = np.abs(rows[ids]).max(axis=1) / 127 / 2 * 1.1 + lengths[ids] * (spread / 254 + 2**-10)
    assert np.all(np.abs(table.expanded()[ids] - rows[ids]).max(axis=1) <= bound)


def test_with_exact_keeps_the_codes(rows: Floats, counts: npt.NDArray[np.uint32]) -> None:
    bare = to_products(rows, counts, block_widths(DIM, 8), rounds=4)
    filled = with_exact(bare, rows, counts, 100)
    assert isinstance(filled.rows, ProductRows)
    others = np.setdiff1d(np.arange(N), filled.rows.exact_ids)
    np.testing.assert_allclose(filled.expanded()[others], bare.expanded()[others], rtol=0.05, atol=1e-6)
    assert filled.size == N
    with pytest.raises(InputError, match=r"scheme product were given\. Product codes alone were expected"):
        with_exact(filled, rows, counts, 3)
    with pytest.raises(InputError, match=r"Rows of scheme centroids were given"):
        with_exact(to_centroids(rows, counts, 3), rows, counts, 3)


def test_lengths_are_the_best_ones(rows: Floats, counts: npt.NDArray[np.uint32]) -> None:
    """No other length brings a coded direction nearer to its row, but for the steps of a byte."""
    table = to_centroids(rows, counts, 64, rounds=4)
    error = ((table.expanded() - rows) ** 2).sum(axis=1)
    for factor in (0.9, 1.1):
        other = ((table.expanded() * factor - rows) ** 2).sum(axis=1)
        assert np.mean(error <= other + 1e-6) > 0.99


def test_rows_of_zeros_and_equal_rows(counts: npt.NDArray[np.uint32]) -> None:
    rows = np.zeros((20, 8), np.float32)
    rows[3:] = 1
    for table in (to_centroids(rows, counts[:20], 5), to_products(rows, counts[:20], (4, 4), exact=2)):
        np.testing.assert_allclose(table.expanded(), rows, atol=0.01)
        assert not table.expanded()[:3].any()


def test_the_same_seed_gives_the_same_bytes(rows: Floats, counts: npt.NDArray[np.uint32]) -> None:
    for code in (
        lambda seed: to_centroids(rows, counts, 50, rounds=3, seed=seed),
        lambda seed: to_products(rows, counts, (16, 16), 9, rounds=3, seed=seed),
    ):
        assert code(1).expanded().tobytes() == code(1).expanded().tobytes()
        assert code(1).expanded().tobytes() != code(2).expanded().tobytes()


def test_mapping_and_code_sizes(rows: Floats, counts: npt.NDArray[np.uint32]) -> None:
    centroids = to_centroids(rows, counts, 5000, rounds=1).rows
    assert isinstance(centroids, CentroidRows)
    assert centroids.mapping.dtype == np.uint16
    assert centroids.centroids.size == N
    product = to_products(rows[:100], counts[:100], (16, 16), rounds=1).rows
    assert isinstance(product, ProductRows)
    assert (product.codes.shape, product.words.shape) == ((100, 2), (100, 32))


@pytest.mark.parametrize(
    ("dim", "narrow", "wide", "widths"),
    [
        (8, 4, None, (4, 4)),
        (10, 4, None, (4, 4, 2)),
        (64, 32, 8, (32, 32)),
        (80, 24, 8, (24, 24, 16, 8, 8)),
        (66, 64, None, (64, 2)),
        (3, 4, 8, (3,)),
    ],
)
def test_block_widths(dim: int, narrow: int, wide: int | None, widths: tuple[int, ...]) -> None:
    assert block_widths(dim, narrow, wide) == widths
    assert sum(widths) == dim


def test_importance() -> None:
    rows = np.array([[3, 4], [0, 2]], np.float32)
    assert importance(rows, np.array([2, 0], np.uint32)).tolist() == [62.5, 2.0]

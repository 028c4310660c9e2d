"""The five forms of rows: keep() and cut() are gather, then choose; and what is stored comes back."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestling.model.load import requantize
from nestling.model.rows import CentroidRows, FloatRows, Rows, Table
from nestling.shrink.codebook import block_widths, to_centroids, to_products

N, DIM = 800, 21
ROWS = np.random.default_rng(5).standard_normal((N, DIM)).astype(np.float32)
COUNTS = (1e5 / (np.arange(N) + 1)).astype(np.uint32)


def tables() -> dict[str, Table]:
    float_table = Table(FloatRows(ROWS))
    mapping = np.random.default_rng(6).integers(0, 40, N).astype(np.uint16)
    return {
        "float32": Table(FloatRows(ROWS), np.linspace(0, 2, N, dtype=np.float32)),
        "float16": requantize(float_table, "float16"),
        "int8": requantize(float_table, "int8"),
        "int4": requantize(float_table, "int4"),
        "float centroids": Table(CentroidRows(FloatRows(ROWS[:40]), mapping)),
        "int8 centroids": to_centroids(ROWS, COUNTS, 40),
        "product": to_products(ROWS, COUNTS, block_widths(DIM, 4)),
        "product, uneven": to_products(ROWS, COUNTS, (1, 7, 3, 10)),
        "product with exact rows": to_products(ROWS, COUNTS, block_widths(DIM, 4), exact=30),
        "product, all but a few exact": to_products(ROWS, COUNTS, block_widths(DIM, 4), exact=N - 3),
        "product, all exact": to_products(ROWS, COUNTS, block_widths(DIM, 4), exact=N),
    }


TABLES = tables()


@pytest.fixture(params=list(TABLES))
def table(request: pytest.FixtureRequest) -> Table:
    return TABLES[str(request.param)]


@pytest.mark.parametrize("dim", [1, 4, 5, 8, 20, DIM])
def test_cut_is_a_prefix(table: Table, dim: int) -> None:
    cut = table.cut(dim)
    assert (cut.size, cut.dim) == (N, dim)
    np.testing.assert_array_equal(cut.expanded(), table.expanded()[:, :dim])


@given(data=st.data(), name=st.sampled_from(list(TABLES)))
def test_keep_is_gather(data: st.DataObject, name: str) -> None:
    """In any order, of some or none."""
    table = TABLES[name]
    ids = np.array(data.draw(st.lists(st.integers(0, N - 1), unique=True, max_size=40)), np.int64)
    dim = data.draw(st.integers(1, DIM))
    kept = table.keep(ids)
    assert kept.size == len(ids)
    np.testing.assert_array_equal(kept.expanded(), table.gather(ids))
    np.testing.assert_array_equal(kept.cut(dim).expanded(), table.expanded()[ids, :dim])
    np.testing.assert_array_equal(table.cut(dim).keep(ids).expanded(), table.expanded()[ids, :dim])


def test_gather_takes_ids_in_any_order_and_again(table: Table) -> None:
    ids = np.array([7, 0, 7, N - 1])
    np.testing.assert_array_equal(table.gather(ids), table.expanded()[ids])
    assert table.gather(ids).dtype == np.float32
    assert table.gather(np.zeros(0, np.int64)).shape == (0, DIM)


def test_tensors_come_back(table: Table) -> None:
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in table.tensors().items()}
    again = Table.from_tensors(tensors, table.rows.scheme, DIM)
    assert again.expanded().tobytes() == table.expanded().tobytes()
    kept: Rows = table.cut(5).keep(np.array([4, 2])).rows
    Table.from_tensors({**kept.tensors()}, kept.scheme, 5)


def test_exact_rows_are_where_their_ids_say() -> None:
    rows: npt.NDArray[np.float32] = TABLES["product with exact rows"].expanded()
    ids = TABLES["product with exact rows"].rows.exact_ids  # type: ignore[attr-defined]
    error = np.linalg.norm(rows - ROWS, axis=1) / np.linalg.norm(ROWS, axis=1)
    others = np.setdiff1d(np.arange(N), ids)
    assert error[ids].max() < 0.02 < np.median(error[others]) / 2

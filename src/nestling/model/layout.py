"""A table laid out for adding up its rows: the C++ core and its twin both work on this, and so give the same bits.

Factors that belong together are multiplied here, once; what is left is the same few steps for every form of rows:

    sum of a block = scales * (sum of factor[t] * row[place[t]] over coded t) + (the same sum over the other t)
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nestling.model.rows import CentroidRows, FloatRows, Int8Rows, ProductRows, Table

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class RowLayout:
    """rows: (m, dim) float32 or int8. places: (n,) uint32, the row of each token, or None for its id.

    factors: (n,) float32, or one number for all tokens, applied to the sum. coded: (n,) bool, the tokens whose sum is
    multiplied by `scales`, (dim,) float32; None for none of them.
    """

    rows: Array
    places: npt.NDArray[np.uint32] | None
    factors: Floats | np.float32
    coded: npt.NDArray[np.bool_] | None = None
    scales: Floats | None = None


def lay_out(table: Table) -> RowLayout:
    """The layout of a table of any form."""
    rows = table.rows
    if isinstance(rows, FloatRows):
        return RowLayout(_contiguous(rows.values), None, _factors(table.factors))
    if isinstance(rows, Int8Rows):
        return RowLayout(np.ascontiguousarray(rows.values), None, _factors(rows.scales, table.factors))
    if isinstance(rows, CentroidRows):
        centroids = lay_out(Table(rows.centroids))
        own = np.broadcast_to(centroids.factors, rows.centroids.size)[rows.mapping]
        return RowLayout(centroids.rows, rows.mapping.astype(np.uint32), _factors(own, table.factors))
    assert isinstance(rows, ProductRows), type(rows)
    factors = np.ones(rows.size, np.float32) if table.factors is None else table.factors.copy()
    factors[rows.exact_ids] *= rows.exact.scales.astype(np.float32)
    return RowLayout(rows.unfolded(), None, factors, rows.coded, np.repeat(rows.scales, rows.widths).astype(np.float32))


def _contiguous(values: Array) -> Floats:
    return np.ascontiguousarray(values, np.float32)


def _factors(*parts: Array | None) -> Floats | np.float32:
    """The product of the parts that are there; one number where all tokens have the same."""
    product: Any = np.float32(1)
    for part in parts:
        if part is not None:
            product = product * part.astype(np.float32)
    if product.ndim and product.size and (product == product[0]).all():
        product = product[0]
    return np.float32(product) if product.ndim == 0 else np.ascontiguousarray(product, np.float32)

"""Rows of few bits: bounds of the error, and what comes back is what was put in."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from nestling.model.load import requantize
from nestling.model.pack import pack_nibbles, to_int4, to_int8, to_levels, unpack_nibbles
from nestling.model.rows import FloatRows, Table

Floats = npt.NDArray[np.float32]
normal = st.floats(-1e6, 1e6, width=32).map(lambda value: 0.0 if abs(value) < 1e-6 else value)
tables = arrays(np.float32, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9), elements=normal)


@settings(deadline=None)
@given(rows=tables)
def test_int8_is_within_half_a_step(rows: Floats) -> None:
    values, scales = to_int8(rows)
    assert (values.dtype, scales.dtype, scales.shape) == (np.int8, np.float32, (len(rows),))
    assert values.min() >= -127
    error = np.abs(values * scales[:, None].astype(np.float64) - rows)
    assert np.all(error <= scales[:, None] * 0.5001)
    largest = np.abs(rows).max(axis=1)
    np.testing.assert_allclose(np.abs(values * scales[:, None]).max(axis=1), largest, rtol=1e-6)
    assert np.all(scales[largest == 0] == 1)


@settings(deadline=None)
@given(rows=tables)
def test_int4_is_no_worse_than_without_clipping(rows: Floats) -> None:
    values, scales = to_int4(rows)
    assert values.min() >= -7
    assert values.max() <= 7
    largest = np.abs(rows).max(axis=1, keepdims=True).astype(np.float64)
    step = np.where(largest > 0, largest / 7, 1)
    plain = np.rint(rows / step) * step
    error = ((values * scales[:, None].astype(np.float64) - rows) ** 2).sum(axis=1)
    assert np.all(error <= ((plain - rows) ** 2).sum(axis=1) * 1.001 + 1e-9 * largest[:, 0] ** 2)
    assert np.all(np.abs(values * scales[:, None] - rows) <= 0.4 * largest + 0.5 * step + 1e-6)


def test_int4_clips_where_that_pays() -> None:
    rows = np.array([[7.0] + [0.55] * 60], np.float32)
    assert to_int4(rows)[1][0] < 1
    assert to_int4(np.array([[7.0, 3.0, -1.0]], np.float32))[1][0] == 1


@given(values=arrays(np.int8, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(-7, 7)))
def test_nibbles_come_back(values: npt.NDArray[np.int8]) -> None:
    packed = pack_nibbles(values)
    assert packed.shape == (len(values), (values.shape[1] + 1) // 2)
    np.testing.assert_array_equal(unpack_nibbles(packed, values.shape[1]), values)


def test_nibbles_as_docs_say() -> None:
    assert pack_nibbles(np.array([[-7, 7, 0]], np.int8)).tolist() == [[0xF1, 0x08]]


@settings(deadline=None)
@given(weights=arrays(np.float32, st.integers(1, 50), elements=st.floats(0, 1e6, width=32)))
def test_levels_are_within_half_a_step_of_the_logarithm(weights: Floats) -> None:
    weights = np.where(weights < 1e-6, 0, weights).astype(np.float32)
    codes, levels = to_levels(weights)
    assert (codes.dtype, levels.dtype, levels.shape, levels[0]) == (np.uint8, np.float32, (256,), 0)
    np.testing.assert_array_equal(codes == 0, weights == 0)
    some = weights > 0
    if some.any():
        spread = np.log(weights[some].max() / weights[some].min())
        gaps = np.abs(np.log(levels[codes[some]] / weights[some], dtype=np.float64))
        assert np.all(gaps <= spread / 254 / 2 + 1e-5)


def test_levels_keep_a_factor_of_a_hundred_to_two_percent() -> None:
    weights = np.geomspace(0.05, 5, 999).astype(np.float32)
    codes, levels = to_levels(weights)
    assert np.abs(levels[codes] / weights - 1).max() < 0.02
    same, one = to_levels(np.full(3, 0.3, np.float32))
    np.testing.assert_allclose(one[same], 0.3, rtol=1e-6)


@pytest.mark.parametrize(("dtype", "least"), [("float32", 1.0), ("float16", 0.9999), ("int8", 0.999), ("int4", 0.98)])
def test_requantize(dtype: str, least: float) -> None:
    rows = np.random.default_rng(0).standard_normal((50, 33)).astype(np.float32)
    weights = np.linspace(0.1, 2, 50, dtype=np.float32)
    table = requantize(Table(FloatRows(rows), weights), dtype)
    assert table.weights is None
    whole, wanted = table.expanded(), rows * weights[:, None]
    cosines = (whole * wanted).sum(axis=1) / np.linalg.norm(whole, axis=1) / np.linalg.norm(wanted, axis=1)
    assert cosines.min() >= least - 1e-6
    again = Table.from_tensors(table.tensors(), table.rows.scheme, 33)
    np.testing.assert_array_equal(again.expanded(), whole)

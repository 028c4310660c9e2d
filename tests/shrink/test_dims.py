"""Fewer dims: prefixes of a table in order, main axes of one without."""

import dataclasses

import numpy as np
import pytest

from nestling.errors import InputError
from nestling.model.rows import FloatRows, Table
from nestling.model.static import StaticModel
from nestling.shrink.dims import cut_dims, in_order, main_axes, tiers_of, token_moment


def unordered(model: StaticModel, dim: int | None = None) -> StaticModel:
    """One tier only, columns mixed by a rotation; with dim, all rows lie in a space of that many dims."""
    random = np.random.default_rng(3)
    rows = model.table.expanded()
    if dim is not None:
        rows[:, dim:] = 0
    turn = np.linalg.qr(random.standard_normal((model.dim, model.dim)))[0]
    mixed = model.with_table(Table(FloatRows((rows @ turn).astype(np.float32))))
    return StaticModel(dataclasses.replace(mixed.parts(), document=dataclasses.replace(mixed.document, dims=(16,))))


def test_a_tier_is_cut(model: StaticModel, sentences: list[str]) -> None:
    small = cut_dims(model, 8)
    assert (small.dim, small.dims) == (8, (8, 4))
    np.testing.assert_array_equal(small.table.expanded(), model.table.expanded()[:, :8])
    np.testing.assert_array_equal(small.encode(sentences[:20]), model.encode(sentences[:20], dim=8))


def test_no_tier_is_refused(model: StaticModel) -> None:
    for dim in (7, 17):
        with pytest.raises(InputError, match=rf"dim={dim} is not a tier of .* It offers 16, 8, 4\."):
            cut_dims(model, dim)
    with pytest.raises(InputError, match="17"):
        cut_dims(unordered(model), 17)
    with pytest.raises(InputError, match="0"):
        cut_dims(unordered(model), 0)


def test_a_table_of_low_rank_loses_nothing(model: StaticModel, sentences: list[str]) -> None:
    whole = unordered(model, 6)
    small = cut_dims(whole, 6)
    assert (small.dim, small.dims) == (6, (6,))
    one, other = whole.encode(sentences[:80]), small.encode(sentences[:80])
    np.testing.assert_allclose(other @ other.T, one @ one.T, atol=1e-5)
    assert not np.allclose(cut_dims(whole, 5).encode(sentences[:80]) @ cut_dims(whole, 5).encode(sentences[:80]).T,
                           one @ one.T, atol=1e-2)  # fmt: skip


def test_turning_keeps_cosines_at_full_width(model: StaticModel, sentences: list[str]) -> None:
    whole = unordered(model)
    turned = in_order(whole, 5)
    assert turned.dims == (16, 5)
    one, other = whole.encode(sentences[:80]), turned.encode(sentences[:80])
    np.testing.assert_allclose(other @ other.T, one @ one.T, atol=1e-5)
    np.testing.assert_array_equal(cut_dims(whole, 5).table.expanded(), turned.table.expanded()[:, :5])


def test_what_is_in_order_stays(model: StaticModel) -> None:
    assert in_order(model, 8) is model
    assert in_order(model, 7) is model
    whole = unordered(model)
    assert in_order(whole, 16) is whole


def test_axes_follow_the_counts(model: StaticModel) -> None:
    """What counted tokens do not use is the first to go."""
    rows = np.zeros((model.table.size, 16), np.float32)
    rows[:100, :3] = np.random.default_rng(0).standard_normal((100, 3))
    rows[100:, 3:] = 5
    counts = np.zeros(model.table.size, np.uint32)
    counts[:100] = 7
    parts = model.with_table(Table(FloatRows(rows))).parts()
    document = dataclasses.replace(parts.document, dims=(16,))
    whole = StaticModel(dataclasses.replace(parts, document=document, counts=counts))
    small = cut_dims(whole, 3).table.expanded()
    np.testing.assert_allclose(small[:100] @ small[:100].T, rows[:100] @ rows[:100].T, atol=1e-4)
    assert np.abs(small[100:]).max() < 1e-3
    uncounted = StaticModel(dataclasses.replace(whole.parts(), counts=None))
    assert np.abs(cut_dims(uncounted, 3).table.expanded()[100:]).max() > 1


@pytest.mark.parametrize("whiten", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("skip", [0, 2])
def test_main_axes(whiten: float, skip: int) -> None:
    points = np.random.default_rng(1).standard_normal((500, 9)) * np.linspace(3, 0.5, 9)
    moment = points.T @ points
    axes = main_axes(moment, 6, skip=skip, whiten=whiten)
    assert (axes.shape, axes.dtype) == ((9, 6), np.float32)
    lengths = np.linalg.norm(axes, axis=0)
    unit = axes / lengths
    np.testing.assert_allclose(unit.T @ unit, np.eye(6), atol=1e-5)
    powers = np.diag(unit.T @ moment @ unit)
    assert np.all(np.diff(powers) < 0)
    largest = np.linalg.eigvalsh(moment)[-1]
    np.testing.assert_allclose(powers, np.linalg.eigvalsh(moment)[::-1][skip : skip + 6], rtol=1e-4)
    np.testing.assert_allclose(lengths, (powers / largest) ** (-whiten / 2), rtol=1e-4)
    assert np.all(unit[np.abs(unit).argmax(axis=0), np.arange(6)] > 0)


def test_main_axes_refuse_nothing_and_too_much() -> None:
    with pytest.raises(InputError, match="No text has a known token"):
        main_axes(np.zeros((4, 4)), 2)
    for dim, skip in ((5, 0), (3, 2), (0, 0)):
        with pytest.raises(InputError, match=rf"dim={dim} after skip={skip} axes .* There are 4 columns\."):
            main_axes(np.eye(4), dim, skip=skip)


def test_token_moment() -> None:
    rows = np.array([[1, 0], [0, 2]], np.float32)
    np.testing.assert_allclose(token_moment(rows, np.array([3, 1], np.uint32)), [[0.75, 0], [0, 1]])
    np.testing.assert_allclose(token_moment(rows, None), [[1, 0], [0, 4]])


def test_tiers_of() -> None:
    assert tiers_of(256) == (256, 192, 128, 96, 64, 32)
    assert tiers_of(100) == (100, 96, 64, 32)
    assert tiers_of(8) == (8,)

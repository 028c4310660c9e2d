"""Weighted k-means: weights matter, no centre is lost, and each round is no worse than the one before."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestling.shrink.kmeans import assign, kmeans

Floats = npt.NDArray[np.float32]


def loss(points: Floats, weights: npt.NDArray[np.float64], centres: Floats, nearest: npt.NDArray[np.int64]) -> float:
    return float((weights * ((points - centres[nearest]).astype(np.float64) ** 2).sum(axis=1)).sum())


def blobs(n: int, d: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def test_three_groups_are_found() -> None:
    middles = np.array([[0, 0], [50, 0], [0, 50]], np.float32)
    points = np.repeat(middles, 40, axis=0) + blobs(120, 2)
    centres, nearest = kmeans(points, np.ones(120), 3, rounds=20, seed=1)
    groups = nearest.reshape(3, 40)
    assert all(len(set(group)) == 1 for group in groups)
    assert len(set(groups[:, 0])) == 3
    np.testing.assert_allclose(centres[groups[:, 0]], points.reshape(3, 40, 2).mean(axis=1), rtol=1e-5, atol=1e-5)


def test_weights_pull() -> None:
    points = np.array([[0.0], [1.0]], np.float32)
    centres, nearest = kmeans(points, np.array([1.0, 3.0]), 1, rounds=3, seed=0)
    assert centres.tolist() == [[0.75]]
    assert nearest.tolist() == [0, 0]
    centres, _ = kmeans(points, np.array([0.0, 3.0]), 1, rounds=3, seed=0)
    assert centres.tolist() == [[1.0]]


def test_an_empty_centre_takes_the_point_that_is_worst_off() -> None:
    """Two of the three first centres are the same point, so that one of them stays empty; the far point takes it."""
    points = np.array([[0, 0], [0, 0], [0, 0], [0, 1], [9, 9]], np.float32)
    for seed in range(20):
        centres, nearest = kmeans(points, np.array([5.0, 5.0, 5.0, 1.0, 1.0]), 3, rounds=10, seed=seed)
        assert loss(points, np.ones(5), centres, nearest) == 0
        assert len(set(nearest.tolist())) == 3


def test_more_centres_than_points() -> None:
    points = blobs(5, 3)
    centres, nearest = kmeans(points, np.ones(5), 9, rounds=4, seed=0)
    assert centres.shape == (5, 3)
    np.testing.assert_array_equal(centres[nearest], points)


def test_weights_of_zero_and_no_points() -> None:
    centres, nearest = kmeans(blobs(10, 2), np.zeros(10), 3, rounds=4, seed=0)
    assert np.isfinite(centres).all()
    assert nearest.shape == (10,)
    centres, nearest = kmeans(np.zeros((0, 2), np.float32), np.zeros(0), 3, rounds=4, seed=0)
    assert (centres.shape, nearest.shape) == ((0, 2), (0,))


def test_the_same_seed_gives_the_same_centres() -> None:
    points, weights = blobs(300, 4), np.arange(300.0)
    one, two, other = (kmeans(points, weights, 20, rounds=5, seed=seed) for seed in (3, 3, 4))
    assert one[0].tobytes() == two[0].tobytes()
    assert one[1].tobytes() == two[1].tobytes()
    assert one[0].tobytes() != other[0].tobytes()
    state = np.random.get_state()[1].tolist()
    kmeans(points, weights, 20, rounds=1, seed=3)
    assert np.random.get_state()[1].tolist() == state


@given(
    n=st.integers(1, 40), d=st.integers(1, 4), k=st.integers(1, 12), rounds=st.integers(0, 6), seed=st.integers(0, 99)
)
def test_a_round_more_is_never_worse(n: int, d: int, k: int, rounds: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    points = random.integers(-3, 4, (n, d)).astype(np.float32)
    weights = random.integers(0, 5, n).astype(np.float64)
    before = loss(points, weights, *kmeans(points, weights, k, rounds=rounds, seed=seed))
    after = loss(points, weights, *kmeans(points, weights, k, rounds=rounds + 1, seed=seed))
    assert after <= before * (1 + 1e-5) + 1e-5


@pytest.mark.parametrize("n", [1, 100, 8192, 8193])
def test_assign_is_the_nearest(n: int) -> None:
    points, centres = blobs(n, 3), blobs(7, 3, seed=1)
    nearest, distance = assign(points, centres)
    gaps = ((points[:, None] - centres[None]) ** 2).sum(axis=2)
    np.testing.assert_allclose(distance, gaps.min(axis=1), atol=1e-4)
    np.testing.assert_allclose(gaps[np.arange(n), nearest], gaps.min(axis=1), atol=1e-4)

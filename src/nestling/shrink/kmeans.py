"""k-means where points weigh differently, in numpy, the same centres for the same seed."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


def kmeans(
    points: Floats, weights: npt.NDArray[np.float64], k: int, *, rounds: int, seed: int
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Centres that make the weighted squared distance of the points small, and the centre of each point.

    points: (n, d) float32; weights: (n,) >= 0 -> (min(k, n), d) float32 and (n,) int64.
    """
    if not len(points):
        return points, np.zeros(0, np.int64)
    random = np.random.default_rng(seed)
    k = min(k, len(points))
    shares = (weights + weights.sum() * 1e-9 + 1e-30) / (weights + weights.sum() * 1e-9 + 1e-30).sum()
    centres = points[random.choice(len(points), k, replace=False, p=shares)].copy()
    for _ in range(rounds):
        nearest, distance = assign(points, centres)
        sums = np.stack([np.bincount(nearest, weights * column, k) for column in points.T], axis=1)
        masses = np.bincount(nearest, weights, k)
        alive = masses > 0
        centres[alive] = sums[alive] / masses[alive, None]
        worst = np.argsort(-(weights * distance), kind="stable")[: k - int(alive.sum())]
        centres[~alive] = points[worst]
    return centres, assign(points, centres)[0]


def assign(points: Floats, centres: Floats) -> tuple[npt.NDArray[np.int64], Floats]:
    """The nearest centre of each point and the squared distance to it: (n,) int64, (n,) float32."""
    nearest, distance = np.empty(len(points), np.int64), np.empty(len(points), np.float32)
    lengths = np.einsum("ij,ij->i", centres, centres)
    for start in range(0, len(points), 8192):
        part = points[start : start + 8192]
        gaps = lengths - 2 * (part @ centres.T)
        best = gaps.argmin(axis=1)
        nearest[start : start + 8192] = best
        distance[start : start + 8192] = gaps[np.arange(len(part)), best] + np.einsum("ij,ij->i", part, part)
    return nearest, np.maximum(distance, 0)

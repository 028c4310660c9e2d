"""Ridge regression from moments."""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def ridge(moment: Array, shared: Array, share: float) -> Array:
    """The linear map that tells y of x with the least squared error: (d, k) float64. moment: x.T @ x, (d, d) float64.
    shared: x.T @ y, (d, k) float64. share: of the mean power of x, which is added to each of its columns'."""
    return np.linalg.solve(moment + share * np.trace(moment) / len(moment) * np.eye(len(moment)), shared)

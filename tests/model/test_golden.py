"""The shipped models give the vectors that they once gave, to the bit, whatever runs them."""

from pathlib import Path

import numpy as np
import pytest

import nestling

GOLDEN = Path(__file__).parent.parent / "golden" / "vectors.npz"


@pytest.mark.parametrize("name", nestling.shipped())
def test_golden_vectors(name: str, odd_texts: list[str]) -> None:
    assert np.array_equal(nestling.load(name).encode(odd_texts), np.load(GOLDEN)[name])

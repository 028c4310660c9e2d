"""What a search asks of a model: two ways to turn text into unit vectors."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


@runtime_checkable
class Embedder(Protocol):
    """Any model whose vectors can be compared by their dot product."""

    def encode_query(self, text: str) -> Vectors:
        """(dim,) float32, of unit length, or zeros where no word is known."""
        ...

    def encode_document(self, texts: Sequence[str], *, titles: Sequence[str] | None = None) -> Vectors:
        """(n, dim) float32, rows of unit length or zeros."""
        ...


def cosines(vectors: Vectors, query: Vectors) -> Vectors:
    """The dot product of each row with the query, (n, dim) -> (n,); the same whatever the other rows are.

    A matrix product would be faster, but BLAS rounds a row differently with the number of rows beside it.
    """
    products: Vectors = (vectors * query).sum(axis=1)
    return products

"""A model for the tests of search: real enough to rank, small enough to read."""

import re
import zlib
from collections.abc import Sequence

import numpy as np
import pytest

from nestling.search.model import Vectors

DIM = 512


class HashedWords:
    """Implements `nestling.search.Embedder`: each word adds one to the column that its CRC-32 picks."""

    def encode_query(self, text: str) -> Vectors:
        vector = np.zeros(DIM, np.float32)
        for word in re.findall(r"\w+", text.lower()):
            vector[zlib.crc32(word.encode()) % DIM] += 1
        return vector / max(np.linalg.norm(vector), np.float32(1))

    def encode_document(self, texts: Sequence[str], *, titles: Sequence[str] | None = None) -> Vectors:
        titles = titles or [""] * len(texts)
        rows = [self.encode_query(f"{title} {text}") for title, text in zip(titles, texts, strict=True)]
        return np.array(rows, np.float32).reshape(-1, DIM)


@pytest.fixture(scope="session")
def model() -> HashedWords:
    return HashedWords()

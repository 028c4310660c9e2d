"""Counting tokens, and taking texts in batches."""

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
import numpy.typing as npt

from nestling.text.tokenizer import TextTokenizer

BATCH = 8192


def batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """The texts in lists of 8,192."""
    rest = iter(texts)
    while batch := list(islice(rest, BATCH)):
        yield batch


def count_tokens(
    tokenizer: TextTokenizer, texts: Iterable[str], size: int, progress: bool = False
) -> npt.NDArray[np.uint32]:
    """How often each token occurs in the texts: (size,) uint32; size is at least the tokenizer's."""
    from tqdm import tqdm

    counts = np.zeros(size, np.int64)
    with tqdm(desc="count tokens", unit="text", disable=not progress, delay=1) as bar:
        for batch in batches(texts):
            counts += np.bincount(tokenizer.encode(batch).ids, minlength=size)
            bar.update(len(batch))
    return np.minimum(counts, 2**32 - 1).astype(np.uint32)

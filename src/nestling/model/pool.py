"""Adding up rows text by text, and working through many texts in units.

The rows of a text are added in the order of its tokens, in blocks of 512 counted from its start. What is added to what
depends on the text alone, so it gives the same bits alone, in any batch, and with any number of threads.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from nestling.errors import whole_number

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[Any]
Gather = Callable[[Ints], Floats]
Work = Callable[[tuple[int, int]], int]

BLOCK = 512
UNIT_TEXTS = 1024
UNIT_CHARACTERS = 1_000_000


def sum_segments(gather: Gather, ids: Ints, offsets: npt.NDArray[np.int64], dim: int) -> Floats:
    """Sum of the rows of each segment, in order, in blocks counted from its start: (n, dim) float32."""
    lengths = np.diff(offsets)
    if lengths.max(initial=0) <= BLOCK:
        return _sum_short(gather, ids, offsets[:-1], lengths, dim)
    blocks = -(-lengths // BLOCK)
    first = np.cumsum(blocks) - blocks
    within = np.arange(blocks.sum()) - np.repeat(first, blocks)
    starts = np.repeat(offsets[:-1], blocks) + within * BLOCK
    ends = np.minimum(starts + BLOCK, np.repeat(offsets[1:], blocks))
    partial = _sum_short(gather, ids, starts, ends - starts, dim)
    upto = np.concatenate([first, [blocks.sum()]])
    return sum_segments(lambda places: partial[places], np.arange(len(partial)), upto, dim)


def _sum_short(gather: Gather, ids: Ints, starts: Ints, lengths: Ints, dim: int) -> Floats:
    """Add the first rows of all segments, then the second rows, and so on; longest segments first, so that those
    still going are a prefix."""
    order = np.argsort(-lengths, kind="stable")
    starts, falling = starts[order], -lengths[order]
    sums = np.zeros((len(starts), dim), np.float32)
    for place in range(int(lengths.max(initial=0))):
        going = np.searchsorted(falling, -place, side="left")
        sums[:going] += gather(ids[starts[:going] + place])
    back = np.empty_like(sums)
    back[order] = sums
    return back


def units_of(texts: Sequence[str]) -> list[tuple[int, int]]:
    """Spans of at most UNIT_TEXTS texts and about UNIT_CHARACTERS characters."""
    spans, start, held = [], 0, 0
    for index, text in enumerate(texts):
        held += len(text)
        if index + 1 - start == UNIT_TEXTS or held >= UNIT_CHARACTERS:
            spans.append((start, index + 1))
            start, held = index + 1, 0
    return spans if start == len(texts) else [*spans, (start, len(texts))]


def over_units(work: Work, spans: Sequence[tuple[int, int]], threads: int | None, progress: bool) -> list[int]:
    """The results of `work` on each span, in order; by `threads` workers, default 1. progress: a bar on stderr."""
    workers = min(1 if threads is None else whole_number("threads", threads, 1), len(spans))
    with tqdm(total=len(spans), desc="embed", unit="unit", disable=not progress, delay=1) as bar:
        if workers <= 1:
            return [_then(bar, work(span)) for span in spans]
        with ThreadPoolExecutor(workers) as pool:
            return [_then(bar, done) for done in pool.map(work, spans)]


def _then(bar: Any, result: int) -> int:
    bar.update()
    return result

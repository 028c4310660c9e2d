"""Adding up rows text by text in numpy, as the core does it: the plain twin, to the bit.

The rows of a text are added one by one, in the order of its tokens, in blocks of 512 tokens counted from its start, and
then the blocks. What is added to what depends on the text alone, so it gives the same bits alone, in any batch, and
with any number of threads. A dropped token is a row of zeros. In sublinear pooling k occurrences of a token in a text
weigh the root of k together, as sublinear term frequency has it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nestling.errors import whole_number
from nestling.model.layout import RowLayout

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[Any]
Gather = Callable[[Ints], Floats]
Work = Callable[[tuple[int, int]], int]

BLOCK = 512
UNIT_TEXTS = 1024
UNIT_CHARACTERS = 1_000_000
MOST_REPEATS = 255  # of a token in a text; further ones weigh what the last of these does


def sum_rows(
    layout: RowLayout,
    kept: npt.NDArray[np.bool_],
    ids: Ints,
    offsets: npt.NDArray[np.int64],
    dim: int,
    sublinear: bool = False,
) -> Floats:
    """The sum of the first `dim` columns of the rows of each text: (n, dim) float32.

    kept: (tokens,) bool, those that are not dropped. ids, offsets: as in Tokens.
    """
    repeats = repeat_weights(ids, offsets) if sublinear else None
    lengths = np.diff(offsets)
    blocks = np.maximum(-(-lengths // BLOCK), 1)
    first = np.cumsum(blocks) - blocks
    within = np.arange(blocks.sum()) - np.repeat(first, blocks)
    starts = np.repeat(offsets[:-1], blocks) + within * BLOCK
    sizes = np.minimum(starts + BLOCK, np.repeat(offsets[1:], blocks)) - starts
    sums = _sum_blocks(layout, kept, ids, repeats, starts, sizes, dim)
    if len(sums) == len(lengths):
        return sums
    return _add_in_order(lambda places: sums[places], first, blocks, dim)


def repeat_weights(ids: Ints, offsets: npt.NDArray[np.int64]) -> Floats:
    """What each token weighs where repeats count less: sqrt(k) - sqrt(k - 1), if it is the k-th of its id in its text.

    ids, offsets: as in Tokens. (total,) float32.
    """
    texts = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    order = np.lexsort((ids, texts))  # stable: occurrences of an id stay in their order
    first = np.ones(len(ids), np.bool_)
    first[1:] = (ids[order][1:] != ids[order][:-1]) | (texts[order][1:] != texts[order][:-1])
    place = np.arange(len(ids))
    before = np.empty(len(ids), np.int64)
    before[order] = place - np.maximum.accumulate(np.where(first, place, 0))
    roots = np.sqrt(np.arange(MOST_REPEATS + 1, dtype=np.float64))
    weights: Floats = np.diff(roots).astype(np.float32)[np.minimum(before, MOST_REPEATS - 1)]
    return weights


def _sum_blocks(
    layout: RowLayout,
    kept: npt.NDArray[np.bool_],
    ids: Ints,
    repeats: Floats | None,
    starts: Ints,
    sizes: Ints,
    dim: int,
) -> Floats:
    def summed(factors: Floats) -> Floats:
        def gather(places: Ints) -> Floats:
            tokens = ids[places]
            weights = factors[tokens] if repeats is None else factors[tokens] * repeats[places]
            return _gather(layout, tokens, dim) * weights[:, None]

        return _add_in_order(gather, starts, sizes, dim)

    if layout.coded is None or layout.scales is None:
        if layout.factors.ndim:
            return summed(np.where(kept, layout.factors, np.float32(0)))
        return summed(kept.astype(np.float32)) * layout.factors
    coded = summed(np.where(kept & layout.coded, layout.factors, np.float32(0)))
    return coded * layout.scales[:dim] + summed(np.where(kept & ~layout.coded, layout.factors, np.float32(0)))


def _gather(layout: RowLayout, tokens: Ints, dim: int) -> Floats:
    places = tokens if layout.places is None else layout.places[tokens]
    rows: Floats = layout.rows[places, :dim].astype(np.float32, copy=False)
    return rows


def _add_in_order(gather: Gather, starts: Ints, lengths: Ints, dim: int) -> Floats:
    """Add the first rows of all segments, then the second rows, and so on; longest segments first, so that those
    still going are a prefix. gather: places -> their rows."""
    order = np.argsort(-lengths, kind="stable")
    starts, falling = starts[order], -lengths[order]
    sums = np.zeros((len(starts), dim), np.float32)
    for place in range(int(lengths.max(initial=0))):
        going = np.searchsorted(falling, -place, side="left")
        sums[:going] += gather(starts[:going] + place)
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
    if workers <= 1 and not progress:
        return [work(span) for span in spans]
    from concurrent.futures import ThreadPoolExecutor  # with tqdm, a fifth of the time that one text takes, from cold

    from tqdm import tqdm

    with tqdm(total=len(spans), desc="embed", unit="unit", disable=not progress, delay=1) as bar:
        if workers <= 1:
            return [_then(bar, work(span)) for span in spans]
        with ThreadPoolExecutor(workers) as pool:
            return [_then(bar, done) for done in pool.map(work, spans)]


def _then(bar: Any, result: int) -> int:
    bar.update()
    return result

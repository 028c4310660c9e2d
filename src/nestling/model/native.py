"""Models in the C++ core: a static one, behind the compiled tokenizer; and what reads texts for a transformer."""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from nestling.model.blocks import Batch, Blocks, Floats
from nestling.model.layout import RowLayout
from nestling.model.twin import Twin
from nestling.text.native import CoreTokenizer, core_module


def native_model(
    tokenizer: CoreTokenizer,
    layout: RowLayout,
    size: int,
    drop: Sequence[int],
    sublinear: bool = False,
    isa: str = "",
) -> Any:
    """A static model in the core. size: rows of tokens. isa: of its kernels(), default the widest that runs here."""
    core, _ = core_module()
    assert core is not None
    model = core.Model(tokenizer, isa)
    _hand_table(model, layout, size, drop, sublinear)
    return model


def _hand_table(to: Any, layout: RowLayout, size: int, drop: Sequence[int], sublinear: bool) -> None:
    """Hand a table to the core's model, or reader. Its factors are those of each token, or one of all."""
    (to.rows_int8 if layout.rows.dtype == np.int8 else to.rows_float)(layout.rows)
    each = isinstance(layout.factors, np.ndarray)
    factors = (layout.factors, 1.0) if each else (None, float(layout.factors))
    to.tokens(size, layout.places, *factors, layout.coded, layout.scales, list(drop), sublinear)


class CoreReader:
    """Reads texts through a transformer's blocks in the core. tokenizer: None where it does not know that. The others
    as of `native_model`."""

    def __init__(
        self,
        blocks: Blocks,
        layout: RowLayout,
        size: int,
        drop: Sequence[int] = (),
        sublinear: bool = False,
        isa: str = "",
        tokenizer: CoreTokenizer | None = None,
    ) -> None:
        core, _ = core_module()
        assert core is not None
        self._reader = reader = core.Reader(tokenizer, isa)
        _hand_table(reader, layout, size, drop, sublinear)
        shape = blocks.inner, blocks.first, blocks.seen, blocks.dim, blocks.head, blocks.longest
        reader.shape(*shape, len(blocks.blocks))
        self._take(-1, blocks, ("up", "back", "out"), ("seeing", "input", "last"))
        for layer, block in enumerate(blocks.blocks):
            self._take(layer, block, ("queries_keys_values", "attended", "wide", "narrow"), ("attention", "feed"))
        if blocks.weigh is not None:
            reader.weigh(blocks.weigh)
        if blocks.turns is not None:
            reader.rotary(*blocks.turns)
        if blocks.places is not None:
            reader.places(blocks.places)
        reader.ready()
        self.encode: Callable[..., int] | None = reader.encode if tokenizer is not None else None

    def _take(self, layer: int, holder: Any, matrices: Sequence[str], norms: Sequence[str]) -> None:
        for name in matrices:
            if (matrix := getattr(holder, name)) is not None:
                self._reader.matrix(layer, name, matrix.values, matrix.scales, matrix.bias)
        for name in norms:
            if (norm := getattr(holder, name)) is not None:
                self._reader.norm(layer, name, norm.weights, norm.bias, norm.epsilon)

    @property
    def backend(self) -> str:
        """The core, and the instruction set of its kernels."""
        return f"core ({self._reader.isa})"

    def sums(self, batch: Batch, threads: int) -> Floats:
        """The sums over the tokens of pieces: (n, vector) float32."""
        sums: Floats = self._reader.sums(*batch, threads)
        return sums


def reader_of(
    blocks: Blocks,
    layout: RowLayout,
    size: int,
    drop: Sequence[int],
    sublinear: bool,
    tokenizer: CoreTokenizer | None,
) -> CoreReader | Twin:
    """The core's reader where the core is installed, else its twin."""
    core, why = core_module()
    if core is None:
        return Twin(blocks, layout, why)
    return CoreReader(blocks, layout, size, drop, sublinear, tokenizer=tokenizer)


def with_bar(spans: Sequence[tuple[int, int]], texts: int) -> Iterator[tuple[int, int]]:
    """Spans of texts, with a progress bar on stderr."""
    from tqdm import tqdm

    with tqdm(total=texts, desc="embed", unit="text", unit_scale=True, delay=1) as bar:
        for start, stop in spans:
            yield start, stop
            bar.update(stop - start)


@cache
def usable_cores() -> int:
    """Cores that this process may use: its affinity, within the quota of its container."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return max(1, min(cores, -(-int(quota) // int(period))))
    except (OSError, ValueError):
        return cores

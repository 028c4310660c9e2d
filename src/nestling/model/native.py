"""A static model in the C++ core: the compiled tokenizer and the table, laid out once."""

import os
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from nestling.model.layout import RowLayout
from nestling.text.native import CoreTokenizer, core_module

DTYPES = {"float32": 0, "float16": 1, "int8": 2, "binary": 3}
CoreModel = Any  # nestling._core.Model, which may not be there


def native_model(
    tokenizer: CoreTokenizer,
    layout: RowLayout,
    size: int,
    drop: Sequence[int],
    sublinear: bool = False,
    isa: str = "",
) -> CoreModel:
    """The model in the core. size: rows of tokens. isa: of the core's kernels(), default the widest that runs here."""
    core, _ = core_module()
    assert core is not None
    model = core.Model(tokenizer, isa)
    (model.rows_int8 if layout.rows.dtype == np.int8 else model.rows_float)(layout.rows)
    factors = layout.factors if layout.factors.ndim else None
    common = 1.0 if layout.factors.ndim else float(layout.factors)
    model.tokens(size, layout.places, factors, common, layout.coded, layout.scales, list(drop), sublinear)
    return model


def with_bar(texts: int, at_once: int = 65_536) -> Iterator[tuple[int, int]]:
    """Spans of so many texts, with a progress bar on stderr."""
    from tqdm import tqdm

    with tqdm(total=texts, desc="embed", unit="text", unit_scale=True, delay=1) as bar:
        for start in range(0, texts, at_once):
            stop = min(start + at_once, texts)
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

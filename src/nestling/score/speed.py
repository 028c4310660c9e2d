"""`nestling speed`: how fast a model embeds, beside peers, all in one run. docs/speed.md says why it is done so.

The report of `measure` is plain JSON (s are seconds, ms milliseconds, MB 1,000,000 bytes, null what cannot be known):

    first        name of the first model, which every `ratio` divides by: 2 is twice the first model's figure
    rounds, seconds_a_cell, threads ([1, all]), cells (["mixed", "8", ...]), texts {"distinct": n}
    token_counter  the model whose tokenizer counted the tokens of all
    machine      {"arch", "cores", "cpu", "load_before"};  python;  versions {package: version}
    interpreter  {"wall_s", "cpu_s", "peak_mb", "spread", "runs"}: the cold start of a Python that does nothing
    peers        in the order given, each {"name", "kind", "bytes", "max_tokens", "notes": [text], "cells": [...],
                 "latency": {"texts", "median_ms", "p95_ms", "ratio"},
                 "cold_start": {"wall_s", "cpu_s", "peak_mb", "spread", "runs", "ratio", "ratio_cpu", "ratio_peak"}}
    cells        of a peer, each {"cell", "threads", "texts" (a round), "tokens_a_text", "bytes_a_text", "cut_share",
                 "wall_s", "cpu_s" (medians of a round), "spread", "texts_s", "tokens_s", "mb_s", "texts_cpu_s",
                 "cores" (CPU s / wall s), "ratio" (of texts_s), "ratio_cpu" (of texts_cpu_s)}
"""

import os
import platform
import random
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from nestling.errors import InputError
from nestling.files.texts import read_texts
from nestling.score.peers import LAYOUTS, PACKAGES, Peer, make_peer, tokenizer_of
from nestling.score.processes import FIRST_VECTOR, HEAD, Times, Worker, cold_start, cores
from nestling.text.check import check_texts
from nestling.text.count import batches
from nestling.text.tokenizer import TextTokenizer

LENGTHS = (8, 32, 128, 512)  # tokens a text
MIXED = "mixed"
MIXED_SHARE = 0.4  # of the texts; the lengths share the rest
LEAST_TEXTS = 60_000  # so that 20,000 distinct ones are measured as they are, and as many warm up or are cut
SINGLE_TEXTS = 250  # embedded one by one
COLD_RUNS = 5
FIRST_BATCH = 8  # texts of the first calibration pass; each one after it has four times as many


@dataclass(frozen=True)
class Cell:
    """Distinct texts in rounds + 1 equal parts: part 0 to warm up and calibrate with, one more for each round.

    tokens, bytes: of each text, (n,) int64.
    """

    name: str
    texts: list[str]
    tokens: npt.NDArray[np.int64]
    bytes: npt.NDArray[np.int64]
    rounds: int

    @property
    def most(self) -> int:
        """Texts of a part."""
        return len(self.texts) // (self.rounds + 1)

    def span(self, turn: int, count: int) -> slice:
        """Where the first `count` texts of a part lie."""
        return slice(turn * self.most, turn * self.most + count)


def draw_texts(path: Path | None, *, column: str | None = None, seed: int = 0) -> list[str]:
    """The distinct texts of a file that are not blank, shuffled. Raises InputError for fewer than LEAST_TEXTS."""
    do = f"Pass --texts FILE with at least {LEAST_TEXTS:,} distinct texts, and --column where it has several."
    if path is None:
        raise InputError("No texts were given.", "Speed is measured on real texts; none so many come along.", do)
    texts = sorted({text for batch in read_texts(path, column=column) for text in batch if text.strip()})
    if len(texts) < LEAST_TEXTS:
        raise InputError(f"{path} has {len(texts):,} distinct texts.", "Repeated texts would flatter the figures.", do)
    random.Random(seed).shuffle(texts)
    return texts


def measure(
    sources: Sequence[str],
    texts: Sequence[str],
    *,
    rounds: int = 5,
    seconds_a_cell: float = 1.0,
    lengths: Sequence[int] = LENGTHS,
    widths: Sequence[int] | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Measure models beside one another; the module's top has the shape of the report.

    sources: what `load_encoder` takes, run by nestling; or run by their own library: "model2vec:FOLDER",
    "st-static:FOLDER", "minilm-onnx:FOLDER", "minilm-int8:FOLDER", "onnxruntime:MODEL", "tokie:FOLDER", where FOLDER
    may be a shipped name or a .nest file too, and "wordllama". "model2vec" alone is model2vec on the first model, as
    "st-static" and "tokie" are.
    texts: shuffled ones, as of `draw_texts`. seconds_a_cell: that one peer takes for one cell of one round, about.
    widths: numbers of threads, default 1 and all cores.
    """
    if not sources or rounds < 1 or seconds_a_cell <= 0:
        raise InputError(
            f"{len(sources)} models, {rounds} rounds and {seconds_a_cell} seconds a cell cannot be measured.",
            "At least one model, one round and some time were expected.",
            "Give more.",
        )
    sources = [f"{each}:{sources[0]}" if each in LAYOUTS else each for each in sources]
    load_before = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    with tempfile.TemporaryDirectory() as scratch:
        peers = [make_peer(source, Path(scratch)) for source in sources]
        cells, singles = cut_cells(texts, tokenizer_of(peers[0]), lengths, rounds)
        widths = sorted({1, len(cores())} if widths is None else set(widths))
        total = len(peers) * (len(cells) * rounds * len(widths) + COLD_RUNS + 1 + rounds)
        with tqdm(total=total, desc="speed", unit=" turns", disable=not progress) as bar:
            interpreter, cold = _cold_starts(peers, bar)
            by_width = [_throughput(peers, cells, threads, seconds_a_cell, bar) for threads in widths]
            latency = _latencies(peers, singles, bar)
    entries = [
        _entry(peer, [cell for by_peer in by_width for cell in by_peer[index]], latency[index], cold[index])
        for index, peer in enumerate(peers)
    ]
    add_ratios(entries)
    return {
        "first": peers[0].name,
        "rounds": rounds,
        "seconds_a_cell": seconds_a_cell,
        "threads": widths,
        "cells": [cell.name for cell in cells],
        "texts": {"distinct": len(set(texts))},
        "token_counter": peers[0].name,
        "machine": {
            "arch": platform.machine(),
            "cores": len(cores()),
            "cpu": cpu_name(),
            "load_before": load_before,
        },
        "python": platform.python_version(),
        "versions": _versions(peers),
        "interpreter": interpreter,
        "peers": entries,
    }


def _entry(peer: Peer, cells: list[dict[str, Any]], latency: dict[str, Any], cold: dict[str, Any]) -> dict[str, Any]:
    """What the report says of a peer."""
    return {
        "name": peer.name,
        "kind": peer.kind,
        "bytes": peer.size,
        "max_tokens": peer.max_tokens,
        "notes": list(peer.notes),
        "cells": cells,
        "latency": latency,
        "cold_start": cold,
    }


def cut_cells(
    texts: Sequence[str], tokenizer: TextTokenizer, lengths: Sequence[int], rounds: int
) -> tuple[list[Cell], Cell]:
    """The cells, mixed texts first, and the texts to embed one by one. No text is in two of them.

    For a length, words of real texts follow one another until they have as many tokens; a word that would have
    too many is left out.
    """
    texts = list(dict.fromkeys(check_texts(texts)[0]))
    singles = min(-(-SINGLE_TEXTS // rounds) * (rounds + 1), len(texts) // 10)
    mixed = singles + int(MIXED_SHARE * (len(texts) - singles)) if lengths else len(texts)
    share = (len(texts) - mixed) // max(len(lengths), 1)
    parts = {"one": texts[:singles], MIXED: texts[singles:mixed]}
    for start, length in zip(range(mixed, len(texts), share or 1), lengths, strict=False):
        parts[str(length)] = list(dict.fromkeys(_of_length(texts[start : start + share], tokenizer, length)))
    cells = [_cell(name, part, tokenizer, rounds) for name, part in parts.items()]
    short = [cell.name for cell in cells if cell.most < FIRST_BATCH + 2]
    if short or len(parts) < 2 + len(lengths):
        raise InputError(
            f"{len(texts):,} distinct texts leave too few for {', '.join(short) or 'all lengths'} in {rounds} rounds.",
            f"{LEAST_TEXTS:,} were expected.",
            "Give more texts, or ask for fewer rounds.",
        )
    return cells[1:], cells[0]


def _of_length(texts: Sequence[str], tokenizer: TextTokenizer, length: int) -> Iterator[str]:
    words = [word for text in texts for word in text.split()]
    distinct = list(dict.fromkeys(words))
    counts = dict(zip(distinct, _count(tokenizer, distinct).tolist(), strict=True))
    taken: list[str] = []
    missing = length
    for word in words:
        if 0 < counts[word] <= missing:
            taken.append(word)
            missing -= counts[word]
        if not missing:
            yield " ".join(taken)
            taken, missing = [], length


def _cell(name: str, texts: list[str], tokenizer: TextTokenizer, rounds: int) -> Cell:
    sizes = np.fromiter((len(text.encode()) for text in texts), np.int64, len(texts))
    return Cell(name, texts, _count(tokenizer, texts), sizes, rounds)


def _count(tokenizer: TextTokenizer, texts: Sequence[str]) -> npt.NDArray[np.int64]:
    """Tokens of each text, unknown ones included and special ones not: (n,) int64."""
    return np.concatenate([np.zeros(0, np.int64), *(tokenizer.encode(batch).lengths for batch in batches(texts))])


def _throughput(
    peers: Sequence[Peer], cells: Sequence[Cell], threads: int, seconds: float, bar: "tqdm[Any]"
) -> list[list[dict[str, Any]]]:
    """Figures of each peer's cells. In a round, every peer has its turn at a cell, each round another one first."""
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(peer.name, peer.program(threads), threads)) for peer in peers]
        counts = [[calibrate(worker, cell, seconds) for cell in cells] for worker in workers]
        times: list[list[Times]] = [[[] for _ in cells] for _ in peers]
        for turn in range(1, cells[0].rounds + 1):
            for place, cell in enumerate(cells):
                for index in _rotated(len(peers), turn):
                    texts = cell.texts[cell.span(turn, counts[index][place])]
                    times[index][place] += workers[index].run([texts])
                    bar.update()
    return [
        [figures(peer, *facts, threads) for facts in zip(cells, counts[index], times[index], strict=True)]
        for index, peer in enumerate(peers)
    ]


def calibrate(worker: Worker, cell: Cell, seconds: float) -> int:
    """Texts that take about `seconds`, by the fastest of ever larger passes over part 0, which warm up too."""
    worker.run([cell.texts[:2]])
    start, count, rate = 2, FIRST_BATCH, 0.0
    while True:
        ((wall, _),) = worker.run([cell.texts[start : start + count]])
        start, rate = start + count, max(rate, count / wall)
        if wall > seconds / 2 or start + 4 * count > cell.most:
            return min(max(round(rate * seconds), 1), cell.most)
        count *= 4


def figures(peer: Peer, cell: Cell, count: int, times: Times, threads: int) -> dict[str, Any]:
    """What a peer did in a cell. Tokens past its limit, which it does not read, are not counted."""
    spans = [cell.span(turn, count) for turn in range(1, cell.rounds + 1)]
    lengths, sizes = (np.concatenate([column[span] for span in spans]) for column in (cell.tokens, cell.bytes))
    limit = peer.max_tokens if peer.max_tokens is not None else int(lengths.max())
    tokens, size = np.minimum(lengths, limit).mean(), sizes.mean()
    wall, cpu = (statistics.median(column) for column in zip(*times, strict=True))
    return {
        "cell": cell.name,
        "threads": threads,
        "texts": count,
        "tokens_a_text": _short(tokens),
        "bytes_a_text": _short(size),
        "cut_share": _short((lengths > limit).mean()),
        "wall_s": _short(wall),
        "cpu_s": _short(cpu),
        "spread": _spread([wall for wall, _ in times]),
        "texts_s": _short(count / wall),
        "tokens_s": _short(count * tokens / wall),
        "mb_s": _short(count * size / wall / 1e6),
        "texts_cpu_s": _short(count / cpu),
        "cores": _short(cpu / wall),
    }


def _latencies(peers: Sequence[Peer], singles: Cell, bar: "tqdm[Any]") -> list[dict[str, Any]]:
    """Milliseconds of a call with one text, one thread; peers take turns within a round."""
    walls: list[list[float]] = [[] for _ in peers]
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(peer.name, peer.program(1), 1)) for peer in peers]
        for worker in workers:
            worker.run([[text] for text in singles.texts[singles.span(0, singles.most)]])
        for turn in range(1, singles.rounds + 1):
            calls = [[text] for text in singles.texts[singles.span(turn, singles.most)]]
            for index in _rotated(len(peers), turn):
                walls[index] += [1000 * wall for wall, _ in workers[index].run(calls)]
                bar.update()
    return [
        {
            "texts": len(each),
            "median_ms": _short(statistics.median(each)),
            "p95_ms": _short(float(np.percentile(each, 95))),
        }
        for each in walls
    ]


def _cold_starts(peers: Sequence[Peer], bar: "tqdm[Any]") -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Import, load and first vector in fresh interpreters: of Python alone, and of each peer."""
    programs = [HEAD, *(peer.program(None) + FIRST_VECTOR for peer in peers)]
    names = ["python", *(peer.name for peer in peers)]
    runs: list[list[tuple[float, float, float | None]]] = [[] for _ in programs]
    for turn in range(COLD_RUNS + 1):
        for index in _rotated(len(programs), turn):
            runs[index].append(cold_start(programs[index], names[index]))
        bar.update(len(peers))
    python, *others = [_cold_figures(each[1:]) for each in runs]
    return python, others


def _cold_figures(runs: Sequence[tuple[float, float, float | None]]) -> dict[str, Any]:
    walls = [wall for wall, _, _ in runs]
    peaks = [peak for _, _, peak in runs if peak is not None]
    return {
        "wall_s": _short(statistics.median(walls)),
        "cpu_s": _short(statistics.median(cpu for _, cpu, _ in runs)),
        "peak_mb": _short(statistics.median(peaks)) if peaks else None,
        "spread": _spread(walls),
        "runs": len(runs),
    }


def add_ratios(peers: Sequence[dict[str, Any]]) -> None:
    """Add each figure divided by that of the first peer."""
    first = {
        "cells": {(cell["cell"], cell["threads"]): dict(cell) for cell in peers[0]["cells"]},
        "latency": dict(peers[0]["latency"]),
        "cold_start": dict(peers[0]["cold_start"]),
    }
    for peer in peers:
        for cell in peer["cells"]:
            base = first["cells"][cell["cell"], cell["threads"]]
            cell["ratio"] = _ratio(cell["texts_s"], base["texts_s"])
            cell["ratio_cpu"] = _ratio(cell["texts_cpu_s"], base["texts_cpu_s"])
        peer["latency"]["ratio"] = _ratio(peer["latency"]["median_ms"], first["latency"]["median_ms"])
        for name, key in (("ratio", "wall_s"), ("ratio_cpu", "cpu_s"), ("ratio_peak", "peak_mb")):
            peer["cold_start"][name] = _ratio(peer["cold_start"][key], first["cold_start"][key])


def cpu_name() -> str:
    """The model name that Linux gives, if it does."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _versions(peers: Sequence[Peer]) -> dict[str, str]:
    names = {"nestling", "numpy", "tokenizers", *(PACKAGES[peer.kind][1] for peer in peers if peer.kind in PACKAGES)}
    if any(peer.kind in ("load_encoder", "st-static") for peer in peers):
        names |= {"torch", "onnxruntime"}
    return {name: version(name) for name in sorted(names) if find_spec(name.replace("-", "_"))}


def _rotated(count: int, turn: int) -> list[int]:
    return [(index + turn) % count for index in range(count)]


def _ratio(figure: float | None, base: float | None) -> float | None:
    return None if figure is None or not base else _short(figure / base)


def _spread(walls: Sequence[float]) -> float:
    return _short((max(walls) - min(walls)) / statistics.median(walls))


def _short(figure: float) -> float:
    """To four digits."""
    return float(f"{figure:.4g}")

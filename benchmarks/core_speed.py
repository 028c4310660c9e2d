"""How fast the core is, beside what it replaces: writes benchmarks/results/core_speed.json.

    python benchmarks/core_speed.py [--only english,documents,scripts,unigram,floor,threads,calls,cold]

All on real texts that are distinct, one library in turn with another, each in a process of its own (score/speed.py): a
29.5k x 256 table as int8 with a scale a row, as int8 with one scale (model2vec's form) and as float32, and nano, beside
model2vec on the very same float32 table. Then token ids beside `tokenizers`, and one text over and over: the floor.
Needs ../shared (or NESTLING_DATA), and a machine that does nothing else.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

import nestling
from nestling.files.parts import Document, Parts
from nestling.make.recipe import cache_folder, data_folder
from nestling.model.static import StaticModel
from nestling.safe import write_text
from nestling.score.processes import HEAD, cold_start
from nestling.score.speed import measure
from nestling.text.packed import PackedTokenizer
from nestling.text.plan import check_plan
from nestling.text.tokenizer import TextTokenizer

ROOT = Path(__file__).parent.parent
OUT = ROOT / "benchmarks" / "results" / "core_speed.json"
DATA = data_folder()
ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="english,documents,scripts,unigram,floor,threads,calls,cold")
    parts = parser.parse_args().only.split(",")
    report = json.loads(OUT.read_text()) if OUT.exists() else {}
    with tempfile.TemporaryDirectory() as scratch:
        sources = tables(Path(scratch))
        for name, texts in (("english", sentences), ("documents", documents), ("scripts", lines)):
            if name in parts:
                report[name] = measure(sources, texts(), rounds=11, lengths=(), seconds_a_cell=0.5, widths=[1])
        if "unigram" in parts:
            report["unigram"] = {name: unigram(path) for name, path in unigrams().items()}
        if "floor" in parts:
            report["floor"] = floor(Path(sources[0]))
        if "threads" in parts:
            report["threads"] = threads(sources[0])
        if "calls" in parts:
            report["calls"] = calls()
        if "cold" in parts:
            report["cold"] = cold(sources)
    write_text(OUT, json.dumps(report, indent=1) + "\n")


def tables(scratch: Path) -> list[str]:
    """What is measured: our four models, and model2vec on the float32 table and on nano."""
    tokenizer = check_plan((DATA / "peers/potion-base-4M-int8/tokenizer.json").read_text(encoding="utf-8"), "potion")
    size = len(tokenizer["model"]["vocab"])
    rows = nestling.load("static").table.expanded()
    rows = np.resize(rows, (size, 256))  # real rows; which token has which changes no speed
    packed = PackedTokenizer.of(tokenizer, "float32")
    whole = StaticModel(Parts(Document("float", 256, (256,), name="float32", drop=(1,)), {"rows": rows}, packed))
    whole.save(scratch / "float32.nest")
    whole.save(scratch / "float32", layout="model2vec")
    nestling.load(scratch / "float32.nest", dtype="int8").save(scratch / "int8.nest")
    one_scale = np.rint(rows * (127 / np.abs(rows).max())).astype(np.int8)
    scales = {"rows": one_scale, "scales": np.ones(size, np.float16)}
    plain = StaticModel(Parts(Document("int8", 256, (256,), name="int8-plain", drop=(1,)), scales, packed))
    plain.save(scratch / "int8-plain.nest")
    ours = [str(scratch / f"{name}.nest") for name in ("int8", "int8-plain", "float32")]
    return [*ours, "nano", f"model2vec:{scratch / 'float32'}", "model2vec:nano"]


def column(file: str) -> Iterator[str]:
    for batch in pq.ParquetFile(DATA / "corpus" / file).iter_batches(columns=["text"], batch_size=65_536):
        yield from batch.column(0).to_pylist()


def sentences() -> list[str]:
    """English of 60 to 170 characters, about 105 bytes."""
    texts = list({text for text in column("english.parquet") if 60 <= len(text) <= 170})
    return shuffled(texts)[:600_000]


def documents() -> list[str]:
    """5 KB each: English texts joined until they are so long."""
    found: list[str] = []
    held, size = [], 0
    for text in shuffled(list(column("english.parquet"))):
        held.append(text)
        size += len(text.encode()) + 1
        if size >= 5000:
            found.append(" ".join(held).encode()[:5000].decode(errors="ignore"))
            held, size = [], 0
    return found[:30_000]


def lines() -> list[str]:
    """Seven languages in their scripts, about 80 bytes."""
    texts = {text.encode()[:80].decode(errors="ignore") for text in column("multilingual.parquet")}
    return shuffled([text for text in texts if text.strip()])[:300_000]


def shuffled(texts: list[str]) -> list[str]:
    texts.sort()
    random.Random(0).shuffle(texts)
    return texts


def unigrams() -> dict[str, Path]:
    cache = cache_folder()
    return {
        "xlm-r": cache / "teachers/multilingual-e5-small/tokenizer.json",
        "albert": cache / "tokenizers/albert-30k.json",
    }


def unigram(path: Path) -> dict[str, Any]:
    """CPU microseconds a text of ids by the core and by `tokenizers`, taken in turn, one thread, no text twice."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    tokenizer = TextTokenizer(path.read_text(encoding="utf-8"), path.parent.name)
    assert tokenizer.core is not None, tokenizer.why_not
    backend = tokenizer.twin._backend
    report = {}
    for name, texts in (("english", sentences()[:120_000]), ("scripts", lines()[:120_000])):
        ways: dict[str, Callable[[list[str]], Any]] = {
            "core": tokenizer.core.encode,
            "tokenizers": lambda part: backend.encode_batch_fast(part, add_special_tokens=False),
        }
        times: dict[str, list[float]] = {way: [] for way in ways}
        share = len(texts) // (ROUNDS + 1)
        for turn in range(ROUNDS + 1):
            for way, encode in ways.items():
                part = texts[turn * share : (turn + 1) * share]
                start = time.process_time()
                encode(part)
                if turn:  # the first warms up
                    times[way].append((time.process_time() - start) / len(part) * 1e6)
        core, reference = (statistics.median(times[way]) for way in ways)
        report[name] = {
            "texts": share * ROUNDS,
            "core_us": round(core, 3),
            "tokenizers_us": round(reference, 2),
            "ratio": round(reference / core, 2),
        }
    return report


def floor(path: Path) -> dict[str, Any]:
    """CPU nanoseconds a text, int8 256-d: all distinct, and one of them over and over, which is the warm floor."""
    model = nestling.load(path)
    texts = sentences()[:100_000]
    middle = sorted(texts, key=lambda text: model.count_tokens(text))[len(texts) // 2]
    out = np.zeros((len(texts), 256), np.float32)
    times: dict[str, list[float]] = {"distinct": [], "one": []}
    for _ in range(ROUNDS):
        for name, part in (("distinct", texts), ("one", [middle] * len(texts))):
            start = time.process_time()
            model.encode(part, threads=1, out=out)
            times[name].append((time.process_time() - start) / len(part) * 1e9)
    return {name: round(statistics.median(each), 1) for name, each in times.items()}


def threads(path: str, rounds: int = 12) -> dict[str, Any]:
    """Wall nanoseconds a text of one thread, of two, and of two processes of one thread each, which share nothing but
    the machine: medians of rounds in turn, and the least.
    """
    ways = {"one thread": (1, 1), "two threads": (1, 2), "two processes": (2, 1)}
    walls: dict[str, list[float]] = {way: [] for way in ways}
    with ExitStack() as stack:
        workers = [stack.enter_context(Rounds(path)) for _ in range(2)]
        for _ in range(rounds):
            for way, (processes, width) in ways.items():
                for worker in workers[:processes]:
                    worker.start(width)
                walls[way].append(statistics.mean(worker.wait() for worker in workers[:processes]) / processes)
    return {way: {"median": round(statistics.median(each)), "least": round(min(each))} for way, each in walls.items()}


class Rounds:
    """A process that embeds the same 200,000 texts as often as it is told."""

    def __init__(self, path: str) -> None:
        here = [sys.executable, "-c", f"import core_speed; core_speed.serve_rounds({path!r})"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
        found = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
        self._process = subprocess.Popen(here, env=found, **pipes)  # type: ignore[call-overload]

    def __enter__(self) -> "Rounds":
        self.start(1)
        self.wait()
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.communicate()

    def start(self, width: int) -> None:
        self._process.stdin.write(f"{width}\n")
        self._process.stdin.flush()

    def wait(self) -> float:
        return float(self._process.stdout.readline())


def serve_rounds(path: str) -> None:
    texts, model = sentences()[:200_000], nestling.load(path)
    out = np.zeros((len(texts), model.dim), np.float32)
    for line in sys.stdin:
        start = time.perf_counter()
        model.encode(texts, threads=int(line), out=out)
        print((time.perf_counter() - start) / len(texts) * 1e9, flush=True)


def calls(rounds: int = 20) -> dict[str, float]:
    """Wall microseconds a call with one text, nano, distinct texts in turn: the median of the means of 1,000 calls."""
    model, texts = nestling.load("nano"), sentences()[: rounds * 1000]
    means = []
    for turn in range(rounds):
        part = texts[turn * 1000 : turn * 1000 + 1000]
        start = time.perf_counter()
        for text in part:
            model.encode(text)
        means.append((time.perf_counter() - start) * 1000)
    return {"median_us": round(statistics.median(means), 2), "least_us": round(min(means), 2)}


def cold(sources: list[str], rounds: int = 9) -> dict[str, Any]:
    """CPU seconds and peak MB from a fresh interpreter to the first vector; and of `import numpy` alone, in turn."""
    ours = "import nestling\nnestling.load({!r}).encode('a cat sat on the mat')\n"
    programs = {"python": "", "numpy": "import numpy\n", "nano": ours.format("nano"), "int8": ours.format(sources[0])}
    runs: dict[str, list[tuple[float, float, float | None]]] = {name: [] for name in programs}
    for _ in range(rounds + 1):
        for name, program in programs.items():
            runs[name].append(cold_start(HEAD + program, name))
    return {
        name: {
            "cpu_s": round(statistics.median(cpu for _, cpu, _ in each[1:]), 3),
            "least_cpu_s": round(min(cpu for _, cpu, _ in each[1:]), 3),
            "peak_mb": round(statistics.median(peak or 0 for _, _, peak in each[1:]), 1),
        }
        for name, each in runs.items()
    }


if __name__ == "__main__":
    main()

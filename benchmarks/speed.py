"""The plain twin beside model2vec, in one run: texts a second, cold start, memory.

    python benchmarks/speed.py [--data DIR] [--texts 40000] [--rounds 5]

Both run the same model: nano, as it is shipped and as saved in model2vec's layout, so tokens, dims and vectors are the
same. Each round has texts drawn from the whole corpus that neither has met; one thread each
(TOKENIZERS_PARALLELISM=false, use_multiprocessing=False); rounds take turns; medians, CPU seconds beside wall seconds.
The first round, in which nestling has met no word yet, is given apart. Cold start is a fresh interpreter: import, load,
one vector. Writes benchmarks/results/speed.json.
"""

import argparse
import json
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy as np
from model2vec import StaticModel

import nestling
from nestling.files.texts import read_texts

COLD = {
    "nestling": "import nestling; nestling.load('nano').encode('a cat sat on the mat')",
    "model2vec": "from model2vec import StaticModel as S; S.from_pretrained({folder!r}).encode('a cat sat on the mat')",
    "python": "pass",
    "numpy": "import numpy",
}
# What ru_maxrss says is also the parent's from before exec; VmHWM is the child's alone.
PEAK = "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
RESULT = Path(__file__).parent / "results" / "speed.json"


def main() -> None:
    options = parse()
    batches = read_texts(options.data / "corpus" / "english.parquet", column="text")
    everything = sorted({text for batch in batches for text in batch})
    texts = random.Random(0).sample(everything, options.texts * (options.rounds + 1))
    slices = [texts[start : start + options.texts] for start in range(0, len(texts), options.texts)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = str(Path(scratch) / "nano")
        nestling.load("nano").save(folder, layout="model2vec")
        figures = {
            "throughput": throughput(slices, folder),
            "cold start": cold_starts(folder, options.rounds),
        }
    about = {
        "command": "python benchmarks/speed.py",
        "texts a round": options.texts,
        "mean bytes": round(statistics.mean(len(text.encode()) for text in texts), 1),
        "rounds": options.rounds,
        "threads": 1,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {cpu_name()}",
        "versions": {name: version(name) for name in ("nestling", "model2vec", "numpy", "tokenizers")},
        "python": platform.python_version(),
    }
    RESULT.write_text(json.dumps({**about, **figures}, indent=1) + "\n")
    print(RESULT.read_text())


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("NESTLING_DATA") or "../shared"))
    parser.add_argument("--texts", type=int, default=40_000)
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


def throughput(slices: list[list[str]], folder: str) -> dict[str, object]:
    """Texts a second of both, by wall and by CPU time, and the ratio of the medians."""
    peer = StaticModel.from_pretrained(folder, max_length=None)
    ours = nestling.load("nano")
    run: dict[str, Callable[[list[str]], np.ndarray]] = {
        "nestling": lambda batch: ours.encode(batch, threads=1),
        "model2vec": lambda batch: peer.encode(batch, normalize=True, use_multiprocessing=False),
    }
    ours.encode("warm up")
    first = {name: rate([timed(encode, slices[0])], len(slices[0])) for name, encode in run.items()}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in run}
    for texts in slices[1:]:
        for name, encode in run.items():
            taken[name].append(timed(encode, texts))
    largest = float(np.abs(run["nestling"](slices[0]) - run["model2vec"](slices[0])).max())
    rates = {name: rate(times, len(slices[0])) for name, times in taken.items()}
    return {
        **rates,
        "ratio": ratio(rates),
        "first round": {**first, "ratio": ratio(first)},
        "largest difference": largest,
    }


def ratio(rates: dict[str, dict[str, float]]) -> dict[str, float]:
    return {
        kind: round(rates["nestling"][kind] / rates["model2vec"][kind], 2) for kind in ("texts/s wall", "texts/s cpu")
    }


def timed(encode: Callable[[list[str]], object], texts: list[str]) -> tuple[float, float]:
    """Wall and CPU seconds of one pass."""
    wall, cpu = time.perf_counter(), time.process_time()
    encode(texts)
    return time.perf_counter() - wall, time.process_time() - cpu


def rate(times: list[tuple[float, float]], texts: int) -> dict[str, float]:
    """Texts a second by the median time, and the spread (max - min) / median of the wall times."""
    wall, cpu = (sorted(column) for column in zip(*times, strict=True))
    return {
        "texts/s wall": round(texts / statistics.median(wall)),
        "texts/s cpu": round(texts / statistics.median(cpu)),
        "spread": round((wall[-1] - wall[0]) / statistics.median(wall), 2),
    }


def cold_starts(folder: str, rounds: int) -> dict[str, dict[str, float]]:
    """Median wall and CPU seconds, and peak memory, of a fresh interpreter that gives one vector."""
    return {name: cold_start(code.format(folder=folder), rounds) for name, code in COLD.items()}


def cold_start(code: str, rounds: int) -> dict[str, float]:
    report = f"{code}\n{PEAK}"
    walls, cpus, peaks = [], [], []
    for _ in range(rounds + 1):
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        walls.append(time.perf_counter() - start)
        cpus.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        peaks.append(int(done.stdout) * 1024 / 1e6)
    median = statistics.median
    return {
        "wall s": round(median(walls[1:]), 3),
        "cpu s": round(median(cpus[1:]), 3),
        "peak MB": round(median(peaks[1:]), 1),
    }


def cpu_name() -> str:
    """The model name that Linux gives, if it does."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


if __name__ == "__main__":
    main()

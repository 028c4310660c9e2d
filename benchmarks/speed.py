"""The plain twin beside model2vec, in one run: texts a second, cold start, memory.

    python benchmarks/speed.py [--data DIR] [--texts 40000] [--rounds 5]

Both run the same model: nano, as it is shipped and as saved in model2vec's layout, so tokens, dims and vectors are the
same. Distinct texts from the corpus; one thread each (TOKENIZERS_PARALLELISM=false, use_multiprocessing=False); rounds
take turns; medians, CPU seconds beside wall seconds. The first round of nestling, with an empty word memo, is given
apart. Cold start is a fresh interpreter: import, load, one vector. Writes benchmarks/results/speed.json.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from itertools import islice
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
RESULT = Path(__file__).parent / "results" / "speed.json"


def main() -> None:
    options = parse()
    batches = read_texts(options.data / "corpus" / "english.parquet", column="text")
    texts = list(islice((text for batch in batches for text in batch), options.texts))
    assert len(set(texts)) == len(texts)
    with tempfile.TemporaryDirectory() as scratch:
        folder = str(Path(scratch) / "nano")
        nestling.load("nano").save(folder, layout="model2vec")
        figures = {
            "throughput": throughput(texts, folder, options.rounds),
            "cold start": cold_starts(folder, options.rounds),
        }
    about = {
        "command": "python benchmarks/speed.py",
        "texts": len(texts),
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


def throughput(texts: list[str], folder: str, rounds: int) -> dict[str, object]:
    """Texts a second of both, by wall and by CPU time, and the ratio of the medians."""
    peer = StaticModel.from_pretrained(folder, max_length=None)
    ours = nestling.load("nano")
    run: dict[str, Callable[[list[str]], np.ndarray]] = {
        "nestling": lambda batch: ours.encode(batch, threads=1),
        "model2vec": lambda batch: peer.encode(batch, normalize=True, use_multiprocessing=False),
    }
    run["model2vec"](texts[:1000])
    ours.encode("warm up")
    first = timed(run["nestling"], texts)
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in run}
    for _ in range(rounds):
        for name, encode in run.items():
            taken[name].append(timed(encode, texts))
    largest = float(np.abs(run["nestling"](texts[:2000]) - run["model2vec"](texts[:2000])).max())
    rates = {name: rate(times, len(texts)) for name, times in taken.items()}
    ratio = {
        kind: round(rates["nestling"][kind] / rates["model2vec"][kind], 2) for kind in ("texts/s wall", "texts/s cpu")
    }
    return {
        **rates,
        "nestling, words not met before": rate([first], len(texts)),
        "ratio": ratio,
        "largest difference": largest,
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
    report = f"{code}\nimport resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    walls, cpus, peaks = [], [], []
    for _ in range(rounds + 1):
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        walls.append(time.perf_counter() - start)
        cpus.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        peaks.append(int(done.stdout) / 1000)
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

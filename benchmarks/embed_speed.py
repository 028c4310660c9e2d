"""`nestling embed` on a million real lines: lines a second and peak memory of the whole command.

    python benchmarks/embed_speed.py [--data DIR] [--rounds 3]

Writes a million lines of the English corpus to a text file and embeds it with nano to .npy, int8 and float32; and reads
the file without embedding, which is what is left when the core takes no time. Writes
benchmarks/results/embed_speed.json.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

from nestling.files.texts import read_texts
from nestling.make.recipe import data_folder
from nestling.safe import write_text

RESULT = Path(__file__).parent / "results" / "embed_speed.json"
WANTED = 1_000_000
# VmHWM is the command's alone, where ru_maxrss would count this process before it became the command.
EMBED = """
import sys
from nestling.cli import main
sys.argv[1:] = ["embed", {source!r}, {target!r}, "--dtype", {dtype!r}]
try: main()
except SystemExit as end: assert not end.code, end.code
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=data_folder())
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        source, target = Path(scratch) / "lines.txt", Path(scratch) / "vectors.npy"
        size = write_lines(options.data / "corpus" / "english.parquet", source)
        runs = {dtype: [embed(source, target, dtype) for _ in range(options.rounds)] for dtype in ("int8", "float32")}
        reading = statistics.median(read(source) for _ in range(options.rounds))
    result = {
        "command": "python benchmarks/embed_speed.py",
        "lines": WANTED,
        "bytes": size,
        "reading alone s": round(reading, 2),
        **{dtype: figures(each) for dtype, each in runs.items()},
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }
    write_text(RESULT, json.dumps(result, indent=1) + "\n")
    print(RESULT.read_text())


def write_lines(corpus: Path, target: Path) -> int:
    """The first million texts, a line each."""
    texts = (text for batch in read_texts(corpus, column="text") for text in batch)
    with target.open("w", encoding="utf-8") as file:
        file.writelines(" ".join(text.split()) + "\n" for text in islice(texts, WANTED))
    return target.stat().st_size


def embed(source: Path, target: Path, dtype: str) -> tuple[float, float]:
    """Wall seconds of the whole command, and its peak memory in MB."""
    program = EMBED.format(source=str(source), target=str(target), dtype=dtype)
    target.unlink(missing_ok=True)
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return time.perf_counter() - start, int(done.stdout.split()[-1]) * 1024 / 1e6


def read(source: Path) -> float:
    start = time.perf_counter()
    count = sum(map(len, read_texts(source, batch=50_000)))
    assert count == WANTED, count
    return time.perf_counter() - start


def figures(runs: list[tuple[float, float]]) -> dict[str, object]:
    wall = statistics.median(seconds for seconds, _ in runs)
    return {
        "wall s": [round(seconds, 2) for seconds, _ in runs],
        "lines a second": round(WANTED / wall),
        "peak MB": round(max(peak for _, peak in runs)),
    }


if __name__ == "__main__":
    main()

"""`nestling search` over 100 MB of real text: seconds, from the command line.

    python benchmarks/search_speed.py [--data DIR] [--rounds 3]

Writes the long documents of the corpus as about 3,000 text files until there are 100 MB (repeating none), then times
the whole process. Writes benchmarks/results/search_speed.json.
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
from pathlib import Path

from nestling.files.texts import read_texts
from nestling.make.recipe import data_folder

RESULT = Path(__file__).parent / "results" / "search_speed.json"
WANTED = 100_000_000
QUERY = "how does a bill become a law"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=data_folder())
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        written = write_files(options.data / "corpus", Path(scratch))
        runs = [run(scratch) for _ in range(options.rounds)]
    last = runs[-1]["report"]
    result = {
        "command": "python benchmarks/search_speed.py",
        "bytes": written,
        "files": last["files"],
        "passages": last["passages"],
        "wall s": [run["wall"] for run in runs],
        "median wall s": statistics.median(run["wall"] for run in runs),
        "peak MB": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "query": QUERY,
        "best": last["hits"][0]["snippet"],
    }
    RESULT.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(RESULT.read_text())


def write_files(corpus: Path, folder: Path) -> int:
    """Long documents, then sentences of the English corpus in files of 2,000 lines, up to WANTED bytes."""
    written = 0
    for number, text in enumerate(documents(corpus)):
        if written >= WANTED:
            break
        written += (folder / f"{number:05d}.txt").write_text(text, encoding="utf-8")
    return sum(path.stat().st_size for path in folder.iterdir())


def documents(corpus: Path):
    for batch in read_texts(corpus / "long.parquet", column="text"):
        yield from batch
    for batch in read_texts(corpus / "english.parquet", column="text", batch=2000):
        yield "\n\n".join(batch)


def run(folder: str) -> dict[str, object]:
    start = time.perf_counter()
    command = [sys.executable, "-m", "nestling.cli", "search", QUERY, folder, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {"wall": round(time.perf_counter() - start, 1), "report": json.loads(done.stdout)}


if __name__ == "__main__":
    main()

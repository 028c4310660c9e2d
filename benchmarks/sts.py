"""STS Benchmark (test) of nano and its peers that are at hand: Spearman of cosines, as mteb's cosine_spearman.

    python benchmarks/sts.py [--data DIR] [--models nano PATH ...]

Every model is loaded by nestling; the bytes are those of all files needed to embed a string. Peers that are in --data
(potion-base-4M in int8) or in the cache (potion-base-2M) are scored too. Published scores stand beside, from
eval/anchors.csv. Writes benchmarks/results/sts.json.
"""

import argparse
import csv
import json
import os
from pathlib import Path

import nestling
from nestling.make.recipe import cache_folder
from nestling.score.sts import score_sts

RESULT = Path(__file__).parent / "results" / "sts.json"
TASK = "STSBenchmark"
NEEDED = ("model.safetensors", "tokenizer.json", "config.json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("NESTLING_DATA") or "../shared"))
    options = parser.parse_args()
    peers = [options.data / "peers" / "potion-base-4M-int8", cache_folder() / "peers" / "potion-base-2m"]
    test = options.data / "eval" / TASK / "test.parquet"
    measured = [measure(source, test) for source in ["nano", *(str(peer) for peer in peers if peer.exists())]]
    result = {
        "command": "python benchmarks/sts.py",
        "task": f"{TASK} test, Spearman of cosines",
        "measured": measured,
        "published": published(options.data / "eval" / "anchors.csv"),
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(RESULT.read_text())


def measure(source: str, test: Path) -> dict[str, object]:
    model = nestling.load(source)
    return {"model": model.name, "bytes": size_of(source), "rows": model.table.size, "spearman": score_sts(model, test)}


def size_of(source: str) -> int:
    path = nestling.shipped().get(source, Path(source))
    return path.stat().st_size if path.is_file() else sum((path / name).stat().st_size for name in NEEDED)


def published(anchors: Path) -> dict[str, float]:
    """Model -> published score on the same task, x 100."""
    with anchors.open(encoding="utf-8") as file:
        return {row["model"]: float(row["score"]) for row in csv.DictReader(file) if row["task"] == TASK}


if __name__ == "__main__":
    main()

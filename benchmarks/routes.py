"""What the task tokens of a transformer are worth: each way to lead what asks, what is asked for, and other texts.

    python benchmarks/routes.py [--data DIR] [micro ...]

Scores every way on the suite `english` and writes benchmarks/results/routes.json.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import nestling
from nestling.score.encoders import Own
from nestling.score.results import averages, read_results
from nestling.score.run import score
from nestling.score.tasks import names_of

PATH = Path(__file__).parent / "results" / "routes.json"
WAYS = {  # of query, document and text
    "none": {},
    "QRY / QRY": {"query": "qry", "document": "qry", "text": "qry"},
    "SYM / SYM": {"query": "sym", "document": "sym", "text": "sym"},
    "QRY / DOC": {"query": "qry", "document": "doc", "text": "doc"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["micro", "mini"])
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("NESTLING_DATA") or "../shared"))
    given = parser.parse_args()
    lines = [judge(name, way, given.data) for name in given.models for way in WAYS]
    PATH.write_text(json.dumps({"command": "python benchmarks/routes.py", "lines": lines}, indent=1) + "\n")


def judge(name: str, way: str, data: Path) -> dict[str, Any]:
    """A line: the means by type of a model whose texts go this way, x 100."""
    model = nestling.load(name)
    model = model.with_table(model.table, routes=WAYS[way], name=f"{name}, {way}")
    with tempfile.TemporaryDirectory() as folder:
        score(Own(model, 0), names_of("english"), data / "eval", Path(folder), progress=True)
        found = averages(read_results(next(path.parent for path in Path(folder).glob("*/model.json"))).lines.values())
    types = {kind: round(100 * mean, 2) for kind, (mean, _) in found.by_type.items()}
    print(name, way, types, flush=True)
    return {"model": name, "way": way, "mean_type": round(100 * found.mean_type, 2), "types": types}


if __name__ == "__main__":
    main()

"""What the task tokens of a transformer are worth: each way to lead what asks, what is asked for, and other texts.

    python benchmarks/routes.py [--data DIR] [micro ...]

Scores every way on tasks of STS, reranking and, those of short documents, retrieval, and writes
benchmarks/results/routes.json.
"""

import argparse
import json
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import nestling
from nestling.make.recipe import data_folder
from nestling.model.common import Model
from nestling.score.encoders import Own, Role, embed_once
from nestling.score.results import averages, read_results
from nestling.score.run import score
from nestling.score.tasks import names_of

PATH = Path(__file__).parent / "results" / "routes.json"
TASKS = (*names_of("sts"), "FeedbackQARetrieval", "XQuADRetrieval/en", "MetaToolRetrieval", "TrecQAReranking")
WAYS: dict[str, dict[Role, str]] = {
    "none": {},
    "QRY / QRY": {"query": "qry", "document": "qry", "text": "qry"},
    "SYM / SYM": {"query": "sym", "document": "sym", "text": "sym"},
    "QRY / DOC": {"query": "qry", "document": "doc", "text": "doc"},
}


class Routed(Own):
    """A model whose texts go one way. met: task, "" for none -> text -> its vector, shared by all ways."""

    def __init__(self, model: Model, way: str, met: dict[str, dict[str, Any]]) -> None:
        super().__init__(model, 0)
        self.name, self.routes, self.met = f"{model.name}, {way}", WAYS[way], met

    def encode(self, texts: Sequence[str], role: Role = "text") -> npt.NDArray[np.float32]:
        task = self.routes.get(role, "")
        return embed_once(texts, self.met[task], lambda new: self.model.encode(new, task=task))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["micro"])
    parser.add_argument("--data", type=Path, default=data_folder())
    given = parser.parse_args()
    lines = []
    for name in given.models:
        model, met = nestling.load(name), defaultdict(dict)
        lines += [judge(name, way, Routed(model, way, met), given.data) for way in WAYS]
    PATH.write_text(json.dumps({"command": "python benchmarks/routes.py", "lines": lines}, indent=1) + "\n")


def judge(name: str, way: str, encoder: Routed, data: Path) -> dict[str, Any]:
    """A line: the means by type of a model whose texts go this way, x 100."""
    with tempfile.TemporaryDirectory() as folder:
        score(encoder, TASKS, data / "eval", Path(folder), progress=True)
        found = averages(read_results(next(path.parent for path in Path(folder).glob("*/model.json"))).lines.values())
    types = {kind: round(100 * mean, 2) for kind, (mean, _) in found.by_type.items()}
    print(name, way, types, flush=True)
    return {"model": name, "way": way, "mean_type": round(100 * found.mean_type, 2), "types": types}


if __name__ == "__main__":
    main()

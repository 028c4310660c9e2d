"""`nestling score`: a model over tasks, one result file each, and only what is missing is run.

`<out>/<model>/<Task>.json` has mteb's shape, with a "nestling" entry on what made it; beside it lie the examples that
`nestling compare` resamples (examples.py), and `model.json` says what was scored.
"""

import json
import logging
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from datasets import disable_progress_bars
from mteb.models.model_meta import ModelMeta
from mteb.results import TaskResult
from mteb.similarity_functions import cos_sim, pairwise_cos_sim
from tqdm import tqdm

from nestling.errors import InputError
from nestling.safe import read_json, write_text
from nestling.score.encoders import Encoder, Remembering, Role, Tier, Vectors
from nestling.score.examples import collect, keep_examples, watch_queries
from nestling.score.tasks import fill, make_task, split_of, subsets_in

SEED = 42  # mteb's
QUIETLY: Any = {"batch_size": 1024, "show_progress_bar": False}
VERSIONS = ("mteb", "scikit-learn", "numpy", "nestling")


@dataclass(frozen=True)
class Outcome:
    """What became of a task. score: of the task's main metric, 0 to 1, or None with the error."""

    task: str
    score: float | None
    error: str = ""


def score(
    encoder: Encoder,
    names: Sequence[str],
    data: Path,
    out: Path,
    *,
    hub: bool = False,
    progress: bool = False,
) -> list[Outcome]:
    """Score an encoder on tasks ("Task" or "Task/subset"), and write their files to `out`/<its name>.

    A task that fails is reported in its outcome, and the others go on. Results of another model of the same name are
    refused.
    """
    disable_progress_bars()
    folder = out / folder_name(encoder)
    _claim(folder, encoder)
    outcomes = []
    bar = tqdm(names, "score", unit=" tasks", disable=not progress)
    for name in bar:
        bar.set_postfix_str(name)
        try:
            outcomes.append(Outcome(name, run_task(encoder, name, data, folder, hub=hub)))
        except Exception as error:  # noqa: BLE001 - whatever a task's or a model's code raises must not stop the others
            outcomes.append(Outcome(name, None, f"{type(error).__name__}: {error}"))
    return outcomes


def run_task(encoder: Encoder, name: str, data: Path, folder: Path, *, hub: bool = False) -> float:
    """Run what is missing of a task, write its file, and return its score: the mean over its subsets."""
    task_name, _, subset = name.partition("/")
    task = make_task(task_name)
    wanted = [subset] if subset else subsets_in(task, data) or list(task.metadata.hf_subsets)
    path, split = folder / f"{task_name}.json", split_of(task)
    known = _known(path, split)
    missing = [one for one in wanted if one not in known]
    if missing:
        fill(task, missing, data, hub)
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as scratch:
            queries = watch_queries(task)
            adapter = Adapter(Remembering(encoder))
            scores = task.evaluate(adapter, split, missing, encode_kwargs=QUIETLY, prediction_folder=Path(scratch))
            for one in missing:
                examples = collect(task, one, split, Path(scratch), scores[one], queries)
                if examples is not None:
                    keep_examples(folder, task_name, one, examples)
        known |= {entry["hf_subset"]: entry for entry in _entries(task, split, scores)}
        _write(path, task, split, known, encoder, time.perf_counter() - began)
        task.unload_data()
    return float(np.mean([known[one]["main_score"] for one in wanted]))


def folder_name(encoder: Encoder) -> str:
    """A model's name as a folder; tiers have their own."""
    return encoder.name.replace("/", "__") + (f"@{encoder.dims[0]}" if isinstance(encoder, Tier) else "")


class Adapter:
    """An encoder as mteb wants it."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder

    @property
    def mteb_model_meta(self) -> ModelMeta:
        name = self.encoder.name if "/" in self.encoder.name else f"local/{self.encoder.name}"
        return ModelMeta.create_empty({"name": name, "revision": self.encoder.fingerprint[:40]})

    def encode(self, inputs: Iterable[Any], *, prompt_type: Any = None, **_: Any) -> Vectors:
        """inputs: batches with a list "text". prompt_type: mteb's query or document, or None."""
        role: Role = "text" if prompt_type is None else ("query" if prompt_type.value == "query" else "document")
        return self.encoder.encode([text for batch in inputs for text in batch["text"]], role)

    def similarity(self, left: Any, right: Any) -> Any:
        return cos_sim(left, right)

    def similarity_pairwise(self, left: Any, right: Any) -> Any:
        return pairwise_cos_sim(left, right)


def _claim(folder: Path, encoder: Encoder) -> None:
    """Write what is scored here; refuse to add to another model's results."""
    path = folder / "model.json"
    facts = {
        "name": encoder.name,
        "kind": encoder.kind,
        "licence": encoder.licence,
        "fingerprint": encoder.fingerprint,
        "dims": list(encoder.dims),
        "bytes": encoder.size,
        "max_tokens": encoder.max_tokens,
    }
    if path.exists() and read_json(path)["fingerprint"] != encoder.fingerprint:
        raise InputError(
            f"{folder} holds results of another {encoder.name}: {read_json(path)['fingerprint']}.",
            f"This one is {encoder.fingerprint}.",
            "Delete the folder to score anew, or choose another --out.",
        )
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _write_json(path, facts)


def _known(path: Path, split: str) -> dict[str, dict[str, Any]]:
    """subset -> scores that a result file already has."""
    if not path.exists():
        return {}
    return {entry["hf_subset"]: entry for entry in read_json(path)["scores"].get(split, [])}


def _entries(task: Any, split: str, scores: Any) -> list[dict[str, Any]]:
    """The scores of each subset in mteb's shape."""
    result = TaskResult.from_task_results(task, {split: scores}, evaluation_time=0.0, date=datetime.now(tz=UTC))
    entries: list[dict[str, Any]] = result.to_dict()["scores"][split]
    return entries


def _write(
    path: Path, task: Any, split: str, known: dict[str, dict[str, Any]], encoder: Encoder, seconds: float
) -> None:
    content = {
        "dataset_revision": task.metadata.revision,
        "task_name": task.metadata.name,
        "mteb_version": version("mteb"),
        "scores": {split: [known[subset] for subset in sorted(known)]},
        "evaluation_time": seconds,
        "kg_co2_emissions": None,
        "date": datetime.now(tz=UTC).timestamp(),
        "nestling": {
            "model": encoder.name,
            "fingerprint": encoder.fingerprint,
            "type": task.metadata.type,
            "metric": task.metadata.main_score,
            "seed": SEED,
            "versions": {name: version(name) for name in VERSIONS},
        },
    }
    _write_json(path, content)


def _write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, default=_plain) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} in a result")


logging.getLogger("mteb").setLevel(logging.ERROR)

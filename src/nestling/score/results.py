"""Result files read back: a model's scores, published scores beside them, and the two averages.

A mean over tasks and a mean over types of tasks differ, and published figures mix them; so both are always given, with
their counts. A task with several subsets counts once.
"""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from nestling.errors import InputError
from nestling.safe import read_json

PUBLISHED = "published:"


@dataclass(frozen=True)
class Line:
    """One score, 0 to 1. name: "Task" or "Task/subset"."""

    name: str
    type: str
    metric: str
    score: float

    @property
    def task(self) -> str:
        return self.name.partition("/")[0]


@dataclass(frozen=True)
class Results:
    """What a model scored. folder: of its result files, None for published scores. facts: of model.json."""

    name: str
    lines: dict[str, Line]
    folder: Path | None = None
    facts: Mapping[str, object] | None = None

    @property
    def dim(self) -> int:
        """The width of the vectors that were scored, 0 where it is not known."""
        dims = (self.facts or {}).get("dims")
        return int(dims[0]) if isinstance(dims, list) and dims else 0

    @property
    def bytes(self) -> int:
        """Bytes of everything needed to embed, 0 where it is not known."""
        return int(str((self.facts or {}).get("bytes", 0)))

    def only(self, names: Iterable[str]) -> "Results":
        """The same with these lines alone. "Task" stands for all its subsets. Raises InputError for what is missing."""
        chosen: dict[str, Line] = {}
        for name in names:
            found = {key: line for key, line in self.lines.items() if name in (key, line.task)}
            if not found:
                raise InputError(f"{self.name} has no score for {name}.", "One was expected.", "Run nestling score.")
            chosen |= found
        return Results(self.name, chosen, self.folder, self.facts)


@dataclass(frozen=True)
class Averages:
    """mean_task: over tasks. mean_type: over the means of the types. by_type: type -> (mean, number of tasks)."""

    mean_task: float
    mean_type: float
    tasks: int
    by_type: dict[str, tuple[float, int]]


def read_results(source: str | Path, anchors: Path | None = None) -> Results:
    """A model's results from the folder that `nestling score` wrote; "published:NAME" reads them from the anchors."""
    if str(source).startswith(PUBLISHED):
        return published(str(source).removeprefix(PUBLISHED), anchors)
    folder = Path(source)
    if not (folder / "model.json").exists():
        raise InputError(
            f"{folder} holds no results.",
            "A folder that nestling score wrote was expected.",
            "Run nestling score first.",
        )
    facts = read_json(folder / "model.json")
    lines: dict[str, Line] = {}
    for path in sorted(folder.glob("*.json")):
        if path.name != "model.json":
            lines |= {line.name: line for line in _lines(path)}
    name = folder.name.replace("__", "/")
    return Results(name, lines, folder, facts)


def published(model: str, anchors: Path | None) -> Results:
    """The published scores of a model, by its name with or without its owner."""
    if anchors is None or not anchors.exists():
        raise InputError(
            f"There are no published scores at {anchors}.",
            "A CSV of task, category, metric, model, score.",
            "Pass --data.",
        )
    with anchors.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if _same(row["model"], model)]
    if not rows:
        raise InputError(f"{anchors} has no scores of {model!r}.", "Names are those of the hub.", "Check the spelling.")
    lines = {row["task"]: Line(row["task"], row["category"], row["metric"], float(row["score"]) / 100) for row in rows}
    return Results(f"{rows[0]['model']} (published)", lines)


def averages(lines: Iterable[Line]) -> Averages:
    """Both means. Raises InputError without a line."""
    by_task: dict[tuple[str, str], list[float]] = {}
    for line in lines:
        by_task.setdefault((line.type, line.task), []).append(line.score)
    if not by_task:
        raise InputError("There is no score to average.", "At least one was expected.", "Run nestling score first.")
    by_type: dict[str, list[float]] = {}
    for (kind, _), scores in by_task.items():
        by_type.setdefault(kind, []).append(_mean(scores))
    every = [score for scores in by_type.values() for score in scores]
    means = {kind: (_mean(scores), len(scores)) for kind, scores in sorted(by_type.items())}
    return Averages(_mean(every), _mean([mean for mean, _ in means.values()]), len(every), means)


def check_alike(results: Iterable[Results]) -> None:
    """Refuse to compare averages over unlike tasks."""
    first, *others = results
    for other in others:
        lacking, more = sorted(set(first.lines) - set(other.lines)), sorted(set(other.lines) - set(first.lines))
        if lacking or more:
            differ = [f"{other.name} lacks {', '.join(lacking)}"] * bool(lacking)
            differ += [f"{first.name} lacks {', '.join(more)}"] * bool(more)
            raise InputError(
                f"The scores are of unlike tasks: {'; '.join(differ)}.",
                "The same tasks were expected of all.",
                "Score what is missing, or choose with --suite or --tasks, or pass --common.",
            )


def _lines(path: Path) -> Iterable[Line]:
    content = read_json(path)
    about = content["nestling"]
    for entries in content["scores"].values():
        for entry in entries:
            subset = entry["hf_subset"]
            name = content["task_name"] if subset == "default" else f"{content['task_name']}/{subset}"
            yield Line(name, about["type"], about["metric"], float(entry["main_score"]))


def _same(full: str, given: str) -> bool:
    return given.lower() in (full.lower(), full.lower().rpartition("/")[2])


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)

"""`nestling compare`: are two models different, or only their luck?

Within a task, its examples are drawn again with replacement, the same for both models (paired bootstrap). Over tasks,
the tasks are drawn again too, each with one of its drawn differences. The p-values of many tasks are corrected as Holm
does.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from nestling.errors import InputError
from nestling.score.examples import Examples, read_examples
from nestling.score.results import Results, averages, check_alike

Floats = npt.NDArray[np.float64]
ROUNDS = 4000
LEVEL = 0.05


@dataclass(frozen=True)
class Difference:
    """The second model's score less the first's, with a 95 % interval. name: of the task, or "mean(task)".

    p: of no difference, corrected; None (with the interval) where there are no examples to draw. separable: p < 0.05.
    """

    name: str
    first: float
    second: float
    low: float | None = None
    high: float | None = None
    p: float | None = None

    @property
    def separable(self) -> bool:
        return self.p is not None and self.p < LEVEL

    @property
    def verdict(self) -> str:
        if self.p is None:
            return "no examples"
        return ("second better" if self.second > self.first else "first better") if self.separable else "not separable"


@dataclass(frozen=True)
class Comparison:
    """Two models on the same tasks: each task, the mean over tasks with its interval, and the means over types."""

    first: str
    second: str
    tasks: tuple[Difference, ...]
    mean_task: Difference
    mean_type: tuple[float, float]
    types: dict[str, tuple[float, float, int]]


def compare(first: Results, second: Results, *, seed: int = 0) -> Comparison:
    """Compare two models. Raises InputError if their tasks differ."""
    check_alike([first, second])
    random = np.random.default_rng(seed)
    drawn = {name: _drawn(first, second, name, random) for name in sorted(first.lines)}
    ours, theirs = averages(first.lines.values()), averages(second.lines.values())
    tasks = [_task(first, second, name, draws) for name, draws in drawn.items()]
    types = {kind: (mean, theirs.by_type[kind][0], count) for kind, (mean, count) in ours.by_type.items()}
    return Comparison(
        first.name,
        second.name,
        tuple(_corrected(tasks)),
        _over_tasks(first, second, drawn, random),
        (ours.mean_type, theirs.mean_type),
        types,
    )


def resampled(examples: Examples, chosen: npt.NDArray[np.int64]) -> Floats:
    """The score of each draw. chosen: (rounds, n) indexes of examples."""
    values = examples.values[chosen]
    if examples.kind == "mean":
        return np.asarray(values.mean(axis=1))
    gold = examples.gold[chosen]
    if examples.kind == "spearman":
        return _correlation(rankdata(values, axis=1), rankdata(gold, axis=1))
    return _average_precision(values, gold)


def _drawn(first: Results, second: Results, name: str, random: np.random.Generator) -> Floats | None:
    """Differences over draws of a task's examples, (ROUNDS,); None where either model has none."""
    if first.folder is None or second.folder is None:
        return None
    task, _, subset = name.partition("/")
    ours, theirs = (read_examples(folder, task, subset or "default") for folder in (first.folder, second.folder))
    if ours is None or theirs is None:
        return None
    if ours.kind != theirs.kind or len(ours.values) != len(theirs.values) or not np.array_equal(ours.gold, theirs.gold):
        raise InputError(
            f"The examples of {name} differ between {first.name} and {second.name}.",
            "The same data were expected.",
            "Score both again with the same --data.",
        )
    count = len(ours.values)
    step = max(1, 4_000_000 // count)
    parts = []
    for start in range(0, ROUNDS, step):
        chosen = random.integers(0, count, (min(step, ROUNDS - start), count))
        parts.append(resampled(theirs, chosen) - resampled(ours, chosen))
    return np.concatenate(parts)


def _task(first: Results, second: Results, name: str, draws: Floats | None) -> Difference:
    a, b = first.lines[name].score, second.lines[name].score
    return Difference(name, a, b) if draws is None else Difference(name, a, b, *_interval(draws), _p(draws))


def _over_tasks(
    first: Results, second: Results, drawn: dict[str, Floats | None], random: np.random.Generator
) -> Difference:
    """The mean over tasks; subsets of a task are averaged first. Without examples, a task's own difference is drawn."""
    by_task: dict[str, list[Floats]] = {}
    for name, draws in drawn.items():
        point = np.full(ROUNDS, second.lines[name].score - first.lines[name].score)
        by_task.setdefault(first.lines[name].task, []).append(point if draws is None else draws)
    table = np.array([np.mean(several, axis=0) for several in by_task.values()])
    chosen = random.integers(0, len(table), (ROUNDS, len(table)))
    draws = table[chosen, np.arange(ROUNDS)[:, None]].mean(axis=1)
    a, b = averages(first.lines.values()).mean_task, averages(second.lines.values()).mean_task
    return Difference("mean(task)", a, b, *_interval(draws), _p(draws))


def _interval(draws: Floats) -> tuple[float, float]:
    low, high = np.quantile(draws, [LEVEL / 2, 1 - LEVEL / 2])
    return float(low), float(high)


def _p(draws: Floats) -> float:
    """Two-sided: how often the difference falls on the other side of zero, at least one in the number of draws."""
    less = min(np.count_nonzero(draws <= 0), np.count_nonzero(draws >= 0))
    return min(1.0, 2 * (less + 1) / (len(draws) + 1))


def _corrected(tasks: Sequence[Difference]) -> list[Difference]:
    """Holm's correction of the p-values, in the order of the tasks."""
    order = sorted((each for each in tasks if each.p is not None), key=lambda each: float(each.p or 0))
    corrected: dict[str, float] = {}
    highest = 0.0
    for place, each in enumerate(order):
        highest = max(highest, min(1.0, float(each.p or 0) * (len(order) - place)))
        corrected[each.name] = highest
    return [
        Difference(each.name, each.first, each.second, each.low, each.high, corrected.get(each.name)) for each in tasks
    ]


def _correlation(left: Floats, right: Floats) -> Floats:
    """Pearson's, row by row; 0 where a row does not vary."""
    left, right = left - left.mean(axis=1, keepdims=True), right - right.mean(axis=1, keepdims=True)
    size = np.sqrt((left**2).sum(axis=1) * (right**2).sum(axis=1))
    found: Floats = np.divide((left * right).sum(axis=1), size, out=np.zeros(len(left)), where=size > 0)
    return found


def _average_precision(values: Floats, gold: Floats) -> Floats:
    """Row by row, as scikit-learn: the sum of (recall gained) x (precision) over thresholds; equal values are one."""
    order = np.argsort(-values, axis=1, kind="stable")
    ranked, hits = np.take_along_axis(values, order, axis=1), np.take_along_axis(gold, order, axis=1)
    found = hits.cumsum(axis=1)
    precision = found / np.arange(1, values.shape[1] + 1)
    last = np.ones_like(ranked, dtype=bool)  # Of a run of equal values, the last one's precision counts for all.
    last[:, :-1] = ranked[:, 1:] != ranked[:, :-1]
    at = np.where(last, np.arange(values.shape[1]), values.shape[1])
    following = np.minimum.accumulate(at[:, ::-1], axis=1)[:, ::-1]
    total = found[:, -1]
    gained = (hits * np.take_along_axis(precision, following, axis=1)).sum(axis=1)
    average: Floats = np.divide(gained, total, out=np.zeros(len(total)), where=total > 0)
    return average


def as_text(comparison: Comparison) -> str:
    """A table for people, scores x 100."""
    width = max(len(each.name) for each in (*comparison.tasks, comparison.mean_task))
    lines = [f"first: {comparison.first}", f"second: {comparison.second}", ""]
    lines.append(f"{'':{width}}   first  second  difference  95 % interval    p       ")
    lines += [_row(each, width) for each in comparison.tasks]
    lines += ["", _row(comparison.mean_task, width)]
    a, b = comparison.mean_type
    lines.append(f"{'mean(type)':{width}}  {100 * a:6.2f}  {100 * b:6.2f}  {100 * (b - a):+10.2f}")
    counts = ", ".join(f"{kind} {count}" for kind, (_, _, count) in comparison.types.items())
    lines.append(f"{len({each.name.partition('/')[0] for each in comparison.tasks})} tasks, by type: {counts}")
    return "\n".join(lines)


def _row(each: Difference, width: int) -> str:
    first, second = 100 * each.first, 100 * each.second
    line = f"{each.name:{width}}  {first:6.2f}  {second:6.2f}  {second - first:+10.2f}"
    if each.low is None or each.high is None or each.p is None:
        return f"{line}  {'':14}         {each.verdict}"
    return f"{line}  {100 * each.low:+6.2f} {100 * each.high:+6.2f}  {each.p:7.4f}  {each.verdict}"


def in_json(comparison: Comparison) -> dict[str, object]:
    """Plain values, with each task's verdict."""
    tasks = [{**vars(each), "verdict": each.verdict} for each in (*comparison.tasks, comparison.mean_task)]
    return {**vars(comparison), "tasks": tasks[:-1], "mean_task": tasks[-1]}

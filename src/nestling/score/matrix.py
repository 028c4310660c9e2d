"""A model at each of its tiers: scores, and what share of the full model's each tier keeps."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nestling.errors import InputError
from nestling.score.encoders import Encoder
from nestling.score.results import Results, averages, read_results
from nestling.score.run import Outcome, folder_name


def tiers_asked(dims: str | None, encoder: Encoder) -> list[int]:
    """The numbers of --dims, without the full width, which is scored anyway. Raises InputError for what is none."""
    try:
        numbers = [int(dim) for dim in dims.split(",")] if dims else []
    except ValueError as error:
        raise InputError(
            f"--dims {dims} was given;", "numbers with commas were expected.", "Give tiers such as 128,64."
        ) from error
    return [dim for dim in numbers if dim != encoder.dims[0]]


def show(by_model: Sequence[tuple[Encoder, list[Outcome]]], out: Path) -> dict[str, Any]:
    """A report: the scores of each model (the full one first, then its tiers), both averages, and "text" for people.

    What a tier keeps is said only where it was scored on the very tasks of the full model: none failed at one alone.
    """
    rows = [_row(encoder, outcomes, out) for encoder, outcomes in by_model]
    full = rows[0]
    for row in rows:
        if row["averages"] and row["scores"].keys() == full["scores"].keys():
            row["retention"] = row["averages"]["mean_task"] / full["averages"]["mean_task"]
    return {"models": rows, "text": "\n\n".join(_text(row) for row in rows)}


def _row(encoder: Encoder, outcomes: list[Outcome], out: Path) -> dict[str, Any]:
    done = [outcome.task for outcome in outcomes if outcome.score is not None]
    results = read_results(out / folder_name(encoder)).only(done) if done else Results(encoder.name, {})
    means = vars(averages(results.lines.values())) if done else None
    scores = {line.name: line.score for line in results.lines.values()}
    return {"model": encoder.name, "dim": encoder.dims[0], "scores": scores, "averages": means}


def _text(row: dict[str, Any]) -> str:
    width = max(map(len, (*row["scores"], "mean(task)")))
    lines = [f"{row['model']}, {row['dim']} dims"]
    lines += [f"  {name:{width}}  {100 * score:6.2f}" for name, score in row["scores"].items()]
    if means := row["averages"]:
        counts = ", ".join(f"{kind} {count}" for kind, (_, count) in means["by_type"].items())
        lines.append(f"  {'mean(task)':{width}}  {100 * means['mean_task']:6.2f}  of {means['tasks']} tasks")
        lines.append(f"  {'mean(type)':{width}}  {100 * means['mean_type']:6.2f}  of {counts}")
        if row.get("retention", 1) != 1:
            lines.append(f"  keeps {100 * row['retention']:.1f} % of the full width's mean(task)")
    return "\n".join(lines)

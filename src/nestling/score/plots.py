"""Pictures from result files: size against quality, what each tier keeps, throughput by length, losses."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from nestling.errors import InputError
from nestling.safe import atomic_write
from nestling.score.results import Results, averages

OURS, THEIRS = "#d1495b", "#5b7083"
mpl.rcParams["svg.hashsalt"] = "nestling"  # The same picture, the same bytes.


def pareto(models: Sequence[Results], path: Path, ours: Sequence[str] = ()) -> None:
    """Mean over tasks against bytes of everything needed to embed, on a logarithmic scale; the line joins the models
    that no smaller one beats."""
    points = sorted((_bytes(each), 100 * averages(each.lines.values()).mean_task, each.name) for each in models)
    figure, axes = _figure("bytes needed to embed a string", f"mean over {_tasks(models)} tasks")
    axes.set_xscale("log")
    best: list[tuple[int, float, str]] = []
    for point in points:
        if not best or point[1] > best[-1][1]:
            best.append(point)
    axes.plot([size for size, _, _ in best], [mean for _, mean, _ in best], color=THEIRS, linewidth=1, alpha=0.5)
    for size, mean, name in points:
        mine = name in ours
        axes.scatter(size, mean, color=OURS if mine else THEIRS, s=60 if mine else 36, zorder=3)
        label = f"{name.rpartition('/')[2]}\n{size / 1e6:.1f} MB"
        axes.annotate(label, (size, mean), xytext=(7, -4), textcoords="offset points", fontsize=8, va="top")
    axes.margins(x=0.25, y=0.15)
    _save(figure, path)


def retention(tiers: Mapping[int, float], path: Path, name: str) -> None:
    """tiers: dims -> mean over tasks, 0 to 1."""
    figure, axes = _figure("dims", "% of the full width's mean over tasks")
    full = tiers[max(tiers)]
    dims = sorted(tiers)
    kept = [100 * tiers[dim] / full for dim in dims]
    axes.plot(range(len(dims)), kept, color=OURS, marker="o")
    for place, (share, dim) in enumerate(zip(kept, dims, strict=True)):
        axes.annotate(
            f"{100 * tiers[dim]:.1f}", (place, share), xytext=(0, -14), textcoords="offset points", ha="center"
        )
    axes.set_xticks(range(len(dims)), [str(dim) for dim in dims])
    axes.set_ylim(min(kept) - 5, 102)
    axes.set_title(name, fontsize=10)
    _save(figure, path)


def ladder(steps: Sequence[tuple[str, float, float]], path: Path, what: str) -> None:
    """A bar a step, first step on top. steps: name, figure, half the width of what it moves by; what: the figure is."""
    figure, axes = _figure(what, "")
    names, figures, spreads = zip(*steps, strict=True)
    places = range(len(steps))
    colours = [THEIRS] * (len(steps) - 1) + [OURS]
    axes.barh(places, figures, xerr=spreads, color=colours, height=0.6, error_kw={"elinewidth": 1, "ecolor": "#333333"})
    axes.set_yticks(places, names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(min(figures) - 2, max(figures) + 1)
    for place, value in zip(places, figures, strict=True):
        axes.annotate(
            f"{value:.1f}", (value, place), xytext=(8, 0), textcoords="offset points", fontsize=8, va="center"
        )
    _save(figure, path)


def by_length(report: Mapping[str, Any]) -> dict[str, dict[int, float]]:
    """What `throughput` draws, of a report of speed.py: one thread, the cells of one length."""
    return {
        peer["name"]: {int(cell["cell"]): cell["texts_s"] for cell in peer["cells"] if _drawn(cell)}
        for peer in report["peers"]
    }


def _drawn(cell: Mapping[str, Any]) -> bool:
    return cell["threads"] == 1 and str(cell["cell"]).isdigit() and cell["texts_s"] is not None


def throughput(by_model: Mapping[str, Mapping[int, float]], path: Path, ours: Sequence[str] = ()) -> None:
    """by_model: name -> tokens a text -> texts a second. Both axes are logarithmic."""
    figure, axes = _figure("tokens a text", "texts a second")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    for name, points in by_model.items():
        lengths = sorted(points)
        mine = name in ours
        axes.plot(
            lengths,
            [points[length] for length in lengths],
            marker="o",
            color=OURS if mine else None,
            zorder=3 if mine else 2,
            label=name,
        )
    ticks = sorted({length for points in by_model.values() for length in points})
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    figure.legend(fontsize=8, loc="outside right upper")
    _save(figure, path)


def losses(stages: Mapping[str, Sequence[Mapping[str, float]]], path: Path) -> None:
    """stages: name -> a line a check, with step, loss and held_out, and maybe dev, which has an axis of its own."""
    figure, axes = _figure("checks", "loss")
    other, first = axes.twinx(), 0
    for name, log in stages.items():
        places = range(first, first + len(log))
        axes.plot(places, [line["loss"] for line in log], color=THEIRS, linewidth=1, label="in training")
        axes.plot(places, [line["held_out"] for line in log], color=OURS, label="held out")
        axes.axvline(first - 0.5, color="#cccccc", linewidth=1)
        axes.annotate(name, (first, 1), xycoords=("data", "axes fraction"), fontsize=8, va="top")
        if all("dev" in line for line in log):
            other.plot(places, [100 * line["dev"] for line in log], color="#e0a030", label="STS, development split")
        first += len(log)
    other.set_visible(other.has_data())
    other.set_ylabel("Spearman x 100")
    drawn = {
        label: line for each in (axes, other) for line, label in zip(*each.get_legend_handles_labels(), strict=True)
    }
    figure.legend(drawn.values(), drawn.keys(), fontsize=8, loc="outside lower center", ncols=len(drawn))
    _save(figure, path)


def _figure(across: str, up: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.grid(alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _save(figure: Figure, path: Path) -> None:
    """SVG or PNG, by the end of the name."""
    kind = path.suffix[1:].lower()
    if kind not in ("svg", "png"):
        raise InputError(f"{path} ends in {path.suffix!r}.", "A picture is .svg or .png.", "Choose one of these.")
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)


def _bytes(results: Results) -> int:
    if not results.bytes:
        raise InputError(f"{results.name} has no known size.", "Results of nestling score have.", "Leave it out.")
    return results.bytes


def _tasks(models: Sequence[Results]) -> int:
    return averages(models[0].lines.values()).tasks

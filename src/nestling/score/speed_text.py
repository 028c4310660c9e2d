"""A report of speed.py as a table for people, ratios first."""

from collections.abc import Sequence
from typing import Any

from nestling.score.speed import MIXED


def as_text(report: dict[str, Any]) -> str:
    """The report for people: ratios first, then the figures."""
    machine, peers = report["machine"], report["peers"]
    about = (
        f"{report['rounds']} rounds, every model in each; medians, and spread = (max - min) / median. "
        f"{machine['arch']}, {machine['cores']} cores, {machine['cpu']}. "
        f"Tokens as {report['token_counter']} counts them."
    )
    parts = [about]
    for threads in report["threads"]:
        cells = [{cell["cell"]: cell for cell in peer["cells"] if cell["threads"] == threads} for peer in peers]
        columns = [name if name == MIXED else f"{name} tok" for name in report["cells"]]
        title = f"{threads} thread{'s' if threads > 1 else ''}"
        ratios = [[each[name]["ratio"] for name in report["cells"]] for each in cells]
        parts.append(_table(f"texts/s, {report['first']} = 1, {title}", columns, peers, ratios))
        by_cpu = [[each[name]["ratio_cpu"] for name in report["cells"]] for each in cells]
        parts.append(_table(f"texts per CPU second, {report['first']} = 1, {title}", columns, peers, by_cpu))
        keys = {"texts/s": "texts_s", "tokens/s": "tokens_s", "MB/s": "mb_s", "cores": "cores", "spread": "spread"}
        rows = [[each[MIXED][key] for key in [*keys.values(), "texts"]] for each in cells]
        parts.append(_table(f"mixed texts, {title}", [*keys, "texts a round"], peers, rows))
        rates = [[each[name]["texts_s"] for name in report["cells"]] for each in cells]
        parts.append(_table(f"texts/s, {title}", columns, peers, rates))
    single = [[peer["latency"][key] for key in ("ratio", "median_ms", "p95_ms")] for peer in peers]
    parts.append(_table("one text at a time, 1 thread", ["ratio", "median ms", "p95 ms"], peers, single))
    cold = [
        [peer["cold_start"][key] for key in ("ratio", "wall_s", "cpu_s", "peak_mb", "spread")] + [peer["bytes"]]
        for peer in peers
    ]
    columns = ["ratio", "wall s", "CPU s", "peak MB", "spread", "file bytes"]
    parts.append(_table("cold start: import, load, first vector", columns, peers, cold))
    parts += [f"{peer['name']}: {note}." for peer in peers for note in peer["notes"]]
    cut = [
        f"{peer['name']} reads the first {peer['max_tokens']} tokens of a text only."
        for peer in peers
        if any(cell["cut_share"] for cell in peer["cells"])
    ]
    return "\n\n".join([*parts, *cut]) + "\n"


def _table(title: str, columns: Sequence[str], peers: Sequence[dict[str, Any]], rows: Sequence[Sequence[Any]]) -> str:
    width = max(len(text) for text in [title, *(peer["name"] for peer in peers)])
    widths = [max(len(column), 9) for column in columns]
    lines = [[title, *columns], *([peer["name"], *map(_figure, row)] for peer, row in zip(peers, rows, strict=True))]
    return "\n".join(
        "  ".join([first.ljust(width), *(text.rjust(wide) for text, wide in zip(rest, widths, strict=True))])
        for first, *rest in lines
    )


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"

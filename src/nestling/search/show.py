"""A report as a person reads it on a terminal, or a program as JSON."""

import json
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator

import click

from nestling.model.inspect import printable
from nestling.search.results import Hit, Report
from nestling.search.snippet import clean

# Around the best sentence while lines are folded; no snippet holds control characters.
_OPEN, _SHUT = "\x02", "\x03"
_BEST = re.compile(f"{_OPEN}([^{_SHUT}]*){_SHUT}?")
_INDENT = "    "


def show(report: Report) -> str:
    """The hits as stdout wants them: in colour and folded to its width if it is a terminal, else plain."""
    if not sys.stdout.isatty():
        return render(report)
    return render(report, colour=not os.environ.get("NO_COLOR"), width=shutil.get_terminal_size().columns)


def render(report: Report, *, colour: bool = False, width: int | None = None) -> str:
    """Each hit as a line with place, score and headings above its snippet. width: fold the snippets to it."""
    return "\n".join(_hit(hit, colour, width) + "\n" for hit in report.hits)


def show_summary(report: Report) -> None:
    """Print on stderr what was searched, and what could not be read."""
    click.echo(summary(report), err=True)


def to_json(report: Report, model: str) -> str:
    """The whole report as one JSON document. model: its name."""
    return json.dumps(
        {
            "query": report.query,
            "model": model,
            "files": report.files,
            "passages": report.passages,
            "binaries": report.binaries,
            "seconds": round(report.seconds, 3),
            "hits": [_hit_as_json(hit) for hit in report.hits],
            "problems": [{"path": problem.path, "reason": problem.reason} for problem in report.problems],
        },
        indent=2,
    )


def summary(report: Report) -> str:
    """One line on what was searched, and one for each file that could not be read."""
    searched = f"searched {_count(report.files, 'file')}, {_count(report.passages, 'passage')}"
    parts = [f"{searched} in {report.seconds:.1f} s"]
    if report.binaries:
        parts.append(f"{_count(report.binaries, 'binary file')} skipped")
    if report.problems:
        parts.append(f"{_count(len(report.problems), 'file')} could not be read:")
    lines = [f"  {_printable(problem.path)}: {clean(problem.reason)}" for problem in report.problems]
    return "\n".join(["; ".join(parts), *lines])


def _hit(hit: Hit, colour: bool, width: int | None) -> str:
    """The lines of one hit."""
    passage = hit.passage
    page = "page " if passage.kind == "page" else ""
    place = f"{_printable(passage.path)}:{page}{hit.best_line}"
    heading = " ".join(clean(passage.heading).split())
    head = [click.style(place, fg="cyan") if colour else place, f"{hit.score:.2f}", heading]
    return "\n".join(["  ".join(part for part in head if part), *_snippet(hit, colour, width)])


def _snippet(hit: Hit, colour: bool, width: int | None) -> list[str]:
    """The snippet's lines, indented, without blank ones; with colour, the best sentence is bold."""
    text = hit.snippet
    if colour:
        start, end = hit.span
        text = f"{text[:start]}{_OPEN}{text[start:end]}{_SHUT}{text[end:]}"
    lines = [line.rstrip() for line in textwrap.dedent(text).split("\n") if line.strip()]
    if width:
        room = max(20, width - len(_INDENT))
        lines = [part for line in lines for part in textwrap.wrap(line, room)]
    return [_INDENT + line for line in _emboldened(lines)]


def _emboldened(lines: list[str]) -> Iterator[str]:
    """Replace the marks around the best sentence by bold type, line by line, as pagers need it."""
    inside = False
    for line in lines:
        marked = _OPEN * inside + line
        inside = marked.rfind(_OPEN) > marked.rfind(_SHUT)
        yield _BEST.sub(lambda best: click.style(best[1], bold=True), marked)


def _hit_as_json(hit: Hit) -> dict[str, object]:
    passage = hit.passage
    return {
        "path": passage.path,
        "unit": "page" if passage.kind == "page" else "line",
        "line": passage.line,
        "end_line": passage.end_line,
        "best_line": hit.best_line,
        "score": round(hit.score, 4),
        "cosine": round(hit.cosine, 4),
        "words": round(hit.words, 4),
        "heading": passage.heading,
        "snippet": hit.snippet,
        "span": list(hit.span),
    }


def _printable(path: str) -> str:
    """A path that any terminal can take on one line, even where its name is no text."""
    return printable(os.fsencode(path).decode("utf-8", "replace"))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"

"""Write the tables of README.md and docs/ from the shipped models and the files in benchmarks/results/.

    python benchmarks/tables.py [--check]

A table lies between `<!-- table: NAME -->` and `<!-- end -->`. --check changes nothing, and fails where one is not what
the results say.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from nestling.model.inspect import shipped_models

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", "docs/shrink.md", "docs/search.md", "docs/embed.md"]
TABLE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
STS = "STSBenchmark test, Spearman"
STS_BESIDE = (
    "minishlab/potion-base-8M",
    "sentence-transformers/all-MiniLM-L6-v2",
    "BAAI/bge-small-en-v1.5",
)
SCHEMES_SHOWN = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = [page for page in PAGES if not fill(ROOT / page, check)]
    if stale and check:
        sys.exit(f"Not what the results say: {', '.join(stale)}. Run python benchmarks/tables.py.")


def fill(page: Path, check: bool = False) -> bool:
    """Whether the page was up to date; if not, and unless only checked, it is written."""
    text = page.read_text(encoding="utf-8")
    filled = TABLE.sub(lambda match: f"{match[1]}\n{TABLES[match[2]]()}\n\n{match[3]}", text)
    if filled != text and not check:
        page.write_text(filled, encoding="utf-8")
    return filled == text


def models() -> str:
    rows = [
        [f"`{model['name']}`", f"{model['size']:,}", dims(model["dims"]), dims(model["scores"][STS].values())]
        for model in shipped_models()
    ]
    return table(["model", "bytes, tokenizer included", "dims", "STS Benchmark (test), by dims"], rows)


def sts() -> str:
    result = results("sts")
    best = [(entry["model"], entry["bytes"], max(entry["spearman"].values())) for entry in result["measured"]]
    rows = [[name, f"{size / 1e6:.1f} MB", f"{100 * score:.1f}", "here"] for name, size, score in best]
    rows += [[name.split("/")[1], "", f"{result['published'][name]:.1f}", "published"] for name in STS_BESIDE]
    return table(["model", "bytes", "Spearman x 100", "measured"], rows)


def speed() -> str:
    result = results("speed")
    through, cold = result["throughput"], result["cold start"]
    first = through["first round"]

    def line(what: str, figure: Callable[[str], float], form: str, ratio: str) -> list[str]:
        return [what, format(figure("nestling"), form), format(figure("model2vec"), form), ratio]

    wall = "texts/s wall"
    rows = [
        line("texts/s, new texts", lambda who: through[who][wall], ",", f"{through['ratio'][wall]:.1f} x"),
        line(
            "texts/s, first 40,000 after the start", lambda who: first[who][wall], ",", f"{first['ratio'][wall]:.1f} x"
        ),
        line("import, load, first vector (s)", lambda who: cold[who]["wall s"], ".2f", of(cold, "wall s")),
        line("peak memory of that (MB)", lambda who: cold[who]["peak MB"], ".0f", of(cold, "peak MB")),
    ]
    note = (
        f"{result['texts a round']:,} texts a round, {result['mean bytes']:.0f} bytes each on average, "
        f"{result['rounds']} rounds, {result['machine']}, Python {result['python']}, "
        f"model2vec {result['versions']['model2vec']}."
    )
    return f"{table(['', 'nestling', 'model2vec', ''], rows)}\n\n{note}"


def of(cold: dict[str, dict[str, float]], what: str) -> str:
    """How many times less nestling takes."""
    return f"{cold['model2vec'][what] / cold['nestling'][what]:.1f} x less"


def shrink() -> str:
    """The best schemes of each kind, in the order of the trials."""
    shown: list[dict[str, Any]] = []
    for trial in results("nano")["trials"]:
        kind = trial["what"].split(",")[0].split()[0]
        alike = sum(other["what"].split(",")[0].split()[0] == kind for other in shown)
        if alike < SCHEMES_SHOWN:
            shown.append(trial)
    rows = [
        [trial["what"], f"{trial['size']:,}", f"{trial['cosine']:.3f}", f"{trial['spearman']:.3f}"] for trial in shown
    ]
    return table(["scheme", "bytes", "cosine", "Spearman"], rows)


def questions() -> str:
    result = results("questions")
    rows = [[entry["ranking"], entry["first"], entry["in the first five"]] for entry in result["rankings"]]
    return table(["ranking", f"expected passage first, of {result['asked']}", "among the first five"], rows)


def search_speed() -> str:
    result = results("search_speed")
    return (
        f"{result['bytes'] / 1e6:.0f} MB in {result['files']:,} files, {result['passages']:,} passages: "
        f"{result['median wall s']:.0f} s, {result['peak MB']} MB of memory, one process on {result['cores']} cores "
        "(median of three whole runs of the command)."
    )


def results(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))
    return content


def dims(numbers: Iterable[float]) -> str:
    return ", ".join(f"{100 * number:.1f}" if isinstance(number, float) else str(number) for number in numbers)


def table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


TABLES: dict[str, Callable[[], str]] = {
    each.__name__: each for each in (models, sts, speed, shrink, questions, search_speed)
}

if __name__ == "__main__":
    main()

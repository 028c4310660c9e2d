"""Write the tables of README.md and docs/ from the shipped models and the files in benchmarks/results/.

    python benchmarks/tables.py [--check]

A table lies between `<!-- table: NAME -->` and `<!-- end -->`. --check changes nothing, and fails where one is not what
the results say.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from nestling.model.inspect import shipped_models
from nestling.model.load import shipped
from nestling.score.card import table
from nestling.score.results import Results, averages, read_results
from nestling.score.tasks import SUITES

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
JUDGED = ("mean", "STS", "classification", "clustering", "retrieval")
PAGES = [
    "README.md",
    *(
        f"docs/{page}.md"
        for page in ("embed", "probe", "score", "search", "shrink", "speed", "training", "transformers", "web")
    ),
]
TABLE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
STS = "STSBenchmark test, Spearman"
SCHEMES_SHOWN = 4
HELPERS = ("reference-", "tokenlearn", "model2vec-")  # models made only to compare with
PROBE_FIGURES = {
    "roc_auc": "ROC-AUC",
    "average_precision": "average precision",
    "recall_at_1_fpr": "recall at 1 % false positives",
    "recall_at_5_fpr": "at 5 %",
    "f1": "F1",
    "accuracy": "accuracy",
}


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


def baselines() -> str:
    """Ours and the others, smallest first: bytes and the means of the broad suite."""
    return _means([each for each in broad() if not each.name.startswith(HELPERS)])


def schemes() -> str:
    """Ours beside the references' schemes on the same table, and beside a model made by the peers' own tools."""
    return _means([each for each in broad() if each.name.startswith(HELPERS) or each.name in shipped()])


def _means(models: Iterable[Results]) -> str:
    rows, means = [], None
    for model in models:
        means = averages(model.only(SUITES["broad"]).lines.values())
        figures = (means.mean_type, means.mean_task, *(mean for mean, _ in means.by_type.values()))
        rows.append([short(model), f"{model.bytes / 1e6:.2f} MB", *(f"{100 * figure:.1f}" for figure in figures)])
    assert means is not None
    types = [f"{kind} ({count})" for kind, (_, count) in means.by_type.items()]
    return table(["model", "all bytes", f"mean of {len(types)} types", f"mean of {means.tasks} tasks", *types], rows)


def scores() -> str:
    """Every task of every model."""
    models = [each for each in broad() if not each.name.startswith(HELPERS)]
    names = sorted(set.intersection(*(set(model.lines) for model in models)))
    rows = [
        [name, models[0].lines[name].type, *(f"{100 * each.lines[name].score:.1f}" for each in models)]
        for name in names
    ]
    return table(["task", "type", *(short(each) for each in models)], rows)


def broad() -> list[Results]:
    """Every model that is scored at full width, smallest first."""
    folders = [path.parent for path in (RESULTS / "scores").glob("*/model.json") if "@" not in path.parent.name]
    return sorted(map(read_results, folders), key=lambda each: each.bytes)


def short(model: Results) -> str:
    name = model.name.rpartition("/")[2]
    return f"**{name}**" if name in shipped() else name


def seeds() -> str:
    """The shipped models and their like of other seeds."""
    keys = {
        "mean_type": "mean of 6 types",
        "mean_task": "mean of 23 tasks",
        "STSBenchmark": "STS Benchmark",
        "STS_five": "mean of five STS",
        "Retrieval": "retrieval",
    }
    rows = [
        [line["model"], str(line["seed"]), *(f"{line[key]:.1f}" for key in keys)] for line in results("seeds")["lines"]
    ]
    return table(["recipe", "seed", *keys.values()], rows)


def _compared(ours: str) -> str:
    """Each model less ours, over all tasks; how many tasks are separable, and for whom."""
    rows = []
    for pair in sorted(results(f"compare_{ours}"), key=lambda pair: pair["mean_task"]["second"]):
        mean, verdicts = pair["mean_task"], [task["verdict"] for task in pair["tasks"]]
        difference = f"{100 * (mean['second'] - mean['first']):+.2f}"
        interval = f"{100 * mean['low']:+.2f} to {100 * mean['high']:+.2f}"
        counts = [verdicts.count(verdict) for verdict in ("second better", "not separable", "first better")]
        verdict = "yes" if mean["verdict"] != "not separable" else "no"
        rows.append([pair["second"].rpartition("/")[2], difference, interval, verdict, *counts])
    head = [
        "model",
        f"mean(task) less {ours}'s",
        "95 % interval",
        "separable",
        "tasks better",
        "not separable",
        "worse",
    ]
    return table(head, rows)


def validity() -> str:
    result = results("validity")
    rows = [
        [
            row["task"],
            row["measured"],
            row["published"],
            f"{row['difference']:+.2f}",
            "yes" if row["data agree"] else "no",
        ]
        for row in result["tasks"]
    ]
    head = table(["task", "measured", "published", "difference", "data agree"], rows)
    note = f"Within {result['tolerance']:.1f} on {result['within']} of the {result['of']} tasks whose data agree."
    return f"{head}\n\n{note}"


def dims_kept() -> str:
    """The tiers of ours on the broad suite."""
    rows = []
    for name in shipped():
        tiers = [read_results(path) for path in (RESULTS / "scores").glob(f"{name}*")]
        means = {tier.dim: averages(tier.only(SUITES["broad"]).lines.values()) for tier in tiers}
        for dim, mean in sorted(means.items(), reverse=True):
            kept = [100 * mean.mean_type / means[of].mean_type for of in (max(means), 128)]
            figures = [f"{100 * mean.mean_type:.1f}", *(f"{share:.1f} %" for share in kept)]
            rows.append([name, dim, *figures, f"{100 * mean.mean_task:.1f}"])
    return table(["model", "dims", "mean(type)", "kept", "of 128 dims", "mean(task)"], rows)


def beside_published() -> str:
    """static beside the published scores of the larger potions."""
    reports = results("published")
    names = sorted({name for report in reports for name in report["tasks"]})
    rows = []
    for name in names:
        found = [report["tasks"].get(name) for report in reports]
        ours = next(each["static"] for each in found if each)
        rows.append([name, f"{ours:.1f}", *(f"{each['published']:.1f}" if each else "" for each in found)])
    notes = []
    for report in reports:
        pairs = [(each["static"], each["published"]) for each in report["tasks"].values()]
        means = [sum(side) / len(pairs) for side in zip(*pairs, strict=True)]
        ahead = sum(one > other for one, other in pairs)
        notes.append(
            f"{report['model'].rpartition('/')[2]}: ahead on {ahead} of {len(pairs)} tasks, "
            f"mean {means[0]:.1f} against {means[1]:.1f}."
        )
    head = ["task", "static", *(f"{report['model'].rpartition('/')[2]} (published)" for report in reports)]
    return f"{table(head, rows)}\n\n{' '.join(notes)}"


def ladder() -> str:
    return _ladder("rung")


def variants() -> str:
    return _ladder("variant")


def quantized() -> str:
    return _ladder("quantized", size=True)


def _ladder(kind: str, size: bool = False) -> str:
    rows = []
    for line in (line for line in results("ladder")["lines"] if line["kind"] == kind):
        spread = "" if line["spread"] is None else f"{line['spread']:.2f}"
        bytes_of = [f"{line['bytes']:,}"] if size else []
        rows.append([line["name"], *bytes_of, *judged(line), line["seeds"], spread])
    head = ["", *(["bytes"] if size else []), *JUDGED, "seeds", "sd"]
    return table(head, rows)


def blocks() -> str:
    """What blocks behind a static model are worth, one change at a time."""
    report = results("blocks")
    rows = [[line["name"], f"{line['parameters']:,}", f"{line['speed']:,}", *judged(line)] for line in report["lines"]]
    note = f"{report['texts']:,} texts, once, and {report['pairs']:,} pairs."
    return f"{table(['', 'parameters', 'texts/s', *JUDGED], rows)}\n\n{note}"


def bits() -> str:
    """What the matrices of transformers lose in few bits."""
    rows = [
        [line["model"], f"{line['bits']:g}", "yes" * line["feedback"], f"{line['size']:,}", *judged(line)]
        for line in results("bits")["lines"]
    ]
    return table(["model", "bits a value", "feedback", "bytes", *JUDGED], rows)


def routes() -> str:
    """What the tasks of a transformer are worth."""
    lines = results("routes")["lines"]
    types = list(lines[0]["types"])
    rows = [
        [line["model"], line["way"], f"{line['mean_type']:.1f}", *(f"{line['types'][kind]:.1f}" for kind in types)]
        for line in lines
    ]
    return table(["model", "query / document", "mean of types", *types], rows)


def order() -> str:
    """How alike models find the same words in another order, a negation, and a paraphrase."""
    report = results("order")
    names = {"reordered": "words in another order", "negated": "negated", "paraphrased": "paraphrased"}
    rows = [[line["model"].rpartition("/")[2], *(f"{line[name]:.3f}" for name in names)] for line in report["lines"]]
    note = f"Mean cosines of {report['pairs']['reordered']} pairs each."
    return f"{table(['model', *names.values()], rows)}\n\n{note}"


def speed() -> str:
    """Ratios to nano, on new texts of the corpus, one thread; latency, cold start and memory."""
    report = results("speed")
    rows = []
    for peer in report["peers"]:
        cells = {cell["cell"]: cell for cell in peer["cells"] if cell["threads"] == 1}
        cold, late = peer["cold_start"], peer["latency"]
        rates = [f"{cells[name]['texts_s']:,.0f}" for name in ("mixed", "8", "128")]
        figures = [f"{1000 * late['median_ms']:,.0f}", f"{cold['wall_s']:.2f}", f"{cold['peak_mb']:.0f}"]
        name = peer["name"] + " (ids only)" * peer["name"].startswith("tokie:")
        times = 1 / cells["mixed"]["ratio_cpu"]
        rows.append([name, *rates, f"{times:,.0f}" if times >= 10 else f"{times:.2g}", *figures])
    machine = report["machine"]
    note = (
        f"One thread; {report['rounds']} rounds in turn, medians; no text is met twice. {machine['arch']}, "
        f"{machine['cores']} cores, {machine['cpu']}, Python {report['python']}."
    )
    head = [
        "",
        "texts/s, mixed",
        "of 8 tokens",
        "of 128",
        "nano is so many times as fast (CPU)",
        "one text (us)",
        "cold start (s)",
        "peak MB",
    ]
    return f"{table(head, rows)}\n\n{note}"


def transformer_speed() -> str:
    """Texts a second of transformers and static, beside MiniLM in int8: ratios of CPU time within one run.

    transformer_speed_xeon.json is what `make bench` wrote at commit 6274534, on another processor.
    """
    report, before = results("transformer_speed"), results("transformer_speed_xeon")
    rows = []
    for peer in report["peers"]:
        own = _cells(report, peer["name"])
        rates = [f"{own[cell]['texts_s']:,.0f}" for cell in ("mixed", "8", "32", "128")]
        late, cold = peer["latency"], peer["cold_start"]
        rest = [f"{1000 * late['median_ms']:,.0f}", f"{cold['wall_s']:.2f}", f"{cold['peak_mb']:.0f}"]
        rows.append([peer["name"], *rates, *_times_minilm(report, peer["name"]), *rest])
    head = ["", "texts/s, mixed", "of 8 tokens", "of 32", "of 128", "times MiniLM int8, mixed", "at 32",
            "one text (us)", "cold start (s)", "peak MB"]  # fmt: skip
    there = " and ".join(_times_minilm(before, "micro"))
    note = f"{report['machine']['cpu']}. On {before['machine']['cpu']}, a version earlier, micro: {there} times."
    return f"{table(head, rows)}\n\n{note}"


def _cells(report: Any, name: str) -> dict[str, Any]:
    """Of a peer, on one thread."""
    cells = next(peer["cells"] for peer in report["peers"] if peer["name"] == name)
    return {cell["cell"]: cell for cell in cells if cell["threads"] == 1}


def _times_minilm(report: Any, name: str) -> list[str]:
    """How many times the texts of MiniLM in int8, of mixed ones and of those of 32 tokens."""
    own, base = _cells(report, name), _cells(report, "minilm-int8:minilm")
    return [f"{own[cell]['ratio_cpu'] / base[cell]['ratio_cpu']:,.1f}" for cell in ("mixed", "32")]


def kernels() -> str:
    """Texts a second of one thread, by each kernel of one machine."""
    report = results("kernels")
    found = {name: each["texts_s"] for name, each in report["models"].items()}
    isas = list(next(iter(found.values())))
    rows = [[name, *(f"{rates[isa]:,}" for isa in isas)] for name, rates in found.items()]
    return f"{table(['texts/s', *isas], rows)}\n\n{report['cpu']}; the same bits by all."


def probes() -> str:
    """The linear and the MLP head of each model, x 100."""
    rows = []
    for path in sorted((RESULTS / "probes").glob("*.json")):
        report = json.loads(path.read_text(encoding="utf-8"))
        for entry in report["sets"]:
            for head in ("lr", "mlp"):
                mean = entry["heads"][head]["mean"]
                figures = [mean[key] for key in PROBE_FIGURES]
                rows.append(
                    [report["name"].rpartition("/")[2], entry["name"], head, *(f"{100 * f:.1f}" for f in figures)]
                )
    return table(["model", "set", "head", *PROBE_FIGURES.values()], rows)


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


def targets() -> str:
    """What the core was to reach, and what it does: ratios to model2vec in one run, by CPU time, one thread."""
    report = results("core_speed")

    def peer(part: str, name: str) -> Any:
        return next(each for each in report[part]["peers"] if each["name"] == name)

    def rate(part: str, name: str, threads: int = 1, key: str = "texts_cpu_s") -> float:
        return float(next(cell[key] for cell in peer(part, name)["cells"] if cell["threads"] == threads))

    def ratio(part: str, name: str) -> str:
        return f"{rate(part, name) / rate(part, 'model2vec:float32'):.0f} x"

    cold, threads = report["cold"], report["threads"]
    unigram = {name: each["english"]["ratio"] for name, each in report["unigram"].items()}
    late = report["calls"]["median_us"]
    two, apart = (threads["one thread"]["median"] / threads[way]["median"] for way in ("two threads", "two processes"))
    web = results("web")["chromium"]["models"]["int8"]["encode into an array"]
    rows = [
        ["int8 256-d, a scale a row, English sentences", "30 x", "60 x", ratio("english", "int8")],
        ["int8 256-d, one scale", "30 x", "60 x", ratio("english", "int8-plain")],
        ["float32 256-d, English sentences", "20 x", "30 x", ratio("english", "float32")],
        ["documents of 5 KB, int8", "30 x", "55 x", ratio("documents", "int8")],
        ["the same, one scale", "30 x", "55 x", ratio("documents", "int8-plain")],
        ["text in many scripts, int8", "15 x", "35 x", ratio("scripts", "int8")],
        ["`nano`, English sentences", "25 x", "50 x", ratio("english", "nano")],
        ["ids of XLM-R's Unigram, beside `tokenizers`", "5 x", "15 x", f"{unigram['xlm-r']:.0f} x"],
        ["ids of an ALBERT Unigram, beside `tokenizers`", "", "", f"{unigram['albert']:.0f} x"],
        ["one text a call from Python, `nano`", "10 us", "2 us", f"{late:.1f} us"],
        ["import, load nano, first vector (CPU)", "0.15 s", "0.10 s", f"{cold['nano']['cpu_s']:.2f} s"],
        ["peak memory, 8 MB int8 model", "60 MB", "40 MB", f"{cold['int8']['peak_mb']:.0f} MB"],
        ["WebAssembly in Chromium, int8 256-d", "250k texts/s", "700k", f"{web['texts a CPU second'] / 1000:.0f}k"],
        ["two threads over one, int8 (wall)", "1.7 x", "1.95 x", f"{two:.2f} x"],
    ]
    english = report["english"]
    floor = report["floor"]
    base = rate("english", "model2vec:float32")
    times = floor["distinct"] / floor["one"]
    note = (
        f"Ratios to model2vec {english['versions']['model2vec']} on the float32 table of the same tokens and rows, "
        f"29.5k x 256, which does {base:,.0f} texts per CPU second here; int8 does {rate('english', 'int8'):,.0f}. "
        f"Medians of {english['rounds']} rounds in turn, no text met twice. One text over and over takes "
        f"{floor['one']:.0f} ns, distinct texts {floor['distinct']:.0f} ns: {times:.1f} times the floor. Of the start, "
        f"Python with numpy alone takes {cold['numpy']['cpu_s']:.2f} s and {cold['numpy']['peak_mb']:.0f} MB here. Two "
        f"processes that share nothing do {apart:.2f} times the work of one, on this machine's two cores."
    )
    return f"{table(['', 'must', 'aim', 'measured'], rows)}\n\n{note}"


def stages() -> str:
    """Nanoseconds a text, without Python."""
    report = results("core_stages")
    sets = ["one text", "1,000 texts", "all texts"]
    rows = [["read the bytes", "", "", f"{report['read']:.0f}"]]
    rows += [[name, *(f"{each[k]:.0f}" for k in sets)] for name, each in [("ids", report["ids"])]]
    rows += [[f"vectors: {name}", *(f"{each[k]:.0f}" for k in sets)] for name, each in report["vectors"].items()]
    note = (
        f"{report['texts']:,} texts of {report['bytes']:.0f} bytes and {report['tokens']:.1f} tokens; {report['unit']}."
    )
    return f"{table(['ns a text', *sets], rows)}\n\n{note}"


def exactness() -> str:
    """Texts whose ids were compared, and how many differed."""
    report = results("exactness")
    names = {"english": "real English", "multilingual": "many scripts", "code points": "every code point"}
    rows = []
    for name, each in report["tokenizers"].items():
        if "not compared" in each:
            rows.append([name, "not compared", *[""] * (len(names) + 2)])
            continue
        done = {key: each["stages"][key]["texts"] for key in names}
        fuzzed = each["texts"] - sum(done.values())
        rows.append([name, each["type"], *(f"{count:,}" for count in (*done.values(), fuzzed)), each["mismatches"]])
    return table(["tokenizer", "type", *names.values(), "made up", "mismatches"], rows)


def embed_speed() -> str:
    result = results("embed_speed")
    parts = [
        f"{dtype}: {result[dtype]['lines a second']:,} lines a second, {result[dtype]['peak MB']} MB at most"
        for dtype in ("int8", "float32")
    ]
    return (
        f"A million lines, {result['bytes'] / 1e6:.0f} MB, to `.npy` with nano on {result['cores']} cores, start "
        f"included: {'; '.join(parts)}. Reading the lines alone takes {result['reading alone s']:.1f} s of it."
    )


def web() -> str:
    """nestling.wasm in Chromium and in Node: texts a second, latency, search, load."""
    report, rows = results("web"), []
    for place, name in (("chromium", "Chromium"), ("node", "Node")):
        for model, found in report[place]["models"].items():
            rates = [
                f"{found[kind][per]:,}"
                for kind in ("encode", "encode into an array")
                for per in ("by the clock", "texts a CPU second")
            ]
            rest = [found[key] for key in ("one text (us)", "search of 10,000 passages (ms)", "load (ms)")]
            rows.append([f"{name} {report[place]['version'].strip('v').split('.')[0]}", model, *rates, *rest])
    head = ["in", "model", "texts/s", "per CPU second", "texts/s into an array", "per CPU second",
            "one text (us)", "search of 10,000 (ms)", "load (ms)"]  # fmt: skip
    sizes = ", ".join(f"{name} {size:,} bytes" for name, size in report["wasm bytes"].items())
    machine = report["machine"]
    note = f"English sentences of {report['texts']['bytes a text']} bytes. {sizes}. "
    return f"{table(head, rows)}\n\n{note}{machine['cpu']}, load {machine['load before']}."


def judged(line: dict[str, Any]) -> list[str]:
    """What proxy.py says, under JUDGED."""
    return [f"{line[name.lower()]:.1f}" for name in JUDGED]


def results(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def dims(numbers: Iterable[float]) -> str:
    return ", ".join(f"{100 * number:.1f}" if isinstance(number, float) else str(number) for number in numbers)


TABLES: dict[str, Callable[[], str]] = {
    each.__name__: each
    for each in (
        models,
        baselines,
        scores,
        blocks,
        bits,
        routes,
        order,
        transformer_speed,
        kernels,
        validity,
        dims_kept,
        schemes,
        seeds,
        beside_published,
        ladder,
        variants,
        quantized,
        speed,
        probes,
        shrink,
        questions,
        search_speed,
        targets,
        stages,
        exactness,
        embed_speed,
        web,
    )
} | {f"compared_{name}": partial(_compared, name) for name in shipped()}

if __name__ == "__main__":
    main()

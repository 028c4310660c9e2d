"""The commands that measure: score, compare, probe, speed, card, plot. Thin, as those in cli.py, and imported by it."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from nestling.errors import InputError, MissingExtraError

PATH = click.Path(path_type=Path)
SUITES = (
    "english, multilingual, sts, retrieval, tools, long, safety or quick, several with commas, or a benchmark of mteb, "
    'such as "MTEB(eng, v2)".'
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
data_option = click.option(
    "--data", type=PATH, help="Folder of the tasks' Parquet files; default NESTLING_DATA/eval or ../shared/eval."
)
PEERS = (
    "A model, wordllama, or model2vec:, st-static:, minilm-onnx:, minilm-int8:, onnxruntime: or tokie: and a folder; "
    "may be repeated."
)


@contextmanager
def extra(name: str, what: str) -> Iterator[None]:
    """Say which extra to install where a package is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "a package", name, what) from error


def eval_folder(data: Path | None) -> Path:
    """--data, or the eval folder of NESTLING_DATA."""
    from nestling.make.recipe import data_folder

    return data or data_folder() / "eval"


@click.command()
@click.argument("source", metavar="MODEL")
@click.option("--suite", default="quick", show_default=True, help=SUITES)
@click.option("--tasks", help="Names of tasks, or Task/subset, with commas, instead of a suite.")
@click.option("--dims", help="Tiers with commas, such as 128,64: each is scored, and what it keeps is printed.")
@data_option
@click.option(
    "--out", type=PATH, default=Path("results"), show_default=True, help="Folder of results, one folder a model."
)
@click.option("--hub", is_flag=True, help="Fetch data that --data lacks from the hub.")
@as_json
def score(
    source: str, suite: str, tasks: str | None, dims: str | None, data: Path | None, out: Path, hub: bool, as_json: bool
) -> None:
    """Score a model on real tasks with mteb's metrics. What is there already is not run again.

    MODEL is a shipped name, a .nest file, a model2vec, sentence-transformers or ONNX folder, or wordllama.
    """
    with extra("score", "nestling score"):
        from nestling.score.encoders import load_encoder, with_tiers
        from nestling.score.matrix import show, tiers_asked
        from nestling.score.run import score as score_tasks
    names = _names(suite, tasks) or []
    encoder = load_encoder(source)
    by_model = [
        (each, score_tasks(each, list(dict.fromkeys(names)), eval_folder(data), out, hub=hub, progress=True))
        for each in with_tiers(encoder, tiers_asked(dims, encoder))
    ]
    report = show(by_model, out)
    click.echo(json.dumps(report, indent=1) if as_json else report["text"])
    failed = [outcome for _, outcomes in by_model for outcome in outcomes if outcome.score is None]
    for outcome in failed:
        click.echo(f"nestling: {outcome.task} failed. {outcome.error}", err=True)
    if failed:
        sys.exit(1)


@click.command()
@click.argument("folders", metavar="FIRST SECOND...", nargs=-1, required=True)
@click.option("--suite", help="Compare on a suite only.")
@click.option("--tasks", help="Compare on these tasks only, with commas.")
@click.option("--common", is_flag=True, help="Compare on what all of them have been scored on.")
@data_option
@click.option("--seed", default=0, show_default=True)
@as_json
def compare(
    folders: tuple[str, ...],
    suite: str | None,
    tasks: str | None,
    common: bool,
    data: Path | None,
    seed: int,
    as_json: bool,
) -> None:
    """Compare the first model's results with each other's: paired bootstrap, 95 % intervals, Holm's correction.

    FIRST and the others are folders that nestling score wrote, or published:NAME for published scores.
    """
    with extra("score", "nestling compare"):
        from nestling.score.compare import as_text, in_json
        from nestling.score.compare import compare as compare_two
        from nestling.score.results import read_results
    if len(folders) < 2:
        raise InputError("One model was given.", "Two or more were expected.", "Name another folder of results.")
    read = [read_results(folder, eval_folder(data) / "anchors.csv") for folder in folders]
    names = _names(suite, tasks)
    if common:
        shared = set.intersection(*(set(each.lines) for each in read))
        names = [name for name in sorted(shared) if names is None or {name, name.partition("/")[0]} & set(names)]
    if names is not None:
        read = [each.only(names) for each in read]
    compared = [compare_two(read[0], other, seed=seed) for other in read[1:]]
    if as_json:
        click.echo(json.dumps([in_json(each) for each in compared], indent=1))
    else:
        click.echo("\n\n".join(map(as_text, compared)))


@click.command()
@click.argument("source", metavar="MODEL")
@data_option
@click.option(
    "--extra",
    "more",
    nargs=2,
    multiple=True,
    metavar="QUESTION FOLDER",
    type=(click.Choice(["toxicity", "injection"]), PATH),
    help="One more labelled set; may be repeated.",
)
@click.option("--seeds", default=5, show_default=True, type=click.IntRange(1), help="Runs of the MLP.")
@click.option("--out", type=PATH, help="Write the report to this file, as JSON.")
@click.option("--train-head", "head_file", type=PATH, help="Train one head instead, and write it to this file.")
@click.option("--set", "set_name", help="With --train-head: the set in --data, or the name of an --extra folder.")
@click.option("--head", type=click.Choice(["lr", "lr-balanced", "mlp"]), default="lr", show_default=True)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="With --train-head.")
@as_json
def probe(
    source: str,
    data: Path | None,
    more: tuple[tuple[str, Path], ...],
    seeds: int,
    out: Path | None,
    head_file: Path | None,
    set_name: str | None,
    head: Any,
    seed: int,
    as_json: bool,
) -> None:
    """Train and measure simple heads over a model's vectors: toxicity and prompt injection."""
    if (head_file is None) != (set_name is None):
        raise click.UsageError("--train-head and --set go together.")
    with extra("score", "nestling probe"):
        from nestling.score.encoders import load_encoder
        from nestling.score.probes import read_set, run_probes, show, train_probe
    encoder, folder = load_encoder(source), eval_folder(data)
    if head_file is not None and set_name is not None:
        named: dict[str, tuple[Path, str | None]] = {path.name: (path, question) for question, path in more}
        trained = train_probe(encoder, read_set(*named.get(set_name, (folder / set_name, None))), head, seed, source)
        trained.save(head_file)
        click.echo(f"{head_file}: {trained}", err=True)
        return
    report = run_probes(encoder, folder, seeds=seeds, extra=more, progress=True)
    write_report(out, report)
    click.echo(json.dumps(report, indent=1) if as_json else show(report))


@click.command()
@click.argument("source", metavar="MODEL")
@click.option("--beside", multiple=True, metavar="PEER", help=PEERS)
@click.option("--texts", "path", type=PATH, help="File of at least 60,000 distinct texts.")
@click.option("--column", help="Column of the texts.")
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1))
@click.option("--seed", default=0, show_default=True, help="Of the order of the texts.")
@click.option("--out", type=PATH, help="Write the report to this file, as JSON.")
@as_json
def speed(
    source: str,
    beside: tuple[str, ...],
    path: Path | None,
    column: str | None,
    rounds: int,
    seed: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Measure texts/s, one-text latency, cold start and memory, beside peers in one run."""
    from nestling.score.speed import draw_texts, measure
    from nestling.score.speed_text import as_text

    texts = draw_texts(path, column=column, seed=seed)
    report = measure([source, *beside], texts, rounds=rounds, progress=True)
    write_report(out, report)
    click.echo(json.dumps(report, indent=1) if as_json else as_text(report))


@click.command()
@click.argument("source", metavar="MODEL")
@click.option("--results", type=PATH, help="Folder of the model's results; its tiers lie beside it as NAME@DIM.")
@click.option("--out", type=PATH, default=Path("README.md"), show_default=True)
def card(source: str, results: Path | None, out: Path) -> None:
    """Write a model's card for a hub, from what the model says of itself and from result files."""
    with extra("score", "nestling card"):
        from nestling.model.load import load, locate
        from nestling.safe import write_text
        from nestling.score.card import full_card
        from nestling.score.results import read_results
    path = locate(source)
    model = load(path)
    if path.is_dir():
        raise InputError(f"{source} is a folder.", "A card is of one .nest file.", "Save the model as one first.")
    read = read_results(results) if results else None
    if read and read.facts and read.facts["fingerprint"] != model.fingerprint:
        raise InputError(f"{results} is of another model.", f"{model.fingerprint} was expected.", "Score it again.")
    tiers = [read_results(f"{results}@{dim}") for dim in model.dims if Path(f"{results}@{dim}").is_dir()]
    same = [tier.only(read.lines) for tier in tiers if set(tier.lines) >= set(read.lines)] if read else []
    write_text(out, full_card(model, path.stat().st_size, read, same))
    click.echo(str(out))


@click.command()
@click.argument("kind", type=click.Choice(["size", "dims", "speed", "losses"]))
@click.argument("sources", metavar="RESULTS...", nargs=-1, required=True, type=PATH)
@click.option("--out", type=PATH, required=True, help="The picture, .svg or .png.")
@click.option("--suite", help="Of these tasks only.")
@click.option("--ours", multiple=True, help="Names to point out; default those that are shipped.")
def plot(kind: str, sources: tuple[Path, ...], out: Path, suite: str | None, ours: tuple[str, ...]) -> None:
    """Draw a picture from results: size against quality, what each tier of a model keeps, speed by length, or how a
    transformer learnt.

    RESULTS are folders that nestling score wrote (dims: one, its tiers lie beside it), or a report of nestling speed or
    of nestling make.
    """
    with extra("score", "nestling plot"):
        from nestling.model.load import shipped
        from nestling.safe import read_json
        from nestling.score.plots import by_length, losses, pareto, retention, throughput
        from nestling.score.results import averages, check_alike, read_results
    if kind == "speed":
        throughput(by_length(read_json(sources[0])), out, ours or [*shipped()])
        return
    if kind == "losses":
        logs = read_json(sources[0]).get("losses")
        if not logs:
            raise InputError(
                f"{sources[0]} has no losses.", "A report of nestling make, of a transformer, has.", "Name such a one."
            )
        losses(logs, out)
        return
    folders = [sources[0], *sorted(sources[0].parent.glob(f"{sources[0].name}@*"))] if kind == "dims" else sources
    read = [read_results(folder) for folder in folders]
    names = _names(suite, None)
    if names is not None:
        read = [each.only(names) for each in read]
    check_alike(read)
    if kind == "size":
        pareto(read, out, ours or [*shipped()])
    else:
        retention({each.dim: averages(each.lines.values()).mean_task for each in read}, out, read[0].name)


def write_report(out: Path | None, report: Any) -> None:
    """As JSON, if a file was named."""
    if out is not None:
        from nestling.safe import write_text

        write_text(out, json.dumps(report, indent=1) + "\n")


def _split(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def _names(suite: str | None, tasks: str | None) -> list[str] | None:
    """The tasks that were named, or those of the suites; None where neither was given.

    A benchmark of mteb, such as "MTEB(eng, v2)", has a comma of its own.
    """
    if tasks:
        return _split(tasks)
    if not suite:
        return None
    with extra("score", "A suite"):
        from nestling.score.tasks import names_of
    return [name for one in ([suite] if "(" in suite else _split(suite)) for name in names_of(one)]


COMMANDS: list[Any] = [score, compare, probe, speed, card, plot]

"""The command line: one thin command each; work is done elsewhere, and imported where it is used.

Results go to stdout, progress and remarks to stderr. Exit codes: 0 done, 1 failure, 2 usage.
"""

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import click

from nestling import __version__
from nestling.cli_score import COMMANDS, PATH, as_json
from nestling.errors import NestlingError


class Commands(click.Group):
    """Turns the errors that nestling raises on purpose, and those of the system, into one line and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (NestlingError, OSError) as error:
            if isinstance(error, BrokenPipeError):
                raise
            click.echo(f"nestling: {error}", err=True)
            sys.exit(1)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="nestling")
def main() -> None:
    """Compact text-embedding models: search, embed, make, shrink and measure."""


@main.command()
@click.argument("query")
@click.argument("paths", nargs=-1, required=True, type=PATH)
@click.option("--top", default=10, show_default=True, type=click.IntRange(1), help="How many passages to print.")
@click.option("--min-score", type=float, help="Leave out passages with a score below this.")
@click.option("--model", "source", default="nano", show_default=True, help="Shipped name, file, folder or hub id.")
@click.option("--column", "columns", multiple=True, help="Column of CSV and JSONL files to search; may be repeated.")
@as_json
def search(
    query: str,
    paths: tuple[Path, ...],
    top: int,
    min_score: float | None,
    source: str,
    columns: tuple[str, ...],
    as_json: bool,
) -> None:
    """Rank the passages of files and folders by what they mean, and how they say it.

    Prints path:line, score, heading and a snippet with its most similar sentence marked.
    """
    from nestling.model.load import load
    from nestling.search import search as search_files
    from nestling.search.show import show, show_summary, to_json

    report = search_files(
        query, paths, load(source), top=top, min_score=min_score, columns=columns or None, progress=True
    )
    click.echo(to_json(report, source) if as_json else show(report), nl=as_json)
    if not as_json:
        show_summary(report)


@main.command()
@click.argument("source", metavar="INPUT", type=PATH)
@click.argument("target", metavar="OUTPUT", type=PATH)
@click.option("--model", default="nano", show_default=True, help="Shipped name, file, folder or hub id.")
@click.option("--column", help="Column of the texts in CSV, JSONL and Parquet files.")
@click.option(
    "--role",
    type=click.Choice(["query", "document"]),
    help="Embed the texts as queries or as documents; it matters to models with tasks, such as micro and mini.",
)
@click.option("--dim", type=int, help="A tier of the model; default all dims.")
@click.option(
    "--dtype", type=click.Choice(["float32", "float16", "int8", "binary"]), default="float32", show_default=True
)
@click.option(
    "--overflow",
    type=click.Choice(["cut", "split", "error"]),
    help="What to do with a text of more tokens than the model takes; split takes the mean over all of them. Default: "
    "transformers split, static models cut.",
)
@click.option("--threads", type=click.IntRange(1), help="Workers over the texts.")
@as_json
def embed(source: Path, target: Path, model: str, as_json: bool, **options: Any) -> None:
    """Embed the texts of a file (txt, jsonl, csv, parquet) into a .npy or .parquet file.

    A run that was interrupted goes on where it stopped when the same command is given again.
    """
    from nestling.embed import embed_file
    from nestling.model.common import CutWarning

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", CutWarning)
        done = embed_file(model, source, target, progress=True, **options)
    for warning in said:
        click.echo(f"nestling: {warning.message}", err=True)
    if as_json:
        click.echo(json.dumps({"output": str(target), **vars(done)}))
    else:
        click.echo(f"{done.rows:,} texts embedded in {done.seconds:.1f} s -> {target}", err=True)


@main.command()
@click.argument("recipe", type=PATH)
@click.option("--out", type=PATH, help="Where to write the model; default NAME.nest here.")
@click.option("--teacher", help="Folder or hub id, instead of the recipe's.")
@click.option("--corpus", help="File of texts, instead of the recipe's.")
@click.option("--data", type=PATH, help="What data: in the recipe stands for; default NESTLING_DATA or ../shared.")
@click.option("--cache", type=PATH, help="Where stages are kept; default NESTLING_CACHE or ~/.cache/nestling.")
@click.option("--seed", type=click.IntRange(0), help="Random seed, instead of the recipe's.")
@click.option("--device", default="cpu", show_default=True, help="Where teachers and training run: cpu or cuda.")
@click.option("--quick", is_flag=True, help="On 20,000 texts and 5,000 pairs, in minutes, to see it work.")
@click.option("--report", type=PATH, help="Also write sizes, scores and the shrink table to this JSON file.")
@as_json
def make(recipe: Path, report: Path | None, as_json: bool, **options: Any) -> None:
    """Make a model from a recipe: teacher and corpus in, .nest file and card out. Goes on where it stopped."""
    from nestling.make.run import make as make_model
    from nestling.safe import check_target, write_text

    if report:
        check_target(report)
    made = make_model(recipe, progress=True, **options)
    plain = json.dumps({**vars(made), "path": made.path.name}, indent=1)
    if report:
        write_text(report, plain + "\n")
    if as_json:
        click.echo(plain)
        return
    _print_table(made.trials[:40])
    for task, by_dim in made.scores.items():
        click.echo(f"{task}: " + ", ".join(f"{score:.4f} at {dim} dims" for dim, score in by_dim.items()))
    click.echo(f"{made.path}: {made.size:,} bytes, {made.fingerprint}")


@main.command()
@click.argument("source", metavar="MODEL")
@click.argument("out", type=PATH)
@click.option("--budget", help="Search for the best model of at most this size, such as 700KB.")
@click.option("--vocabulary", type=click.IntRange(1), help="Keep the N most counted tokens.")
@click.option("--dim", type=click.IntRange(1), help="Keep this many dims.")
@click.option(
    "--dtype", type=click.Choice(["float32", "float16", "int8", "int4"]), help="Rows of this type, a scale each."
)
@click.option("--vocabulary-rows", type=click.IntRange(1), help="Share K centroids between all tokens.")
@click.option(
    "--product",
    nargs=2,
    type=click.IntRange(1),
    help="Product codes: one byte for this many dims up to dim 64, and for this many after it.",
)
@click.option("--exact", default=0, type=click.IntRange(0), help="With --product: tokens that keep exact rows.")
@click.option("--corpus", type=PATH, help="Texts to count tokens on and, the first 4,000, to judge with.")
@click.option("--column", help="Column of the texts in the corpus.")
@click.option("--seed", default=0, show_default=True)
@as_json
def shrink(
    source: str,
    out: Path,
    budget: str | None,
    corpus: Path | None,
    column: str | None,
    seed: int,
    as_json: bool,
    **steps: Any,
) -> None:
    """Make a model smaller and print what is left of it: bytes, and cosine and Spearman to the model given."""
    from nestling.model.load import load_static
    from nestling.safe import check_target
    from nestling.shrink.sizes import parse_size
    from nestling.shrink.steps import Steps
    from nestling.shrink.steps import shrink as shrink_model

    check_target(out, suffixes=(".nest",))
    model, rows = shrink_model(
        load_static(source),
        Steps(**steps),
        budget=parse_size(budget) if budget else None,
        corpus=corpus,
        column=column,
        seed=seed,
        progress=True,
    )
    model.save(out)
    table = [vars(row) for row in rows]
    if as_json:
        click.echo(json.dumps({"path": str(out), "size": out.stat().st_size, "trials": table}, indent=1))
        return
    _print_table(table)
    click.echo(f"{out}: {out.stat().st_size:,} bytes, {model.fingerprint}")


def _print_table(rows: list[dict[str, Any]]) -> None:
    """The shrink table: what was done, bytes, cosine and Spearman to the model given."""
    if rows:
        width = max(len(row["what"]) for row in rows)
        click.echo(f"{'':{width}}  {'bytes':>12}  cosine  Spearman")
    for row in rows:
        click.echo(f"{row['what']:{width}}  {row['size']:>12,}  {row['cosine']:.4f}  {row['spearman']:.4f}")


@main.command()
@click.argument("source", metavar="MODEL")
@click.option("--verify", is_flag=True, help="Embed the canary texts again and compare with the stored vectors.")
@as_json
def info(source: str, verify: bool, as_json: bool) -> None:
    """Say what is in a model: rows, tiers with their scores, sizes, licence, what it was made from."""
    from nestling.model.inspect import describe, describe_as_text, why_unverified
    from nestling.model.load import load, locate

    path = locate(source)
    facts = describe(load(path), size=path.stat().st_size if path.is_file() else None, verify=verify)
    click.echo(json.dumps(facts, indent=1) if as_json else describe_as_text(facts))
    if verify and (why := why_unverified(facts)):
        click.echo(f"nestling: {why}", err=True)
        sys.exit(1)


@main.command()
@as_json
def models(as_json: bool) -> None:
    """List the models that come with nestling, and what each is for."""
    from nestling.model.inspect import shipped_models

    listed = shipped_models()
    if as_json:
        click.echo(json.dumps(listed, indent=1, ensure_ascii=False))
        return
    for entry in listed:
        click.echo(
            f"{entry['name']}  {entry['size']:,} bytes  dims {', '.join(map(str, entry['dims']))}  {entry['licence']}"
        )
        click.echo(f"    {entry['description']}")


for command in COMMANDS:
    main.add_command(command)

if __name__ == "__main__":
    main()

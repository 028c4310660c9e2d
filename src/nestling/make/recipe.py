"""Recipes: a TOML file that says how a model is made, read top to bottom, one stage a table.

[teacher] and [corpus] are inputs; [distil], [shrink] and [score] are stages, the last a list of STS files by name.
Each stage's result is kept in the cache under a key of the recipe and the inputs' bytes, so that a recipe goes on
where it stopped, and the same inputs give the same file. Paths may start with `cache:` (NESTLING_CACHE, default
~/.cache/nestling) or `data:` (NESTLING_DATA, default ../shared).
"""

import hashlib
import json
import os
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from nestling import __version__
from nestling.errors import InputError
from nestling.files.card import card
from nestling.files.parts import Source
from nestling.make.corpus import Corpus
from nestling.make.distil import Distillation, distil
from nestling.model.load import load
from nestling.model.static import StaticModel
from nestling.safe import check_target, write_text
from nestling.score.sts import score_sts
from nestling.shrink.budget import shrink_to_budget
from nestling.shrink.fidelity import sample_texts
from nestling.shrink.sizes import parse_size
from nestling.teacher import Teacher, load_teacher

ROOM_FOR_SCORES = 200  # bytes that the scores of a task may take in the file, which are measured after shrinking.
HEAD: dict[str, Any] = {"name": str, "description": str, "licence": str, "seed": int, "canaries": list}
TABLES: dict[str, dict[str, Any]] = {
    "teacher": {"source": str, "get": str},
    "corpus": {"path": str, "column": str, "name": str, "licence": str, "leave_out": list},
    "distil": {field.name: field.type for field in fields(Distillation)},
    "shrink": {"budget": str},
    "score": {},  # any name of a task: path of an STS file
}
KINDS: dict[Any, str] = {
    str: "A string", int: "A whole number", float: "A number", list: "A list of strings", dict: "A table"
}  # fmt: skip
NEEDED = {"teacher": "source", "corpus": "path", "shrink": "budget"}  # in each of these tables that is there


@dataclass(frozen=True)
class Made:
    """path: the model file. size: its bytes. trials: the shrink table, best first. scores: task -> dim -> score."""

    path: Path
    size: int
    fingerprint: str
    trials: list[dict[str, Any]]
    scores: dict[str, dict[str, float]]


def cache_folder() -> Path:
    """NESTLING_CACHE, or ~/.cache/nestling."""
    return Path(os.environ.get("NESTLING_CACHE") or Path.home() / ".cache" / "nestling")


def data_folder() -> Path:
    """NESTLING_DATA, or ../shared."""
    return Path(os.environ.get("NESTLING_DATA") or Path("..") / "shared")


def read_recipe(path: Path) -> dict[str, Any]:
    """Parse and check a recipe. InputError for broken TOML, unknown tables or keys, or values of a wrong type."""
    try:
        recipe = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read: {error}.", "A TOML recipe was expected.", "See recipes/nano.toml."
        ) from error
    _check_keys(path, "", recipe, {**HEAD, **dict.fromkeys(TABLES, dict)})
    for table, known in TABLES.items():
        given = recipe.get(table, {})
        _check_keys(path, table, given, known or dict.fromkeys(given, str))
    lacking = [] if "name" in recipe else ["name"]
    lacking += [f"{table}.{key}" for table, key in NEEDED.items() if key not in recipe.get(table, {key: ""})]
    if lacking or "teacher" not in recipe:
        raise InputError(
            f"{path} lacks {', '.join(lacking) or '[teacher]'}.", "It is needed.", "See recipes/nano.toml."
        )
    return recipe


def _check_keys(path: Path, table: str, given: dict[str, Any], known: dict[str, Any]) -> None:
    """Refuse unknown keys and values of another type than `known` says; a list is one of strings."""
    place = f"[{table}] of {path}" if table else str(path)
    if unknown := set(given) - set(known):
        raise InputError(
            f"{place} has {', '.join(sorted(unknown))}.", f"Known are {', '.join(sorted(known))}.", "Correct it."
        )
    for key, value in given.items():
        fits = type(value) is known[key] or (known[key] is float and type(value) is int)
        if not fits or (type(value) is list and any(type(entry) is not str for entry in value)):
            kind = KINDS[known[key]]
            raise InputError(f"{place} has {key} = {str(value)[:60]!r}.", f"{kind} was expected.", "Correct it.")


def make(
    recipe_path: Path,
    out: Path | None = None,
    *,
    teacher: str | None = None,
    corpus: str | None = None,
    data: Path | None = None,
    cache: Path | None = None,
    device: str = "cpu",
    progress: bool = False,
) -> Made:
    """Make the model that a recipe describes and write it, with its card beside it.

    out: default `<name>.nest` here. teacher, corpus: instead of the recipe's; the model of another teacher is named
    after `out`, without the recipe's description and licence. data, cache: instead of NESTLING_DATA and NESTLING_CACHE.
    device: for teachers that torch runs.
    """
    recipe, recipe_bytes = read_recipe(recipe_path), recipe_path.read_bytes()
    cache, data = cache or cache_folder(), data or data_folder()
    out = out or Path(f"{Path(teacher).name if teacher else recipe['name']}.nest")
    check_target(out, suffixes=(".nest",))
    check_target(out.with_suffix(".md"))
    pupil_of = _teacher(recipe["teacher"], teacher, cache, data, device)
    text = _corpus(recipe.get("corpus"), corpus, cache, data)
    key = _key(recipe_bytes, pupil_of, text)
    said = recipe if teacher is None else {**recipe, "name": out.stem, "description": "", "licence": "unknown"}
    stages = cache / "make" / f"{said['name']}-{key[:12]}"
    stages.mkdir(parents=True, exist_ok=True)
    how = Distillation(**recipe.get("distil", {}))

    distilled = _stage(stages / "distilled.nest", lambda: distil(pupil_of, text, how, cache, progress))
    described = _describe(distilled, said, pupil_of, corpus, hashlib.sha256(recipe_bytes).hexdigest())
    model, trials = _shrink(described, recipe, text, how, stages, progress)
    scores = {task: score_sts(model, _place(path, cache, data)) for task, path in recipe.get("score", {}).items()}
    model = model.with_table(model.table, scores=scores)
    model.save(out)
    _check_size(out, recipe)
    write_text(out.with_suffix(".md"), card(model.document, out.stat().st_size))
    return Made(out, out.stat().st_size, model.fingerprint, trials, scores)


def _check_size(out: Path, recipe: dict[str, Any]) -> None:
    budget = parse_size(recipe["shrink"]["budget"]) if "shrink" in recipe else out.stat().st_size
    if out.stat().st_size > budget:
        raise InputError(
            f"{out} has {out.stat().st_size:,} bytes with its scores.",
            f"At most {budget:,} were asked for.",
            "Shorten the names of the scores, or ask for more.",
        )


def _teacher(table: dict[str, Any], given: str | None, cache: Path, data: Path, device: str) -> Teacher:
    source = given or str(_place(table["source"], cache, data))
    try:
        return load_teacher(source, device)
    except InputError as error:
        raise InputError(error.given, error.expected, f"{error.do} {table.get('get', '')}".strip()) from error


def _corpus(table: dict[str, Any] | None, given: str | None, cache: Path, data: Path) -> Corpus | None:
    if given:
        return Corpus(Path(given))
    if table is None:
        return None
    return Corpus(_place(table["path"], cache, data), table.get("column"), tuple(table.get("leave_out", ())))


def _place(path: str, cache: Path, data: Path) -> Path:
    if path.startswith("cache:"):
        return cache / path.removeprefix("cache:")
    return data / path.removeprefix("data:") if path.startswith("data:") else Path(path)


def _key(recipe: bytes, teacher: Teacher, corpus: Corpus | None) -> str:
    """A hash of everything that decides what is made."""
    digest = hashlib.sha256(recipe + teacher.fingerprint.encode() + __version__.encode())
    if corpus:
        if not corpus.path.exists():
            raise InputError(
                f"The corpus {corpus.path} is not there.", "A text file was expected.", "Pass --corpus or --data."
            )
        with corpus.path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _stage(path: Path, make_it: Any) -> StaticModel:
    """The model at `path`, made and saved there if need be; loaded either way, so that both ways give the same bits."""
    if not path.exists():
        make_it().save(path)
    return load(path)


def _shrink(
    described: StaticModel,
    recipe: dict[str, Any],
    corpus: Corpus | None,
    how: Distillation,
    stages: Path,
    progress: bool,
) -> tuple[StaticModel, list[dict[str, Any]]]:
    if "shrink" not in recipe:
        return described, []
    budget = parse_size(recipe["shrink"]["budget"]) - ROOM_FOR_SCORES * len(recipe.get("score", {}))
    path, table = stages / "shrunk.nest", stages / "trials.json"
    if not (path.exists() and table.exists()):
        held_out = list(corpus.texts(0, how.held_out)) if corpus else sample_texts()
        model, rows = shrink_to_budget(described, budget, held_out, seed=recipe.get("seed", 0), progress=progress)
        write_text(table, json.dumps([vars(row) for row in rows], indent=1))
        model.save(path)
    return load(path), json.loads(table.read_text())


def _describe(
    model: StaticModel, recipe: dict[str, Any], teacher: Teacher, corpus: str | None, recipe_hash: str
) -> StaticModel:
    """corpus: the file that was given instead of the recipe's."""
    table = {"name": Path(corpus).name} if corpus else recipe.get("corpus", {})
    data = [Source("data", table.get("name", "a corpus"), table.get("licence", "unknown"))] if table else []
    return model.with_table(
        model.table,
        name=recipe["name"],
        description=recipe.get("description", ""),
        licence=recipe.get("licence", "unknown"),
        canaries=tuple(recipe.get("canaries", ())),
        lineage=(Source("teacher", teacher.name, teacher.licence), *data),
        recipe=recipe_hash,
    )

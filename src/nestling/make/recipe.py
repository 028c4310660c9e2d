"""Recipes: a TOML file that says how a model is made, read top to bottom, one stage a table (run.py).

Paths may start with `cache:` (NESTLING_CACHE, default ~/.cache/nestling) or `data:` (NESTLING_DATA, default ../shared).
"""

import os
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from nestling.errors import InputError
from nestling.make.settings import (
    TASKS,
    Aim,
    Body,
    Distillation,
    Looks,
    Repairing,
    Training,
    Vocabulary,
    columns_fit,
)
from nestling.model.blocks import STRIP
from nestling.model.matrices import SIZES

HEAD: dict[str, Any] = {"name": str, "description": str, "licence": str, "seed": int, "canaries": tuple[str, ...]}
TEXTS: dict[str, Any] = {"path": str, "column": str, "name": str, "licence": str, "leave_out": tuple[str, ...]}


def _keys(*settings: Any) -> dict[str, Any]:
    return {field.name: field.type for each in settings for field in fields(each) if field.name != "seed"}


TABLES: dict[str, dict[str, Any]] = {
    "teacher": {"source": str, "get": str},
    "corpus": TEXTS,
    "pairs": {**TEXTS, "most": int},
    "vocabulary": _keys(Vocabulary),
    "distil": _keys(Distillation),
    "targets": _keys(Looks, Aim),
    "train": {**_keys(Training), "start": str},
    "again": _keys(Training),
    "tune": _keys(Training),
    "student": _keys(Body, Training),
    "tasks": _keys(Training),
    "blend": {"adds": float},
    "routes": {"query": str, "document": str, "text": str},
    "shrink": {
        "budget": str,
        "widths": tuple[int, ...],
        "shares": tuple[float, ...],
        "dim": int,
        "word": int,
        "feedback": bool,
    },
    "repair": _keys(Training, Repairing),
    "score": {},  # any name of a task: path of an STS file
}
KINDS: dict[Any, str] = {
    str: "A string", int: "A whole number", float: "A number", bool: "true or false", dict: "A table",
    tuple[str, ...]: "A list of strings",
    tuple[int, ...]: "A list of whole numbers", tuple[float, ...]: "A list of numbers",
}  # fmt: skip
NEEDED = {"teacher": "source", "corpus": "path", "pairs": "path", "shrink": "budget"}  # in each of these that is there
STANDS_ON = {
    "vocabulary": ("corpus",), "targets": ("corpus",), "train": ("targets",), "again": ("train",),
    "student": ("train",), "tune": ("train", "pairs"), "tasks": ("student", "pairs"), "blend": ("student",),
    "routes": ("student",), "repair": ("train", "shrink"),
}  # fmt: skip


@dataclass(frozen=True)
class Places:
    """What `cache:` and `data:` stand for."""

    cache: Path
    data: Path

    def find(self, path: str) -> Path:
        """The path that a recipe names."""
        if path.startswith("cache:"):
            return self.cache / path.removeprefix("cache:")
        return self.data / path.removeprefix("data:") if path.startswith("data:") else Path(path)


def cache_folder() -> Path:
    """NESTLING_CACHE, or ~/.cache/nestling."""
    return Path(os.environ.get("NESTLING_CACHE") or Path.home() / ".cache" / "nestling")


def data_folder() -> Path:
    """NESTLING_DATA, or ../shared."""
    return Path(os.environ.get("NESTLING_DATA") or Path("..") / "shared")


def read_recipe(path: Path) -> dict[str, Any]:
    """Parse and check a recipe. InputError for broken TOML, unknown tables or keys, values of a wrong type, or a stage
    without what it stands on."""
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
    lacking += [
        f"[{base}], on which [{table}] stands"
        for table, bases in STANDS_ON.items()
        for base in bases
        if table in recipe and base not in recipe
    ]
    if lacking or "teacher" not in recipe:
        raise InputError(
            f"{path} lacks {', '.join(lacking) or '[teacher]'}.", "It is needed.", "See recipes/nano.toml."
        )
    if "student" in recipe:
        _check_student(path, recipe)
    elif wrong := [key for key in ("word", "feedback") if key in recipe.get("shrink", {})]:
        raise InputError(
            f"{path} has {wrong[0]} in [shrink].", "Matrices are those of a [student].", "Say widths, for a table's."
        )
    return recipe


def _check_student(path: Path, recipe: dict[str, Any]) -> None:
    """Refuse what would be found out after hours, when the transformer is made of the trained static model."""
    body, rate = settings(Body, recipe, "student"), settings(Training, recipe, "student").rate
    known = [task.lower() for task in TASKS]
    wrong = [f"{role} = {task!r}" for role, task in recipe.get("routes", {}).items() if task not in known]

    def refuse(given: str, expected: str, do: str) -> None:
        raise InputError(f"{path} has {given}.", expected, do)

    if "repair" in recipe:
        refuse("[student] and [repair]", "Static models can be repaired.", "Leave one of the two out.")
    if "shrink" in recipe and rate:
        refuse(f"rate = {rate} in [student]", "Rows in few bits, of [shrink], do not learn.", "Set it to 0.")
    if "shrink" in recipe and "widths" not in recipe["shrink"]:
        refuse("[shrink] without widths", "Those of a transformer's product codes are needed.", "Say widths = [2, 4].")
    if (word := recipe.get("shrink", {}).get("word", 1)) not in SIZES:
        refuse(f"word = {word} in [shrink]", f"Values a byte, {SIZES}, were expected.", "Say 2.")
    if "blend" in recipe and not (body.encoder and body.adds):
        refuse("[blend]", "Layers of an encoder that add vectors were expected.", "Leave it out.")
    if body.whole and not (body.encoder and body.adds):
        refuse("whole = true", "Layers of an encoder that add vectors see whole rows.", "Leave it out.")
    if wrong:
        refuse(f"{', '.join(wrong)} in [routes]", f"Tasks are {', '.join(known)}.", "Choose one of them.")
    table = body.inner or settings(Aim, recipe, "targets").dim
    columns = (body.feed, body.words) if body.encoder else (body.dim, body.head)
    if not columns_fit(table, *((STRIP, STRIP, *columns) if body.encoder else columns)):
        said = f"columns {', '.join(map(str, (table, *columns)))}"
        refuse(said, f"Multiples of {STRIP}, and heads that add up to dim, were expected.", "Correct them.")
    if body.tokens < 2:
        refuse(f"tokens = {body.tokens}", "One for a task and one for a text, at least.", "Say more.")


def settings(kind: Any, recipe: dict[str, Any], table: str, **more: Any) -> Any:
    """A settings object from a table of a recipe: the keys that it knows, lists as tuples."""
    known = {field.name for field in fields(kind)}
    given = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in recipe.get(table, {}).items()
        if key in known
    }
    return kind(**given, **more)


def _check_keys(path: Path, table: str, given: dict[str, Any], known: dict[str, Any]) -> None:
    """Refuse unknown keys and values of another type than `known` says."""
    place = f"[{table}] of {path}" if table else str(path)
    if unknown := set(given) - set(known):
        raise InputError(
            f"{place} has {', '.join(sorted(unknown))}.", f"Known are {', '.join(sorted(known))}.", "Correct it."
        )
    for key, value in given.items():
        if not _fits(value, known[key]):
            kind = KINDS[known[key]]
            raise InputError(f"{place} has {key} = {str(value)[:60]!r}.", f"{kind} was expected.", "Correct it.")


def _fits(value: Any, kind: Any) -> bool:
    if kind in (tuple[str, ...], tuple[int, ...], tuple[float, ...]):
        return type(value) is list and all(_fits(entry, kind.__args__[0]) for entry in value)
    return type(value) is kind or (kind is float and type(value) is int)

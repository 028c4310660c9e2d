"""Recipes: a TOML file that says how a model is made, read top to bottom, one stage a table (run.py).

Paths may start with `cache:` (NESTLING_CACHE, default ~/.cache/nestling) or `data:` (NESTLING_DATA, default ../shared).
"""

import os
import tomllib
from dataclasses import dataclass, fields
from math import inf
from pathlib import Path
from typing import Any

from nestling.errors import InputError
from nestling.files.parts import POOLINGS, ROLES
from nestling.make.settings import (
    LOOK_DTYPES,
    LOOK_POOLINGS,
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
from nestling.shrink.sizes import parse_size

HEAD: dict[str, Any] = {"name": str, "description": str, "licence": str, "seed": int, "canaries": tuple[str, ...]}
TEXTS: dict[str, Any] = {"path": str, "column": str, "name": str, "licence": str, "leave_out": tuple[str, ...]}


def _keys(*settings: Any, but: tuple[str, ...] = ()) -> dict[str, Any]:
    """The keys of settings, and what type each has. but: those that say nothing where the settings are used."""
    return {field.name: field.type for each in settings for field in fields(each) if field.name not in ("seed", *but)}


OF_BLOCKS, OF_PAIRS = ("body_rate", "compiled", "tasks"), ("pairs", "pair_temperature", "margin")  # of Training
TABLES: dict[str, dict[str, Any]] = {
    "teacher": {"source": str, "get": str},
    "corpus": TEXTS,
    "pairs": {**TEXTS, "most": int},
    "vocabulary": _keys(Vocabulary),
    "distil": _keys(Distillation),
    "targets": _keys(Looks, Aim),
    "train": {**_keys(Training, but=(*OF_BLOCKS, *OF_PAIRS, "own")), "start": str},
    "again": _keys(Training, but=(*OF_BLOCKS, *OF_PAIRS)),
    "tune": _keys(Training, but=(*OF_BLOCKS, "own")),
    "student": _keys(Body, Training, but=("seeds", "own")),
    "tasks": _keys(Training, but=("seeds", "own")),
    "blend": {"adds": float},
    "routes": dict.fromkeys(ROLES, str),
    "shrink": {
        "budget": str,
        "widths": tuple[int, ...],
        "shares": tuple[float, ...],
        "dim": int,
        "word": int,
        "feedback": bool,
    },
    "repair": _keys(Training, Repairing, but=(*OF_BLOCKS, "seeds", "own")),
    "score": {},  # any name of a task: path of an STS file
}
KINDS: dict[Any, str] = {
    str: "A string", int: "A whole number", float: "A number", bool: "true or false", dict: "A table",
    tuple[str, ...]: "A list of strings",
    tuple[int, ...]: "A list of whole numbers", tuple[float, ...]: "A list of numbers",
}  # fmt: skip
SOME = 1e-6  # more than nothing
LEAST: dict[str, float] = {  # of numbers, each of a list; 0 of those that are not here
    "a": SOME, "batch": 1, "checks": 1, "dim": 1, "dims": 1, "epochs": SOME, "head": 1, "held_out": 1, "layers": 1,
    "least": 1, "margin": -2, "max_tokens": 3, "most": 1, "pair_temperature": SOME, "patience": 1, "rounds": 1,
    "sample": 1, "seeds": 1, "sentences": 1, "shares": SOME, "temperature": SOME, "tokens": 2, "widths": 1,
}  # fmt: skip
CHOICES: dict[str, tuple[Any, ...]] = {
    "distil.pooling": POOLINGS, "targets.poolings": LOOK_POOLINGS, "targets.dtype": LOOK_DTYPES, "shrink.word": SIZES,
    **{f"routes.{role}": tuple(task.lower() for task in TASKS) for role in ROLES},
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
    """Parse and check a recipe. InputError for broken TOML, unknown tables or keys, values of a wrong type or beyond
    their bounds, or a stage without what it stands on."""
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
    lacking += [
        f"[pairs], on which {key} in [{table}] stands"
        for table in ("student", "repair")
        for key in ("pairs", "tasks")
        if recipe.get(table, {}).get(key) and "pairs" not in recipe
    ]
    if lacking or "teacher" not in recipe:
        raise InputError(
            f"{path} lacks {', '.join(lacking) or '[teacher]'}.", "It is needed.", "See recipes/nano.toml."
        )
    if "shrink" in recipe:
        parse_size(recipe["shrink"]["budget"])
    if "student" in recipe:
        _check_student(path, recipe)
    elif wrong := [key for key in ("word", "feedback") if key in recipe.get("shrink", {})]:
        raise InputError(
            f"{path} has {wrong[0]} in [shrink].", "Matrices are those of a [student].", "Say widths, for a table's."
        )
    return recipe


def _check_student(path: Path, recipe: dict[str, Any]) -> None:
    """Refuse what would be found out after hours, when the transformer is made of the trained static model."""
    body = settings(Body, recipe, "student")
    rates = {table: settings(Training, recipe, table).rate for table in ("student", "tasks") if table in recipe}

    def refuse(given: str, expected: str, do: str) -> None:
        raise InputError(f"{path} has {given}.", expected, do)

    if "repair" in recipe:
        refuse("[student] and [repair]", "Static models can be repaired.", "Leave one of the two out.")
    for table, rate in rates.items() if "shrink" in recipe else ():
        if rate:
            refuse(f"rate = {rate} in [{table}]", "Rows in few bits, of [shrink], do not learn.", "Set it to 0.")
    if "shrink" in recipe and not recipe["shrink"].get("widths"):
        refuse("[shrink] without widths", "Those of a transformer's product codes are needed.", "Say widths = [2, 4].")
    if "dim" in recipe.get("shrink", {}):
        refuse("dim in [shrink]", "A transformer keeps all columns of its table.", "Say dim in [targets] instead.")
    if "blend" in recipe and not (body.encoder and body.adds):
        refuse("[blend]", "Layers of an encoder that add vectors were expected.", "Leave it out.")
    if body.whole and not (body.encoder and body.adds):
        refuse("whole = true", "Layers of an encoder that add vectors see whole rows.", "Leave it out.")
    inner = body.inner or settings(Aim, recipe, "targets").dim
    columns = (body.feed, body.words) if body.encoder else (body.dim, body.head)
    if not columns_fit(inner, *((STRIP, STRIP, *columns) if body.encoder else columns)):
        said = f"columns {', '.join(map(str, (inner, *columns)))}"
        refuse(said, f"Multiples of {STRIP}, and heads that add up to dim, were expected.", "Correct them.")


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
    """Refuse unknown keys, values of another type than `known` says, and those beyond LEAST and CHOICES."""
    place = f"[{table}] of {path}" if table else str(path)
    if unknown := set(given) - set(known):
        raise InputError(
            f"{place} has {', '.join(sorted(unknown))}.", f"Known are {', '.join(sorted(known))}.", "Correct it."
        )
    for key, value in given.items():
        if not _fits(value, known[key]):
            kind = KINDS[known[key]]
            raise InputError(f"{place} has {key} = {str(value)[:60]!r}.", f"{kind} was expected.", "Correct it.")
        each = value if type(value) is list else [value]
        least, choices = LEAST.get(key, 0), CHOICES.get(f"{table}.{key}")
        if any(isinstance(one, int | float) and not least <= one < inf for one in each):
            raise InputError(f"{place} has {key} = {value}.", f"A number from {least} on was expected.", "Correct it.")
        if choices and not (each and set(each) <= set(choices)):
            said = ", ".join(map(str, choices))
            raise InputError(f"{place} has {key} = {value!r}.", f"Known are {said}.", "Choose from these.")


def _fits(value: Any, kind: Any) -> bool:
    if kind in (tuple[str, ...], tuple[int, ...], tuple[float, ...]):
        return type(value) is list and all(_fits(entry, kind.__args__[0]) for entry in value)
    return type(value) is kind or (kind is float and type(value) is int)

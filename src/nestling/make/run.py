"""From a recipe to a model: the stages in order, each kept in the cache, so that a run goes on where it stopped.

    distil -> (targets: train -> born again -> tune on pairs) -> shrink -> repair -> score
                                   or (transformer.py) -> code the table -> blocks -> tasks -> blend -> score

A stage is kept under a key of the inputs' bytes and of all settings up to it. So the same inputs give the same file,
two recipes that begin alike share their beginning, and a change of a late stage leaves the early ones standing. From
[shrink] and [student] on all that a model says of itself counts too: another description makes these anew.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nestling.errors import InputError, MissingExtraError, whole_number
from nestling.files.card import card
from nestling.make.distil import distil
from nestling.make.inputs import Inputs
from nestling.make.recipe import Places, cache_folder, data_folder, read_recipe, settings
from nestling.make.settings import Repairing, Training, Vocabulary
from nestling.model.common import Model
from nestling.model.load import load_static
from nestling.model.static import StaticModel
from nestling.model.transformer import TransformerModel
from nestling.safe import check_target, write_text
from nestling.score.sts import score_sts
from nestling.shrink.budget import Row, file_size, shrink_to_budget
from nestling.shrink.sizes import parse_size

if TYPE_CHECKING:
    from nestling.make.train import Lessons

LATE = ("feedback",)  # of [shrink]
ROOM_FOR_SCORES = 200  # bytes that the scores of a task may take in the file, which are measured after shrinking.


@dataclass(frozen=True)
class Made:
    """path: the model file. size: its bytes. trials: the shrink table, best first. scores: task -> dim -> score.
    losses: of each stage that trains a transformer, a line a check."""

    path: Path
    size: int
    fingerprint: str
    trials: list[dict[str, Any]]
    scores: dict[str, dict[str, float]]
    losses: dict[str, list[dict[str, float]]]


def make(
    recipe_path: Path,
    out: Path | None = None,
    *,
    teacher: str | None = None,
    corpus: str | None = None,
    data: Path | None = None,
    cache: Path | None = None,
    seed: int | None = None,
    device: str = "cpu",
    quick: bool = False,
    progress: bool = False,
) -> Made:
    """Make the model that a recipe describes and write it, with its card beside it.

    out: default `<name>.nest` here. teacher, corpus: instead of the recipe's, whose licence then does not hold; the
    model of another teacher is named after `out`, without the recipe's description. data, cache: instead of
    NESTLING_DATA and NESTLING_CACHE. seed: instead of the recipe's. device: for teachers that torch runs, and for
    training. quick: on 20,000 texts and 5,000 pairs, to see it work. Only what the recipe alone makes has its hash.
    """
    recipe = read_recipe(recipe_path)
    out = out or Path(f"{Path(teacher).name if teacher else recipe['name']}.nest")
    check_target(out, suffixes=(".nest",))
    check_target(out.with_suffix(".md"))
    said = recipe if teacher is None else {**recipe, "name": out.stem, "description": ""}
    if teacher is not None or corpus is not None:
        said = {**said, "licence": "unknown"}
    if seed is not None:
        said = {**said, "seed": whole_number("seed", seed, 0)}
    run = Run(said, Places(cache or cache_folder(), data or data_folder()), teacher, corpus, device, quick, progress)
    run.inputs.check()
    if "student" in recipe:
        from nestling.make.transformer import make_transformer  # torch, a second to import

        model: StaticModel | TransformerModel = make_transformer(run)
    else:
        model = run.shrunk()
    own = teacher is None and corpus is None and not quick and run.seed == recipe.get("seed", 0)
    digest = hashlib.sha256(recipe_path.read_bytes()).hexdigest() if own else None
    model = model.with_table(model.table, recipe=digest)
    scores = {task: score_sts(model, run.places.find(path)) for task, path in recipe.get("score", {}).items()}
    model = model.with_table(model.table, scores=scores)
    _check_size(model, recipe)
    model.save(out)
    write_text(out.with_suffix(".md"), card(model.document, out.stat().st_size))
    return Made(out, out.stat().st_size, model.fingerprint, run.tried, scores, run.losses)


class Run:
    """One run of a recipe: its stages. The arguments are those of `Inputs`; training, too, is on `device`."""

    def __init__(self, recipe: dict[str, Any], places: Places, *given: Any, **more: Any) -> None:
        if "train" in recipe and find_spec("torch") is None:
            raise MissingExtraError("torch", "train", f"Training, which the recipe {recipe['name']} asks for")
        self.inputs = Inputs(recipe, places, *given, **more)
        self.recipe, self.places = recipe, places
        self.device, self.progress = self.inputs.device, self.inputs.progress
        self.seed = int(recipe.get("seed", 0))
        self.losses: dict[str, list[dict[str, float]]] = {}
        self.tried: list[dict[str, Any]] = []  # to shrink the model
        self.key = hashlib.sha256(self.inputs.fingerprint() + f" {self.seed}".encode())
        self.folders: dict[str, Path] = {}  # of the stages that were entered, by name

    def full(self) -> StaticModel:
        """The static float model that all that can be learnt has gone into."""
        model: StaticModel = self.distilled
        distilled = model
        if "train" not in self.recipe:
            return model
        from nestling.make import learn  # torch, a second to import

        aim, start, where = self.inputs.aim, self.inputs.start, (self.device, self.progress)
        first: StaticModel = self.stage(
            "trained",
            ("targets", "train"),
            lambda: learn.learn_from_targets(
                distilled, *self.lessons, aim, self.training("train"), *where, trained=start
            ),
            also=start.fingerprint if start else "",
        )
        model = first
        if "again" in self.recipe:
            model = self.stage(
                "again",
                ("again",),
                lambda: learn.learn_from_targets(
                    distilled, *self.lessons, aim, self.training("again"), *where, own=first.table.expanded()
                ),
            )
        if "tune" in self.recipe:
            model = self.stage(
                "tuned",
                ("pairs", "tune"),
                lambda: learn.tune_on_pairs(model, *self.lessons, self.training("tune"), *where),
            )
        return model

    def shrunk(self) -> StaticModel:
        """The model within its budget, repaired if the recipe says so."""
        full = self.described
        if "shrink" not in self.recipe:
            return full

        def search() -> StaticModel:
            small, rows = shrink_to_budget(
                full, self.budget, self.inputs.held_out, dim=self.recipe["shrink"].get("dim"), **self.ways
            )
            self.note_trials("shrunk", rows)
            return small

        model: StaticModel = self.stage("shrunk", ("shrink",), search, also=f"{full.fingerprint} {full.document}")
        self.tried = self.trials("shrunk")
        if "repair" in self.recipe:
            shrunk = model
            model = self.stage("repaired", ("repair",), lambda: self.repaired(shrunk, full))
        return model

    def repaired(self, coded: StaticModel, full: StaticModel) -> StaticModel:
        """A model in code books, which learn what coding took away from the float model."""
        from nestling.make import learn

        lessons, judged = self.lessons
        texts, first = self.inputs.learnt, self.inputs.texts[: self.inputs.first]
        rounds = settings(Repairing, self.recipe, "repair")
        how = self.training("repair")
        return learn.repair(coded, full, texts, lessons, (first, judged), how, rounds, self.device, self.progress)

    def stage(
        self,
        name: str,
        tables: tuple[str, ...],
        make_it: Callable[[], Model],
        read: Callable[[Path], Any] = load_static,
        also: str = "",
    ) -> Any:
        """The model of a stage, made and saved if need be; loaded either way, so that both ways give the same bits."""
        path = self.enter(name, tables, also) / "model.nest"
        if not path.exists():
            make_it().save(path)
        return read(path)

    def enter(self, name: str, tables: tuple[str, ...], also: str = "") -> Path:
        """The folder of a stage, the same each time. tables: of the recipe, which come into play with it, but for what
        does so behind all stages; also: what else does."""
        if name not in self.folders:
            self.folders[name] = self._new_folder(name, tables, also)
        return self.folders[name]

    def _new_folder(self, name: str, tables: tuple[str, ...], also: str) -> Path:
        said = {table: self.recipe.get(table) for table in tables}
        said = {table: each and {key: each[key] for key in each if key not in LATE} for table, each in said.items()}
        self.key.update((also + json.dumps([name, said], sort_keys=True)).encode())
        folder = self.places.cache / "make" / f"{name}-{self.key.hexdigest()[:12]}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def training(self, table: str) -> Training:
        how: Training = settings(Training, self.recipe, table, seed=self.seed)
        return how

    @property
    def budget(self) -> int:
        """Bytes of the file, less those that its scores may take."""
        return parse_size(self.recipe["shrink"]["budget"]) - ROOM_FOR_SCORES * len(self.recipe.get("score", {}))

    @property
    def word(self) -> int:
        """Values a byte of a transformer's matrices."""
        return int(self.recipe["shrink"].get("word", 1))

    @property
    def ways(self) -> dict[str, Any]:
        """How the search for a small model is narrowed."""
        table = self.recipe["shrink"]
        ways = {"widths": table.get("widths", ()), "shares": table.get("shares", ())}
        return {**ways, "seed": self.seed, "progress": self.progress}

    def note_trials(self, name: str, rows: Sequence[Row]) -> None:
        """Keep the table of what was tried, beside the model of a stage."""
        write_text(self.folders[name] / "trials.json", json.dumps([vars(row) for row in rows], indent=1))

    def trials(self, name: str) -> list[dict[str, Any]]:
        """What `note_trials` kept."""
        rows: list[dict[str, Any]] = json.loads((self.folders[name] / "trials.json").read_text(encoding="utf-8"))
        return rows

    @cached_property
    def distilled(self) -> StaticModel:
        """The first stage: what the teacher says of each token alone."""
        asked = self.inputs
        words = settings(Vocabulary, self.recipe, "vocabulary") if "vocabulary" in self.recipe else None
        model: StaticModel = self.stage(
            "distilled",
            ("vocabulary", "distil"),
            lambda: distil(asked.teacher, asked.corpus, asked.distillation, self.places.cache, self.progress, words),
        )
        return model

    @cached_property
    def described(self) -> StaticModel:
        """What `full` gives, with what the recipe says of it, and what it was made from.

        Zeros stand for the recipe's hash, which a change of a late stage alters.
        """
        model = self.full()
        described: StaticModel = model.with_table(
            model.table,
            name=self.recipe["name"],
            description=self.recipe.get("description", ""),
            licence=self.recipe.get("licence", "unknown"),
            canaries=tuple(self.recipe.get("canaries", ())),
            lineage=self.inputs.lineage(),
            recipe="0" * 64,
        )
        return described

    @cached_property
    def lessons(self) -> "tuple[Lessons, Lessons]":
        """What is learnt from, and what is held out to see how well."""
        from nestling.make.lessons import make_lessons, split

        inputs = self.inputs
        inputs.ask_teachers()
        whole = make_lessons(self.distilled, inputs.views, inputs.axes, inputs.texts, inputs.paired, inputs.aim)
        return split(whole, inputs.first)


def _check_size(model: Model, recipe: dict[str, Any]) -> None:
    """Raise InputError for a model that is larger than its recipe asks for."""
    size = file_size(model)
    budget = parse_size(recipe["shrink"]["budget"]) if "shrink" in recipe else size
    if size > budget:
        raise InputError(
            f"{model.name} has {size:,} bytes with its scores.",
            f"At most {budget:,} were asked for.",
            "Shorten the names of the scores, or ask for more.",
        )

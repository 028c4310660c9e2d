"""From a recipe to a model: the stages in order, each kept in the cache, so that a run goes on where it stopped.

    distil -> (targets: train -> born again -> tune on pairs) -> shrink -> repair -> score
                                                              -> code the table -> blocks -> tasks -> blend -> score

A stage is kept under a key of the inputs' bytes and of all settings up to it. So the same inputs give the same file,
two recipes that begin alike share their beginning, and a change of a late stage leaves the early ones standing.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nestling.errors import InputError, MissingExtraError, whole_number
from nestling.files.card import card
from nestling.make.distil import distil
from nestling.make.inputs import Inputs
from nestling.make.recipe import Places, cache_folder, data_folder, read_recipe, settings
from nestling.make.settings import Repairing, Training, Vocabulary
from nestling.model.common import Model
from nestling.model.load import load_static, load_transformer
from nestling.model.static import StaticModel
from nestling.model.transformer import TransformerModel
from nestling.safe import check_target, write_text
from nestling.score.sts import score_sts
from nestling.shrink.budget import Row, shrink_to_budget
from nestling.shrink.sizes import parse_size
from nestling.shrink.transformer import shrink_transformer, table_alone, with_small_body

if TYPE_CHECKING:
    from nestling.make.student import Student
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

    out: default `<name>.nest` here. teacher, corpus: instead of the recipe's; the model of another teacher is named
    after `out`, without the recipe's description and licence. data, cache: instead of NESTLING_DATA and NESTLING_CACHE.
    seed: instead of the recipe's.
    device: for teachers that torch runs, and for training. quick: on 20,000 texts and 5,000 pairs, to see it work.
    """
    recipe = read_recipe(recipe_path)
    out = out or Path(f"{Path(teacher).name if teacher else recipe['name']}.nest")
    check_target(out, suffixes=(".nest",))
    check_target(out.with_suffix(".md"))
    said = recipe if teacher is None else {**recipe, "name": out.stem, "description": "", "licence": "unknown"}
    if seed is not None:
        said = {**said, "seed": whole_number("seed", seed, 0)}
    run = Run(said, Places(cache or cache_folder(), data or data_folder()), teacher, corpus, device, quick, progress)
    run.inputs.check()
    described = run.describe(run.full())
    model = run.contextual(described) if "student" in recipe else run.shrunk(described)
    model = model.with_table(model.table, recipe=hashlib.sha256(recipe_path.read_bytes()).hexdigest())
    scores = {task: score_sts(model, run.places.find(path)) for task, path in recipe.get("score", {}).items()}
    model = model.with_table(model.table, scores=scores)
    model.save(out)
    _check_size(out, recipe)
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
        self.folder = places.cache / "make"
        self.losses: dict[str, list[dict[str, float]]] = {}
        self.tried: list[dict[str, Any]] = []  # to shrink the model
        self.key = hashlib.sha256(self.inputs.fingerprint() + f" {self.seed}".encode())

    def full(self) -> StaticModel:
        """The static float model that all that can be learnt has gone into."""
        model: StaticModel = self.distilled
        distilled = model
        if "train" not in self.recipe:
            return model
        from nestling.make import learn  # torch, a second to import

        aim, start, where = self.inputs.aim, self.inputs.start, (self.device, self.progress)
        if start:
            self.key.update(start.fingerprint.encode())
        first: StaticModel = self.stage(
            "trained",
            ("targets", "train"),
            lambda: learn.learn_from_targets(
                distilled, *self.lessons, aim, self.training("train"), *where, trained=start
            ),
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

    def contextual(self, model: StaticModel) -> TransformerModel:
        """The transformer that starts as the trained static model."""
        from nestling.make import contextual as make_student

        coded, student = self.taught(model)
        trained = make_student.to_model(student, table_alone(coded), self.inputs.body)
        if "shrink" in self.recipe:
            moments = self.moments(student, coded) if self.recipe["shrink"].get("feedback") else {}
            trained = with_small_body(trained, self.word, self.seed, moments)
        return make_student.with_body_of(coded, trained, self.recipe.get("routes", {}))

    def moments(self, student: "Student", coded: TransformerModel) -> dict[str, npt.NDArray[np.float64]]:
        """Of what is multiplied by the student's matrices as it reads texts that it learnt from: (in, in), by name."""
        from nestling.make.contextual import moments_of

        seen = moments_of(student, table_alone(coded), self.inputs.body, self.inputs.learnt)
        return {f"{name}.weight": each[:-1, :-1].numpy() for name, each in seen.items()}

    def taught(self, model: StaticModel) -> "tuple[TransformerModel, Student]":
        """The table that ships, behind untrained blocks, and the student that has learnt behind it.

        The table comes into its few bits first: it does not learn, and so the blocks learn with the rows that ship.
        """
        from nestling.make import contextual as make_student

        body, encoder = self.inputs.body, self.inputs.encoder
        if encoder:
            self.key.update(encoder.fingerprint.encode())
        self.key.update(f"{model.fingerprint} {model.document}".encode())
        start = cache(lambda: make_student.new_student(model, body, self.seed, encoder, self.inputs.learnt))

        def code() -> TransformerModel:
            untrained, rows = make_student.to_model(make_student.stirred(start()), model, body), list[Row]()
            if "shrink" in self.recipe:
                how = {**self.ways, "word": self.word}
                untrained, rows = shrink_transformer(untrained, self.budget, self.inputs.held_out, **how)
            self.note_trials(rows)
            return untrained

        coded: TransformerModel = self.stage("coded", ("student", "shrink"), code, load_transformer)
        self.tried = self.trials()
        tokens = table_alone(coded)
        lessons = cache(lambda: self.lessons_for(tokens))
        student = self.learnt(
            "student", (), lambda: make_student.with_rows(start(), coded.table.expanded()), tokens, lessons
        )
        if "tasks" in self.recipe:
            first = student
            student = self.learnt("tasks", ("pairs", "tasks"), lambda: first, tokens, lessons)
        if "blend" in self.recipe:
            student = make_student.blended(student, self.recipe["blend"]["adds"])
        return coded, student

    def learnt(
        self,
        name: str,
        tables: tuple[str, ...],
        start: "Callable[[], Student]",
        model: StaticModel,
        taught: "Callable[[], tuple[Lessons, Lessons]]",
    ) -> "Student":
        """The student of a stage, which the table of that name says how to teach; a run that was killed goes on. model:
        whose tokens it knows. taught: what it learns from, and what is held out."""
        from nestling.make import contextual as make_student
        from nestling.make.train import train

        path = self.enter(name, tables) / "student.safetensors"
        if not path.exists():
            student, how = start(), self.training(name)
            most = self.inputs.body.tokens - 1  # and a task's
            how = replace(how, longest=min(how.longest or most, most))
            lessons, held_out = taught()
            if how.tasks:
                lessons = self.with_tasks(lessons, model)
            run = path.with_name("run.safetensors")
            watch = {}
            if self.inputs.body.dev:
                watch["watch"] = make_student.dev_scores(model, self.places.find(self.inputs.body.dev), how.longest)
            lessons = lessons if how.pairs else replace(lessons, pairs=None)
            train(student, lessons, held_out, how, self.device, self.progress, keep=run, **watch)
            make_student.save_student(student, path)
            run.unlink()
        self.losses[name] = json.loads(path.with_name("run.json").read_text(encoding="utf-8"))
        return make_student.load_student(path)

    def with_tasks(self, lessons: "Lessons", model: StaticModel) -> "Lessons":
        """The lessons, their pairs with their tasks; what asks is asked of the teacher with its prompt for that."""
        from nestling.make.lessons import with_tasks

        assert lessons.pairs is not None, "a recipe with [tasks] has pairs"
        texts = self.inputs.learnt
        anchors = [texts[place] for place in np.unique(lessons.pairs[:, 0])]
        return with_tasks(lessons, self.inputs.asked(anchors), model.table.size)

    def shrunk(self, full: StaticModel) -> StaticModel:
        """The model within its budget, repaired if the recipe says so."""
        if "shrink" not in self.recipe:
            return full

        def search() -> StaticModel:
            small, rows = shrink_to_budget(
                full, self.budget, self.inputs.held_out, dim=self.recipe["shrink"].get("dim"), **self.ways
            )
            self.note_trials(rows)
            return small

        self.key.update(f"{full.fingerprint} {full.document}".encode())
        model: StaticModel = self.stage("shrunk", ("shrink",), search)
        self.tried = self.trials()
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
    ) -> Any:
        """The model of a stage, made and saved if need be; loaded either way, so that both ways give the same bits."""
        path = self.enter(name, tables) / "model.nest"
        if not path.exists():
            make_it().save(path)
        return read(path)

    def enter(self, name: str, tables: tuple[str, ...]) -> Path:
        """The folder of a stage. tables: of the recipe, which come into play with it, but for what does so behind all
        stages."""
        given = {table: self.recipe[table] for table in tables if table in self.recipe}
        early = {table: {key: each for key, each in said.items() if key not in LATE} for table, said in given.items()}
        said = {table: early.get(table) for table in tables}
        self.key.update(json.dumps([name, said], sort_keys=True).encode())
        self.folder = self.places.cache / "make" / f"{name}-{self.key.hexdigest()[:12]}"
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder

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

    def note_trials(self, rows: Sequence[Row]) -> None:
        """Keep the table of what was tried, beside the stage's model."""
        write_text(self.folder / "trials.json", json.dumps([vars(row) for row in rows], indent=1))

    def trials(self) -> list[dict[str, Any]]:
        """What `note_trials` kept."""
        rows: list[dict[str, Any]] = json.loads((self.folder / "trials.json").read_text(encoding="utf-8"))
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
    def lessons(self) -> "tuple[Lessons, Lessons]":
        """What is learnt from, and what is held out to see how well."""
        from nestling.make.lessons import make_lessons

        inputs = self.inputs
        inputs.ask_teachers()
        whole = make_lessons(self.distilled, inputs.views, inputs.axes, inputs.texts, inputs.paired, inputs.aim)
        return _split(whole, inputs.first)

    def lessons_for(self, model: StaticModel) -> "tuple[Lessons, Lessons]":
        """The same for a model that may have fewer tokens."""
        from nestling.make.lessons import bags

        texts, first = self.inputs.texts, self.inputs.first
        tokens = bags(model, texts)
        learnt, judged = self.lessons
        return (
            replace(learnt, tokens=tokens.span(first, len(texts))),
            replace(judged, tokens=tokens.span(0, first)),
        )

    def describe(self, model: Any) -> Any:
        """The model with what the recipe says of it, and what it was made from.

        Zeros stand for the recipe's hash, which a change of a late stage alters.
        """
        return model.with_table(
            model.table,
            name=self.recipe["name"],
            description=self.recipe.get("description", ""),
            licence=self.recipe.get("licence", "unknown"),
            canaries=tuple(self.recipe.get("canaries", ())),
            lineage=self.inputs.lineage(),
            recipe="0" * 64,
        )


def _split(whole: "Lessons", held_out: int) -> "tuple[Lessons, Lessons]":
    """Lessons to learn from, and those of the first texts, which are held out."""
    from nestling.make.train import Lessons

    tokens = whole.tokens
    groups: npt.NDArray[np.int64] | None = None if whole.groups is None else whole.groups[held_out:]
    learnt = Lessons(tokens.span(held_out, len(tokens.lengths)), whole.targets[held_out:], whole.pairs, groups)
    judged = Lessons(tokens.span(0, held_out), whole.targets[:held_out])
    return learnt, judged


def _check_size(out: Path, recipe: dict[str, Any]) -> None:
    budget = parse_size(recipe["shrink"]["budget"]) if "shrink" in recipe else out.stat().st_size
    if out.stat().st_size > budget:
        raise InputError(
            f"{out} has {out.stat().st_size:,} bytes with its scores.",
            f"At most {budget:,} were asked for.",
            "Shorten the names of the scores, or ask for more.",
        )

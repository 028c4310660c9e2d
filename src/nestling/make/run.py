"""From a recipe to a model: the stages in order, each kept in the cache, so that a run goes on where it stopped.

    distil -> (targets: train -> born again -> tune on pairs) -> shrink -> repair -> score
                                                              -> code the table -> blocks -> tasks -> blend -> score

A stage is kept under a key of the inputs' bytes and of all settings up to it. So the same inputs give the same file,
two recipes that begin alike share their beginning, and a change of a late stage leaves the early ones standing.
"""

import hashlib
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nestling import __version__
from nestling.errors import InputError, MissingExtraError, whole_number
from nestling.files.card import card
from nestling.files.parts import Source
from nestling.make.corpus import Corpus
from nestling.make.distil import distil
from nestling.make.recipe import Places, cache_folder, data_folder, read_recipe, settings
from nestling.make.settings import Aim, Body, Distillation, Looks, Repairing, Training, Vocabulary
from nestling.make.targets import Look, Targets
from nestling.model.common import CutWarning, Model
from nestling.model.load import load_static, load_transformer, shipped
from nestling.model.static import StaticModel
from nestling.model.transformer import TransformerModel
from nestling.safe import check_target, write_text
from nestling.score.sts import score_sts
from nestling.shrink.budget import Row, shrink_to_budget
from nestling.shrink.fidelity import sample_texts
from nestling.shrink.sizes import parse_size
from nestling.shrink.transformer import shrink_transformer, table_alone
from nestling.teacher import Teacher, load_teacher

if TYPE_CHECKING:
    from nestling.make.lessons import Axes, View
    from nestling.make.student import Student
    from nestling.make.train import Lessons

ROOM_FOR_SCORES = 200  # bytes that the scores of a task may take in the file, which are measured after shrinking.
QUICK_TEXTS, QUICK_PAIRS = 20_000, 5_000


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
    described = run.describe(run.full())
    model, trials = run.contextual(described) if "student" in recipe else run.shrunk(described)
    model = model.with_table(model.table, recipe=hashlib.sha256(recipe_path.read_bytes()).hexdigest())
    scores = {task: score_sts(model, run.places.find(path)) for task, path in recipe.get("score", {}).items()}
    model = model.with_table(model.table, scores=scores)
    model.save(out)
    _check_size(out, recipe)
    write_text(out.with_suffix(".md"), card(model.document, out.stat().st_size))
    return Made(out, out.stat().st_size, model.fingerprint, trials, scores, run.losses)


class Run:
    """One run of a recipe: its inputs, found and opened when they are needed, and its stages."""

    def __init__(
        self,
        recipe: dict[str, Any],
        places: Places,
        teacher: str | None = None,
        corpus: str | None = None,
        device: str = "cpu",
        quick: bool = False,
        progress: bool = False,
    ) -> None:
        if "train" in recipe and find_spec("torch") is None:
            raise MissingExtraError("torch", "train", f"Training, which the recipe {recipe['name']} asks for")
        self.recipe, self.places, self.device, self.progress = recipe, places, device, progress
        self.given_corpus = corpus
        self.seed = int(recipe.get("seed", 0))
        self.teacher = self._teacher(teacher)
        table = {"path": corpus} if corpus else recipe.get("corpus")
        self.corpus = self._texts(table, QUICK_TEXTS if quick else None)
        self.pairs = self._texts(recipe.get("pairs"), QUICK_PAIRS if quick else None)
        self.how = settings(Distillation, recipe, "distil")
        self.looks, self.aim = settings(Looks, recipe, "targets"), settings(Aim, recipe, "targets")
        self.others = [load_teacher(str(places.find(source)), device) for source in self.looks.others]
        self.folder = places.cache / "make"
        self.losses: dict[str, list[dict[str, float]]] = {}
        self.key = hashlib.sha256(self._inputs())

    def full(self) -> StaticModel:
        """The static float model that all that can be learnt has gone into."""
        model: StaticModel = self.distilled
        distilled = model
        if "train" not in self.recipe:
            return model
        from nestling.make import learn  # torch, a second to import

        where = self.device, self.progress
        if self.start:
            self.key.update(self.start.fingerprint.encode())
        first: StaticModel = self.stage(
            "trained",
            ("targets", "train"),
            lambda: learn.learn_from_targets(
                distilled, *self.lessons, self.aim, self.training("train"), *where, trained=self.start
            ),
        )
        model = first
        if "again" in self.recipe:
            model = self.stage(
                "again",
                ("again",),
                lambda: learn.learn_from_targets(
                    distilled, *self.lessons, self.aim, self.training("again"), *where, own=first.table.expanded()
                ),
            )
        if "tune" in self.recipe:
            model = self.stage(
                "tuned",
                ("pairs", "tune"),
                lambda: learn.tune_on_pairs(model, *self.lessons, self.training("tune"), *where),
            )
        return model

    def contextual(self, model: StaticModel) -> tuple[TransformerModel, list[dict[str, Any]]]:
        """The transformer that starts as the trained static model, and the table of what was tried to shrink it.

        Its table comes into its few bits first: it does not learn, and so the blocks learn with the rows that ship.
        """
        from nestling.make import contextual as make_student

        if self.encoder:
            self.key.update(self.encoder.fingerprint.encode())
        self.key.update(f"{model.fingerprint} {model.document}".encode())
        start = cache(lambda: make_student.new_student(model, self.body, self.seed, self.encoder))

        def code() -> TransformerModel:
            untrained, rows = make_student.to_model(make_student.stirred(start()), model, self.body), list[Row]()
            if "shrink" in self.recipe:
                untrained, rows = shrink_transformer(untrained, self.budget, self.held_out, **self.ways)
            self.note_trials(rows)
            return untrained

        coded: TransformerModel = self.stage("coded", ("student", "shrink"), code, load_transformer)
        tried, tokens = self.trials(), table_alone(coded)
        lessons = cache(lambda: self.lessons_for(tokens))
        student = self.learnt(
            "student", (), lambda: make_student.with_rows(start(), coded.table.expanded()), tokens, lessons
        )
        if "tasks" in self.recipe:
            first = student
            student = self.learnt("tasks", ("pairs", "tasks"), lambda: first, tokens, lessons)
        if "blend" in self.recipe:
            student = make_student.blended(student, self.recipe["blend"]["adds"])
        trained = make_student.to_model(student, tokens, self.body)
        return make_student.with_body_of(coded, trained, self.recipe.get("routes", {})), tried

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
            most = self.body.tokens - 1  # and a task's
            how = replace(how, longest=min(how.longest or most, most))
            lessons, held_out = taught()
            if how.tasks:
                lessons = self.with_tasks(lessons, model)
            run = path.with_name("run.safetensors")
            watch = {}
            if self.body.dev:
                watch["watch"] = make_student.dev_scores(model, self.places.find(self.body.dev), how.longest)
            lessons = lessons if how.pairs else replace(lessons, pairs=None)
            train(student, lessons, held_out, how, self.device, self.progress, keep=run, **watch)
            make_student.save_student(student, path)
            run.unlink()
        self.losses[name] = json.loads(path.with_name("run.json").read_text(encoding="utf-8"))
        return make_student.load_student(path)

    def with_tasks(self, lessons: "Lessons", model: StaticModel) -> "Lessons":
        """The lessons, their pairs with their tasks; what asks is asked of the teacher with its prompt for that."""
        from nestling.make.lessons import with_tasks

        assert lessons.pairs is not None, "a recipe with [tune] has pairs"
        own = self.targets[0]
        asked = Targets(own.teacher, self.places.cache, replace(own.look, prompt=self.looks.query or own.look.prompt))
        texts = self.texts[self.how.held_out :]
        anchors = [texts[place] for place in np.unique(lessons.pairs[:, 0])]
        asked.fill(anchors, self.progress)
        views = [(asked, view[1]) if view[0] is own else view for view in self.views]
        return with_tasks(lessons, self.axes.targets(views, anchors), model.table.size)

    def shrunk(self, full: StaticModel) -> tuple[StaticModel, list[dict[str, Any]]]:
        """The model within its budget, repaired if the recipe says so, and the table of what was tried."""
        if "shrink" not in self.recipe:
            return full, []

        def search() -> StaticModel:
            small, rows = shrink_to_budget(
                full, self.budget, self.held_out, dim=self.recipe["shrink"].get("dim"), **self.ways
            )
            self.note_trials(rows)
            return small

        self.key.update(f"{full.fingerprint} {full.document}".encode())
        model: StaticModel = self.stage("shrunk", ("shrink",), search)
        tried = self.trials()
        if "repair" in self.recipe:
            from nestling.make import learn

            def mend() -> StaticModel:
                lessons, judged = self.lessons
                rounds = settings(Repairing, self.recipe, "repair")
                texts, first = self.texts[self.how.held_out :], self.texts[: self.how.held_out]
                how = self.training("repair")
                return learn.repair(
                    shrunk, full, texts, lessons, (first, judged), how, rounds, self.device, self.progress
                )

            shrunk = model
            model = self.stage("repaired", ("repair",), mend)
        return model, tried

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
        """The folder of a stage. tables: of the recipe, which come into play with it."""
        said = {table: self.recipe.get(table) for table in tables}
        self.key.update(json.dumps([name, said], sort_keys=True).encode())
        self.folder = self.places.cache / "make" / f"{name}-{self.key.hexdigest()[:12]}"
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder

    def training(self, table: str) -> Training:
        how: Training = settings(Training, self.recipe, table, seed=self.seed)
        return how

    @property
    def body(self) -> Body:
        """What makes a transformer of the static model."""
        body: Body = settings(Body, self.recipe, "student")
        return body

    @property
    def budget(self) -> int:
        """Bytes of the file, less those that its scores may take."""
        return parse_size(self.recipe["shrink"]["budget"]) - ROOM_FOR_SCORES * len(self.recipe.get("score", {}))

    @property
    def held_out(self) -> list[str]:
        """Texts that are kept away from all that is learnt, to judge small models on."""
        return list(self.corpus.texts(0, self.how.held_out)) if self.corpus else sample_texts()

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
    def encoder(self) -> Teacher | None:
        """Whose layers the blocks are."""
        source = self.body.encoder
        return load_teacher(str(self.places.find(source)), self.device) if source else None

    @cached_property
    def start(self) -> StaticModel | None:
        """A model whose rows those of its tokens start as."""
        source = self.recipe.get("train", {}).get("start")
        return load_static(source if source in shipped() else self.places.find(source)) if source else None

    @cached_property
    def distilled(self) -> StaticModel:
        """The first stage: what the teacher says of each token alone."""
        words = settings(Vocabulary, self.recipe, "vocabulary") if "vocabulary" in self.recipe else None
        model: StaticModel = self.stage(
            "distilled",
            ("vocabulary", "distil"),
            lambda: distil(self.teacher, self.corpus, self.how, self.places.cache, self.progress, words),
        )
        return model

    @cached_property
    def sides(self) -> list[tuple[str, str]]:
        """The pairs of texts that belong together."""
        return self.pairs.pairs() if self.pairs else []

    @cached_property
    def texts(self) -> list[str]:
        """Held-out texts first, then the others of the corpus, then those of the pairs that are new."""
        assert self.corpus is not None, "a recipe with targets has a corpus"
        last = self.how.held_out + self.looks.texts if self.looks.texts else None
        return list(dict.fromkeys(chain(self.corpus.texts(0, last), *self.sides)))

    @cached_property
    def lessons(self) -> "tuple[Lessons, Lessons]":
        """What is learnt from, and what is held out to see how well."""
        from nestling.make.lessons import make_lessons

        for each in self.targets:
            if cut := each.fill(self.texts, self.progress):
                most = min(each.look.max_tokens, each.teacher.max_tokens)
                warnings.warn(
                    f"{each.teacher.name} sees only the first {most} tokens of {cut:,} of "
                    f"{len(self.texts):,} texts; max_tokens in [targets] raises that, up to what it was made for.",
                    CutWarning,
                    stacklevel=2,
                )
        place = {text: index for index, text in enumerate(self.texts)}
        held_out = self.how.held_out
        sides = np.array([(place[one], place[other]) for one, other in self.sides], np.int64).reshape(-1, 2)
        sides = sides[(sides >= held_out).all(axis=1)] - held_out
        pairs = sides if len(sides) else None
        return _split(make_lessons(self.distilled, self.views, self.axes, self.texts, pairs, self.aim), held_out)

    def lessons_for(self, model: StaticModel) -> "tuple[Lessons, Lessons]":
        """The same for a model that may have fewer tokens."""
        from nestling.make.lessons import bags

        tokens = bags(model, self.texts)
        first = self.how.held_out
        learnt, judged = self.lessons
        return (
            replace(learnt, tokens=tokens.span(first, len(self.texts))),
            replace(judged, tokens=tokens.span(0, first)),
        )

    @cached_property
    def views(self) -> "list[View]":
        """What each teacher says of a text, in each of the poolings."""
        return [(each, pooling) for each in self.targets for pooling in self.looks.poolings]

    @cached_property
    def axes(self) -> "Axes":
        """Those of the targets, which must be filled."""
        from nestling.make.lessons import Axes

        return Axes.of(self.views, self.texts[: self.aim.sample], self.aim)

    @cached_property
    def targets(self) -> list[Targets]:
        """What each teacher says of texts."""
        teachers = [self.teacher, *self.others]
        prompts = self.looks.prompts or ("",) * len(teachers)
        if len(prompts) != len(teachers):
            raise InputError(
                f"[targets] has {len(prompts)} prompts.", f"One for each of {len(teachers)} teachers.", "Correct it."
            )
        return [
            Targets(teacher, self.places.cache, Look(prompt, self.looks.max_tokens, self.looks.dtype))
            for teacher, prompt in zip(teachers, prompts, strict=True)
        ]

    def describe(self, model: Any) -> Any:
        """The model with what the recipe says of it, and what it was made from.

        Zeros stand for the recipe's hash, which a change of a late stage alters.
        """
        corpus = {"name": Path(self.given_corpus).name} if self.given_corpus else self.recipe.get("corpus", {})
        tables = [corpus, self.recipe.get("pairs", {})]
        data = [Source("data", each.get("name", "a corpus"), each.get("licence", "unknown")) for each in tables if each]
        teachers = [
            Source("teacher", each.name, each.licence) for each in (self.teacher, *self.others, self.encoder) if each
        ]
        before = self.start.document.lineage if self.start else ()
        return model.with_table(
            model.table,
            name=self.recipe["name"],
            description=self.recipe.get("description", ""),
            licence=self.recipe.get("licence", "unknown"),
            canaries=tuple(self.recipe.get("canaries", ())),
            lineage=tuple(dict.fromkeys([*teachers, *before, *data])),
            recipe="0" * 64,
        )

    def _teacher(self, given: str | None) -> Teacher:
        table = self.recipe["teacher"]
        try:
            return load_teacher(given or str(self.places.find(table["source"])), self.device)
        except InputError as error:
            raise InputError(error.given, error.expected, f"{error.do} {table.get('get', '')}".strip()) from error

    def _texts(self, table: dict[str, Any] | None, most: int | None) -> Corpus | None:
        if table is None:
            return None
        path = self.places.find(table["path"])
        if not path.exists():
            raise InputError(
                f"The corpus {path} is not there.", "A text file was expected.", "Pass --corpus or --data."
            )
        most = min((limit for limit in (most, table.get("most")) if limit), default=None)
        return Corpus(path, table.get("column"), tuple(table.get("leave_out", ())), most)

    def _inputs(self) -> bytes:
        """Everything outside the recipe that decides what is made."""
        said: list[Any] = [__version__, self.seed, *(each.fingerprint for each in (self.teacher, *self.others))]
        for each in (self.corpus, self.pairs):
            if each:
                with each.path.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                said += [digest, each.column, each.leave_out, each.most]
        return json.dumps(said).encode()


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

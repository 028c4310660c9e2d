"""What a recipe names: teachers, texts, pairs, and models to begin with, found and opened when they are needed."""

import hashlib
import json
import warnings
from dataclasses import replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nestling import __version__
from nestling.errors import InputError
from nestling.files.parts import Source
from nestling.make.corpus import Corpus
from nestling.make.recipe import Places, settings
from nestling.make.settings import Aim, Body, Distillation, Looks
from nestling.make.targets import Look, Targets
from nestling.model.common import CutWarning
from nestling.model.load import load_static, load_transformer, shipped
from nestling.model.static import StaticModel
from nestling.model.transformer import TransformerModel
from nestling.shrink.fidelity import sample_texts
from nestling.teacher import Teacher, load_teacher

if TYPE_CHECKING:
    from nestling.make.lessons import Axes, View

QUICK_TEXTS, QUICK_PAIRS = 20_000, 5_000


class Inputs:
    """The inputs of a run of a recipe. teacher, corpus: instead of the recipe's. device: for teachers that torch runs.
    quick: few texts and pairs.

    Texts come in one order: first those that are held out, then the others of the corpus, then those of the pairs.
    """

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
        self.recipe, self.places, self.device, self.progress = recipe, places, device, progress
        self.teacher = self._teacher(teacher)
        self.said = {"path": corpus, "name": Path(corpus).name} if corpus else recipe.get("corpus")
        self.corpus = self._texts(self.said, QUICK_TEXTS if quick else None, "--corpus or --data")
        self.pairs = self._texts(recipe.get("pairs"), QUICK_PAIRS if quick else None, "--data")
        self.distillation: Distillation = settings(Distillation, recipe, "distil")
        self.looks = settings(Looks, recipe, "targets")
        self.aim: Aim = settings(Aim, recipe, "targets")
        self.body: Body = settings(Body, recipe, "student")
        self.others = [load_teacher(str(places.find(source)), device) for source in self.looks.others]

    def check(self) -> None:
        """Raise InputError for what would only be missed after hours: files of scores, texts to learn from, and what an
        encoder lacks."""
        for path in filter(None, [*self.recipe.get("score", {}).values(), self.body.dev]):
            if not self.places.find(path).exists():
                raise InputError(
                    f"{self.places.find(path)} is not there.",
                    "The recipe scores on it.",
                    "Put it there, or pass --data.",
                )
        _ = self.start
        if "student" in self.recipe:
            self._check_blocks()
        if self.corpus is None:
            return
        if (texts := sum(1 for _ in self.corpus.texts(0, self.first + 1))) <= self.first:
            raise InputError(
                f"{self.corpus.path} has {texts:,} texts, of which the first {self.first:,} are held out.",
                "More were expected, to learn from.",
                "Lower held_out in [distil], or give more texts.",
            )

    def _check_blocks(self) -> None:
        columns: tuple[int, ...] = (self.body.dim,)
        if self.encoder:
            from nestling.make.encoder import size_of  # torch, a second to import
            from nestling.make.known import known_by

            size = size_of(known_by(self.encoder), 1, self.aim.dim, self.body)
            columns = size.dim, self.body.feed or size.feed
        word = self.recipe.get("shrink", {}).get("word", 1)
        if any(each % word for each in columns):
            raise InputError(
                f"word = {word} in [shrink], and blocks of {' and '.join(map(str, columns))} columns.",
                "Columns that add up to words were expected.",
                "Choose another word.",
            )

    @cached_property
    def encoder(self) -> Teacher | TransformerModel | None:
        """Whose layers the blocks are."""
        source = self.body.encoder
        if source in shipped() or source.endswith(".nest"):
            return load_transformer(self._named(source))
        return load_teacher(str(self.places.find(source)), self.device) if source else None

    @cached_property
    def start(self) -> StaticModel | None:
        """A model whose rows those of its tokens start as."""
        source = self.recipe.get("train", {}).get("start")
        return load_static(self._named(source)) if source else None

    @property
    def first(self) -> int:
        """The place of the first text to learn from; those before it are held out."""
        return self.distillation.held_out

    @property
    def held_out(self) -> list[str]:
        """Texts that are kept away from all that is learnt, to judge small models on."""
        return list(self.corpus.texts(0, self.first)) if self.corpus else sample_texts()

    @cached_property
    def texts(self) -> list[str]:
        """All texts that the teachers look at, each once."""
        assert self.corpus is not None, "a recipe with targets has a corpus"
        last = self.first + self.looks.texts if self.looks.texts else None
        return list(dict.fromkeys(chain(self.corpus.texts(0, last), *self.sides)))

    @property
    def learnt(self) -> list[str]:
        """All texts but those that are held out."""
        return self.texts[self.first :]

    @cached_property
    def sides(self) -> list[tuple[str, str]]:
        """The pairs of texts that belong together."""
        return self.pairs.pairs() if self.pairs else []

    @cached_property
    def paired(self) -> npt.NDArray[np.int64] | None:
        """Places of the pairs that have no text that is held out, counted from the first text after these: (n, 2)."""
        place = {text: index for index, text in enumerate(self.texts)}
        sides = np.array([(place[one], place[other]) for one, other in self.sides], np.int64).reshape(-1, 2)
        sides = sides[(sides >= self.first).all(axis=1)] - self.first
        if self.pairs and not len(sides):
            raise InputError(
                f"Each of {len(self.sides):,} pairs of {self.pairs.path} has a text among the {self.first:,} held out.",
                "Pairs to learn from were expected.",
                "Lower held_out in [distil], or leave [pairs] out.",
            )
        return sides if len(sides) else None

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

    @cached_property
    def views(self) -> "list[View]":
        """What each teacher says of a text, in each of the poolings."""
        return [(each, pooling) for each in self.targets for pooling in self.looks.poolings]

    @cached_property
    def axes(self) -> "Axes":
        """Those of the targets, which must be filled."""
        from nestling.make.lessons import Axes

        return Axes.of(self.views, self.texts[: self.aim.sample], self.aim)

    def ask_teachers(self) -> None:
        """Fill the targets of all texts; a warning says how many a teacher sees cut."""
        for each in self.targets:
            self._ask(each, self.texts)

    def _ask(self, targets: Targets, texts: list[str]) -> None:
        if cut := targets.fill(texts, self.progress):
            warnings.warn(
                f"{targets.teacher.name} sees only the first {targets.look.max_tokens} tokens of {cut:,} of "
                f"{len(texts):,} texts; max_tokens in [targets] raises that, up to what it was made for.",
                CutWarning,
                stacklevel=4,
            )

    def asked(self, texts: list[str]) -> npt.NDArray[np.float16]:
        """The targets of texts that ask, which the recipe's own teacher sees behind its prompt for them: (n, dim). A
        warning says how many it sees cut."""
        own = self.targets[0]
        prompted = Targets(
            own.teacher, self.places.cache, replace(own.look, prompt=self.looks.query or own.look.prompt)
        )
        self._ask(prompted, texts)
        views = [(prompted if each is own else each, pooling) for each, pooling in self.views]
        return self.axes.targets(views, texts)

    def lineage(self) -> tuple[Source, ...]:
        """What a model is made from that learns from all of these."""
        encoder = self.encoder
        asked = [self.teacher, *self.others, *([encoder] if isinstance(encoder, Teacher) else [])]
        teachers = [Source("teacher", each.name, each.licence) for each in asked]
        models = [each for each in (self.start, encoder) if each and not isinstance(each, Teacher)]
        before = [source for each in models for source in each.document.lineage]
        tables = [table for table in (self.said, self.recipe.get("pairs")) if table]
        data = [Source("data", each.get("name", "a corpus"), each.get("licence", "unknown")) for each in tables]
        return tuple(dict.fromkeys([*teachers, *before, *data]))

    def fingerprint(self) -> bytes:
        """Of everything outside the recipe that decides what is made."""
        said: list[Any] = [__version__]
        for teacher in (self.teacher, *self.others):
            said += [teacher.fingerprint]
            # Both are in no teacher's fingerprint. What most have goes unsaid, since stages were kept without it.
            said += [teacher.pooling] if teacher.pooling != "cls" else []
            said += [teacher.max_tokens] if teacher.max_tokens < self.looks.max_tokens else []
        for each in (self.corpus, self.pairs):
            if each:
                with each.path.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                said += [digest, each.column, each.leave_out, each.most]
        return json.dumps(said).encode()

    def _named(self, source: str) -> str | Path:
        """A shipped model's name, or a path."""
        return source if source in shipped() else self.places.find(source)

    def _teacher(self, given: str | None) -> Teacher:
        table = self.recipe["teacher"]
        try:
            return load_teacher(given or str(self.places.find(table["source"])), self.device)
        except InputError as error:
            raise InputError(error.given, error.expected, f"{error.do} {table.get('get', '')}".strip()) from error

    def _texts(self, table: dict[str, Any] | None, most: int | None, options: str) -> Corpus | None:
        """The texts, or pairs, that a table names. options: of the command, which say where else they are."""
        if table is None:
            return None
        path = self.places.find(table["path"])
        if not path.exists():
            raise InputError(f"{path} is not there.", "A file of texts was expected.", f"Pass {options}.")
        most = min((limit for limit in (most, table.get("most")) if limit), default=None)
        return Corpus(path, table.get("column"), tuple(table.get("leave_out", ())), most)

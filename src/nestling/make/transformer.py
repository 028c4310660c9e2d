"""The stages of a recipe that make a transformer, behind those of its static model (run.py).

The table comes into its few bits first: it does not learn, and so the blocks learn with the rows that ship.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import numpy.typing as npt

from nestling.make import contextual, lessons
from nestling.make.run import Run
from nestling.make.student import Student
from nestling.make.train import Lessons, train
from nestling.model.load import load_transformer
from nestling.model.static import StaticModel
from nestling.model.transformer import TransformerModel
from nestling.shrink.budget import Row
from nestling.shrink.transformer import shrink_transformer, table_alone, with_small_body

Taught = tuple[Lessons, Lessons]  # what is learnt from, and what is held out to see how well


def make_transformer(run: Run) -> TransformerModel:
    """The transformer that starts as the trained static model."""
    coded, student = taught(run)
    trained = contextual.to_model(student, table_alone(coded), run.inputs.body)
    if "shrink" in run.recipe:
        seen = moments(run, student, coded) if run.recipe["shrink"].get("feedback") else {}
        trained = with_small_body(trained, run.word, run.seed, seen)
    return contextual.with_body_of(coded, trained, run.recipe.get("routes", {}))


def moments(run: Run, student: Student, coded: TransformerModel) -> dict[str, npt.NDArray[np.float64]]:
    """Of what is multiplied by the student's matrices as it reads texts that it learnt from: (in, in), by name."""
    seen = contextual.moments_of(student, table_alone(coded), run.inputs.body, run.inputs.learnt)
    return {f"{name}.weight": each[:-1, :-1].numpy() for name, each in seen.items()}


def taught(run: Run) -> tuple[TransformerModel, Student]:
    """The table that ships, behind untrained blocks, and the student that has learnt behind it."""
    model, body, encoder = run.described, run.inputs.body, run.inputs.encoder
    also = f"{encoder.fingerprint if encoder else ''}{model.fingerprint} {model.document}"
    start = cache(lambda: contextual.new_student(model, body, run.seed, encoder, run.inputs.learnt))

    def code() -> TransformerModel:
        untrained, rows = contextual.to_model(contextual.stirred(start()), model, body), list[Row]()
        if "shrink" in run.recipe:
            how = {**run.ways, "word": run.word}
            untrained, rows = shrink_transformer(untrained, run.budget, run.inputs.held_out, **how)
        run.note_trials("coded", rows)
        return untrained

    coded: TransformerModel = run.stage("coded", ("student", "shrink"), code, load_transformer, also)
    run.tried = run.trials("coded")
    tokens = table_alone(coded)
    own = cache(lambda: lessons_for(run, tokens))
    student = learnt(run, "student", (), lambda: contextual.with_rows(start(), coded.table.expanded()), tokens, own)
    if "tasks" in run.recipe:
        first = student
        student = learnt(run, "tasks", ("pairs", "tasks"), lambda: first, tokens, own)
    if "blend" in run.recipe:
        student = contextual.blended(student, run.recipe["blend"]["adds"])
    return coded, student


def learnt(
    run: Run,
    name: str,
    tables: tuple[str, ...],
    start: Callable[[], Student],
    model: StaticModel,
    own: Callable[[], Taught],
) -> Student:
    """The student of a stage, which the table of that name says how to teach; a run that was killed goes on. model:
    whose tokens it knows. own: the lessons in these tokens."""
    path = run.enter(name, tables) / "student.safetensors"
    if not path.exists():
        student, how, body = start(), run.training(name), run.inputs.body
        most = body.tokens - 1  # and a task's
        how = replace(how, longest=min(how.longest or most, most))
        learns, held_out = own()
        if how.tasks:
            learns = with_tasks(run, learns, model)
        if not how.pairs:
            learns = replace(learns, pairs=None)
        watch = {}
        if body.dev:
            watch["watch"] = contextual.dev_scores(model, run.places.find(body.dev), how.longest)
        going = path.with_name("run.safetensors")
        train(student, learns, held_out, how, run.device, run.progress, keep=going, **watch)
        contextual.save_student(student, path)
        going.unlink()
    run.losses[name] = json.loads(path.with_name("run.json").read_text(encoding="utf-8"))
    return contextual.load_student(path)


def with_tasks(run: Run, learns: Lessons, model: StaticModel) -> Lessons:
    """The lessons, their pairs with their tasks; what asks is asked of the teacher with its prompt for that."""
    assert learns.pairs is not None, "a recipe with tasks has pairs"
    texts = run.inputs.learnt
    anchors = [texts[place] for place in np.unique(learns.pairs[:, 0])]
    return lessons.with_tasks(learns, run.inputs.asked(anchors), model.table.size)


def lessons_for(run: Run, model: StaticModel) -> Taught:
    """The run's lessons, for a model that may have fewer tokens."""
    tokens, first = lessons.bags(model, run.inputs.texts), run.inputs.first
    learns, judged = run.lessons
    return (
        replace(learns, tokens=tokens.span(first, len(tokens.lengths))),
        replace(judged, tokens=tokens.span(0, first)),
    )

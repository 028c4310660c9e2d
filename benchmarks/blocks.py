"""What blocks behind a static model are worth, one change at a time, on a small scale and without any test split.

    python benchmarks/blocks.py [--texts N] [--pairs N] [--only NAME] [--speeds]

Students of the static model that recipes/micro.toml makes, whose stages the cache has from there, on a part of its
texts, once; and, for pairs and tasks, on some of its pairs, without those that the proxy asks. What layers add counts
in part, as in mini. Judged with benchmarks/proxy.py. Writes benchmarks/results/blocks.json; with --speeds only
how fast each is, anew, which no training changes.
"""

import argparse
import json
import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from proxy import Proxy, first_pairs

from nestling.make.contextual import blended, new_student, to_model
from nestling.make.recipe import Places, cache_folder, data_folder, read_recipe
from nestling.make.run import Run
from nestling.make.settings import Body, Training
from nestling.make.student import Student
from nestling.make.train import Lessons, train
from nestling.make.transformer import with_tasks
from nestling.model.common import Model
from nestling.model.load import load_transformer
from nestling.model.static import StaticModel
from nestling.teacher import load_teacher

ROOT = Path(__file__).parent.parent
PATH = ROOT / "benchmarks/results/blocks.json"
OWN_SUMS: dict[str, Any] = {"static": False, "inner": 64}  # as published: a narrow table, and the mean of the blocks
MINILM, MINI = "cache:teachers/minilm", "mini"
LAYERS: dict[str, Any] = {"encoder": MINI, "keep": (0, 1), "feed": 384, "words": 64, "whole": True, "tokens": 255}
PRETRAINED = {"body_rate": 4e-4}
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # of the body, of the training
    "as in recipes/micro.toml: 3 blocks of 128 columns": ({}, {}),
    "1 block": ({"layers": 1}, {}),
    "9 blocks": ({"layers": 9}, {}),
    "no relational loss": ({}, {"relational": 0.0}),
    "no static path, a table of 64 columns": (OWN_SUMS, {"rate": 2e-3}),
    "the same from a random table": ({**OWN_SUMS, "warm": False}, {"rate": 2e-3}),
    "2 layers of mini, which add, cut to 384 columns in between": (LAYERS, PRETRAINED),
    "the same, 1 layer": ({**LAYERS, "keep": (0,)}, PRETRAINED),
    "the same, 128 columns in between": ({**LAYERS, "feed": 128}, PRETRAINED),
    "the same, seeing 64 columns of words alone": ({**LAYERS, "whole": False}, PRETRAINED),
    "the same, of all-MiniLM-L6-v2": ({**LAYERS, "encoder": MINILM}, PRETRAINED),
    "the same, seeing words alone, only weighing": ({**LAYERS, "whole": False, "adds": False}, PRETRAINED),
}


class Trials:
    """The recipe's static model, its lessons on a small scale, and what was found."""

    def __init__(self, texts: int, pairs: int) -> None:
        run = Run(read_recipe(ROOT / "recipes" / "micro.toml"), Places(cache_folder(), data_folder()), progress=True)
        self.body, self.adds = run.inputs.body, read_recipe(ROOT / "recipes" / "mini.toml")["blend"]["adds"]
        self.model: StaticModel = run.full()
        self.how = replace(run.training("student"), epochs=1.0, checks=1, batch=64, compiled=False)
        self.paired = replace(run.training("tasks"), epochs=1.0, checks=1, batch=64, compiled=False)
        lessons, self.held_out = run.lessons
        self.lessons = Lessons(lessons.tokens.span(0, texts), lessons.targets[:texts])
        asked = {text for pair in first_pairs(run.places.data) for text in pair}
        known = np.array([text in asked for text in run.inputs.learnt])
        assert lessons.pairs is not None, "the recipe has pairs"
        self.pairs = replace(lessons, pairs=lessons.pairs[~known[lessons.pairs].any(axis=1)][:pairs])
        self.with_tasks = with_tasks(run, self.pairs, self.model)
        self.encoders = {MINI: load_transformer(MINI), MINILM: load_teacher(str(run.places.find(MINILM)))}
        self.proxy, self.learnt, self.texts = Proxy(run.places.data), run.inputs.learnt, run.inputs.held_out

    def student(self, body: Body, how: Training) -> Student:
        student = self.new(body)
        train(student, self.lessons, self.held_out, how)
        return student

    def new(self, body: Body) -> Student:
        return new_student(self.model, body, 0, self.encoders.get(body.encoder), self.learnt)

    def judge(self, name: str, student: Student | None, body: Body, task: str | None = None) -> dict[str, Any]:
        """A line: the proxy's figures, how many parameters stand behind the table, and texts a second of one thread."""
        if student is not None and student.back is not None:
            student = blended(student, self.adds)
        model = self.model if student is None else to_model(student, self.model, body)
        scores = self.proxy(partial(model.encode, task=task, overflow="split"))
        behind = 0 if student is None else sum(each.numel() for each in student.body())
        return {"name": name, "parameters": behind, "speed": speed(model, self.texts), **scores}


def speed(model: Model, texts: Sequence[str]) -> int:
    """Texts a second that one thread embeds, by CPU time, the best of three rounds."""
    seconds = []
    for _ in range(3):
        start = time.process_time()
        model.encode(texts, threads=1, overflow="split")
        seconds.append(time.process_time() - start)
    return round(len(texts) / min(seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=12_000)
    parser.add_argument("--pairs", type=int, default=4_000)
    parser.add_argument("--only", help="This variant alone; the others stay.")
    parser.add_argument("--speeds", action="store_true", help="How fast each is alone; the rest stays.")
    given = parser.parse_args()
    trials = Trials(given.texts, given.pairs)
    if given.speeds:
        measure_speeds(trials)
        return
    lines = {line["name"]: line for line in json.loads(PATH.read_text())["lines"]} if given.only else {}

    def note(line: dict[str, Any]) -> None:
        lines[line["name"]] = line
        said = {"command": "python benchmarks/blocks.py", "texts": given.texts, "pairs": given.pairs}
        PATH.write_text(json.dumps({**said, "lines": [*lines.values()]}, indent=1) + "\n")
        print(line, flush=True)

    def asked(name: str) -> bool:
        return given.only in (None, name)

    if asked("the static model alone"):
        note(trials.judge("the static model alone", None, trials.body))
    base = cache(lambda: trials.student(trials.body, trials.how))
    for name, (body, how) in VARIANTS.items():
        if asked(name):
            shape = replace(trials.body, **body)
            student = trials.student(shape, replace(trials.how, **how)) if body or how else base()
            note(trials.judge(name, student, shape))
    for name, lessons, tasks in (("pairs", trials.pairs, 0.0), ("pairs and tasks", trials.with_tasks, 0.85)):
        if asked(name):
            student = deepcopy(base())
            train(student, lessons, trials.held_out, replace(trials.paired, tasks=tasks))
            note(trials.judge(name, student, trials.body))
            for task in ("sym", "qry") if tasks else ():
                note(trials.judge(f"{name}, all texts as {task}", student, trials.body, task))


def measure_speeds(trials: Trials) -> None:
    """Note how fast each kind of student is. Pairs and tasks change none."""
    report = json.loads(PATH.read_text())
    usual = next(iter(VARIANTS))
    for line in report["lines"]:
        if line["parameters"]:
            body = replace(trials.body, **VARIANTS.get(line["name"], VARIANTS[usual])[0])
            student = trials.new(body)
            line["speed"] = speed(to_model(student, trials.model, body), trials.texts)
        else:
            line["speed"] = speed(trials.model, trials.texts)
        print(line, flush=True)
    PATH.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()

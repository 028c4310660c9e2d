"""The stages that train: a distilled table -> a table that has learnt from targets, again from itself, and from pairs;
and a table in few bits -> the same, repaired."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from nestling.make.lessons import fitted_to, known_tokens, mean_rows, unit
from nestling.make.settings import Aim, Repairing, Training
from nestling.make.tables import CodedTable, FloatTable
from nestling.make.train import Lessons, train
from nestling.model.rows import CentroidRows, FloatRows, ProductRows, Table
from nestling.model.static import StaticModel
from nestling.shrink.codebook import assign_words
from nestling.shrink.dims import tiers_of

Floats = npt.NDArray[np.float32]


def learn(
    rows: Floats, lessons: Lessons, held_out: Lessons, how: Training, device: str = "cpu", progress: bool = False
) -> Floats:
    """Rows trained on lessons; of several seeds the mean, which is exact, a text's vector being linear in the rows."""
    runs = []
    for run in range(how.seeds):
        student = FloatTable(rows)
        train(student, lessons, held_out, replace(how, seed=how.seed + run), device, progress)
        runs.append(student.rows())
    soup: Floats = np.mean(runs, axis=0, dtype=np.float32)
    return soup


def learn_from_targets(
    model: StaticModel,
    lessons: Lessons,
    held_out: Lessons,
    aim: Aim,
    how: Training,
    device: str = "cpu",
    progress: bool = False,
) -> StaticModel:
    """From a distilled model: its rows, brought near the targets by one linear map, then trained."""
    start = fitted_to(model.table.expanded(), lessons, aim.sample)
    return _with_rows(model, learn(start, replace(lessons, pairs=None), held_out, how, device, progress))


def learn_again(
    model: StaticModel,
    trained: StaticModel,
    lessons: Lessons,
    held_out: Lessons,
    aim: Aim,
    how: Training,
    device: str = "cpu",
    progress: bool = False,
) -> StaticModel:
    """Born again: a fresh start, the trained student's own vectors for targets, or a mixture with its teacher's."""
    rows = trained.table.expanded()

    def mixed(each: Lessons) -> Lessons:
        own = unit(mean_rows(rows, each.tokens))
        aims = unit(each.targets.astype(np.float32))
        return replace(each, targets=(how.own * own + (1 - how.own) * aims).astype(np.float16), pairs=None)

    start = fitted_to(model.table.expanded(), lessons, aim.sample)
    return _with_rows(model, learn(start, mixed(lessons), mixed(held_out), how, device, progress))


def tune_on_pairs(
    model: StaticModel,
    lessons: Lessons,
    held_out: Lessons,
    how: Training,
    device: str = "cpu",
    progress: bool = False,
) -> StaticModel:
    """What belongs together comes together, while the losses of distillation, in `how`, keep the rest in its place."""
    return _with_rows(model, learn(model.table.expanded(), lessons, held_out, how, device, progress))


def repair(
    model: StaticModel,
    full: StaticModel,
    texts: Sequence[str],
    lessons: Lessons,
    held_out: tuple[Sequence[str], Lessons],
    how: Training,
    rounds: Repairing,
    device: str = "cpu",
    progress: bool = False,
) -> StaticModel:
    """A model in code books, whose words, exact rows and weights learn what coding took away.

    Plain rows have nothing to repair, and stay as they are.

    full: the float model that it was coded from. texts: those of `lessons`, since fewer tokens cut them otherwise.
    Between rounds each token's code is chosen anew.
    """
    if not isinstance(model.table.rows, (ProductRows, CentroidRows)):
        return model
    mine = replace(lessons, tokens=known_tokens(model, texts), pairs=None)
    judged = replace(held_out[1], tokens=known_tokens(model, held_out[0]))
    place = {piece: index for index, piece in enumerate(full.tokenizer.pieces)}
    rows = full.table.expanded()[[place[piece] for piece in model.tokenizer.pieces], : model.dim]
    how = replace(how, dims=tuple(dim for dim in how.dims if dim < model.dim))
    table = model.table
    for number in range(rounds.rounds):
        if number:
            table = assign_words(table, rows)
        student = CodedTable(table)
        train(student, mine, judged, replace(how, seed=how.seed + number), device, progress)
        table = student.table()
    return model.with_table(table)


def _with_rows(model: StaticModel, rows: Floats) -> StaticModel:
    return model.with_table(Table(FloatRows(rows)), dims=tiers_of(rows.shape[1]))

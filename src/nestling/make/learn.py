"""The stages that train: a distilled table -> a table that has learnt from targets, again from itself, and from pairs;
and a table in few bits -> the same, repaired."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from nestling.make.lessons import bags, fitted_to, mean_rows
from nestling.make.settings import Aim, Repairing, Training
from nestling.make.tables import CodedTable, FloatTable
from nestling.make.train import Lessons, train
from nestling.model.output import unit
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
    own: Floats | None = None,
    trained: StaticModel | None = None,
) -> StaticModel:
    """From a distilled model: its rows, brought near the targets by one linear map, then trained.

    trained: a model that has learnt before; tokens that it knows too start as its rows, not as the distilled ones.
    own: rows that have learnt before, (n, dim). The student is then born again: from the same start, with what these
    say of the texts as targets, or a mixture with the teacher's.
    """
    start = fitted_to(model.table.expanded(), lessons, aim.sample)
    if trained is not None:
        start = _carried_over(start, model, trained, lessons, aim.sample)
    lessons = replace(lessons, pairs=None)
    if own is not None:
        lessons, held_out = (_mixed(each, own, how.own) for each in (lessons, held_out))
    return _with_rows(model, learn(start, lessons, held_out, how, device, progress))


def _carried_over(start: Floats, model: StaticModel, trained: StaticModel, lessons: Lessons, sample: int) -> Floats:
    """Rows to start from, (n, dim), those of tokens that a trained model has replaced by its, near the targets too."""
    place = {piece: index for index, piece in enumerate(trained.tokenizer.pieces)}
    shared = [index for index, piece in enumerate(model.tokenizer.pieces) if piece in place]
    rows = np.zeros((len(start), trained.dim), np.float32)
    rows[shared] = trained.table.expanded()[[place[model.tokenizer.pieces[index]] for index in shared]]
    carried = start.copy()
    carried[shared] = fitted_to(rows, lessons, sample)[shared]
    return carried


def _mixed(lessons: Lessons, rows: Floats, share: float) -> Lessons:
    """The same texts, with this share of the vectors that `rows` give them in their targets."""
    own, aims = unit(mean_rows(rows, lessons.tokens)), unit(lessons.targets.astype(np.float32))
    return replace(lessons, targets=(share * own + (1 - share) * aims).astype(np.float16))


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
    mine = replace(lessons, tokens=bags(model, texts), pairs=lessons.pairs if how.pairs else None)
    judged = replace(held_out[1], tokens=bags(model, held_out[0]))
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

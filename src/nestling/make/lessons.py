"""Lessons: the texts of a corpus with what a student is to make of them, from the cached vectors of its teachers.

Each teacher gives one or two views of a text: its sentence vector, the mean of its token vectors. A view is centred,
since what all texts share says nothing, and brought to unit length, so that a teacher with narrow cosines has as much
say as one with wide ones. The views are put side by side and turned onto their main axes, softly whitened: each prefix
of the dims is a target too.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from nestling.make.ridge import ridge
from nestling.make.settings import TASKS, Aim, Pooling
from nestling.make.targets import Targets
from nestling.make.train import Bags, Lessons, take
from nestling.model.output import unit
from nestling.model.pool import repeat_weights
from nestling.model.static import StaticModel
from nestling.shrink.dims import main_axes
from nestling.shrink.kmeans import assign, kmeans

Floats = npt.NDArray[np.float32]
View = tuple[Targets, Pooling]
AT_ONCE = 65_536  # targets put together
TEXTS_AT_ONCE = 2048  # pooled
RIDGE = 1e-3  # beside the mean power of the rows of texts
GROUP_COLUMNS = 64  # on which texts are grouped
GROUP_SAMPLE = 60_000


@dataclass(frozen=True)
class Axes:
    """What brings views of a text onto its target. means: of the views; turn: (dims of all views, dim)."""

    means: list[Floats]
    turn: Floats

    @classmethod
    def of(cls, views: Sequence[View], sample: Sequence[str], how: Aim) -> "Axes":
        """Main axes of the views of some texts, softly whitened."""
        means = [unit(targets.gather(sample, pooling)).mean(axis=0) for targets, pooling in views]
        whole = _beside(views, means, sample)
        turn = main_axes((whole.T @ whole).astype(np.float64) / max(len(whole), 1), how.dim, whiten=how.whiten)
        return cls(means, turn)

    def targets(self, views: Sequence[View], texts: Sequence[str]) -> npt.NDArray[np.float16]:
        """The targets of texts: (n, dim), unit length."""
        aims = np.empty((len(texts), self.turn.shape[1]), np.float16)
        for start in range(0, len(texts), AT_ONCE):
            aims[start : start + AT_ONCE] = unit(_beside(views, self.means, texts[start : start + AT_ONCE]) @ self.turn)
        return aims


def _beside(views: Sequence[View], means: Sequence[Floats], texts: Sequence[str]) -> Floats:
    """The views of the texts, each centred and at unit length, side by side: (n, dims of all)."""
    parts = zip(views, means, strict=True)
    return np.concatenate([unit(unit(targets.gather(texts, pooling)) - mean) for (targets, pooling), mean in parts], 1)


def make_lessons(
    model: StaticModel,
    views: Sequence[View],
    axes: Axes,
    texts: Sequence[str],
    pairs: npt.NDArray[np.int64] | None,
    how: Aim,
) -> Lessons:
    """Tokens by the model's tokenizer and targets by the views, which must be filled: float16 (n, dim), unit length."""
    aims = axes.targets(views, texts)
    return Lessons(bags(model, texts), aims, pairs, group(aims, how.groups) if how.groups else None)


def split(whole: Lessons, held_out: int) -> tuple[Lessons, Lessons]:
    """Lessons to learn from, and those of the first texts, which are held out."""
    tokens, groups = whole.tokens, None if whole.groups is None else whole.groups[held_out:]
    learnt = Lessons(tokens.span(held_out, len(tokens.lengths)), whole.targets[held_out:], whole.pairs, groups)
    return learnt, Lessons(tokens.span(0, held_out), whole.targets[:held_out])


def with_tasks(lessons: Lessons, asked: Floats | npt.NDArray[np.float16], rows: int) -> Lessons:
    """Lessons whose texts know their task: those that ask, anchors of pairs, and those that are asked for come once
    more, as such, and the pairs are pairs of these.

    asked: (anchors, dim) the targets of the anchors, in the order of their places. rows: of the table, before those of
    the tasks (student.py).
    """
    assert lessons.pairs is not None, "tasks are those of pairs"
    ask, anchors = np.unique(lessons.pairs[:, 0], return_inverse=True)
    answer, positives = np.unique(lessons.pairs[:, 1], return_inverse=True)
    texts = len(lessons.tokens.lengths)
    parts = [take(lessons.tokens, places) for places in (np.arange(texts), ask, answer)]
    lengths = np.concatenate([np.diff(offsets) for _, offsets, _ in parts])
    tokens = Bags(
        np.concatenate([ids.astype(lessons.tokens.ids.dtype) for ids, _, _ in parts]),
        np.concatenate([[0], np.cumsum(lengths)]),
        np.concatenate([weights for _, _, weights in parts]),
    )
    groups = lessons.groups
    query, document, alike = (rows + TASKS.index(task) for task in ("QRY", "DOC", "SYM"))
    return replace(
        lessons,
        tokens=tokens,
        targets=np.concatenate([lessons.targets, asked, lessons.targets[answer]]),
        pairs=np.stack([texts + anchors, texts + len(ask) + positives], axis=1),
        groups=None if groups is None else np.concatenate([groups, groups[ask], groups[answer]]),
        tasks=np.repeat([alike, query, document], [texts, len(ask), len(answer)]),
    )


def bags(model: StaticModel, texts: Sequence[str]) -> Bags:
    """The tokens of the texts that the model pools, without the unknown one and others that it drops, weighed as its
    pooling does."""
    tokens = model.tokenizer.encode(list(texts))
    known = ~np.isin(tokens.ids, model.document.drop)
    ids, offsets = tokens.ids[known], np.concatenate([[0], np.cumsum(known)])[tokens.offsets]
    weights = repeat_weights(ids, offsets) if model.document.sublinear else np.ones(len(ids), np.float32)
    return Bags(ids, offsets, weights)


def group(aims: npt.NDArray[np.float16], groups: int, seed: int = 0) -> npt.NDArray[np.int64]:
    """A number for each text, the same for texts whose targets are alike: (n, d) -> (n,)."""
    columns = aims[:, :GROUP_COLUMNS].astype(np.float32)
    chosen = columns[:GROUP_SAMPLE]
    centres, _ = kmeans(chosen, np.ones(len(chosen)), groups, rounds=8, seed=seed)
    return assign(columns, centres)[0]


def fitted_to(rows: Floats, lessons: Lessons, sample: int) -> Floats:
    """Rows times the linear map that brings the mean rows of texts nearest to their targets: (n, d) -> (n, dim).

    Since a text's vector is linear in the rows, this is the best start that needs no training; a ridge regression over
    the first `sample` texts.
    """
    texts = min(sample, len(lessons.tokens.lengths))
    means = unit(mean_rows(rows, lessons.tokens.span(0, texts)))
    moment = (means.T @ means).astype(np.float64)
    shared = (means.T @ lessons.targets[:texts].astype(np.float32)).astype(np.float64)
    fitted: Floats = (rows @ ridge(moment, shared, RIDGE)).astype(np.float32)
    return fitted


def mean_rows(rows: Floats, tokens: Bags) -> Floats:
    """The mean rows of texts, weighted: (texts, d) float32; zeros for a text without a token."""
    means = np.zeros((len(tokens.lengths), rows.shape[1]), np.float32)
    full = np.flatnonzero(tokens.lengths)
    for part in np.array_split(full, max(len(full) // TEXTS_AT_ONCE, 1)) if len(full) else ():
        first, last = tokens.offsets[part[0]], tokens.offsets[part[-1] + 1]
        weighted = rows[tokens.ids[first:last]] * tokens.weights[first:last, None]
        sums = np.add.reduceat(weighted, tokens.offsets[part] - first)
        means[part] = sums / tokens.lengths[part, None]
    return means

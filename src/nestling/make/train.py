"""Training: a student's rows, moved so that a text's vector tells what its teacher's tells.

A step takes texts (and pairs of texts that belong together, if there are any), pools their rows, and compares with
targets that were cached before. One fused Adam: a million sentences take a few minutes on two cores.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from tqdm import tqdm

from nestling.make import losses
from nestling.make.checkpoint import TrainingRun
from nestling.make.settings import Training
from nestling.make.student import Student
from nestling.text.tokens import Tokens

Array = npt.NDArray[Any]
Watch = Callable[[nn.Module], dict[str, float]]


@dataclass(frozen=True)
class Bags(Tokens):
    """Texts as a static model sees them: their tokens, and what each weighs. weights: (total,) float32."""

    weights: npt.NDArray[np.float32]

    def span(self, first: int, last: int) -> "Bags":
        """Texts first to last, last left out."""
        start, stop = self.offsets[first], self.offsets[last]
        return Bags(self.ids[start:stop], self.offsets[first : last + 1] - start, self.weights[start:stop])


@dataclass(frozen=True)
class Lessons:
    """What is learnt from: texts, and what their vectors are to be.

    tokens: of n texts. targets: (n, D) float16 or float32, the teacher's vectors of them, main axes first; unit length
    is not needed. pairs: (m, 2) places of texts that belong together. groups: (n,) a number for each text, the same for
    those that are alike, which then come together in a step. tasks: (n,) the id that goes before each text, for a
    student that knows tasks.
    """

    tokens: Bags
    targets: Array
    pairs: npt.NDArray[np.int64] | None = None
    groups: npt.NDArray[np.int64] | None = None
    tasks: npt.NDArray[np.int64] | None = None


def train(
    student: nn.Module,
    lessons: Lessons,
    held_out: Lessons,
    how: Training,
    device: str = "cpu",
    progress: bool = False,
    *,
    keep: Path | None = None,
    watch: Watch = lambda _: {},
) -> list[dict[str, float]]:
    """Train a student (tables.py, student.py), which is left as it was when its held-out loss was least; or, since that
    loss knows nothing of pairs and can only rise where they count, as it was at the end.

    keep: a file where the run is saved at each check, so that it goes on there when it was killed; beside it its log,
    as JSON. watch: more figures of the student, for the log.

    Returns, per check, the step, the mean loss since the last one, the held-out loss, and what `watch` says. The same
    inputs and seed give the same student on one machine with as many threads.
    """
    student.to(device)
    kept = deepcopy(student) if how.ema else student
    optimizer = torch.optim.Adam(_groups(student, how), fused=True)
    rates = [group["lr"] for group in optimizer.param_groups]
    units = len(lessons.tokens.lengths) if lessons.pairs is None else len(lessons.pairs)
    steps = max(int(how.epochs * units / how.batch), 1)
    every = max(steps // how.checks, 1)
    run = TrainingRun(student, kept, optimizer, keep)
    recent: list[float] = []
    last = run.step if run.waited >= how.patience else steps
    batches = islice(enumerate(_batches(lessons, units, how), 1), run.step, last)
    with (
        _in_order(device),
        _compiled(student, how),
        tqdm(total=steps, initial=run.step, desc="train", unit="step", disable=not progress) as bar,
    ):
        for step, batch in batches:
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * min(20 * step / steps, (steps - step + 1) / (0.95 * steps), 1.0)
            loss = _loss(student, lessons, *batch, how, np.random.default_rng((how.seed, step)))
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            if kept is not student:
                _average(kept, student, max(1 - how.ema, 1 / (step + 1)))
            recent.append(loss.item())
            bar.update()
            if step % every == 0 or step == steps:
                judged = _held_out_loss(kept, held_out, how)
                figures = {"step": step, "loss": float(np.mean(recent)), "held_out": judged, **watch(kept)}
                run.check(figures, best_counts=lessons.pairs is None)
                bar.set_postfix(run.log[-1])
                recent = []
                if run.waited >= how.patience:
                    break
    student.load_state_dict(run.best)
    return run.log


@contextmanager
def _in_order(device: str) -> Iterator[None]:
    """Within it, torch adds up in one order, where it can; else sums over code words come in any."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=device != "cpu")
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


@contextmanager
def _compiled(student: nn.Module, how: Training) -> Iterator[None]:
    """Within it, torch compiles what stands behind the table of a transformer, if `how` says so."""
    if not (how.compiled and isinstance(student, Student)):
        yield
        return
    student.through = torch.compile(student.through, dynamic=True)  # type: ignore[method-assign]
    try:
        yield
    finally:
        del student.through


def _groups(student: nn.Module, how: Training) -> list[dict[str, Any]]:
    """Rows of a table learn at `rate`, with a large epsilon, or not at all; what all texts go through, at `body_rate`,
    with Adam's."""
    if not isinstance(student, Student):
        return [{"params": [*student.parameters()], "lr": how.rate, "eps": how.epsilon}]
    groups: list[dict[str, Any]] = [{"params": [*student.body()], "lr": how.body_rate, "eps": 1e-8}]
    student.directions.requires_grad_(how.rate > 0)
    return [*groups, {"params": [student.directions], "lr": how.rate, "eps": how.epsilon}] if how.rate else groups


@torch.no_grad()
def _average(kept: nn.Module, student: nn.Module, share: float) -> None:
    """Move the parameters of `kept` by this share of the way to the student's."""
    for mine, its in zip(kept.parameters(), student.parameters(), strict=True):
        mine.lerp_(its, share)


def _batches(lessons: Lessons, units: int, how: Training) -> Iterator[tuple[npt.NDArray[np.int64], int]]:
    """Places of texts, and how many of them, counted from the first, are the anchors of as many that follow."""
    random, texts = np.random.default_rng(how.seed), len(lessons.tokens.lengths)
    while True:
        order = _shuffled(random, units, lessons.groups if lessons.pairs is None else None, how.near)
        for start in range(0, max(units - how.batch + 1, 1), how.batch):
            chosen = order[start : start + how.batch]
            if lessons.pairs is None:
                yield chosen, 0
            else:
                sides = lessons.pairs[chosen]
                yield np.concatenate([sides[:, 0], sides[:, 1], random.integers(0, texts, len(chosen))]), len(chosen)


def _shuffled(
    random: np.random.Generator, units: int, groups: npt.NDArray[np.int64] | None, near: int
) -> npt.NDArray[np.int64]:
    """A random order, in which texts of one group come `near` at a time."""
    order = random.permutation(units)
    if groups is None or near < 2:
        return order
    order = order[np.argsort(groups[order], kind="stable")]
    parts = np.array_split(order, range(near, units, near))
    return np.concatenate([parts[place] for place in random.permutation(len(parts))])


def _loss(
    student: nn.Module, lessons: Lessons, places: Array, anchors: int, how: Training, random: np.random.Generator | None
) -> Tensor:
    device = next(student.parameters()).device
    heads = None
    if lessons.tasks is not None and how.tasks and random is not None:
        heads = np.where(random.random(len(places)) < how.tasks, lessons.tasks[places], -1)
    x = pool(student, lessons.tokens, places, how.longest, how.dropout if random else 0.0, random, heads)
    y = normalize(torch.from_numpy(np.ascontiguousarray(lessons.targets[places], np.float32)).to(device))
    loss = distillation(how)(x, y)
    if anchors:
        left, right = y[:anchors], y[anchors : 2 * anchors]
        near = left @ right.T
        keep = near < near.diagonal()[:, None] - how.margin
        between: losses.Loss = partial(losses.contrastive, temperature=how.pair_temperature, keep=keep)
        between = losses.matryoshka(between, how.dims, how.prefixes)
        loss = loss + how.pairs * between(x[:anchors], x[anchors : 2 * anchors])
    return loss


def distillation(how: Training) -> losses.Loss:
    """The weighted sum of the losses that `how` asks for, over all its dims."""
    named: dict[str, losses.Loss] = {
        "cosine": losses.cosine,
        "mse": losses.mse,
        "contrastive": partial(losses.contrastive, temperature=how.temperature),
        "relational": partial(losses.relational, temperature=how.temperature),
    }
    terms = [(getattr(how, name), loss) for name, loss in named.items() if getattr(how, name)]

    def summed(x: Tensor, y: Tensor) -> Tensor:
        nested = [weight * losses.matryoshka(loss, how.dims, how.prefixes)(x, y) for weight, loss in terms]
        return torch.stack(nested).sum() if nested else x.sum() * 0

    return summed


def pool(
    student: nn.Module,
    tokens: Bags,
    places: Array,
    longest: int = 0,
    dropout: float = 0.0,
    random: np.random.Generator | None = None,
    heads: npt.NDArray[np.int64] | None = None,
) -> Tensor:
    """The mean rows of the texts at `places`: (n, d). dropout: share of tokens left out, drawn from `random`. heads:
    (n,) the ids that go before the texts, -1 for none."""
    ids, offsets, weights = take(tokens, places, longest)
    if dropout and random is not None:
        kept = random.random(len(ids)) >= dropout
        offsets = np.concatenate([[0], np.cumsum(kept)])[offsets]
        ids, weights = ids[kept], weights[kept]
    if heads is not None:
        ids, offsets, weights = _headed(ids, offsets, weights, heads)
    device = next(student.parameters()).device
    with torch.autocast(device.type, torch.bfloat16, enabled=isinstance(student, Student) and in_halves(device.type)):
        sums: Tensor = student(*(torch.from_numpy(each).to(device) for each in (ids, offsets[:-1], weights)))
    return sums.float() / torch.from_numpy(np.maximum(np.diff(offsets), 1)).to(device)[:, None]


@cache
def in_halves(device: str) -> bool:
    """Whether the machine multiplies bfloat16 by itself; one that does not takes ten times as long as for float32."""
    able: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return device != "cpu" or any(has for name, has in able.items() if name.endswith("bf16"))


def take(
    tokens: Bags, places: Array, longest: int = 0
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Of the texts at `places` the ids, end to end, their offsets and their weights: (total,), (n + 1,), (total,).
    longest: of each, that many tokens at most; 0 for all."""
    starts, lengths = tokens.offsets[places], tokens.lengths[places]
    if longest:
        lengths = np.minimum(lengths, longest)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
    chosen = np.repeat(starts, lengths) + within
    return tokens.ids[chosen].astype(np.int64), offsets, tokens.weights[chosen]


def _headed(
    ids: npt.NDArray[np.int64], offsets: npt.NDArray[np.int64], weights: npt.NDArray[np.float32], heads: Array
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Texts, end to end, with an id more before those that have one."""
    chosen = heads >= 0
    starts = offsets[:-1][chosen]
    shifts = np.concatenate([[0], np.cumsum(chosen)])
    return np.insert(ids, starts, heads[chosen]), offsets + shifts, np.insert(weights, starts, np.float32(1))


@torch.no_grad()
def _held_out_loss(student: nn.Module, held_out: Lessons, how: Training) -> float:
    """Distillation loss over the held-out texts, in batches as in training: what is left behind the last whole one
    does not count, unless it is all there is."""
    texts = len(held_out.tokens.lengths)
    starts = range(0, max(texts - how.batch + 1, 1), how.batch)
    spans = [np.arange(start, min(start + how.batch, texts)) for start in starts]
    return float(torch.stack([_loss(student, held_out, span, 0, how, None) for span in spans]).mean())

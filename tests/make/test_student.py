"""The small transformer: it starts as a static model, counts as the published ones, and learns what order says."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from nestling.make.settings import Training
from nestling.make.student import SIZES, Size, Student, main_columns, positions, rotate
from nestling.make.train import Bags, Lessons, pool, take, train
from nestling.model.output import unit
from tests.students import woken

Floats = npt.NDArray[np.float32]
SMALL = Size(rows=60, inner=32, dim=48, layers=2, head=16)
PUBLISHED = {"micro": 2_323_136, "mini": 3_511_744, "small": 8_596_352, "base": 13_318_016}


def texts_of(count: int, seed: int = 0, most: int = 12) -> Bags:
    random = np.random.default_rng(seed)
    lengths = random.integers(1, most, count)
    ids = random.integers(0, 57, lengths.sum()).astype(np.int32)
    return Bags(ids, np.concatenate([[0], np.cumsum(lengths)]), np.ones(len(ids), np.float32))


def vectors(student: Student, tokens: Bags, places: npt.NDArray[np.int64] | None = None, longest: int = 0) -> Floats:
    places = np.arange(len(tokens.lengths)) if places is None else places
    ids, offsets, weights = (torch.from_numpy(each) for each in take(tokens, places, longest))
    with torch.no_grad():
        found: Floats = student(ids, offsets[:-1], weights).numpy()
    return found


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_count_as_published(name: str) -> None:
    size = SIZES[name]
    student = Student(size)
    assert sum(each.numel() for each in student.parameters()) == size.parameters
    assert PUBLISHED[name] - size.parameters == size.dim + 512


def test_large_has_a_last_matrix() -> None:
    assert round(SIZES["large"].parameters / 1e6, 2) == 32.36
    student = Student(replace(SMALL, static=False, out=16))
    assert sum(each.numel() for each in student.parameters()) == student.size.parameters
    assert vectors(student, texts_of(3)).shape == (3, 16)


def test_without_the_static_path_a_norm_stands_before_the_mean() -> None:
    student = Student(replace(SMALL, static=False))
    assert sum(each.numel() for each in student.parameters()) == student.size.parameters
    one = Bags(np.array([4], np.int32), np.array([0, 1]), np.ones(1, np.float32))
    assert np.square(vectors(student, one)).mean() == pytest.approx(1, abs=1e-3)


def test_starts_as_the_static_model() -> None:
    rows = np.random.default_rng(0).standard_normal((57, 32)).astype(np.float32)
    rows[3] = 0
    student, tokens = Student(SMALL), texts_of(40)
    student.start_from(rows, np.ones(57))
    sums = np.add.reduceat(rows[tokens.ids], tokens.offsets[:-1])
    some = np.linalg.norm(sums, axis=1) > 0
    np.testing.assert_allclose(unit(vectors(student, tokens))[some], unit(sums)[some], atol=1e-5)
    assert np.isfinite(student.table()).all()
    tasks = np.linalg.norm(student.table()[57:], axis=1)
    assert ((tasks > 0.01) & (tasks < 0.2)).all()


def test_fewer_columns_are_nearest_where_tokens_are_frequent() -> None:
    rows = np.random.default_rng(0).standard_normal((50, 20)).astype(np.float32)
    counts = np.ones(50)
    counts[:8] = 1e6
    axes = main_columns(rows, counts, 8)
    lost = np.abs(rows @ axes @ axes.T - rows)
    assert lost[:8].max() < 0.05
    assert lost[8:].max() > 0.5
    assert np.array_equal(rows @ main_columns(rows, counts, 24), np.pad(rows, ((0, 0), (0, 4))))


def test_a_text_is_the_same_alone_and_in_any_batch() -> None:
    student, tokens = woken(SMALL, seed=5, std=0.4), texts_of(30, most=40)
    together = vectors(student, tokens)
    alone = np.concatenate([vectors(student, tokens, np.array([place])) for place in range(30)])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-4)
    backwards = vectors(student, tokens, np.arange(30)[::-1].copy())[::-1]
    np.testing.assert_allclose(together, backwards, rtol=1e-4, atol=1e-4)


def test_a_text_without_tokens_harms_nothing() -> None:
    student = woken(SMALL, seed=5, std=0.4)
    ids, starts = torch.tensor([4, 9, 11]), torch.tensor([0, 2, 2])  # the second text is empty
    sums = student(ids, starts, torch.ones(3))
    assert not sums[1].any()
    sums.square().sum().backward()  # type: ignore[no-untyped-call]
    assert all(torch.isfinite(each.grad).all() for each in student.parameters() if each.grad is not None)


def test_many_texts_go_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    student, tokens = woken(SMALL, seed=5, std=0.4), texts_of(60, most=30)
    whole = vectors(student, tokens)
    seen: list[Tensor] = []
    pooled = student.pooled
    monkeypatch.setattr("nestling.make.student.TOKENS_AT_ONCE", 64)
    monkeypatch.setattr(student, "pooled", lambda *given: (seen.append(given[-1]), pooled(*given))[1])
    np.testing.assert_allclose(vectors(student, tokens), whole, rtol=1e-4, atol=1e-4)
    assert len(seen) > 5
    assert all(len(lengths) * lengths.max() <= 64 for lengths in seen)


def test_order_counts_but_not_where_a_text_begins() -> None:
    student = woken(SMALL, seed=5, std=0.4)
    there, back = (np.array(ids, np.int32) for ids in ([5, 9, 2, 40], [40, 2, 9, 5]))
    both = Bags(np.concatenate([there, back]), np.array([0, 4, 8]), np.ones(8, np.float32))
    one, other = unit(vectors(student, both))
    assert one @ other < 0.999
    cosines, sines = positions(64, 16)
    queries, keys = torch.randn(2, 1, 1, 64, 16, generator=torch.Generator().manual_seed(0))
    queries[:], keys[:] = queries[:, :, :1], keys[:, :, :1]  # the same at every place
    scores = (rotate(queries, cosines, sines) @ rotate(keys, cosines, sines).transpose(-1, -2))[0, 0]
    for gap in (1, 7):  # depends on how far apart two places are, alone
        along = torch.diagonal(scores, gap)
        torch.testing.assert_close(along, along[:1].expand_as(along), rtol=1e-4, atol=1e-4)


def test_learns_what_no_bag_of_words_can_tell() -> None:
    """Targets that depend on which of two tokens comes first."""
    random = np.random.default_rng(3)
    first, second = random.integers(0, 20, 4000), random.integers(20, 40, 4000)
    turned = random.random(4000) < 0.5
    ids = np.where(turned[:, None], np.stack([second, first], 1), np.stack([first, second], 1)).astype(np.int32)
    tokens = Bags(ids.ravel(), np.arange(0, 8001, 2), np.ones(8000, np.float32))
    aims = np.eye(32, dtype=np.float16)[turned.astype(int)]
    lessons = Lessons(tokens.span(0, 3500), aims[:3500])
    held_out = Lessons(tokens.span(3500, 4000), aims[3500:])
    student = Student(SMALL)
    how = Training(epochs=24, batch=128, rate=5e-3, body_rate=5e-3, relational=0, checks=2)
    log = train(student, lessons, held_out, how)
    assert log[-1]["held_out"] < 0.05  # a bag of words has 0.29 at best
    assert student.directions.dtype == torch.float32


def test_a_step_looks_at_the_first_tokens_of_a_text() -> None:
    student, tokens = woken(SMALL, seed=5, std=0.4), texts_of(10, most=20)
    short = vectors(student, tokens, longest=3)
    cut = [
        tokens.ids[start : start + min(length, 3)]
        for start, length in zip(tokens.offsets, tokens.lengths, strict=False)
    ]
    lengths = [len(each) for each in cut]
    bags = Bags(np.concatenate(cut), np.concatenate([[0], np.cumsum(lengths)]), np.ones(sum(lengths), np.float32))
    np.testing.assert_allclose(short, vectors(student, bags), rtol=1e-4, atol=1e-4)
    means = pool(student, tokens, np.arange(10), longest=3)
    np.testing.assert_allclose(unit(means.detach().numpy()), unit(short), atol=0.05)  # in bfloat16

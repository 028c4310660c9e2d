"""Training: a table that a teacher's own table can be recovered from, in floats and in code books."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

import nestling.make.train as module
from nestling.errors import InputError
from nestling.files.parts import POOLINGS
from nestling.make.learn import learn, learn_from_targets, repair, tune_on_pairs
from nestling.make.lessons import bags, fitted_to, group, mean_rows, with_tasks
from nestling.make.settings import Aim, Repairing, Training
from nestling.make.tables import CodedTable, FloatTable
from nestling.make.train import Lessons, in_halves, pool, take, train
from nestling.model.output import unit
from nestling.model.rows import FloatRows, Table
from nestling.model.static import StaticModel
from nestling.shrink.codebook import assign_words, block_widths, to_centroids, to_products
from nestling.shrink.vocabulary import prune_vocabulary
from tests.conftest import model_of

Floats = npt.NDArray[np.float32]
HOW = Training(epochs=60, batch=64, rate=0.05, epsilon=1e-8, checks=4, patience=99)


@pytest.fixture(scope="module")
def model() -> StaticModel:
    return model_of("wordpiece")


@pytest.fixture
def lessons(model: StaticModel, sentences: list[str]) -> Lessons:
    """A hidden table's own vectors for targets."""
    tokens = bags(model, sentences[:600])
    hidden = np.random.default_rng(1).standard_normal((model.table.size, 16)).astype(np.float32)
    return Lessons(tokens, mean_rows(hidden, tokens).astype(np.float16))


@pytest.fixture
def held_out(model: StaticModel, lessons: Lessons, sentences: list[str]) -> Lessons:
    tokens = bags(model, sentences[600:])
    hidden = np.random.default_rng(1).standard_normal((model.table.size, 16)).astype(np.float32)
    return Lessons(tokens, mean_rows(hidden, tokens).astype(np.float16))


def agreement(rows: Floats, lessons: Lessons) -> float:
    return float((unit(mean_rows(rows, lessons.tokens)) * unit(lessons.targets.astype(np.float32))).sum(1).mean())


def test_tokens_are_taken_as_they_are(model: StaticModel, sentences: list[str]) -> None:
    tokens = bags(model, ["", *sentences[:20], "", ""])
    places = np.array([5, 0, 5, 21, 3])
    ids, offsets, weights = take(tokens, places)
    for place, first, last in zip(places, offsets, offsets[1:], strict=False):
        alone = tokens.span(place, place + 1)
        assert ids[first:last].tolist() == alone.ids.tolist()
        assert weights[first:last].tolist() == alone.weights.tolist()
    assert not np.isin(tokens.ids, model.document.drop).any()


class Seen(torch.nn.Module):
    """A student that keeps what it is given: ids, where texts start, weights."""

    def __init__(self) -> None:
        super().__init__()
        self.one = torch.nn.Parameter(torch.ones(1))

    def forward(self, *given: torch.Tensor) -> torch.Tensor:
        self.given = [each.tolist() for each in given]
        return torch.ones(len(given[1]), 2)


def test_a_share_of_tokens_is_left_out(model: StaticModel, sentences: list[str]) -> None:
    """That share, the others in their order, and the mean is over those that are left."""
    tokens, student = bags(model, sentences[:400]), Seen()
    random, places = np.random.default_rng(0), np.arange(400)
    means = pool(student, tokens, places, dropout=0.2, random=random)
    ids, starts, weights = student.given
    assert len(ids) == len(weights) == pytest.approx(0.8 * len(tokens.ids), rel=0.02)
    lengths = np.diff([*starts, len(ids)])
    for place, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        whole = iter(tokens.span(place, place + 1).ids.tolist())
        assert all(kept in whole for kept in ids[start : start + length])
    np.testing.assert_allclose(means[:, 0], 1 / np.maximum(lengths, 1), rtol=1e-6)


def test_what_is_nearer_than_its_own_is_no_negative(lessons: Lessons, model: StaticModel, sentences: list[str]) -> None:
    """By a margin: one that no text is beyond leaves nothing to tell apart, and all count behind one below zero."""
    student, places = FloatTable(model.table.expanded()), np.arange(96)
    paired = replace(lessons, pairs=np.arange(64).reshape(2, 32).T)

    def loss(**given: float) -> float:
        how = replace(HOW, pairs=1.0, cosine=0.0, relational=0.0, **given)  # type: ignore[arg-type]
        return module._loss(student, paired, places, 32, how, None).item()

    assert loss(margin=2.0) == pytest.approx(0.0, abs=1e-6)
    assert loss(margin=-2.0) > loss(margin=0.3) + 0.1 > 0.2


def test_a_task_goes_before_its_text(model: StaticModel, sentences: list[str]) -> None:
    tokens, student = bags(model, [sentences[0], "", sentences[1], ""]), Seen()
    pool(student, tokens, np.arange(4), heads=np.array([900, 901, -1, 902]))
    ids, starts, weights = student.given
    first, third = (tokens.span(place, place + 1).ids.tolist() for place in (0, 2))
    assert ids == [900, *first, 901, *third, 902]
    assert starts == [0, len(first) + 1, len(first) + 2, len(first) + 2 + len(third)]
    assert len(weights) == len(ids)


def test_pairs_come_with_their_tasks(model: StaticModel, lessons: Lessons) -> None:
    pairs = np.array([[4, 7], [2, 7], [4, 9], [7, 4]])
    asked = np.stack([np.full(16, place, np.float16) for place in (2, 4, 7)])
    groups = np.arange(600) % 7
    whole = with_tasks(replace(lessons, pairs=pairs, groups=groups), asked, 1000)
    assert whole.pairs is not None
    assert whole.tasks is not None
    assert len(whole.tokens.lengths) == len(whole.targets) == len(whole.tasks) == 600 + 3 + 3
    assert whole.tasks[whole.pairs].tolist() == [[1000, 1001]] * 4
    assert set(whole.tasks[:600]) == {1002}
    assert whole.groups is not None
    assert np.array_equal(whole.groups[:600], groups)
    assert np.array_equal(whole.groups[whole.pairs], groups[pairs])
    assert with_tasks(replace(lessons, pairs=pairs), asked, 1000).groups is None
    for (one, other), (anchor, positive) in zip(pairs, whole.pairs, strict=True):
        assert (whole.targets[anchor] == one).all()
        assert (whole.targets[positive] == lessons.targets[other]).all()
        for before, after in ((one, anchor), (other, positive)):
            assert np.array_equal(lessons.tokens.span(before, before + 1).ids, whole.tokens.span(after, after + 1).ids)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_float_table_pools_as_the_model_does(pooling: str, model: StaticModel, sentences: list[str]) -> None:
    model = model.with_pooling(pooling)
    texts = [*sentences[:30], " ".join(sentences[:5]), ""]
    tokens = bags(model, texts)
    student = FloatTable(model.table.expanded())
    with torch.no_grad():
        pooled = pool(student, tokens, np.arange(len(texts))).numpy()
    np.testing.assert_allclose(unit(pooled), model.encode(texts), atol=1e-6)
    np.testing.assert_allclose(unit(mean_rows(model.table.expanded(), tokens)), model.encode(texts), atol=1e-6)
    ratio = student.rows() / model.table.expanded()
    assert ratio.std() < 1e-6 * ratio.mean() + 1e-6


@pytest.mark.parametrize("form", ["product", "uneven", "exact", "centroids"])
def test_a_coded_table_pools_as_its_table_does(model: StaticModel, sentences: list[str], form: str) -> None:
    rows, counts = model.table.expanded(), model.counts
    assert counts is not None
    tables = {
        "product": lambda: to_products(rows, counts, (4, 4, 8)),
        "uneven": lambda: to_products(rows, counts, (3, 3, 3, 7)),
        "exact": lambda: to_products(rows, counts, block_widths(16, 8), exact=20),
        "centroids": lambda: to_centroids(rows, counts, 50),
    }
    table = tables[form]()
    student = CodedTable(table)
    with torch.no_grad():
        decoded = student.decode(torch.arange(model.table.size)).numpy() * student.weights.numpy()[:, None]
    mine = table.expanded()
    np.testing.assert_allclose(decoded / np.linalg.norm(decoded), mine / np.linalg.norm(mine), atol=1e-6)
    again = student.table()
    coded = model.with_table(again).encode(sentences)
    assert (coded * model.with_table(table).encode(sentences)).sum(1).min() > 0.999
    assert again.rows.scheme == table.rows.scheme
    assert {name: tensor.shape for name, tensor in again.tensors().items()} == {
        name: tensor.shape for name, tensor in table.tensors().items()
    }


def test_training_recovers_a_hidden_table(lessons: Lessons, held_out: Lessons, model: StaticModel) -> None:
    start = model.table.expanded()
    before = agreement(start, held_out)
    trained = learn(start, lessons, held_out, HOW)
    assert before < 0.3
    assert agreement(trained, held_out) > 0.9


def test_the_best_check_is_kept_and_patience_ends_it(
    lessons: Lessons, held_out: Lessons, model: StaticModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = FloatTable(model.table.expanded())
    states, measure = [], module._held_out_loss
    falling = iter([5.0, 3.0, 4.0, 2.0, 6.0, 7.0, 1.0])

    def scripted(each: FloatTable, *rest: object) -> float:
        states.append(each.rows())
        return next(falling)

    monkeypatch.setattr(module, "_held_out_loss", scripted)
    log = train(student, lessons, held_out, replace(HOW, epochs=10, checks=10, patience=2))
    assert [entry["held_out"] for entry in log] == [5.0, 3.0, 4.0, 2.0, 6.0, 7.0]
    assert np.array_equal(student.rows(), states[3])
    assert not np.array_equal(student.rows(), states[5])
    assert measure(student, held_out, HOW) > 0


def test_patience_that_ended_a_run_ends_it_again(
    lessons: Lessons, held_out: Lessons, model: StaticModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One that was killed before its student was saved takes no more steps."""
    rising = iter([1.0, 2.0, 3.0])
    monkeypatch.setattr(module, "_held_out_loss", lambda *_: next(rising))
    how, keep = replace(HOW, epochs=10, checks=10, patience=2), tmp_path / "run.safetensors"
    first, again = FloatTable(model.table.expanded()), FloatTable(model.table.expanded())
    log = train(first, lessons, held_out, how, keep=keep)
    assert len(log) == 3
    assert train(again, lessons, held_out, how, keep=keep) == log
    assert np.array_equal(again.rows(), first.rows())


def test_a_loss_that_is_no_number_is_told(lessons: Lessons, held_out: Lessons, model: StaticModel) -> None:
    """Else the student would be left as it was before it learnt, and nothing said."""
    student = FloatTable(model.table.expanded())
    lost = replace(held_out, targets=np.full_like(held_out.targets, np.nan))
    with pytest.raises(InputError, match=r"The held-out loss is nan at step \d+\. .* Lower the rates"):
        train(student, lessons, lost, HOW)


@pytest.mark.parametrize("strict", [True, False])
def test_torch_is_left_as_it_was(lessons: Lessons, held_out: Lessons, model: StaticModel, strict: bool) -> None:
    before, seen = torch.are_deterministic_algorithms_enabled(), list[bool]()

    def look(_: torch.nn.Module) -> dict[str, float]:
        seen.append(torch.are_deterministic_algorithms_enabled())
        return {}

    torch.use_deterministic_algorithms(strict)
    try:
        train(FloatTable(model.table.expanded()), lessons, held_out, replace(HOW, epochs=1), watch=look)
        assert torch.are_deterministic_algorithms_enabled() is strict
    finally:
        torch.use_deterministic_algorithms(before)
    assert set(seen) == {True}


def test_where_pairs_count_the_last_check_is_kept(
    lessons: Lessons, held_out: Lessons, model: StaticModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The held-out loss knows nothing of them, and can only rise."""
    student = FloatTable(model.table.expanded())
    states: list[Floats] = []

    def rising(each: FloatTable, *rest: object) -> float:
        states.append(each.rows())
        return float(len(states))

    monkeypatch.setattr(module, "_held_out_loss", rising)
    paired = replace(lessons, pairs=np.arange(400).reshape(-1, 2))
    log = train(student, paired, held_out, replace(HOW, epochs=10, pairs=1.0, checks=5, patience=1))
    assert len(log) == len(states) > 4
    assert np.array_equal(student.rows(), states[-1])
    assert not np.array_equal(student.rows(), states[0])


def test_the_same_seed_gives_the_same_table(lessons: Lessons, held_out: Lessons, model: StaticModel) -> None:
    how = replace(HOW, epochs=2, dropout=0.2, dims=(8, 4), ema=0.9)
    first, same, other = (
        learn(model.table.expanded(), lessons, held_out, replace(how, seed=seed)) for seed in (0, 0, 1)
    )
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)
    soup = learn(model.table.expanded(), lessons, held_out, replace(how, seeds=2))
    np.testing.assert_allclose(soup, (first + other) / 2, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "losses",
    [
        {"cosine": 1.0, "relational": 0.0}, {"cosine": 0.0, "relational": 1.0}, {"contrastive": 1.0, "cosine": 0.0},
        {"mse": 1.0, "cosine": 0.0, "relational": 0.0},
    ],
    ids=["cosine", "relational", "contrastive", "mse"],
)  # fmt: skip
def test_each_loss_teaches(losses: dict[str, float], lessons: Lessons, held_out: Lessons, model: StaticModel) -> None:
    student = FloatTable(model.table.expanded())
    log = train(student, lessons, held_out, replace(HOW, epochs=4, **losses))  # type: ignore[arg-type]
    assert log[-1]["held_out"] < log[0]["held_out"]


def test_prefixes_are_taught(lessons: Lessons, held_out: Lessons, model: StaticModel) -> None:
    start = model.table.expanded()
    nested = learn(start, lessons, held_out, replace(HOW, dims=(4,), relational=0.0))
    plain = learn(start, lessons, held_out, replace(HOW, relational=0.0))
    cut = replace(held_out, targets=held_out.targets[:, :4])
    assert agreement(nested[:, :4], cut) > agreement(plain[:, :4], cut) - 0.02
    assert agreement(nested[:, :4], cut) > 0.8


def test_pairs_come_together(lessons: Lessons, held_out: Lessons, model: StaticModel) -> None:
    sides = np.random.default_rng(2).permutation(600)[:400].reshape(-1, 2)
    paired = replace(lessons, pairs=sides)

    def nearness(rows: Floats) -> float:
        vectors = unit(mean_rows(rows, lessons.tokens))
        return float((vectors[sides[:, 0]] * vectors[sides[:, 1]]).sum(1).mean())

    trained = model.with_table(Table(FloatRows(learn(model.table.expanded(), lessons, held_out, HOW))))
    tuned = tune_on_pairs(trained, paired, held_out, replace(HOW, pairs=3.0, margin=-2.0, epochs=10, patience=99))
    kept = tune_on_pairs(trained, paired, held_out, replace(HOW, pairs=0.0, epochs=10, patience=99))
    assert nearness(tuned.table.expanded()) > nearness(kept.table.expanded()) + 0.05


def test_near_texts_come_together_in_a_step(lessons: Lessons) -> None:
    from nestling.make.train import _shuffled

    groups = group(lessons.targets, 10)
    assert groups.shape == (600,)
    order = _shuffled(np.random.default_rng(0), 600, groups, 8)
    assert sorted(order.tolist()) == list(range(600))
    together = (np.diff(groups[order]) == 0).mean()
    assert together > 0.7 > (np.diff(groups[_shuffled(np.random.default_rng(0), 600, None, 8)]) == 0).mean()


def test_the_linear_start(lessons: Lessons, held_out: Lessons, model: StaticModel) -> None:
    turned = np.linalg.qr(np.random.default_rng(3).standard_normal((16, 16)))[0].astype(np.float32)
    hidden = model.table.expanded() @ turned
    targets = mean_rows(hidden, lessons.tokens)
    start = fitted_to(model.table.expanded(), replace(lessons, targets=unit(targets).astype(np.float16)), 600)
    assert agreement(start, replace(lessons, targets=targets)) > 0.999


def test_from_targets_again_and_repaired(
    lessons: Lessons, held_out: Lessons, model: StaticModel, sentences: list[str]
) -> None:
    aim = Aim(dim=16)
    trained = learn_from_targets(model, lessons, held_out, aim, HOW)
    assert (trained.dim, trained.counts is not None) == (16, True)
    own = trained.table.expanded()
    how = replace(HOW, contrastive=1.0, relational=0.0)
    again = learn_from_targets(model, lessons, held_out, aim, how, own=own)
    mixed = learn_from_targets(model, lessons, held_out, aim, replace(HOW, own=0.5), own=own)
    for each in (trained, again, mixed):
        assert agreement(each.table.expanded(), held_out) > 0.85
    assert trained.counts is not None
    rows = trained.table.expanded()
    coded = trained.with_table(to_products(rows, trained.counts, (16,), rounds=1))
    judged = sentences[600:]
    mended = repair(
        coded,
        trained,
        sentences[:600],
        lessons,
        (judged, held_out),
        replace(HOW, epochs=20, rate=0.02),
        Repairing(rounds=2),
    )
    assert mended.table.rows.scheme == "product"
    assert len(mended.table.tensors()["codes"]) == len(coded.table.tensors()["codes"])
    aims = unit(held_out.targets.astype(np.float32))
    before, after = ((each.encode(judged) * aims).sum(1).mean() for each in (coded, mended))
    assert after > before + 0.01


def test_rows_of_a_trained_model_are_where_training_starts(
    lessons: Lessons, held_out: Lessons, model: StaticModel
) -> None:
    """On other axes, and with half of the tokens: those start as its rows on our axes, the others as they would."""
    aim, still = Aim(dim=16), replace(HOW, rate=0.0, epochs=0.1)
    plain = learn_from_targets(model, lessons, held_out, aim, still)
    trained = learn_from_targets(model, lessons, held_out, aim, replace(HOW, epochs=20))
    turned = np.linalg.qr(np.random.default_rng(3).standard_normal((16, 16)))[0].astype(np.float32)
    turned_rows = trained.table.expanded() @ turned
    whole = trained.with_table(Table(FloatRows(turned_rows)))
    known = prune_vocabulary(whole, model.table.size // 2)
    for before, least in ((whole, 0.0), (known, 0.3)):
        after = learn_from_targets(model, lessons, held_out, aim, still, trained=before)
        shared = np.isin(model.tokenizer.pieces, before.tokenizer.pieces)
        rows, ours = after.table.expanded(), plain.table.expanded()
        np.testing.assert_allclose(
            unit(rows[~shared]), unit(ours[~shared]), atol=1e-6
        )  # a table has a scale of its own
        assert np.abs(unit(rows[shared]) - unit(ours[shared])).max() > 1e-3
        assert agreement(rows, held_out) > agreement(ours, held_out) - least


def test_halves_are_for_machines_that_multiply_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for able, halves in (({}, False), ({"avx512_bf16": False}, False), ({"amx_bf16": True}, True)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: able, raising=False)
        assert in_halves.__wrapped__("cpu") is halves
    assert in_halves.__wrapped__("cuda")


def test_codes_are_assigned_to_the_nearest_words(model: StaticModel) -> None:
    rows, counts = model.table.expanded(), model.counts
    assert counts is not None
    for table in (to_products(rows, counts, (4, 4, 8), rounds=3), to_centroids(rows, counts, 40, rounds=3)):
        other = rows[np.random.default_rng(0).permutation(len(rows))]
        moved = assign_words(table, other)
        assert np.square(moved.expanded() - other).sum() < 0.8 * np.square(table.expanded() - other).sum()

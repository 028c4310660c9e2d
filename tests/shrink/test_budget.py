"""The best model within a budget: it fits, it is the best that was tried, and it comes out the same again."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import nestling.shrink.budget as module
from nestling.errors import InputError
from nestling.files.parts import Document, Parts
from nestling.model.load import load
from nestling.model.rows import Int8Rows, ProductRows, Table
from nestling.model.static import StaticModel
from nestling.shrink.budget import Row, Scheme, apply_scheme, file_size, shrink_to_budget, without_counts
from nestling.shrink.fidelity import Judge
from nestling.text.packed import PackedTokenizer
from tests.conftest import plan_of

BUDGETS = (16_000, 32_000)
Found = dict[int, tuple[StaticModel, list[Row]]]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    from nestling.shrink.fidelity import sample_texts

    return sample_texts()[:60]


@pytest.fixture(scope="module", autouse=True)
def fewer_widths() -> Iterator[None]:
    """Three of the seven widths of product codes, so that a search takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "WIDTHS", ((16, 16), (16, 32), (32, 32)))
        yield


@pytest.fixture(scope="module")
def found(distilled: StaticModel, texts: list[str]) -> Found:
    return {budget: shrink_to_budget(distilled, budget, texts) for budget in BUDGETS}


@pytest.mark.parametrize("budget", BUDGETS)
def test_the_file_fits(found: Found, budget: int, tmp_path: Path) -> None:
    model, rows = found[budget]
    model.save(tmp_path / "best.nest")
    size = (tmp_path / "best.nest").stat().st_size
    assert size == rows[0].size <= budget
    assert all(row.size <= budget for row in rows)
    assert model.counts is None
    again = load(tmp_path / "best.nest")
    assert again.fingerprint == model.fingerprint
    again.verify()


@pytest.mark.parametrize("budget", BUDGETS)
def test_best_first(found: Found, distilled: StaticModel, texts: list[str], budget: int) -> None:
    model, rows = found[budget]
    again = [row for row in rows if row.what.endswith("fitted again")]
    trials = rows[len(again) :]
    assert rows[: len(again)] == again
    for part in (again, trials):
        assert [row.spearman for row in part] == sorted((row.spearman for row in part), reverse=True)
    assert len(trials) == len({row.what for row in trials}) >= 4
    assert Judge(distilled, texts)(model) == (rows[0].cosine, rows[0].spearman)
    assert rows[0].spearman > trials[0].spearman - 0.01


def test_more_bytes_keep_more(found: Found) -> None:
    scores = [found[budget][1][0].spearman for budget in BUDGETS]
    assert scores == sorted(scores)
    assert scores[0] > 0.5
    assert scores[-1] > 0.95


def test_room_that_is_left_goes_into_exact_rows(found: Found) -> None:
    """Of whole vocabularies; small ones reach the bound of half their rows first."""
    rows = [row for row in found[32_000][1] if row.what.startswith("product") and row.what.endswith("596 tokens x 64")]
    assert len(rows) == 3
    assert all(32_000 - (64 + 4) <= row.size <= 32_000 for row in rows)


@pytest.mark.parametrize(
    ("tiers", "budget", "best"),
    [((64, 32), 13_000, "int4, 596 tokens x 32"), ((64, 48, 32), 20_000, "int4, 596 tokens x 48")],
)
def test_where_rows_fit_but_not_their_file_fewer_dims_are_tried(
    distilled: StaticModel, texts: list[str], tiers: tuple[int, ...], budget: int, best: str
) -> None:
    """Rows of the widest tier that fits leave no room for the tokenizer; any tier may be the best."""
    small, rows = shrink_to_budget(distilled.with_table(distilled.table, dims=tiers), budget, texts)
    assert rows[0].what == f"{best}, fitted again"
    assert rows[0].spearman > 0.93
    assert file_size(small) == rows[0].size <= budget


@pytest.mark.parametrize("dim", [64, 32])
def test_a_given_dim_is_not_left(distilled: StaticModel, texts: list[str], dim: int) -> None:
    """Nor where nothing fits but small vocabularies."""
    small, rows = shrink_to_budget(distilled, 5_500, texts, dim=dim)
    assert small.dim == dim
    assert all(f"x {dim}" in row.what for row in rows)
    with pytest.raises(InputError, match="The smallest file reached has") as caught:
        shrink_to_budget(distilled, 2_000, texts, dim=dim)
    least = int(caught.value.expected.split()[-1].replace(",", "").rstrip("."))
    assert shrink_to_budget(distilled, least, texts, dim=dim)[1][0].size == least
    for other in (0, 48):
        with pytest.raises(InputError, match=f"dim={other} is not a tier"):
            shrink_to_budget(distilled, 16_000, texts, dim=other)


def test_the_same_again(found: Found, distilled: StaticModel, texts: list[str]) -> None:
    model, rows = shrink_to_budget(distilled, 16_000, texts)
    assert rows == found[16_000][1]
    assert model.fingerprint == found[16_000][0].fingerprint


def test_too_small_a_budget(distilled: StaticModel, texts: list[str]) -> None:
    with pytest.raises(
        InputError, match=r"No scheme fits sample/teacher into 2,000 bytes\. .* Ask for more\."
    ) as caught:
        shrink_to_budget(distilled, 2_000, texts)
    least = int(caught.value.expected.split()[-1].replace(",", "").rstrip("."))
    model, rows = shrink_to_budget(distilled, least, texts)
    assert file_size(model) == least
    assert "x 32" in rows[0].what


def test_given_shares_are_not_left(distilled: StaticModel, texts: list[str]) -> None:
    """Where they do not fit, no smaller vocabulary is taken instead."""
    with pytest.raises(InputError, match="One of the shares was to"):
        shrink_to_budget(distilled, 16_000, texts, widths=[4, 4], shares=[1.0])
    model, rows = shrink_to_budget(distilled, 32_000, texts, widths=[8, 8, 16], edge=32, shares=[0.5])
    assert isinstance(model.table.rows, ProductRows)
    assert set(model.table.rows.widths[:4]) == {8} == {*model.table.rows.widths} - {16}
    assert rows[0].what.startswith("product 8 and 8 and 16 dims a code")
    with pytest.raises(InputError, match="Widths 8, 8, 16 were given"):
        shrink_to_budget(distilled, 32_000, texts, widths=[8, 8, 16])


def test_ids_of_large_vocabularies_take_four_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What exact rows fill stays within the budget, and fills it, on both sides of 65,536 tokens."""
    random = np.random.default_rng(0)
    for size in (60_000, 70_000):
        rows = random.standard_normal((size, 16)).astype(np.float32)
        codes = random.integers(0, 256, (size, 1)).astype(np.uint8)
        exact = Int8Rows(np.zeros((0, 16), np.int8), np.zeros(0, np.float16))
        product = ProductRows(
            codes, np.ones((256, 16), np.int8), np.ones(1, np.float32), (16,), exact, np.zeros(0, np.uint16)
        )
        packed, counts = PackedTokenizer.of(plan_of("wordpiece"), "x"), np.ones(size, np.uint32)
        document = Document("product", 16, (16,))
        coded = StaticModel(Parts(document, Table(product).tensors(), packed, counts))
        plain = StaticModel(
            Parts(
                replace(document, scheme="float"),
                {"rows": rows},
                packed,
                counts,
            )
        )
        monkeypatch.setattr(module, "file_size", lambda model: sum(t.nbytes for t in model.table.tensors().values()))
        ((model, scheme),) = module._filled(plain, coded, Scheme("product", size, 16, (16, 16)), 500_000)
        assert scheme.exact > 1_000
        assert 500_000 - 23 < module.file_size(model) <= 500_000


def test_a_model_without_counts(distilled: StaticModel, texts: list[str]) -> None:
    with pytest.raises(InputError, match="carries no token counts"):
        shrink_to_budget(without_counts(distilled), 20_000, texts)


@pytest.mark.parametrize(
    "scheme",
    [
        Scheme("float16", 300, 32),
        Scheme("int8", 300, 64),
        Scheme("int4", 596, 64),
        Scheme("centroids", 596, 32, centroids=50),
        Scheme("product", 400, 64, (4, 8), exact=20),
    ],
    ids=str,
)
def test_schemes(distilled: StaticModel, scheme: Scheme, tmp_path: Path) -> None:
    model = apply_scheme(distilled, scheme, rounds=2)
    assert model.dim == scheme.dim
    assert model.table.size >= scheme.tokens
    assert model.document.scheme == {"float16": "float"}.get(scheme.kind, scheme.kind)
    assert model.counts is None
    model.save(tmp_path / "scheme.nest")
    assert file_size(model) == (tmp_path / "scheme.nest").stat().st_size
    assert f"{scheme.tokens:,} tokens x {scheme.dim}" in str(scheme)


def test_a_dim_that_is_no_tier(distilled: StaticModel) -> None:
    with pytest.raises(InputError, match="dim=48 is not a tier"):
        apply_scheme(distilled, Scheme("int8", 300, 48))

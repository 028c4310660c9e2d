"""nestling shrink: the steps in their order, what is left after each, and the command."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from nestling.cli import main
from nestling.errors import InputError
from nestling.model.load import load
from nestling.model.static import StaticModel
from nestling.shrink import budget
from nestling.shrink.fidelity import HELD_OUT, Judge, sample_texts
from nestling.shrink.sizes import parse_size
from nestling.shrink.steps import Steps, shrink, take_steps, with_counts


@pytest.mark.parametrize(
    ("steps", "scheme", "least"),
    [
        (Steps(dtype="float16"), "float", 0.999),
        (Steps(dtype="int8"), "int8", 0.999),
        (Steps(dtype="int4"), "int4", 0.98),
        (Steps(vocabulary_rows=200), "centroids", 0.7),
        (Steps(product=(16, 16)), "product", 0.7),
        (Steps(product=(32, 16), exact=100), "product", 0.7),
        (Steps(dim=32), "float", 0.999),
    ],
)
def test_one_step(distilled: StaticModel, steps: Steps, scheme: str, least: float) -> None:
    model, rows = shrink(distilled, steps)
    assert model.document.scheme == scheme
    assert model.counts is None
    assert [rows[0].what, rows[0].cosine, rows[0].spearman] == ["as given", 1.0, 1.0]
    assert len(rows) == 2
    sizes = [row.size for row in rows]
    assert sizes == sorted(sizes, reverse=True)
    assert rows[-1].size < rows[0].size
    assert least < rows[-1].cosine <= 1 + 1e-6


def test_steps_come_in_order(distilled: StaticModel, tmp_path: Path) -> None:
    steps = Steps(vocabulary=300, dim=32, dtype="int4")
    names = [name for name, _ in take_steps(distilled, steps)]
    models = [model for _, model in take_steps(distilled, steps)]
    assert names == [f"{models[0].table.size:,} tokens", "32 dims", "int4"]
    assert [model.dim for model in models] == [64, 32, 32]
    assert [model.document.scheme for model in models] == ["float", "float", "int4"]
    assert [model.counts is None for model in models] == [False, False, False]
    last, rows = shrink(distilled, steps)
    assert last.counts is None
    assert [row.what for row in rows[1:]] == names
    last.save(tmp_path / "small.nest")
    assert (tmp_path / "small.nest").stat().st_size == rows[-1].size


def test_products_with_exact_rows(distilled: StaticModel) -> None:
    for exact in (0, 40, distilled.table.size, distilled.table.size + 5):
        ((what, last),) = take_steps(distilled, Steps(product=(32, 16), exact=exact))
        assert what == f"2 product codes a token, {min(exact, distilled.table.size):,} exact rows"
        assert last.table.rows.exact.size == min(exact, distilled.table.size)  # type: ignore[attr-defined]
        assert np.isfinite(last.encode(["a house"])).all()


def test_a_table_without_order_is_judged_in_its_new_order(distilled: StaticModel) -> None:
    """Cosines compare columns, so the model is turned before it is judged, and half the dims keep most of it."""
    random = np.random.default_rng(0)
    turn = np.linalg.qr(random.standard_normal((64, 64)))[0]
    parts = distilled.parts()
    document = dataclasses.replace(parts.document, dims=(64,))
    mixed = (parts.tensors["rows"] @ turn).astype(np.float32)
    model = StaticModel(dataclasses.replace(parts, document=document, tensors={"rows": mixed}))
    small, rows = shrink(model, Steps(dim=40, dtype="int8"))
    assert (small.dim, small.dims) == (40, (40, 32))
    assert rows[1].cosine > 0.999
    assert rows[1].spearman > 0.8
    assert rows[-1].cosine > 0.999


@pytest.mark.parametrize(
    "asked", [{"dim": 0}, {"vocabulary": 0}, {"vocabulary_rows": 0}, {"product": (0, 0)}, {"product": (4, 0)}]
)
def test_a_step_to_nothing_is_refused(asked: dict[str, Any]) -> None:
    """A step is left out with None alone."""
    with pytest.raises(InputError, match=rf"{next(iter(asked))}=0 was given; at least 1 was expected\."):
        Steps(**asked)
    with pytest.raises(InputError, match=r"exact=-1 was given; at least 0 was expected\."):
        Steps(product=(4, 4), exact=-1)


def test_one_coding_at_a_time() -> None:
    with pytest.raises(InputError, match=r"vocabulary_rows and dtype were given\. .*one fits\. Choose one\."):
        Steps(vocabulary_rows=9, dtype="int8")
    with pytest.raises(InputError, match=r"product and dtype were given"):
        Steps(product=(4, 4), dtype="int8")
    with pytest.raises(InputError, match=r"exact=5 came without product"):
        Steps(exact=5)


def test_a_budget_or_steps(distilled: StaticModel) -> None:
    with pytest.raises(InputError, match=r"A budget came with steps\."):
        shrink(distilled, Steps(dim=32), budget=9000)
    with pytest.raises(InputError, match=r"Neither a budget nor a step was given\."):
        shrink(distilled, Steps())


def test_a_corpus_gives_counts_and_judges(distilled: StaticModel, tmp_path: Path) -> None:
    """Its first fifth, of at most 4,000, judges; the others are counted."""
    path = tmp_path / "texts.txt"
    uncounted = StaticModel(dataclasses.replace(distilled.parts(), counts=None))
    with pytest.raises(InputError, match="--corpus FILE"):
        shrink(uncounted, Steps(vocabulary=100))
    for judging in (100, HELD_OUT):
        counted = ["zebra queue", "queue"] * (judging * 2)
        path.write_text("\n".join(["the house", "a quick fox"] * (judging // 2) + counted) + "\n")
        ((_, pruned),) = take_steps(with_counts(uncounted, counted), Steps(vocabulary=3))
        small, rows = shrink(uncounted, Steps(vocabulary=3), corpus=path)
        assert small.tokenizer.pieces == pruned.tokenizer.pieces
        uncounted.save(tmp_path / "given.nest")
        small.save(tmp_path / "small.nest")
        assert [row.size for row in rows] == [(tmp_path / name).stat().st_size for name in ("given.nest", "small.nest")]
    path.write_text("the house\n" * 2)
    with pytest.raises(InputError, match=r"leaves no token to count\. Texts beyond those that judge"):
        shrink(uncounted, Steps(vocabulary=3), corpus=path)
    with pytest.raises(InputError, match=r"column='text' came without a corpus\."):
        shrink(distilled, Steps(dim=32), column="text")


def test_the_table_says_what_was_done(distilled: StaticModel) -> None:
    model, rows = shrink(distilled, Steps(vocabulary_rows=100_000))
    assert rows[1].what == f"{distilled.table.size:,} centroids"
    assert model.table.tensors()["mapping"].dtype == np.uint16
    _, rows = shrink(distilled, Steps(product=(32, 16), exact=1_000_000))
    assert rows[1].what.endswith(f", {distilled.table.size:,} exact rows")


def test_judge(distilled: StaticModel) -> None:
    judge = Judge(distilled, sample_texts()[:200], pairs=3000, seed=1)
    assert judge(distilled) == pytest.approx((1, 1), abs=1e-6)
    again = Judge(distilled, sample_texts()[:200], pairs=3000, seed=1)
    small = distilled.with_table(distilled.table.cut(32))
    cosine, correlation = judge(small)
    assert (cosine, correlation) == again(small)
    assert cosine == pytest.approx(1, abs=1e-5)
    assert 0.8 < correlation < 1
    assert Judge(distilled, sample_texts()[:200], pairs=3000, seed=2)(small)[1] != correlation
    whole, cut = distilled.encode(judge.texts).astype(float), small.encode(judge.texts).astype(float)
    from scipy.stats import spearmanr

    left, right = judge.left, judge.right
    expected = spearmanr((whole[left] * whole[right]).sum(axis=1), (cut[left] * cut[right]).sum(axis=1)).statistic
    assert correlation == pytest.approx(expected, abs=1e-4)
    assert not np.any(left == right)
    with pytest.raises(InputError, match=r"1 texts were given to judge with\. At least 2"):
        Judge(distilled, ["one"])


@pytest.mark.parametrize(
    ("text", "size"),
    [("700KB", 700_000), ("7.5 mb", 7_500_000), ("12", 12), (" 3B ", 3), ("1GB", 10**9), ("1.005MB", 1_005_000)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@given(thousandths=st.integers(0, 10**7))
def test_sizes_are_exact(thousandths: int) -> None:
    assert parse_size(f"{thousandths / 1000:.3f}KB") == thousandths


@pytest.mark.parametrize("text", ["", "KB", "-1KB", "1K", "1e3", "7,5MB", "1TB", "1KiB", "0x10", "nan"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(InputError, match=r"is no size\. A number with B, KB, MB or GB was expected\. Write, for"):
        parse_size(text)


@pytest.fixture
def saved(distilled: StaticModel, tmp_path: Path) -> Path:
    distilled.save(tmp_path / "model.nest")
    return tmp_path / "model.nest"


def test_command(saved: Path, tmp_path: Path) -> None:
    out = tmp_path / "small.nest"
    done = CliRunner().invoke(
        main, ["shrink", str(saved), str(out), "--dim", "32", "--product", "16", "8", "--exact", "9"]
    )
    assert done.exit_code == 0, done.output
    assert "as given" in done.stdout
    assert f"{out.stat().st_size:,} bytes" in done.stdout
    model = load(out)
    assert (model.dim, model.document.scheme, model.table.rows.exact.size) == (32, "product", 9)  # type: ignore[attr-defined]


def test_command_json(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "WIDTHS", ((16, 16),))
    out = tmp_path / "small.nest"
    done = CliRunner().invoke(main, ["shrink", str(saved), str(out), "--budget", "20KB", "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["path"] == str(out)
    assert told["size"] == out.stat().st_size <= 20_000
    assert {"what", "size", "cosine", "spearman"} == set(told["trials"][0])


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--budget", "9 apples"], 1, "'9 apples' is no size."),
        (["--budget", "1B"], 1, "No scheme fits"),
        ([], 1, "Neither a budget nor a step was given."),
        (["--dim", "33"], 1, "dim=33 is not a tier"),
        (["--dtype", "int8", "--vocabulary-rows", "9"], 1, "Choose one."),
        (["--dtype", "int2"], 2, "Invalid value for '--dtype'"),
        (["--dim", "0"], 2, "Invalid value for '--dim'"),
        (["--product", "4"], 2, "--product"),
        (["--corpus", "/gone.txt", "--vocabulary", "9"], 1, "/gone.txt is not a file."),
    ],
)
def test_command_refuses(saved: Path, options: list[str], code: int, said: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["shrink", str(saved), str(tmp_path / "small.nest"), *options])
    assert (done.exit_code, done.stdout) == (code, "")
    assert said in done.stderr
    assert not (tmp_path / "small.nest").exists()


def test_command_without_a_model(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["shrink", str(tmp_path / "gone.nest"), str(tmp_path / "x.nest"), "--dim", "8"])
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert "gone.nest is not there." in done.stderr

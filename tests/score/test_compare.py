"""Differences between models: where they are real, where they are luck."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score

from nestling.cli import main
from nestling.errors import InputError
from nestling.score.compare import compare, resampled
from nestling.score.examples import Examples, keep_examples
from nestling.score.results import Line, Results, averages, check_alike, published, read_results

RANDOM = np.random.default_rng(3)


def results_of(folder: Path, name: str, values: dict[str, np.ndarray], kinds: dict[str, str] | None = None) -> Results:
    """Results whose tasks are means of these examples."""
    (folder / name).mkdir(parents=True)
    lines = {}
    for task, examples in values.items():
        keep_examples(folder / name, task, "default", Examples("mean", examples, np.zeros(0)))
        lines[task] = Line(task, (kinds or {}).get(task, "STS"), "accuracy", float(examples.mean()))
    return Results(name, lines, folder / name)


def test_a_clear_difference_is_separable_and_luck_is_not(tmp_path: Path) -> None:
    base = {task: RANDOM.random(400) for task in "abcdef"}
    better = {task: values + 0.1 + 0.1 * RANDOM.standard_normal(400) for task, values in base.items()}
    same = {task: values + 0.1 * RANDOM.standard_normal(400) for task, values in base.items()}
    first = results_of(tmp_path, "first", base)
    found = compare(first, results_of(tmp_path, "better", better))
    assert all(each.verdict == "second better" for each in found.tasks)
    assert found.mean_task.separable
    assert 0.08 < found.mean_task.low < 0.1 < found.mean_task.high < 0.12
    found = compare(first, results_of(tmp_path, "same", same))
    assert not any(each.separable for each in (*found.tasks, found.mean_task))
    assert found.mean_task.low < 0 < found.mean_task.high


def test_the_interval_is_the_paired_one(tmp_path: Path) -> None:
    base = RANDOM.random(500)
    shifted = base + 0.01  # Every example gains the same: unpaired draws would drown this.
    found = compare(results_of(tmp_path, "a", {"t": base}), results_of(tmp_path, "b", {"t": shifted}))
    assert found.tasks[0].low == pytest.approx(0.01, abs=1e-5)
    assert found.tasks[0].high == pytest.approx(0.01, abs=1e-5)


def test_holm_corrects_for_many_tasks(tmp_path: Path) -> None:
    weak = RANDOM.standard_normal(200)
    weak += 0.16 - weak.mean()
    many = {f"t{n}": np.zeros(200) for n in range(20)}
    noise = {name: RANDOM.standard_normal(200) for name in many}
    first = results_of(tmp_path, "first", many)
    second = results_of(tmp_path, "second", {**noise, "t0": weak})
    alone = compare(first.only(["t0"]), second.only(["t0"])).tasks[0]
    among = next(each for each in compare(first, second).tasks if each.name == "t0")
    assert alone.separable
    assert among.p > alone.p
    assert not among.separable


def test_the_same_seed_gives_the_same_intervals(tmp_path: Path) -> None:
    first = results_of(tmp_path, "a", {"t": RANDOM.random(50)})
    second = results_of(tmp_path, "b", {"t": RANDOM.random(50)})
    assert compare(first, second, seed=1) == compare(first, second, seed=1)
    assert compare(first, second, seed=1) != compare(first, second, seed=2)


@pytest.mark.parametrize("ties", [False, True])
def test_statistics_of_draws_are_scipy_s_and_scikit_learn_s(ties: bool) -> None:
    values = RANDOM.random(60).round(1 if ties else 9)
    gold = RANDOM.integers(0, 2, 60).astype(float)
    chosen = RANDOM.integers(0, 60, (20, 60))
    for kind, theirs in (
        ("spearman", lambda v, g: spearmanr(v, g).statistic),
        ("average_precision", lambda v, g: average_precision_score(g, v)),
        ("mean", lambda v, g: v.mean()),
    ):
        ours = resampled(Examples(kind, values, gold), chosen)
        np.testing.assert_allclose(ours, [theirs(values[row], gold[row]) for row in chosen], atol=1e-12)


def test_both_means_and_their_counts() -> None:
    lines = [
        Line("A", "STS", "m", 0.8),
        Line("B/x", "Retrieval", "m", 0.2),
        Line("B/y", "Retrieval", "m", 0.4),
        Line("C", "STS", "m", 0.6),
    ]
    means = averages(lines)
    assert means.tasks == 3
    assert means.mean_task == pytest.approx((0.8 + 0.3 + 0.6) / 3)
    assert means.mean_type == pytest.approx((0.7 + 0.3) / 2)
    assert means.by_type["Retrieval"] == (pytest.approx(0.3), 1)
    with pytest.raises(InputError, match="no score to average"):
        averages([])


def test_unlike_tasks_are_refused() -> None:
    one, two = (Results(name, {name: Line(name, "STS", "m", 0.5)}) for name in "ab")
    with pytest.raises(InputError, match="b lacks a; a lacks b"):
        check_alike([one, two])


def test_other_examples_are_refused(tmp_path: Path) -> None:
    first = results_of(tmp_path, "a", {"t": np.zeros(5)})
    second = results_of(tmp_path, "b", {"t": np.zeros(6)})
    with pytest.raises(InputError, match="examples of t differ"):
        compare(first, second)


def test_published_scores_stand_beside(results: Path, tmp_path: Path) -> None:
    anchors = tmp_path / "anchors.csv"
    anchors.write_text("task,category,metric,model,score\nSTSBenchmark,STS,cosine_spearman,org/Potion,74.3\n")
    theirs = published("potion", anchors)
    assert theirs.name == "org/Potion (published)"
    found = compare(read_results(results / "nano").only(["STSBenchmark"]), theirs)
    assert found.tasks[0].verdict == "no examples"
    assert found.tasks[0].second == pytest.approx(0.743)
    with pytest.raises(InputError, match="no scores of 'nobody'"):
        published("nobody", anchors)


def test_from_the_command_line(results: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["compare", str(results / "nano"), str(results / "nano")])
    assert done.exit_code == 0, done.output
    assert "not separable" in done.stdout
    assert "mean(type)" in done.stdout
    assert "second better" not in done.stdout
    (tmp_path / "anchors.csv").write_text(
        "task,category,metric,model,score\nSTSBenchmark,STS,cosine_spearman,org/P,74.3\n"
    )
    words = ["compare", str(results / "nano"), "published:P", "--data", str(tmp_path)]
    refused = CliRunner().invoke(main, words)
    assert refused.exit_code == 1
    assert "unlike tasks" in refused.stderr
    done = CliRunner().invoke(main, [*words, "--common", "--json"])
    assert done.exit_code == 0, done.output
    assert '"second": "org/P (published)"' in done.stdout

"""Scores are mteb's, files have its shape, and nothing is run twice."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from mteb.results import TaskResult
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score

import nestling
from nestling.cli import main
from nestling.errors import InputError
from nestling.model.load import shipped
from nestling.score.encoders import Tier, load_encoder
from nestling.score.examples import read_examples
from nestling.score.matrix import show
from nestling.score.results import read_results
from nestling.score.run import Adapter, Outcome, folder_name, score
from nestling.score.tasks import OWN, SUITES, fill, make_task, names_of, split_of, subsets_in
from tests.score.conftest import TASKS
from tests.score.test_encoders import Watched

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory):
    """nano in mteb's own wrapper of sentence-transformers; no text of the small tasks repeats a token."""
    from mteb.models.sentence_transformer_wrapper import SentenceTransformerEncoderWrapper
    from sentence_transformers import SentenceTransformer

    folder = tmp_path_factory.mktemp("st") / "nano"
    nestling.load("nano").with_pooling("mean").save(folder, layout="sentence-transformers")
    return SentenceTransformerEncoderWrapper(SentenceTransformer(str(folder), device="cpu"))


@pytest.mark.parametrize("name", TASKS)
def test_scores_are_what_mteb_gives(name: str, results: Path, tasks_folder: Path, theirs) -> None:
    task_name, _, subset = name.partition("/")
    task = make_task(task_name)
    fill(task, [subset or "default"], tasks_folder)
    expected = task.evaluate(theirs, split_of(task), encode_kwargs={})[subset or "default"]["main_score"]
    lines = read_results(results / "nano").lines
    assert lines[name].score == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", [name for name in TASKS if not name.startswith("Tatoeba")])
def test_examples_give_the_score_again(name: str, results: Path) -> None:
    task, _, subset = name.partition("/")
    found = read_examples(results / "nano", task, subset or "default")
    assert found is not None
    again = {
        "mean": lambda: found.values.mean(),
        "spearman": lambda: spearmanr(found.values, found.gold).statistic,
        "average_precision": lambda: average_precision_score(found.gold, found.values),
    }[found.kind]()
    assert read_results(results / "nano").lines[name].score == pytest.approx(again, abs=1e-4)


def test_files_are_mteb_s(results: Path) -> None:
    path = results / "nano" / "STSBenchmark.json"
    assert TaskResult.from_disk(path).get_score() == pytest.approx(
        read_results(results / "nano").lines["STSBenchmark"].score
    )
    content = json.loads(path.read_text())["nestling"]
    assert content["fingerprint"] == nestling.load("nano").fingerprint
    assert set(content["versions"]) == {"mteb", "scikit-learn", "numpy", "nestling"}
    assert content["seed"] == 42


def test_what_is_there_is_not_run_again(results: Path, tasks_folder: Path) -> None:
    class Refusing:
        def __init__(self) -> None:
            vars(self).update(vars(load_encoder("nano")))
            self.kind = "static"

        def encode(self, texts, role="text"):
            raise AssertionError("a text was embedded")

    files = {path: path.read_bytes() for path in (results / "nano").glob("*.json")}
    outcomes = score(Refusing(), TASKS, tasks_folder, results)
    assert [outcome.error for outcome in outcomes] == [""] * len(TASKS)
    assert files == {path: path.read_bytes() for path in (results / "nano").glob("*.json")}


def test_a_failing_task_does_not_stop_the_others(tasks_folder: Path, tmp_path: Path) -> None:
    names = ["STS12", "STSBenchmark", "NoSuchTask"]
    first, second, third = score(load_encoder("nano"), names, tasks_folder, tmp_path)
    assert "There are no data for STS12" in first.error
    assert "--data" in first.error
    assert second.score is not None
    assert "There is no task 'NoSuchTask'" in third.error


def test_the_hub_is_asked_only_if_told(tasks_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    task = type(make_task("STS12"))
    monkeypatch.setattr(task, "load_data", lambda self, **_: asked.append(self.metadata.name) or 1 / 0)
    (first,) = score(load_encoder("nano"), ["STS12"], tasks_folder, tmp_path)
    assert asked == []
    (first,) = score(load_encoder("nano"), ["STS12"], tasks_folder, tmp_path, hub=True)
    assert asked == ["STS12"]
    assert first.error == "ZeroDivisionError: division by zero"


def test_benchmarks_of_mteb_go_by_their_names() -> None:
    names = names_of("MTEB(eng, v2)")
    assert len(names) == 41
    assert "STSBenchmark" in names


def test_another_model_of_that_name_is_refused(results: Path, tasks_folder: Path, tmp_path: Path) -> None:
    encoder = load_encoder("nano")
    score(encoder, ["STSBenchmark"], tasks_folder, tmp_path)
    encoder.fingerprint = "sha256:other"
    with pytest.raises(InputError, match="holds results of another nano"):
        score(encoder, ["STSBenchmark"], tasks_folder, tmp_path)


def test_roles_reach_the_model(tasks_folder: Path) -> None:
    met: set[str] = set()
    encoder = load_encoder("nano")

    class Watched:
        dims, name, fingerprint = encoder.dims, encoder.name, encoder.fingerprint

        def encode(self, texts, role="text"):
            met.add(role)
            return encoder.encode(texts, role)

    for name, roles in (("SciFact", {"query", "document"}), ("STSBenchmark", {"text"})):
        met.clear()
        task = make_task(name)
        fill(task, ["default"], tasks_folder)
        task.evaluate(Adapter(Watched()), "test", encode_kwargs={})
        assert met == roles


def test_a_text_is_embedded_once_a_task(tasks_folder: Path, tmp_path: Path) -> None:
    watched = Watched("nano")
    (outcome,) = score(watched, ["STSBenchmark"], tasks_folder, tmp_path)
    assert outcome.error == ""
    assert len(watched.given) == len(set(watched.given)) == 20


def test_tiers(tasks_folder: Path, tmp_path: Path) -> None:
    encoder = load_encoder("nano")
    tier = Tier(encoder, 32)
    assert folder_name(tier) == "nano@32"
    np.testing.assert_allclose(tier.encode(["a cat"]), nestling.load("nano").encode(["a cat"], dim=32), atol=1e-6)
    with pytest.raises(InputError, match="dim=33 is no tier"):
        Tier(encoder, 33)


def test_suites_name_tasks_that_exist() -> None:
    for name in {name for suite in SUITES.values() for name in suite}:
        task_name, _, subset = name.partition("/")
        task = make_task(task_name)
        assert not subset or subset in task.metadata.hf_subsets
    assert all(make_task(name).metadata.main_score == own.metric for name, own in OWN.items())


def test_only_languages_at_hand_are_scored(tasks_folder: Path) -> None:
    assert subsets_in(make_task("Tatoeba"), tasks_folder) == ["deu-eng"]


def test_from_the_command_line(tasks_folder: Path, tmp_path: Path) -> None:
    words = ["score", "nano", "--tasks", "STSBenchmark,Banking77Classification", "--dims", "64,32"]
    done = CliRunner().invoke(main, [*words, "--data", str(tasks_folder), "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nano", "nano@32", "nano@64"]
    assert "mean(task)" in done.stdout
    assert "mean(type)" in done.stdout
    assert "% of the full width's" in done.stdout
    done = CliRunner().invoke(
        main, [*words[:3], "STS12", "--data", str(tasks_folder), "--out", str(tmp_path), "--json"]
    )
    assert done.exit_code == 1
    assert "nestling: STS12 failed." in done.stderr
    done = CliRunner().invoke(main, ["score", "nano", "--suite", "everything", "--data", str(tasks_folder)])
    assert done.exit_code == 1
    assert "There is no suite 'everything'" in done.stderr


@pytest.mark.parametrize("dims", ["abc", "64,", "64 32", "6.4"])
def test_dims_that_are_no_numbers(dims: str) -> None:
    done = CliRunner().invoke(main, ["score", "nano", "--dims", dims])
    assert done.exit_code == 1
    assert f"--dims {dims} was given; numbers with commas were expected. Give tiers" in done.stderr


def test_a_tier_on_which_a_task_failed_keeps_no_share(results: Path) -> None:
    """Its mean is over other tasks than the full model's."""
    encoder = load_encoder("nano")
    done = [Outcome("STSBenchmark", 0.5), Outcome("Banking77Classification", 0.5)]
    failed = [done[0], Outcome("Banking77Classification", None, "it failed")]

    def kept(tier: list[Outcome], full: list[Outcome] = done) -> bool:
        _, row = show([(encoder, full), (encoder, tier)], results)["models"]
        return "retention" in row

    assert kept(done)
    assert not kept(failed)
    assert not kept(done, full=failed)
    assert kept(failed, full=failed)
    assert not kept(failed[1:], full=failed[1:])


def test_the_judge_got_its_published_scores() -> None:
    """benchmarks/baselines.py scored all-MiniLM-L6-v2 in full; what it wrote is held against its own files here."""
    validity = json.loads((RESULTS / "validity.json").read_text(encoding="utf-8"))
    lines = read_results(RESULTS / "scores" / validity["model"].replace("/", "__")).lines
    judged = [row for row in validity["tasks"] if row["data agree"]]
    assert len(judged) == validity["of"] >= 12
    for row in judged:
        assert 100 * lines[row["task"]].score == pytest.approx(row["measured"], abs=0.01)
        assert abs(row["measured"] - row["published"]) <= 0.3, row


def test_the_baselines_are_of_the_shipped_model_and_complete() -> None:
    wanted = {name for suite in ("english", "tools", "long", "safety") for name in SUITES[suite]}
    folders = [path.parent for path in (RESULTS / "scores").glob("*/model.json")]
    assert len(folders) >= 6
    for folder in folders:
        found = read_results(folder)
        assert set(found.lines) == wanted, folder
        for name in folder.glob("[A-Z]*.json"):
            assert json.loads(name.read_text(encoding="utf-8"))["nestling"]["fingerprint"] == found.facts["fingerprint"]
    for name in shipped():
        assert read_results(RESULTS / "scores" / name).facts["fingerprint"] == nestling.load(name).fingerprint


def test_a_kind_of_task_without_examples_is_scored_all_the_same(
    tasks_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nestling.score.examples.FROM_PREDICTIONS", ())
    (outcome,) = score(load_encoder("nano"), ["STSBenchmark"], tasks_folder, tmp_path)
    assert outcome.error == ""
    assert read_examples(tmp_path / "nano", "STSBenchmark") is None


def test_a_task_keeps_the_scores_that_are_its_own(
    tasks_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = type(make_task("SciFact"))
    monkeypatch.setattr(task, "task_specific_scores", lambda self, *_, **__: {"own": 0.5})
    score(load_encoder("nano"), ["SciFact"], tasks_folder, tmp_path)
    content = json.loads((tmp_path / "nano" / "SciFact.json").read_text(encoding="utf-8"))
    assert content["scores"]["test"][0]["own"] == 0.5
    assert read_examples(tmp_path / "nano", "SciFact") is not None

"""recipes/static.toml and recipes/nano.toml end to end, quick, from a small teacher and small texts."""

import json
import shutil
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from click.testing import CliRunner

import nestling.make.inputs as inputs_module
import nestling.make.run as module
from nestling import __version__
from nestling.cli import main
from nestling.errors import InputError, MissingExtraError
from nestling.files.parts import Source
from nestling.make.lessons import mean_rows
from nestling.make.recipe import Places, read_recipe
from nestling.make.run import Made, Run, make
from nestling.make.targets import Look, Targets
from nestling.model.common import CutWarning
from nestling.model.load import load
from nestling.model.output import unit
from nestling.model.static import StaticModel
from nestling.shrink.fidelity import sample_texts
from nestling.text.twin import parse_tokenizer
from tests.conftest import SAMPLES

RECIPES = SAMPLES.parents[1] / "recipes"
SMALL = {
    "cache:teachers/bge-small": "data:teacher", "data:corpus/english.parquet": "cache:corpus.parquet",
    "data:corpus/pairs.parquet": "cache:pairs.parquet", "data:eval/STSBenchmark/test.parquet": "cache:sts.parquet",
    "held_out = 4_000": "held_out = 60", "sentences = 200_000": "sentences = 300", "dim = 384": "dim = 64",
    "dim = 256": "dim = 48", "dim = 128": "dim = 48", "[32, 64, 128]": "[32]", "[32, 64]": "[32]",
    "batch = 1024": "batch = 64", "batch = 512": "batch = 32", "words = 30_000": "words = 40",
    "words = 2_000": "words = 40", "least = 8": "least = 3", "prune = 5": "prune = 2", "prune = 32": "prune = 2",
    '"7.5MB"': '"30KB"', '"700KB"': '"26KB"', "widths = [2, 2]": "widths = [8, 8]",
}  # fmt: skip


def inputs(folder: Path) -> Path:
    """A cache with the corpus, pairs and scores of the tests."""
    folder.mkdir(parents=True)
    texts = sample_texts()
    rows = [*texts, *texts[:5]], ["left" if place % 50 == 7 else "kept" for place in range(len(texts) + 5)]
    pyarrow.parquet.write_table(pyarrow.table({"text": rows[0], "source": rows[1]}), folder / "corpus.parquet")
    halves = [(text[: len(text) // 2], text[len(text) // 2 :]) for text in texts[100:300]]
    sides = {"anchor": [one for one, _ in halves], "positive": [two for _, two in halves]}
    pyarrow.parquet.write_table(pyarrow.table({**sides, "source": ["kept"] * 200}), folder / "pairs.parquet")
    gold = {"sentence1": texts[:40], "sentence2": texts[40:80], "score": [float(i % 7) for i in range(40)]}
    pyarrow.parquet.write_table(pyarrow.table(gold), folder / "sts.parquet")
    return folder


def small(name: str, folder: Path, **more: str) -> Path:
    text = (RECIPES / f"{name}.toml").read_text(encoding="utf-8")
    for old, new in {**SMALL, **more}.items():
        text = text.replace(old, new)
    path = folder / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    inputs(folder / "cache")
    return folder


@pytest.fixture(scope="module")
def made(home: Path) -> Made:
    return make(small("static", home), home / "static.nest", data=SAMPLES, cache=home / "cache", quick=True)


def stages(folder: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in (folder / "cache/make").glob("*/model.nest")}


def test_all_stages_are_kept(home: Path, made: Made) -> None:
    names = [name.split("-")[0] for name in stages(home)]
    assert sorted(names) == ["distilled", "shrunk", "trained", "tuned"]
    model = load(made.path)
    assert made.size <= 30_000
    assert model.dims == (48, 32)
    assert model.document.scheme == "product"
    assert [source.role for source in model.lineage] == ["teacher", "data", "data"]
    assert model.lineage[0] == Source("teacher", "sample/teacher", "CC0-1.0")
    assert len(model.verify()) == 3


def test_the_same_inputs_give_the_same_bytes(home: Path, made: Made, tmp_path: Path) -> None:
    inputs(tmp_path / "cache")
    again = make(small("static", tmp_path), tmp_path / "b.nest", data=SAMPLES, cache=tmp_path / "cache", quick=True)
    assert again.path.read_bytes() == made.path.read_bytes()


def test_another_seed_gives_another_model(home: Path, made: Made) -> None:
    recipe = small("static", home)
    where = {"data": SAMPLES, "cache": home / "cache", "quick": True}
    other = make(recipe, home / "seed.nest", seed=1, **where)
    assert other.fingerprint != made.fingerprint
    own = make(recipe, home / "seed.nest", seed=0, **where)
    assert own.path.read_bytes() == made.path.read_bytes()
    with pytest.raises(InputError, match="seed=-1"):
        make(recipe, home / "seed.nest", seed=-1, **where)


def test_a_late_change_keeps_the_early_stages(home: Path, made: Made) -> None:
    before = stages(home)
    changed = small("static", home, **{"widths = [2, 2]": "widths = [8, 12]"})
    make(changed, home / "c.nest", data=SAMPLES, cache=home / "cache", quick=True)
    after = stages(home)
    assert {name: after[name] for name in before} == before
    assert [name.split("-")[0] for name in after if name not in before] == ["shrunk"]


def test_nano_asks_the_teacher_nothing_new(home: Path, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    import nestling.shrink.budget as budget

    monkeypatch.setattr(budget, "WIDTHS", ((16, 16),))
    answers = sorted((home / "cache/targets").rglob("*.npy"))
    before = stages(home)
    done = make(small("nano", home), home / "nano.nest", data=SAMPLES, cache=home / "cache", quick=True)
    new = sorted(name.split("-")[0] for name in stages(home) if name not in before)
    assert new == ["repaired", "shrunk", "trained", "tuned"]
    assert sorted((home / "cache/targets").rglob("*.npy")) == answers
    assert done.size <= 26_000
    assert load(done.path).dims == (48, 32)


def test_training_learns_what_the_teacher_says(home: Path, made: Made) -> None:
    run = Run(read_recipe(small("static", home)), Places(home / "cache", SAMPLES), quick=True)
    _, held_out = run.lessons
    aims = unit(held_out.targets.astype(np.float32))

    def agreement(model: StaticModel) -> float:
        vectors = unit(mean_rows(model.table.expanded(), held_out.tokens))
        return float(np.abs((vectors @ vectors.T) - (aims @ aims.T)).mean())

    assert agreement(run.full()) < 0.9 * agreement(run.distilled)


def test_held_out_texts_and_left_out_sources_teach_nothing(home: Path, made: Made) -> None:
    recipe = read_recipe(small("static", home))
    recipe["corpus"]["leave_out"] = ["left"]
    run = Run(recipe, Places(home / "cache", SAMPLES), quick=True)
    texts = sample_texts()
    kept = [text for place, text in enumerate(texts) if place % 50 != 7]
    assert run.inputs.texts[: len(set(kept))] == list(dict.fromkeys(kept))
    assert len(run.inputs.texts) == len(set(run.inputs.texts)) > len(kept) + 300
    lessons, held_out = run.lessons
    assert len(held_out.tokens.lengths) == 60
    assert len(lessons.tokens.lengths) == len(lessons.targets) == len(run.inputs.texts) - 60
    assert lessons.pairs is not None
    for one, other in lessons.pairs[:20]:
        left, right = run.inputs.texts[60 + one], run.inputs.texts[60 + other]
        assert left + right in texts


def test_quick_takes_few_texts(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs_module, "QUICK_TEXTS", 200)
    monkeypatch.setattr(inputs_module, "QUICK_PAIRS", 10)
    recipe = read_recipe(small("static", home))
    run = Run(recipe, Places(home / "cache", SAMPLES), quick=True)
    assert 200 < len(run.inputs.texts) <= 220
    assert len(Run(recipe, Places(home / "cache", SAMPLES)).inputs.texts) > 1000


def test_born_again_and_two_teachers(home: Path, made: Made) -> None:
    shutil.copytree(SAMPLES / "teacher", home / "cache/second", dirs_exist_ok=True)
    about = {"name": "sample/second", "licence": "MIT", "form": "encoder", "pooling": "cls"}
    (home / "cache/second/teacher.json").write_text(json.dumps(about))
    more = {
        "[tune]": "[again]\nepochs = 2.0\nbatch = 64\nown = 0.5\nseeds = 2\n\n[tune]",
        "[targets]": '[targets]\nothers = ["cache:second"]\nprompts = ["", "query: "]',
        '"7.5MB"': '"60KB"',
    }
    done = make(small("static", home, **more), home / "d.nest", data=SAMPLES, cache=home / "cache", quick=True)
    lineage = load(done.path).lineage
    assert [(source.name, source.licence) for source in lineage[:2]] == [
        ("sample/teacher", "CC0-1.0"), ("sample/second", "MIT"),
    ]  # fmt: skip
    wrong = small("static", home, **{"[targets]": '[targets]\nothers = ["cache:second"]\nprompts = ["a"]'})
    with pytest.raises(InputError, match=r"\[targets\] has 1 prompts\."):
        make(wrong, home / "e.nest", data=SAMPLES, cache=home / "cache", quick=True)


def test_a_recipe_may_begin_with_a_trained_model(home: Path) -> None:
    """Its rows, its lineage; with general text counted, and few pairs."""
    changes = {
        "[train]\n": '[train]\nstart = "nano"\n',
        "words = 30_000": "words = 40\ngeneral = 5_000",
        "[pairs]\n": "[pairs]\nmost = 50\n",
    }
    (home / "begun").mkdir()
    recipe = read_recipe(small("static", home / "begun", **changes))
    run = Run(recipe, Places(home / "cache", SAMPLES), quick=True)
    model = run.described
    assert len(run.inputs.sides) == 50
    assert run.inputs.start is not None
    assert run.inputs.start.name == "nano"
    assert len(set(model.tokenizer.pieces) & set(run.inputs.start.tokenizer.pieces)) > 100
    assert set(run.inputs.start.lineage) < set(model.lineage)
    assert [source.role for source in model.lineage] == ["teacher", "teacher", "data", "data"]
    plain = Run(read_recipe(small("static", home / "begun")), Places(home / "cache", SAMPLES), quick=True)
    assert plain.full().fingerprint != model.fingerprint


def test_a_stage_is_made_once(home: Path, made: Made) -> None:
    """Whoever asks for it again finds it where it was."""
    run = Run(read_recipe(small("static", home)), Places(home / "cache", SAMPLES), quick=True)
    before, folders = stages(home), sorted((home / "cache/make").iterdir())
    for _ in range(2):
        full, small_one = run.full(), run.shrunk()
        assert full.fingerprint == run.full().fingerprint == run.described.fingerprint
        assert small_one.fingerprint == made.fingerprint
    assert (stages(home), sorted((home / "cache/make").iterdir())) == (before, folders)


def test_what_asks_is_asked_with_its_prompt(home: Path, made: Made) -> None:
    changes = {"[targets]": '[targets]\nquery = "ask: "\nmax_tokens = 20'}
    (home / "asked").mkdir()
    run = Run(read_recipe(small("static", home / "asked", **changes)), Places(home / "cache", SAMPLES), quick=True)
    texts, inputs = run.inputs.texts[100:140], run.inputs
    with pytest.warns(CutWarning):
        inputs.ask_teachers()
    with pytest.warns(CutWarning, match=r"sees only the first 20 tokens of \d+ of 40 texts"):
        asked = inputs.asked(texts)
    with pytest.warns(CutWarning, match=r"of 40 texts"):
        assert np.array_equal(inputs.asked(texts), asked)
    prompted = Targets(inputs.teacher, home / "cache", Look("ask: ", 20))
    assert np.array_equal(asked, inputs.axes.targets([(prompted, each) for each in inputs.looks.poolings], texts))
    assert not np.array_equal(asked, inputs.axes.targets(inputs.views, texts))


def test_what_decides_a_teacher_s_vectors_is_in_the_key(home: Path) -> None:
    """And what those of our recipes have is not, so that what they made is found."""
    inputs = Run(read_recipe(small("static", home)), Places(home / "cache", SAMPLES), quick=True).inputs
    teacher, keys = replace(inputs.teacher, pooling="cls", max_tokens=512), list[bytes]()
    for each in (teacher, replace(teacher, pooling="mean"), replace(teacher, max_tokens=8)):
        inputs.teacher = each
        keys.append(inputs.fingerprint())
    assert len(set(keys)) == 3
    assert json.loads(keys[0])[:2] == [__version__, teacher.fingerprint]
    assert len(json.loads(keys[0])) == 10


def test_texts_that_a_teacher_sees_cut_are_told(home: Path, made: Made) -> None:
    """The second time too, when all vectors are there."""
    recipe = read_recipe(small("static", home, **{"[targets]": "[targets]\nmax_tokens = 20"}))
    run, again = (Run(recipe, Places(home / "cache", SAMPLES), quick=True) for _ in range(2))
    tokenizer = parse_tokenizer(run.inputs.teacher.tokenizer_json, "teacher")
    tokenizer.no_truncation()
    ends = sum(map(len, run.inputs.teacher.ends()))
    encoded = tokenizer.encode_batch(run.inputs.texts, add_special_tokens=False)
    long = sum(len(each.ids) + ends > 20 for each in encoded)
    with pytest.warns(
        CutWarning, match=f"sees only the first 20 tokens of {long:,} of {len(run.inputs.texts):,} texts"
    ):
        assert run.lessons[0].pairs is not None
    with pytest.warns(CutWarning, match=f"of {long:,} of"):
        again.inputs.ask_teachers()


def test_without_torch(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="pip install --upgrade torch"):
        make(small("static", home), home / "f.nest", data=SAMPLES, cache=home / "cache")


def test_pairs_need_their_columns(home: Path) -> None:
    recipe: dict[str, Any] = read_recipe(small("static", home))
    recipe["pairs"]["path"] = "cache:corpus.parquet"
    with pytest.raises(InputError, match="has no column anchor, positive"):
        _ = Run(recipe, Places(home / "cache", SAMPLES)).inputs.sides
    recipe["pairs"]["path"] = "cache:gone.parquet"
    with pytest.raises(InputError, match=r"gone\.parquet is not there\. A file of texts was expected\. Pass --data\."):
        Run(recipe, Places(home / "cache", SAMPLES))


def test_command(home: Path, made: Made) -> None:
    command = ["make", str(small("static", home)), "--quick", "--data", str(SAMPLES), "--cache", str(home / "cache")]
    done = CliRunner().invoke(main, [*command, "--out", str(home / "g.nest"), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["fingerprint"] == made.fingerprint
    corpus = ["--corpus", str(files("nestling.shrink") / "held_out.txt")]
    done = CliRunner().invoke(main, [*command, "--out", str(home / "h.nest"), *corpus])
    assert done.exit_code == 0, done.output

"""recipes/micro.toml and mini.toml end to end, quick: static models become transformers that fit their budgets."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import nestling.make.train as training
from nestling.errors import InputError
from nestling.make.contextual import dev_scores, load_student, new_student, save_student, to_model
from nestling.make.lessons import bags
from nestling.make.recipe import Places, read_recipe
from nestling.make.run import Made, Run, make
from nestling.make.settings import Body, Training
from nestling.make.train import Lessons, train
from nestling.make.transformer import moments, taught
from nestling.model.load import load_transformer
from nestling.model.output import unit
from nestling.model.static import StaticModel
from nestling.model.transformer import TransformerModel
from nestling.score.sts import score_sts
from nestling.shrink.fidelity import sample_texts
from nestling.shrink.transformer import table_alone, with_small_body
from tests.conftest import SAMPLES, model_of
from tests.make.conftest import save_teacher
from tests.make.test_run import SMALL, inputs, small

SMALLER = {
    '"2999KB"': '"150KB"', '"6222KB"': '"70KB"', "word = 3": "word = 2",
    "layers = 3": "layers = 2", "checks = 40": "checks = 4",
    "data:eval/STSBenchmark/validation.parquet": "cache:sts.parquet", "compiled = true": "compiled = false",
    "tokens = 1024": "tokens = 64", "head = 64": "head = 16", "words = 12_000": "words = 40", "prune = 22": "prune = 2",
    'start = "static"\n': "", "rate = 5e-4": "rate = 3e-3",
    "general = 2_000_000": "general = 200", "widths = [3, 4]": "widths = [8, 8]",
    "keep = [0, 1, 2]": "keep = [0]\nfeed = 48", "words = 128": "words = 16", "tokens = 511": "tokens = 36",
    "epochs = 2.0\nbatch = 512": "epochs = 1.0\nbatch = 32", "epochs = 0.75\nbatch = 256": "epochs = 1.0\nbatch = 32",
    "batch = 256": "batch = 32", "body_rate = 4e-4": "body_rate = 3e-3", "widths = [2, 4]": "widths = [8, 8]",
}  # fmt: skip
LAYERS = {  # of a transformer, that see whole rows, in the recipe of mini
    'encoder = "cache:teachers/minilm"\nkeep = [0, 1, 2]\nwords = 128\ntokens = 511':
        'encoder = "mini"\nkeep = [0, 1]\nfeed = 48\nwords = 64\nwhole = true\ntokens = 255',
    "word = 3": "word = 3", "epochs = 0.75\nbatch = 256": "epochs = 0.2\nbatch = 32",
}  # fmt: skip
DIM = 16


def micro(folder: Path, **more: str) -> Path:
    return small("micro", folder, **{**SMALLER, **more})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("contextual")
    inputs(folder / "cache")
    save_teacher("wordpiece", folder / "cache/teachers/minilm")
    return folder


@pytest.fixture(scope="module")
def made(home: Path) -> Made:
    return make(micro(home), home / "micro.nest", data=SAMPLES, cache=home / "cache", quick=True)


def test_a_recipe_makes_a_transformer(home: Path, made: Made) -> None:
    names = sorted(path.name.rpartition("-")[0] for path in (home / "cache/make").iterdir())
    assert names == ["coded", "distilled", "student", "tasks", "trained", "tuned"]
    assert not list((home / "cache/make").rglob("run.safetensors"))
    model = load_transformer(made.path)
    assert made.size <= 150_000
    assert made.trials[0]["what"].startswith("product 8 and 8")
    assert model.dims == (48, 32)
    assert model.max_tokens == 64
    assert model.document.scheme == "product"
    assert model.tasks == ("qry", "doc", "sym")
    assert model.document.routes == {"query": "qry", "document": "doc", "text": "sym"}
    assert [source.role for source in model.lineage] == ["teacher", "data", "data"]
    assert len(model.verify()) == 3
    assert min(check.cosine for check in model.verify()) > 0.999


def test_its_rows_are_those_that_it_learnt_with(home: Path, made: Made) -> None:
    coded = load_transformer(next((home / "cache/make").glob("coded-*/model.nest")))
    model = load_transformer(made.path)
    np.testing.assert_array_equal(model.table.expanded(), coded.table.expanded())
    student = load_student(next((home / "cache/make").glob("tasks-*/student.safetensors")))
    np.testing.assert_allclose(student.table(), model.table.expanded(), atol=1e-6)
    texts = [" ".join(text.split()[:10]) for text in sample_texts()[:50]]
    near = np.einsum("ij,ij->i", model.encode(texts), coded.encode(texts))
    assert 0.5 < near.mean() < 0.999


def test_blocks_that_an_encoder_knew_before(home: Path) -> None:
    path = small("mini", home, **SMALLER)
    made = make(path, home / "mini.nest", data=SAMPLES, cache=home / "cache", quick=True)
    model = load_transformer(made.path)
    assert made.size <= 70_000
    assert (model.max_tokens, model.document.inner, model.dim) == (36, 64, 48)
    named = [(source.role, source.name) for source in model.lineage]
    assert named[:2] == [("teacher", "sample/teacher"), ("teacher", "tests/wordpiece")]
    assert [role for role, _ in named[2:]] == ["data", "data"]
    assert made.losses["student"][-1]["held_out"] < made.losses["student"][0]["held_out"]
    feedback_and_blend_are_heard(path, home, model)


def feedback_and_blend_are_heard(path: Path, home: Path, model: TransformerModel) -> None:
    """In a model that a recipe with both has made, whose stages are found where they are, however often it is asked."""
    folders = sorted((home / "cache/make").iterdir())
    run = Run(read_recipe(path), Places(home / "cache", SAMPLES), quick=True)
    taught(run)
    coded, student = taught(run)
    assert sorted((home / "cache/make").iterdir()) == folders
    learnt = load_student(run.folders["tasks"] / "student.safetensors")
    torch.testing.assert_close(student.get_parameter("back.weight"), 0.6 * learnt.get_parameter("back.weight"))
    back, its = (
        np.asarray(each) for each in (model.weights()["back.weight"], student.get_parameter("back.weight").detach())
    )
    assert (back * its).sum() == pytest.approx(np.square(its).sum(), rel=0.05)
    trained = to_model(student, table_alone(coded), run.inputs.body)
    plain, told = (
        with_small_body(trained, 2, run.seed, seen).parts().tensors for seen in ({}, moments(run, student, coded))
    )
    for name in ("narrow", "wide", "attended", "queries_keys_values"):
        codes = model.parts().tensors[f"body.blocks.0.{name}.weight"]
        assert np.array_equal(codes, told[f"body.blocks.0.{name}.weight"])
        assert not np.array_equal(codes, plain[f"body.blocks.0.{name}.weight"])


def test_blocks_that_are_layers_of_a_transformer(home: Path) -> None:
    """Of the mini that ships: they see whole rows, and keep what they have learnt to weigh and to add."""
    given = {**SMALLER, **LAYERS, "widths = [2, 4]": "widths = [8, 8, 16]", '"6222KB"': '"700KB"'}
    path = small("mini", home, **{**LAYERS, **given})
    made = make(path, home / "layers.nest", data=SAMPLES, cache=home / "cache", quick=True)
    model = load_transformer(made.path)
    assert made.size <= 700_000
    assert made.trials[0]["what"].startswith("product 8 and 8 and 16")
    assert (model.max_tokens, model.document.inner, model.dim) == (255, 48 + 64, 48)
    tensors = model.parts().tensors
    assert tensors["body.blocks.1.wide.weight"].shape == (384, 48 // 3)
    assert tensors["body.up.weight"].shape == (48 + 64, 384 // 3)
    assert tensors["body.places"].shape == (256, 384 // 3)
    named = [source.name for source in model.lineage]
    assert named[0] == "sample/teacher"
    assert set(named) > {source.name for source in load_transformer("mini").lineage}
    assert len(named) == len(set(model.lineage))
    assert min(check.cosine for check in model.verify()) > 0.999


def test_rows_in_few_bits_do_not_learn(home: Path) -> None:
    path = micro(home, **{"rate = 0.0": "rate = 0.1"})
    with pytest.raises(InputError, match=r"has rate = 0\.1 in \[student\]"):
        make(path, home / "no.nest", data=SAMPLES, cache=home / "cache", quick=True)


def test_its_losses_are_reported(made: Made) -> None:
    assert set(made.losses) == {"student", "tasks"}
    log = made.losses["student"]
    assert [set(line) for line in log] == [{"step", "loss", "held_out", "dev"}] * len(log)
    assert log[-1]["held_out"] < log[1]["held_out"]  # when the rate has risen; first steps, of little, prove nothing
    json.dumps(made.losses)


def test_the_same_inputs_give_the_same_bytes(home: Path, made: Made, tmp_path: Path) -> None:
    inputs(tmp_path / "cache")
    for folder in ("targets", "teachers"):
        shutil.copytree(home / "cache" / folder, tmp_path / "cache" / folder)
    again = make(micro(tmp_path), tmp_path / "b.nest", data=SAMPLES, cache=tmp_path / "cache", quick=True)
    assert again.path.read_bytes() == made.path.read_bytes()


def test_a_student_is_not_repaired(tmp_path: Path) -> None:
    path = micro(tmp_path)
    path.write_text(path.read_text() + "\n[repair]\nrounds = 1\n")
    with pytest.raises(InputError, match="has \\[student\\] and \\[repair\\]"):
        read_recipe(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({'query = "qry"': 'query = "qrx"'}, "has query = 'qrx'. Known are qry, doc, sym."),
        ({"[routes]": "[blend]\nadds = 0.5\n\n[routes]"}, "[blend]. Layers of an encoder"),
        ({"tokens = 1024": "tokens = 64\nwhole = true"}, "whole = true. Layers of an encoder"),
        ({"head = 64": "head = 60"}, "columns 48, 48, 60. Multiples of 16"),
        ({"tokens = 1024": "tokens = 1"}, "has tokens = 1. A number from 2 on was expected."),
        ({"widths = [8, 8]\n": ""}, "[shrink] without widths."),
        ({"widths = [8, 8]\n": "widths = []\n"}, "[shrink] without widths."),
        ({"word = 2": "word = 17"}, "has word = 17. Known are 1, 2, 3, 4, 8."),
        ({"word = 2": "word = 2\ndim = 32"}, "dim in [shrink]. A transformer keeps all columns"),
        ({"rate = 0.0\nbody_rate = 1e-3": "rate = 0.1\nbody_rate = 1e-3"}, "rate = 0.1 in [tasks]. Rows in few bits"),
        ({"[tasks]": "[tasks]\nseeds = 2"}, "has seeds."),
        ({"[student]\n": "[student]\nown = 0.5\n"}, "has own."),
    ],
)
def test_recipes_of_no_transformer_are_refused_at_once(tmp_path: Path, change: dict[str, str], said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        read_recipe(micro(tmp_path, **change))


def test_pairs_that_are_all_held_out(home: Path) -> None:
    run = Run(read_recipe(micro(home)), Places(home / "cache", SAMPLES), quick=True)
    run.inputs.sides = [(run.inputs.texts[0], run.inputs.texts[70])]
    with pytest.raises(InputError, match="Each of 1 pairs"):
        _ = run.inputs.paired


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"keep = [0, 1, 2]": "keep = [0, 2]"}, r"layers \[0, 2\], 36 tokens, and feed = 0\. It has layers 0 to 1"),
        ({"tokens = 511": "tokens = 255"}, "255 tokens"),
        ({"word = 3": "word = 3"}, r"word = 3 in \[shrink\], and blocks of 32 and 48 columns"),
        ({"keep = [0, 1, 2]": "keep = [0]\nfeed = 80"}, "feed = 80"),
    ],
)
def test_what_the_encoder_lacks_is_missed_at_once(home: Path, change: dict[str, str], said: str) -> None:
    path, stages = small("mini", home, **{**SMALLER, **change}), sorted((home / "cache/make").iterdir())
    with pytest.raises(InputError, match=said):
        make(path, home / "no.nest", data=SAMPLES, cache=home / "cache", quick=True)
    assert sorted((home / "cache/make").iterdir()) == stages


def test_words_that_do_not_add_up_to_columns(home: Path) -> None:
    path = micro(home, **{"word = 2": "word = 3", "dim = 48\nlayers": "dim = 64\nlayers"})
    with pytest.raises(InputError, match=r"word = 3 in \[shrink\], and blocks of 64 columns"):
        make(path, home / "no.nest", data=SAMPLES, cache=home / "cache", quick=True)


@pytest.fixture(scope="module")
def static() -> StaticModel:
    return model_of("wordpiece")


@pytest.fixture(scope="module")
def lessons(static: StaticModel) -> tuple[Lessons, Lessons]:
    """Texts, and targets that say more than the bag of their tokens."""
    texts = sample_texts()[:400]
    random = np.random.default_rng(0)
    aims = unit(static.encode(texts) + 0.3 * random.standard_normal((400, DIM)).astype(np.float32)).astype(np.float16)
    tokens = bags(static, texts)
    return Lessons(tokens.span(0, 350), aims[:350]), Lessons(tokens.span(350, 400), aims[350:])


def test_it_starts_as_the_static_model(static: StaticModel) -> None:
    body = Body(dim=32, layers=1, head=16, tokens=512)
    texts = sample_texts()[:30]
    mean = static.encode(texts)
    model = to_model(new_student(static, body, 0), static, body)
    np.testing.assert_allclose(model.encode(texts), mean, atol=1e-5)
    cold = to_model(new_student(static, Body(dim=32, layers=1, head=16, tokens=512, warm=False), 0), static, body)
    assert np.abs(cold.encode(texts) - mean).max() > 0.1


def test_a_student_comes_back_as_it_was(static: StaticModel, tmp_path: Path) -> None:
    student = new_student(static, Body(dim=32, layers=1, head=16), 3)
    save_student(student, tmp_path / "student.safetensors")
    again = load_student(tmp_path / "student.safetensors")
    assert again.size == student.size
    for one, other in zip(student.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_run_that_was_killed_goes_on(
    static: StaticModel, lessons: tuple[Lessons, Lessons], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ema: float
) -> None:
    body, how = Body(dim=32, layers=1, head=16), Training(epochs=6, batch=32, checks=6, ema=ema, dropout=0.1)
    whole = new_student(static, body, 0)
    log = train(whole, *lessons, how)
    killed, calls = new_student(static, body, 0), []
    loss = training._held_out_loss

    def kill(*given: object) -> float:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return loss(*given)

    monkeypatch.setattr(training, "_held_out_loss", kill)
    with pytest.raises(KeyboardInterrupt):
        train(killed, *lessons, how, keep=tmp_path / "run.safetensors")
    assert len(json.loads((tmp_path / "run.json").read_text())) == 3
    again = new_student(static, body, 0)
    assert train(again, *lessons, how, keep=tmp_path / "run.safetensors") == log
    assert len(calls) == 4 + len(log) - 3
    for one, other in zip(whole.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_dev_scores_are_those_of_the_model(home: Path, made: Made, static: StaticModel) -> None:
    body = Body(dim=32, layers=1, head=16, tokens=512)
    student = new_student(static, body, 0)
    found = dev_scores(static, home / "cache/sts.parquet", 64)(student)
    exact = score_sts(to_model(student, static, body), home / "cache/sts.parquet")["16"]
    assert found["dev"] == pytest.approx(exact, abs=0.01)  # in bfloat16


def test_the_small_names_of_tests_stand_in_the_recipe() -> None:
    text = "".join(Path(f"recipes/{name}.toml").read_text() for name in ("micro", "mini"))
    assert all(old in text for old in SMALLER)
    assert sum(old in text for old in SMALL) > 8

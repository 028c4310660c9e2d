"""Recipes: the same inputs give the same file, a finished stage is not done again, and mistakes are named."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from click.testing import CliRunner
from scipy.stats import spearmanr

import nestling.make.run as run
import nestling.shrink.budget as budget
from nestling.cli import main
from nestling.errors import InputError
from nestling.files.parts import Document, Source
from nestling.make.recipe import cache_folder, data_folder, read_recipe
from nestling.make.run import Made, make
from nestling.model.load import load
from nestling.shrink.fidelity import sample_texts
from nestling.teacher import load_teacher
from tests.conftest import SAMPLES

RECIPE = SAMPLES / "small.toml"
CORPUS = str(files("nestling.shrink") / "held_out.txt")
TASK = "pairs, Spearman"
BARE = 'name = "a"\n[teacher]\nsource = "b"\n'
TARGETS = BARE + '[corpus]\npath = "c"\n[targets]\n'
TRAIN = TARGETS + "[train]\n"


@pytest.fixture(scope="module", autouse=True)
def small_search() -> Iterator[None]:
    """Few schemes to try, so that a search takes a second."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("WIDTHS", ((32, 32),)), ("SHARES", (1.0, 0.5)), ("ROUGH_ROUNDS", 2), ("FINALISTS", 2)):
            patch.setattr(budget, name, value)
        yield


def new_cache(folder: Path) -> Path:
    """A cache that holds nothing but the pairs to score on."""
    folder.mkdir(parents=True)
    texts = sample_texts()
    pairs = {"sentence1": texts[:40], "sentence2": texts[40:80], "score": [float(i % 7) for i in range(40)]}
    pyarrow.parquet.write_table(pyarrow.table(pairs), folder / "pairs.parquet")
    return folder


def make_small(folder: Path, **options: Any) -> Made:
    cache = folder / "cache" if (folder / "cache").exists() else new_cache(folder / "cache")
    out = options.pop("out", folder / "small.nest")
    return make(RECIPE, out, **{"corpus": CORPUS, "data": SAMPLES, "cache": cache, **options})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_small(tmp_path_factory.mktemp("made"))


def teacher_key() -> str:
    return load_teacher(str(SAMPLES / "teacher")).fingerprint[:16]


def recipe_of(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_fresh_run_gives_the_same_bytes(made: Made, tmp_path: Path) -> None:
    again = make_small(tmp_path)
    assert again.path.read_bytes() == made.path.read_bytes()
    assert (again.size, again.fingerprint, again.trials, again.scores) == (
        made.size, made.fingerprint, made.trials, made.scores,
    )  # fmt: skip
    assert again.path.with_suffix(".md").read_bytes() == made.path.with_suffix(".md").read_bytes()


def test_a_finished_stage_is_not_done_again(tmp_path: Path) -> None:
    first = make_small(tmp_path)
    before = first.path.read_bytes()
    stages = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*") if path.is_file()}
    kept = sorted(path.relative_to(tmp_path / "cache").parent.parts for path in stages)
    assert [(room, name.split("-")[0]) for room, name in filter(None, kept)] == [
        ("make", "distilled"), ("make", "shrunk"), ("make", "shrunk"), ("tokens", teacher_key()),
    ]  # fmt: skip
    assert make_small(tmp_path).path.read_bytes() == before
    assert {path: path.stat().st_mtime_ns for path in stages} == stages
    shrunk = next(path for path in stages if path.parent.name.startswith("shrunk") and path.name == "model.nest")
    shrunk.unlink()
    assert make_small(tmp_path).path.read_bytes() == before
    untouched = [path for path in stages if not path.parent.name.startswith("shrunk")]
    assert all(path.stat().st_mtime_ns == stages[path] for path in untouched)


def test_other_inputs_are_other_stages(tmp_path: Path) -> None:
    """Another corpus gives another model, from the same token vectors."""
    first = make_small(tmp_path)
    shorter = tmp_path / "shorter.txt"
    shorter.write_text("\n".join(sample_texts()[:400]) + "\n", encoding="utf-8")
    assert make_small(tmp_path, corpus=str(shorter)).fingerprint != first.fingerprint
    assert len(list((tmp_path / "cache" / "make").iterdir())) == 4
    assert len(list((tmp_path / "cache" / "tokens").rglob("*.npy"))) == 1


def test_the_file_says_what_it_is(made: Made) -> None:
    model = load(made.path)
    document = model.document
    assert made.path.stat().st_size == made.size <= 26_000
    assert (model.name, document.description) == ("small", "A model to test with.")
    assert model.lineage == (
        Source("teacher", "sample/teacher", "CC0-1.0"), Source("data", "held_out.txt", "unknown"),
    )  # fmt: skip
    assert model.fingerprint == made.fingerprint
    assert model.counts is None
    assert len(model.verify()) == 2
    assert document.scores == made.scores
    assert list(made.scores[TASK]) == [str(dim) for dim in model.dims]
    assert [row["size"] <= 26_000 for row in made.trials] == [True] * len(made.trials)
    texts = sample_texts()
    one, other = model.encode(texts[:40]), model.encode(texts[40:80])
    gold = [i % 7 for i in range(40)]
    assert made.scores[TASK][str(model.dim)] == pytest.approx(
        spearmanr((one * other).sum(axis=1), gold).statistic, abs=2e-3
    )


def test_the_card(made: Made) -> None:
    card = made.path.with_suffix(".md").read_text(encoding="utf-8")
    assert card.startswith("---\nlicense: unknown\n")
    for said in (
        "# small",
        "A model to test with.",
        f"- size: {made.size:,} bytes, tokenizer included",
        "- licence: unknown",
        "- teacher: sample/teacher (CC0-1.0)",
        "- data: held_out.txt (unknown)",
        f"| {TASK} | {made.scores[TASK]['64']:.4f} |",
    ):
        assert said in card


def test_without_corpus_and_without_shrinking(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, '[teacher]\nsource = "data:teacher"\n[distil]\ndim = 32\n')
    with pytest.raises(InputError, match=r"recipe\.toml lacks name\."):
        read_recipe(recipe)
    recipe = recipe_of(tmp_path, 'name = "bare"\n' + recipe.read_text())
    done = make(recipe, tmp_path / "bare.nest", data=SAMPLES, cache=tmp_path / "cache")
    model = load(done.path)
    assert (done.trials, done.scores, model.dim, model.document.scheme) == ([], {}, 32, "float")
    assert model.lineage == (Source("teacher", "sample/teacher", "CC0-1.0"),)
    assert model.counts is not None


def test_the_recipe_s_own_corpus(tmp_path: Path) -> None:
    shutil.copy(CORPUS, tmp_path / "texts.txt")
    corpus = '[corpus]\npath = "cache:texts.txt"\nname = "sentences"\nlicence = "CC0"\n'
    head = 'name = "own"\n[teacher]\nsource = "data:teacher"\n[distil]\ndim = 32\nheld_out = 60\n'
    recipe = recipe_of(tmp_path, 'licence = "CC0-1.0"\n' + head + corpus)

    def made(**given: Any) -> Document:
        return load(make(recipe, tmp_path / "own.nest", data=SAMPLES, cache=tmp_path, **given).path).document

    assert made().lineage[1] == Source("data", "sentences", "CC0")
    digest = hashlib.sha256(recipe.read_bytes()).hexdigest()
    assert (made().recipe, made().licence) == (digest, "CC0-1.0") == (made(seed=0).recipe, made(seed=0).licence)
    for given, licence in (
        ({"seed": 1}, "CC0-1.0"), ({"quick": True}, "CC0-1.0"), ({"corpus": CORPUS}, "unknown"),
        ({"teacher": str(SAMPLES / "teacher")}, "unknown"),
    ):  # fmt: skip
        other = made(**given)
        assert (other.recipe, other.licence) == (None, licence)  # the recipe alone does not make it again
    (tmp_path / "texts.txt").unlink()
    with pytest.raises(InputError, match=r"texts\.txt is not there\. .* Pass --corpus or --data\."):
        make(tmp_path / "recipe.toml", tmp_path / "own.nest", data=SAMPLES, cache=tmp_path)


def test_our_recipes_are_sound() -> None:
    paths = sorted((SAMPLES.parents[1] / "recipes").glob("*.toml"))
    assert paths
    for path in [*paths, RECIPE]:
        assert read_recipe(path)["name"] == path.stem


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name = ", "cannot be read"),
        ('name = "a"\nname = "b"', "cannot be read"),
        (
            'name = "a"\ncolour = 1\n[teacher]\nsource = "b"',
            "has colour. Known are again, blend, canaries, corpus, desc",
        ),
        ('name = "a"\n[teacher]\nsource = "b"\n[train]\nsteps = 1', "[train] of"),
        ('name = "a"\n[teacher]\nsource = "b"\n[train]', "lacks [targets], on which [train] stands."),
        (
            'name = "a"\n[teacher]\nsource = "b"\n[corpus]\npath = "c"\n[targets]\n[train]\n[tune]',
            "lacks [pairs], on which [tune] stands.",
        ),
        (
            'name = "a"\n[teacher]\nsource = "b"\n[train]\ndims = [1.5]',
            "has dims = '[1.5]'. A list of whole numbers was expected.",
        ),
        ('name = "a"\n[teacher]\nsource = "b"\n[train]\ndims = 4', "A list of whole numbers was expected."),
        ('name = "a"\n[teacher]\nsource = "b"\n[shrink]\nbudget = "1KB"\nshares = ["a"]', "A list of numbers"),
        ('name = "a"\n[teacher]\nsource = "b"\n[distil]\ndims = 1', "[distil] of"),
        (
            'name = "a"\n[teacher]\nsource = "b"\n[shrink]\nbits = 1',
            "has bits. Known are budget, dim, feedback, shares, widths, word.",
        ),
        (
            'name = "a"\n[teacher]\nsource = "b"\n[shrink]\nbudget = "1KB"\nword = 2',
            "Matrices are those of a [student].",
        ),
        ('name = "a"\nteacher = "b"', "has teacher = 'b'. A table was expected."),
        ('name = "a"\n[teacher]\nsource = 5', "has source = '5'. A string was expected."),
        (
            'name = "a"\ncanaries = "abc"\n[teacher]\nsource = "b"',
            "has canaries = 'abc'. A list of strings was expected.",
        ),
        ('name = "a"\ncanaries = [1]\n[teacher]\nsource = "b"', "A list of strings was expected."),
        ('name = "a"\n[teacher]\nsource = "b"\n[distil]\ndim = 2.5', "has dim = '2.5'. A whole number was expected."),
        ('name = "a"\n[teacher]\nsource = "b"\n[distil]\na = true', "has a = 'True'. A number was expected."),
        ('name = "a"\n[teacher]\nsource = "b"\n[score]\nsts = 1', "has sts = '1'. A string was expected."),
        ('[teacher]\nsource = "b"', "lacks name."),
        ("name = 3\n[teacher]\n", "has name = '3'. A string was expected."),
        ("[teacher]\n", "lacks name, teacher.source."),
        ('name = "a"', "lacks [teacher]."),
        ('name = "a"\n[teacher]\nget = "b"', "lacks teacher.source."),
        ('name = "a"\n[teacher]\nsource = "b"\n[shrink]', "lacks shrink.budget."),
        ('name = "a"\n[teacher]\nsource = "b"\n[corpus]\ncolumn = "t"', "lacks corpus.path."),
        (
            TARGETS + 'poolings = ["sentance"]',
            "has poolings = ['sentance']. Known are tokens, sentence. Choose from these.",
        ),
        (TARGETS + "poolings = []", "has poolings = []. Known are"),
        (TARGETS + 'dtype = "int4"', "has dtype = 'int4'. Known are float16, int8."),
        (TARGETS + "max_tokens = 2", "has max_tokens = 2. A number from 3 on"),
        (BARE + '[distil]\npooling = "most"', "has pooling = 'most'. Known are mean, sublinear."),
        (TRAIN + "batch = 0", "has batch = 0. A number from 1 on was expected. Correct it."),
        (TRAIN + "checks = 0", "has checks = 0. A number from 1 on"),
        (TRAIN + "epochs = 0", "has epochs = 0. A number from 1e-06 on"),
        (TRAIN + "epochs = -1.5", "has epochs = -1.5. A number from"),
        (TRAIN + "epochs = nan", "has epochs = nan. A number from"),
        (TRAIN + "epochs = inf", "has epochs = inf. A number from"),
        (TRAIN + "rate = -1.0", "has rate = -1.0. A number from 0 on was"),
        (TRAIN + "dims = [32, 0]", "has dims = [32, 0]. A number from 1 on"),
        (TRAIN + "margin = 0.1", "has margin. Known are"),
        (TRAIN + "pairs = 0.2", "has pairs. Known are batch, checks, "),
        (TRAIN + "own = 0.2", "has own. Known are"),
        (TRAIN + "[again]\nbody_rate = 0.2", "has body_rate. Known are"),
        (TRAIN + "[student]\ntasks = 0.5", "lacks [pairs], on which tasks in [student] stands."),
        (TRAIN + "[student]\npairs = 0.5", "lacks [pairs], on which pairs in [student] stands."),
        (
            TRAIN + '[shrink]\nbudget = "1KB"\n[repair]\npairs = 1.0',
            "lacks [pairs], on which pairs in [repair] stands.",
        ),
    ],
)
def test_mistakes_are_named(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_recipe(recipe_of(tmp_path, text))
    assert said in str(caught.value)
    assert "recipe.toml" in caught.value.given


def test_a_missing_recipe(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.toml cannot be read.*See recipes/nano\.toml\."):
        read_recipe(tmp_path / "gone.toml")


def test_a_missing_teacher_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        make(RECIPE, tmp_path / "small.nest", data=tmp_path / "nothing", cache=tmp_path)
    assert str(caught.value).endswith("Make it with: python tests/samples/build_teacher.py")
    assert "nothing/teacher is not there." in caught.value.given
    assert not (tmp_path / "small.nest").exists()


def test_a_budget_that_nothing_fits(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, RECIPE.read_text(encoding="utf-8").replace("26KB", "2KB"))
    new_cache(tmp_path / "cache")
    with pytest.raises(InputError, match=r"No scheme fits small into 1,800 bytes\."):
        make(recipe, tmp_path / "x.nest", corpus=CORPUS, data=SAMPLES, cache=tmp_path / "cache")


def test_a_model_that_is_too_large_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lay at its place stays."""
    (tmp_path / "small.nest").write_text("good")
    monkeypatch.setattr(run, "ROOM_FOR_SCORES", -10_000)
    recipe = recipe_of(tmp_path, RECIPE.read_text(encoding="utf-8").replace("26KB", "10KB"))
    where = {"data": SAMPLES, "cache": new_cache(tmp_path / "cache")}
    with pytest.raises(InputError, match=r"small has [\d,]+ bytes with its scores\. At most 10,000 were asked for"):
        make(recipe, tmp_path / "small.nest", corpus=CORPUS, **where)
    assert (tmp_path / "small.nest").read_text() == "good"
    assert not (tmp_path / "small.md").exists()


def test_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NESTLING_CACHE", str(tmp_path / "c"))
    monkeypatch.setenv("NESTLING_DATA", str(tmp_path / "d"))
    assert (cache_folder(), data_folder()) == (tmp_path / "c", tmp_path / "d")
    monkeypatch.setenv("NESTLING_CACHE", "")
    monkeypatch.delenv("NESTLING_DATA")
    assert (cache_folder(), data_folder()) == (Path.home() / ".cache" / "nestling", Path("..") / "shared")


def arguments(folder: Path) -> list[str]:
    return [
        "make", str(RECIPE), "--out", str(folder / "small.nest"), "--corpus", CORPUS, "--data", str(SAMPLES),
        "--cache", str(new_cache(folder / "cache")),
    ]  # fmt: skip


def test_command(made: Made, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, [*arguments(tmp_path), "--report", str(tmp_path / "report.json")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "small.nest").read_bytes() == made.path.read_bytes()
    assert f"{made.size:,} bytes, {made.fingerprint}" in done.stdout
    assert f"{TASK}: {made.scores[TASK]['64']:.4f} at 64 dims" in done.stdout
    report = json.loads((tmp_path / "report.json").read_text())
    assert report == {
        "path": "small.nest", "size": made.size, "fingerprint": made.fingerprint,
        "trials": made.trials, "scores": made.scores, "losses": {},
    }  # fmt: skip


def test_command_json(made: Made, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, [*arguments(tmp_path), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["fingerprint"] == made.fingerprint


def test_command_fails_in_one_line(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["make", str(tmp_path / "gone.toml")])
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "gone.toml cannot be read" in done.stderr
    done = CliRunner().invoke(main, [*arguments(tmp_path), "--teacher", str(SAMPLES)])
    assert done.exit_code == 1
    assert "A teacher is a sentence-transformers folder" in done.stderr
    assert CliRunner().invoke(main, ["make"]).exit_code == 2
    assert CliRunner().invoke(main, ["make", str(RECIPE), "--bits", "4"]).exit_code == 2


def test_another_teacher_makes_another_model(tmp_path: Path) -> None:
    """What the recipe says of its own model is not said of one from another teacher."""
    shutil.copytree(SAMPLES / "teacher", tmp_path / "mine")
    for name in ("first", "second"):
        done = make_small(tmp_path, teacher=str(tmp_path / "mine"), out=tmp_path / f"{name}.nest")
        model = load(done.path)
        assert (model.name, model.document.description, model.licence) == (name, "", "unknown")
        assert len(model.document.canaries) == 2


@pytest.mark.parametrize(("out", "said"), [("a.out", r"ends in \.nest"), ("gone/a.nest", r"gone is not there")])
def test_a_bad_target_is_refused_before_the_work(out: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        make_small(tmp_path, out=tmp_path / out)
    assert not (tmp_path / "cache" / "make").exists()
    done = CliRunner().invoke(main, ["make", str(RECIPE), "--report", str(tmp_path)])
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert "is a folder" in done.stderr


def test_a_corpus_too_short_for_its_axes(tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("one\ntwo\n")
    with pytest.raises(InputError, match=r"short\.txt has 2 texts, of which the first [\d,]+ are held out\."):
        make_small(tmp_path, corpus=str(tmp_path / "short.txt"))
    assert not (tmp_path / "cache/tokens").exists()


def test_what_would_be_missed_after_hours_is_missed_at_once(tmp_path: Path) -> None:
    cache = new_cache(tmp_path / "cache")
    (cache / "pairs.parquet").unlink()
    with pytest.raises(InputError, match=r"pairs\.parquet is not there\."):
        make_small(tmp_path)
    with pytest.raises(InputError, match=r"'much'"):
        read_recipe(recipe_of(tmp_path, RECIPE.read_text(encoding="utf-8").replace("26KB", "much")))
    head = f'name = "own"\n[teacher]\nsource = "data:teacher"\n[corpus]\npath = "{CORPUS}"\n[distil]\nheld_out = 0\n'
    with pytest.raises(InputError, match="held_out = 0"):
        make(recipe_of(tmp_path, head), tmp_path / "own.nest", data=SAMPLES, cache=cache)

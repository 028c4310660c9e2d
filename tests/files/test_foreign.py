"""Folders of model2vec and sentence-transformers: what we write they read, and the other way, with equal vectors."""

import json
import pickle
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import model2vec
import model2vec.model
import numpy as np
import numpy.typing as npt
import pytest
import safetensors.numpy
import sentence_transformers
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from threadpoolctl import threadpool_limits
from tokenizers import Tokenizer

import nestling
from nestling.errors import InputError, ModelFileError
from nestling.files.parts import Document, Parts, Source
from nestling.model.rows import CentroidRows
from nestling.model.static import StaticModel
from nestling.text.packed import PackedTokenizer
from tests.conftest import DIM, SAMPLES, model_of, plan_of
from tests.files.test_nest import SCHEMES, coded

Vectors = npt.NDArray[np.float32]
CONFIG = "config_sentence_transformers.json"


@pytest.fixture(scope="module")
def texts(odd_texts: list[str], sentences: list[str]) -> list[str]:
    return odd_texts + sentences[:200]


def assert_same(ours: Any, theirs: Any, least: float = 0.9999) -> None:
    """Row by row a cosine of at least `least`; zeros on both sides count as equal."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape
    assert np.isfinite(theirs).all()
    lengths = np.linalg.norm(ours, axis=1), np.linalg.norm(theirs, axis=1)
    zero = lengths[0] == 0
    np.testing.assert_array_equal(lengths[1] < 1e-12, zero)
    cosines = np.einsum("ij,ij->i", ours, theirs)[~zero] / (lengths[0] * lengths[1])[~zero]
    assert cosines.min() >= least
    assert zero.sum() < len(ours) / 2


def their_model2vec(folder: Path, texts: list[str], **options: Any) -> Vectors:
    model = model2vec.StaticModel.from_pretrained(folder, **{"max_length": None, **options})
    return np.asarray(model.encode(texts))


def their_sentence_transformer(folder: Path) -> sentence_transformers.SentenceTransformer:
    return sentence_transformers.SentenceTransformer(str(folder), device="cpu")


# --- what we write, they read


@pytest.mark.parametrize("scheme", SCHEMES)
def test_model2vec_reads_what_we_write(kind: str, scheme: str, tmp_path: Path, texts: list[str]) -> None:
    model = coded(kind, scheme)
    folder = tmp_path / "out"
    model.save(folder, layout="model2vec")
    ours = model.encode(texts)
    assert_same(ours, their_model2vec(folder, texts))
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    assert set(tensors) == ({"embeddings", "weights", "mapping"} if scheme == "centroids" else {"embeddings"})
    assert all(tensor.dtype == np.float32 for name, tensor in tensors.items() if name != "mapping")
    again = nestling.load(folder)
    assert_same(ours, again.encode(texts))
    assert isinstance(again.table.rows, CentroidRows) == (scheme == "centroids")
    if scheme == "centroids":
        assert len(tensors["embeddings"]) == 50
        assert json.loads((folder / "config.json").read_text())["vocabulary_quantization"] == 50


@pytest.mark.parametrize("scheme", SCHEMES)
def test_sentence_transformers_reads_what_we_write(kind: str, scheme: str, tmp_path: Path, texts: list[str]) -> None:
    model = coded(kind, scheme)
    folder = tmp_path / "out"
    model.save(folder, layout="sentence-transformers")
    ours = model.encode(texts)
    assert_same(ours, their_sentence_transformer(folder).encode(texts))
    assert_same(ours, nestling.load(folder).encode(texts))


def test_sentence_transformers_reads_our_model2vec_folder_too(kind: str, tmp_path: Path, texts: list[str]) -> None:
    for scheme in ("float32", "centroids"):
        model = coded(kind, scheme, drop=())
        model.save(tmp_path / scheme, layout="model2vec")
        assert_same(model.encode(texts), their_sentence_transformer(tmp_path / scheme).encode(texts))


def test_model2vec_reads_our_sentence_transformers_folder_too(kind: str, tmp_path: Path, texts: list[str]) -> None:
    model = model_of(kind)
    model.save(tmp_path / "out", layout="sentence-transformers")
    assert_same(model.encode(texts), their_model2vec(tmp_path / "out", texts, normalize=True))


@pytest.mark.parametrize("layout", ["model2vec", "sentence-transformers"])
def test_dropped_tokens_are_folded_in(kind: str, layout: Any, tmp_path: Path, texts: list[str]) -> None:
    """Other tokens than the unknown one are dropped too, so centroids cannot stay centroids."""
    for scheme in ("float32", "centroids"):
        model = coded(kind, scheme, drop=(1, 20, 33, 40, 41))
        folder = tmp_path / scheme
        model.save(folder, layout=layout)
        theirs = their_model2vec(folder, texts) if layout == "model2vec" else their_sentence_transformer(folder)
        theirs = theirs if isinstance(theirs, np.ndarray) else theirs.encode(texts)
        if layout == "model2vec" and kind == "wordpiece":
            assert model.tokenizer.unknown == 1
        if layout == "sentence-transformers" or model.tokenizer.unknown in (*model.document.drop, None):
            assert_same(model.encode(texts), theirs)
            assert_same(model.encode(texts), nestling.load(folder).encode(texts))


@pytest.mark.parametrize("layout", ["model2vec", "sentence-transformers"])
def test_sublinear_pooling_is_refused_and_the_mean_goes_along(
    kind: str, layout: Any, tmp_path: Path, texts: list[str]
) -> None:
    model = model_of(kind, pooling="sublinear")
    with pytest.raises(InputError, match=rf"by the root of k. The layout {layout} has the mean.*with_pooling"):
        model.save(tmp_path / "out", layout=layout)
    assert not (tmp_path / "out").exists()
    mean = model.with_pooling("mean")
    mean.save(tmp_path / "out", layout=layout)
    assert_same(mean.encode(texts), nestling.load(tmp_path / "out").encode(texts))


def test_the_limit_goes_along(kind: str, tmp_path: Path, texts: list[str]) -> None:
    """model2vec keeps it in config.json, sentence-transformers in the tokenizer's truncation."""
    model = model_of(kind, max_tokens=6)
    with pytest.warns(nestling.CutWarning):
        ours = model.encode(texts)
    model.save(tmp_path / "m2v", layout="model2vec")
    model.save(tmp_path / "st", layout="sentence-transformers")
    assert model2vec.StaticModel.from_pretrained(tmp_path / "m2v").max_length == 6
    assert_same(ours, their_sentence_transformer(tmp_path / "st").encode(texts))
    for folder in ("m2v", "st"):
        again = nestling.load(tmp_path / folder)
        assert again.max_tokens == 6
        with pytest.warns(nestling.CutWarning):
            assert_same(ours, again.encode(texts))


def test_a_truncation_that_the_model_does_not_have_is_not_written(tmp_path: Path, texts: list[str]) -> None:
    model = model_of("bpe")
    model.tokenizer.json["truncation"] = {
        "direction": "Right",
        "max_length": 2,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    model.tokenizer.json["padding"] = {
        "strategy": {"Fixed": 64},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 5,
        "pad_type_id": 0,
        "pad_token": "$",
    }
    model.save(tmp_path / "st", layout="sentence-transformers")
    model.save(tmp_path / "m2v", layout="model2vec")
    assert_same(model.encode(texts), their_sentence_transformer(tmp_path / "st").encode(texts))
    assert_same(model.encode(texts), their_model2vec(tmp_path / "m2v", texts))
    assert_same(model.encode(texts), nestling.load(tmp_path / "m2v").encode(texts))


@pytest.mark.parametrize("layout", ["model2vec", "sentence-transformers"])
def test_prompts_are_written_and_read(layout: Any, tmp_path: Path, texts: list[str]) -> None:
    prompts = {"query": "search for: ", "document": "東京: "}
    model = model_of("wordpiece", prompts=prompts)
    model.save(tmp_path / "out", layout=layout)
    theirs, again = their_sentence_transformer(tmp_path / "out"), nestling.load(tmp_path / "out")
    assert again.document.prompts == prompts
    for task in prompts:
        ours = model.encode(texts, task=task)
        assert_same(ours, theirs.encode(texts, prompt_name=task))
        assert_same(ours, again.encode(texts, task=task))
    assert_same(model.encode(texts), theirs.encode(texts))


@pytest.mark.parametrize("layout", ["model2vec", "sentence-transformers"])
def test_what_a_model_says_of_itself_goes_along(layout: Any, tmp_path: Path, texts: list[str]) -> None:
    about = {
        "name": "sparrow", "description": "Small.", "licence": "MIT", "recipe": "ab",
        "lineage": (Source("teacher", "owl", "MIT"),), "scores": {"STS": {"16": 0.5}},
    }  # fmt: skip
    model = model_of("bpe", **about)
    model.save(tmp_path / "folder", layout=layout)
    theirs = their_sentence_transformer(tmp_path / "folder").encode(texts)
    assert_same(model.encode(texts), theirs)
    assert_same(model.encode(texts), their_model2vec(tmp_path / "folder", texts, normalize=True))
    again = nestling.load(tmp_path / "folder").document
    assert {key: getattr(again, key) for key in about} == about
    assert (again.dims, again.canaries) == (model.dims, model.document.canaries)


def test_a_folder_of_others_has_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model_of("bpe", licence="MIT").save(tmp_path / "wren", layout="model2vec")
    without_ours(tmp_path / "wren")
    monkeypatch.chdir(tmp_path / "wren")
    again = nestling.load(".")
    assert (again.name, again.licence, again.dims) == ("wren", "mit", (DIM,))


@pytest.mark.parametrize(
    "kept", [5, [], {"dim": 4}, {"dims": [8, 4]}, {"name": 3}, {"scores": {"a": {"4": "b"}}}, {"lineage": [{}]}]
)
def test_a_bad_key_of_ours_is_refused(folder: Path, kept: Any) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "model2vec", "nestling": kept}))
    refusal(folder, ": ")


# --- what they write, we read


@pytest.fixture
def theirs(kind: str) -> model2vec.StaticModel:
    tokenizer = Tokenizer.from_file(str(SAMPLES / f"{kind}.json"))
    rows = np.random.default_rng(3).standard_normal((tokenizer.get_vocab_size(), DIM)).astype(np.float32)
    return model2vec.StaticModel(rows, tokenizer, {"tokenizer_name": "x"}, normalize=True, max_length=None)


QUANTIZED: dict[str, dict[str, Any]] = {
    "as it is": {},
    "float16": {"quantize_to": "float16"},
    "float64": {"quantize_to": "float64"},
    "int8": {"quantize_to": "int8"},
    "fewer dims": {"dimensionality": 8},
    "centroids": {"vocabulary_quantization": 40},
    "int8 centroids": {"vocabulary_quantization": 40, "quantize_to": "int8"},
    "float16 centroids": {"vocabulary_quantization": 40, "quantize_to": "float16"},
}


@pytest.mark.parametrize("how", QUANTIZED)
def test_we_read_what_model2vec_writes(
    theirs: model2vec.StaticModel, how: str, tmp_path: Path, texts: list[str]
) -> None:
    with threadpool_limits(1):  # k-means on so few rows waits for its threads
        model = model2vec.model.quantize_model(theirs, **QUANTIZED[how]) if QUANTIZED[how] else theirs
    model.save_pretrained(tmp_path / "m2v")
    ours = nestling.load(tmp_path / "m2v")
    assert ours.table.rows.scheme == ("centroids" if "centroids" in how else "int8" if how == "int8" else "float")
    least = 0.9999 if "16" not in how else 0.999  # their mean of float16 rows is taken in float16
    assert_same(ours.encode(texts), model.encode(texts), least)
    ours.save(tmp_path / "again.nest")
    assert_same(nestling.load(tmp_path / "again.nest").encode(texts), ours.encode(texts), 1 - 1e-12)


def test_we_read_the_limit_that_model2vec_writes(theirs: model2vec.StaticModel, tmp_path: Path) -> None:
    theirs.max_length = 7
    theirs.save_pretrained(tmp_path / "m2v")
    assert nestling.load(tmp_path / "m2v").max_tokens == 7


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("limit", [None, 5])
def test_we_read_what_sentence_transformers_writes(
    kind: str, normalize: bool, limit: int | None, tmp_path: Path, texts: list[str]
) -> None:
    tokenizer = Tokenizer.from_file(str(SAMPLES / f"{kind}.json"))
    if limit is not None:
        tokenizer.enable_truncation(limit)
    rows = np.random.default_rng(3).standard_normal((tokenizer.get_vocab_size(), DIM)).astype(np.float32)
    modules: list[Any] = [StaticEmbedding(tokenizer, embedding_weights=rows)]
    if normalize:
        modules.append(sentence_transformers.sentence_transformer.modules.Normalize())
    model = sentence_transformers.SentenceTransformer(modules=modules, device="cpu", prompts={"query": "the "})
    model.save(str(tmp_path / "st"))
    ours = nestling.load(tmp_path / "st")
    assert ours.max_tokens == limit
    with pytest.warns(nestling.CutWarning) if limit else nullcontext():
        assert_same(ours.encode(texts), model.encode(texts))
        assert_same(ours.encode(texts, task="query"), model.encode(texts, prompt_name="query"))


# --- folders that are refused


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As others write it, without what we add to config.json."""
    model_of("wordpiece").save(tmp_path / "model", layout="model2vec")
    without_ours(tmp_path / "model")
    return tmp_path / "model"


def without_ours(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    del config["nestling"]
    (folder / "config.json").write_text(json.dumps(config))


@pytest.fixture
def st_folder(tmp_path: Path) -> Path:
    model_of("wordpiece").save(tmp_path / "st", layout="sentence-transformers")
    return tmp_path / "st"


def refusal(path: Path, said: str) -> None:
    with pytest.raises(ModelFileError) as refused:
        nestling.load(path)
    error = refused.value
    assert all((error.given, error.expected, error.do))
    assert path.name in str(error)
    assert said in str(error)


@pytest.mark.parametrize("layout", ["model2vec", "sentence-transformers"])
def test_a_folder_that_holds_something_is_never_written_over(tmp_path: Path, layout: Any) -> None:
    full, empty, file = tmp_path / "full", tmp_path / "empty", tmp_path / "file"
    full.mkdir()
    (full / "thesis.txt").write_text("five years")
    empty.mkdir()
    file.write_text("one")
    model = model_of("wordpiece")
    for path in (full, file):
        with pytest.raises(InputError, match=r"is there already\. A new or empty folder was expected\. Delete it"):
            model.save(path, layout=layout)
    assert [path.name for path in full.iterdir()] == ["thesis.txt"]
    assert file.read_text() == "one"
    model.save(empty, layout=layout)
    model.save(tmp_path / "new" / "deep", layout=layout)
    assert nestling.load(empty).fingerprint == nestling.load(tmp_path / "new" / "deep").fingerprint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file", "full", "new"]


@pytest.mark.parametrize("exists", [True, False])
def test_a_folder_is_written_where_a_link_leads(tmp_path: Path, exists: bool) -> None:
    if exists:
        (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    model_of("wordpiece").save(tmp_path / "link", layout="model2vec")
    assert (tmp_path / "link").is_symlink()
    assert nestling.load(tmp_path / "real").encode("a cat").any()


def test_the_folder_we_are_in_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"\. is the folder you are in\."):
        model_of("wordpiece").save(".", layout="model2vec")


def test_a_folder_that_cannot_be_finished_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nestling.files.foreign.card", fail)
    with pytest.raises(OSError, match="No space left"):
        model_of("wordpiece").save(tmp_path / "out", layout="model2vec")
    assert list(tmp_path.iterdir()) == []


class Trap:
    """Unpickling this creates the file `sprung`."""

    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.sprung,)


def set_traps(folder: Path) -> Path:
    sprung = folder.parent / "sprung"
    for name in ("pytorch_model.bin", "model.pkl", "model.skops"):
        (folder / name).write_bytes(pickle.dumps(Trap(sprung)))
    for name in ("modeling_evil.py", "__init__.py", "conftest.py"):
        (folder / name).write_text(f"import pathlib; pathlib.Path({str(sprung)!r}).touch()\n")
    return sprung


def test_the_traps_work(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    sprung = set_traps(tmp_path / "model")
    pickle.loads((tmp_path / "model" / "model.pkl").read_bytes())
    assert sprung.exists()
    sprung.unlink()
    exec((tmp_path / "model" / "__init__.py").read_text())
    assert sprung.exists()


def test_code_and_pickles_are_named_and_never_run(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    sprung = set_traps(tmp_path / "model")
    refusal(tmp_path / "model", "__init__.py, conftest.py, model.pkl, model.skops, modeling_evil.py")
    (tmp_path / "model" / "config.json").write_text(
        '{"model_type": "x", "auto_map": {"AutoModel": "modeling_evil.Evil"}, "trust_remote_code": true}'
    )
    refusal(tmp_path / "model", "which nestling never runs or unpickles")
    assert not sprung.exists()


def test_code_and_pickles_beside_a_model_are_never_run(folder: Path) -> None:
    sprung = set_traps(folder)
    nestling.load(folder).encode("hello")
    assert not sprung.exists()


def test_a_folder_of_many_files_is_refused_without_walking_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home" / "a" / "b").mkdir(parents=True)
    (tmp_path / "home" / "a" / "b" / "deep.pkl").touch()
    (tmp_path / "home" / "a" / "near.pkl").touch()
    with pytest.raises(ModelFileError) as refused:
        nestling.load(tmp_path / "home")
    assert "near.pkl" in str(refused.value)
    assert "deep.pkl" not in str(refused.value)


def modules(*kinds: str, path: Any = "") -> list[dict[str, Any]]:
    return [
        {"idx": k, "name": str(k), "path": path if k == 0 else f"{k}", "type": f"sentence_transformers.models.{kind}"}
        for k, kind in enumerate(kinds)
    ]


BAD_MODULES: dict[str, tuple[Any, str]] = {
    "a transformer": (modules("Transformer", "Pooling"), "has modules Transformer, Pooling, not a StaticEmbedding"),
    "a dense layer": (modules("StaticEmbedding", "Dense"), "has modules StaticEmbedding, Dense"),
    "two tables": (modules("Normalize", "StaticEmbedding"), "has modules Normalize, StaticEmbedding"),
    "their own code": ([{"type": "evil.Module", "path": ""}], "has modules Module"),
    "none": ([], "has modules"),
    "no type": ([{"path": ""}], "has modules"),
    "a neighbour": (modules("StaticEmbedding", path="../elsewhere"), "points outside itself"),
    "a neighbour by detour": (modules("StaticEmbedding", path="0_StaticEmbedding/../../elsewhere"), "points outside"),
    "an absolute path": (modules("StaticEmbedding", path="/tmp"), "points outside itself, to /tmp"),
    "a symlink out": (modules("StaticEmbedding", path="away"), "points outside itself"),
    "a symlink to itself": (modules("StaticEmbedding", path="loop"), "points to 'loop', which cannot be opened"),
    "nowhere": (modules("StaticEmbedding", path="gone"), "points to 'gone', which cannot be opened"),
    "a zero byte": (modules("StaticEmbedding", path="a\0b"), "which cannot be opened"),
    "a long path": (modules("StaticEmbedding", path="x" * 10_000), "which cannot be opened"),
    "a path of null": (modules("StaticEmbedding", path=None), "points to 'None', which cannot be opened"),
    "an object": ({"0": "StaticEmbedding"}, "is no list of modules"),
    "a list of texts": (["StaticEmbedding"], "is no list of modules"),
}


@pytest.mark.parametrize("name", BAD_MODULES)
def test_bad_modules_are_refused(st_folder: Path, name: str) -> None:
    content, said = BAD_MODULES[name]
    shutil.copytree(st_folder / "0_StaticEmbedding", st_folder.parent / "elsewhere")
    (st_folder / "away").symlink_to(st_folder.parent / "elsewhere")
    (st_folder / "loop").symlink_to(st_folder / "loop")
    (st_folder / "modules.json").write_text(json.dumps(content))
    refusal(st_folder, said)


def test_a_default_prompt_is_refused(st_folder: Path) -> None:
    config = json.loads((st_folder / CONFIG).read_text())
    config |= {"prompts": {"query": "q: "}, "default_prompt_name": "query"}
    (st_folder / CONFIG).write_text(json.dumps(config))
    refusal(st_folder, "default_prompt_name is set, which nestling does not apply")


@pytest.mark.parametrize("prompts", [["q: "], {"query": 5}, {"query": None}, "q: "])
def test_bad_prompts_are_refused(st_folder: Path, prompts: Any) -> None:
    (st_folder / CONFIG).write_text(json.dumps({"prompts": prompts}))
    refusal(st_folder, "prompts is no object of strings")


@pytest.mark.parametrize("limit", [0, -1, 5.5, "512", True, [5], {"a": 1}, 1e400])
def test_a_bad_limit_is_refused(folder: Path, limit: Any) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "model2vec", "max_length": limit}))
    refusal(folder, "max_tokens is ")


@pytest.mark.parametrize("name", ["config.json", CONFIG])
@pytest.mark.parametrize("content", ["[]", "5", "{", "", '{"a": 1, "a": 2}', "\xff\xfe"])
def test_a_bad_config_is_refused(folder: Path, name: str, content: str) -> None:
    (folder / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(ModelFileError, match=name.replace(".", r"\.")):
        nestling.load(folder)


Tensors = dict[str, npt.NDArray[Any]]
BAD_TENSORS: dict[str, tuple[Callable[[Tensors], Tensors], str]] = {
    "none": (lambda t: {}, "no 2-d tensor `embeddings`"),
    "another name": (lambda t: {"weight": t["embeddings"]}, "no 2-d tensor `embeddings` or `embedding.weight` among"),
    "flat": (lambda t: {"embeddings": t["embeddings"].ravel()}, "no 2-d tensor"),
    "no columns": (lambda t: {"embeddings": t["embeddings"][:, :0]}, "no 2-d tensor"),
    "integers": (lambda t: {"embeddings": t["embeddings"].astype(np.int32)}, "a table of dtype int32"),
    "unsigned": (lambda t: {"embeddings": t["embeddings"].astype(np.uint8)}, "a table of dtype uint8"),
    "NaN": (lambda t: {"embeddings": np.full_like(t["embeddings"], np.nan)}, "values that are not finite"),
    "too large for float32": (lambda t: {"embeddings": np.full((600, 4), 1e300)}, "values that are not finite"),
    "a row too few": (lambda t: {"embeddings": t["embeddings"][1:]}, "the table has 599 rows"),
    "a weight too few": (lambda t: {**t, "weights": np.ones(599)}, "'weights' of shape (599,)"),
    "a weight of NaN": (lambda t: {**t, "weights": np.full(600, np.nan)}, "'weights' with values"),
    "two-dimensional weights": (lambda t: {**t, "weights": np.ones((600, 1))}, "'weights' of shape (600, 1)"),
    "a mapping beyond": (lambda t: {**t, "mapping": np.full(600, 600)}, "mapping does not point into the 600 rows"),
    "a mapping below": (lambda t: {**t, "mapping": np.full(600, -1)}, "mapping does not point into"),
    "a mapping of floats": (lambda t: {**t, "mapping": np.zeros(600)}, "mapping does not point into"),
    "a mapping into nothing": (
        lambda t: {"embeddings": t["embeddings"][:0], "mapping": np.zeros(600, np.int64)},
        "mapping does not point into the 0 rows",
    ),
    "a two-dimensional mapping": (lambda t: {**t, "mapping": np.zeros((600, 1), np.int64)}, "'mapping' of shape"),
    "a short mapping": (lambda t: {**t, "mapping": np.zeros(599, np.int64)}, "the table has 599 rows"),
}


@pytest.mark.parametrize("name", BAD_TENSORS)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_bad_tensors_are_refused(folder: Path, name: str) -> None:
    change, said = BAD_TENSORS[name]
    tensors = change(safetensors.numpy.load_file(folder / "model.safetensors"))
    whole = {key: np.ascontiguousarray(tensor) for key, tensor in tensors.items()}
    safetensors.numpy.save_file(whole, folder / "model.safetensors")
    refusal(folder, said)


@pytest.mark.parametrize(
    ("readme", "licence"),
    [
        ("---\nlicense: mit\n---\n", "mit"),
        ("---\ntags: [a]\nlicense: 'cc-by-4.0'\nlanguage: en\n---\n# x", "cc-by-4.0"),
        ("---\ntags: [a]\n---\nlicense: see below\n", "unknown"),
        ("---\nlicense:\n- mit\n---\n", "unknown"),
        ("# x\n\nlicense: mit\n", "unknown"),
        ("---\n" + "a\n" * 200_000, "unknown"),
        ("", "unknown"),
    ],
)
def test_only_a_stated_licence_is_believed(folder: Path, readme: str, licence: str) -> None:
    (folder / "README.md").write_text(readme)
    assert nestling.load(folder).licence == licence


def test_an_unknown_piece_among_the_added_tokens_is_dropped_as_model2vec_does(tmp_path: Path) -> None:
    """`unk_token` may name a token that stands in added_tokens only."""
    tokenizer = Tokenizer.from_file(str(SAMPLES / "bpe.json"))
    plan = json.loads(tokenizer.to_str())
    plan["model"]["unk_token"] = "<unknown>"
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    plan["added_tokens"].append({"id": 700, "content": "<unknown>", "special": True, **flags})
    rows = np.random.default_rng(3).standard_normal((701, DIM)).astype(np.float32)
    theirs = model2vec.StaticModel(rows, Tokenizer.from_str(json.dumps(plan)), normalize=True, max_length=None)
    theirs.save_pretrained(tmp_path / "m2v")
    texts = ["the <unknown> fox", "<unknown>", "fox"]
    assert_same(nestling.load(tmp_path / "m2v").encode(texts), theirs.encode(texts))


def test_ids_with_holes_are_written_so_that_they_are_read(tmp_path: Path, texts: list[str]) -> None:
    plan = plan_of("wordpiece")
    plan["model"]["vocab"] = {piece: index * 2 for piece, index in plan["model"]["vocab"].items()}
    for token in plan["added_tokens"]:
        token["id"] *= 2
    rows = np.random.default_rng(3).standard_normal((1200, DIM)).astype(np.float32)
    model = StaticModel(Parts(Document("float", DIM, (DIM,), drop=(2,)), {"rows": rows}, PackedTokenizer.of(plan, "x")))
    model.save(tmp_path / "st", layout="sentence-transformers")
    assert_same(model.encode(texts), their_sentence_transformer(tmp_path / "st").encode(texts))
    model.save(tmp_path / "m2v", layout="model2vec")
    assert_same(model.encode(texts), nestling.load(tmp_path / "m2v").encode(texts))
    assert_same(model.encode(texts), their_model2vec(tmp_path / "m2v", texts))

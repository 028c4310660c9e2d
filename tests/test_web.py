"""The browser's nestling (web/) in a real Chromium: Python's vectors to the bit, hostile files refused, the demo page.

web/check.mjs drives the browser once and tells what it saw; the tests here say what is right.
Needs what web/packages.sh and `npm ci --prefix web` install.
"""

import json
import os
import random
import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nestling
from nestling.model.load import shipped
from nestling.model.static import StaticModel
from nestling.model.transformer import TransformerModel
from nestling.shrink.fidelity import sample_texts
from nestling.text.packed import PackedTokenizer
from tests.conftest import SAMPLES, model_of, plan_of
from tests.files.test_hostile import TEXTS, damage_tensor, damage_value, mutants, outcome
from tests.files.test_nest import SCHEMES, coded, put_together, taken_apart
from tests.students import parts_of, student_of

ROOT = Path(__file__).parent.parent
WEB = ROOT / "web"
DEMO = ("index.html", "demo.css", "demo.js", "shelf.txt")
RUNTIME = ("nestling.js", "model.js", "core.js", "nest.js", "layout.js", "plan.js", "nestling.wasm")
MOST_TRANSFER = 750_000  # JavaScript, WebAssembly and nano
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
LACKING = [
    what
    for what, there in {
        "node": shutil.which("node"),
        "chromium": Path(CHROMIUM).exists(),
        **{name: (WEB / "node_modules" / name).exists() for name in ("playwright-core",)},
    }.items()
    if not there
]
pytestmark = pytest.mark.skipif(bool(LACKING), reason=f"no {LACKING}: run web/packages.sh and npm ci --prefix web")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What web/check.mjs reads: the site, models with Python's vectors, hostile files."""
    folder = tmp_path_factory.mktemp("web")
    (folder / "empty.html").write_text("<!doctype html><title>test</title>")
    (folder / "site").mkdir()
    for name in (*DEMO, *RUNTIME):
        shutil.copy(WEB / name, folder / "site")
    shutil.copy(ROOT / "src" / "nestling" / "models" / "nano.nest", folder / "site")
    write_vectors(folder)
    write_hostile(folder)
    write_transformers(folder)
    return folder


@pytest.fixture(scope="module")
def report(folder: Path) -> Any:
    pictures = ROOT / "build"
    command = ["node", str(WEB / "check.mjs"), str(folder), str(pictures)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# --- what Python prepares


def real_texts() -> list[str]:
    """1,000 texts and odd ones: of our corpus where it is, else of the samples."""
    corpus = Path(os.environ.get("NESTLING_DATA") or ROOT.parent / "shared") / "corpus"
    odd = [*(SAMPLES / "odd.txt").read_text(encoding="utf-8").split("\n"), *ODD]
    if not corpus.is_dir():
        return [*sample_texts(), *(" ".join(sample_texts()[i : i + 30]) for i in range(340)), *odd]
    import pyarrow.parquet as pq

    def some(name: str, count: int) -> list[str]:
        texts = pq.read_table(corpus / name, columns=["text"]).column("text").slice(0, 40_000).to_pylist()
        return random.Random(name).sample(texts, count)

    return [*some("english.parquet", 700), *some("multilingual.parquet", 295), *some("long.parquet", 5), *odd]


ODD = ["x" * 5000, "a\u0301" * 600, "\U0001f642" * 40, "한" * 300, "\x00\x85\u200b", "x\u0001y", "東京" * 100, "é" * 17]


def models() -> Iterator[StaticModel]:
    """Every form of rows under nano's tokenizer and a small one with added tokens, prompts and a limit; Unigram."""
    nano = nestling.load("nano")
    yield nano
    rows = np.random.default_rng(3).standard_normal((nano.table.size, 96)).astype(np.float32)
    for name, table in some_tables(rows).items():
        yield nano.with_table(table, name=name, dims=(96, 33, 7))
    for scheme in SCHEMES:
        about = {
            "name": f"small-{scheme}",
            "max_tokens": 9,
            "prompts": {"query": "find: ", "document": "é ", "text": "of: "},
        }
        yield coded("wordpiece", scheme, **about)
    for name, parts in UNIGRAM.items():
        yield with_plan(model_of("unigram", name=name), parts)
    cased = {"normalizer": {**plan_of("wordpiece")["normalizer"], "lowercase": False}}
    yield with_plan(model_of("wordpiece", name="cased"), cased)


MARK = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True}
STEPS: list[dict[str, Any]] = [
    *({"type": "Replace", "pattern": {"String": pair}, "content": '"'} for pair in ("``", "''")),
    *({"type": kind} for kind in ("NFKD", "StripAccents", "Lowercase")),
    {"type": "Strip", "strip_left": False, "strip_right": True},
    {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "\u2581"},
]
UNIGRAM: dict[str, dict[str, Any]] = {
    "unigram": {"normalizer": None, "pre_tokenizer": MARK},
    "unigram-folded": {"normalizer": {"type": "Sequence", "normalizers": STEPS}, "pre_tokenizer": MARK},
    "unigram-words": {
        "normalizer": STEPS[5],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, MARK]},
    },
}


def with_plan(model: StaticModel, changes: dict[str, Any]) -> StaticModel:
    """The model with other parts of its tokenizer.json."""
    packed = PackedTokenizer.of({**model.tokenizer.json, **changes}, model.name)
    return StaticModel(replace(model.parts(), tokenizer=packed))


def some_tables(rows: Any) -> dict[str, Any]:
    from nestling.model.load import requantize
    from nestling.model.rows import CentroidRows, FloatRows, Int8Rows, Table

    plain, dice = Table(FloatRows(rows)), np.random.default_rng(5)
    int8 = requantize(plain, "int8").rows
    assert isinstance(int8, Int8Rows)
    mapping = dice.integers(0, 900, len(rows)).astype(np.uint16)
    return {
        "float": plain,
        "half": requantize(plain, "float16"),
        "int8": Table(int8),
        "int8-one-scale": Table(Int8Rows(int8.values, np.full(len(rows), 0.01, np.float32))),
        "int4": requantize(plain, "int4"),
        "centroids": Table(CentroidRows(int8.keep(np.arange(900)), mapping), dice.random(len(rows), np.float32)),
        "float-centroids": Table(CentroidRows(FloatRows(rows[:900]), mapping)),
    }


def write_vectors(folder: Path) -> None:
    texts, expected = real_texts(), []
    for model in models():
        model.save(folder / f"{model.name}.nest")
        assert model.backend.startswith("core"), f"{model.name}: {model.backend}"
        runs = []
        for task, options in ways(model):
            file = f"{model.name}-{len(runs)}.bin"
            vectors, cut = model.encode_counting(texts, task=task, **options)
            (folder / file).write_bytes(np.ascontiguousarray(vectors, "<f4").tobytes())
            runs.append({"file": file, "task": task, "options": options, "cut": cut})
        expected.append({"model": model.name, "runs": runs})
    (folder / "texts.json").write_text(json.dumps(texts))
    (folder / "expected.json").write_text(json.dumps(expected))


def ways(model: StaticModel) -> Iterator[tuple[str | None, dict[str, Any]]]:
    for dim in model.dims:
        yield None, {"dim": dim}
    yield None, {"normalize": False}
    yield None, {"overflow": "split"}
    for task in model.tasks:
        yield task, {}


def hostile(folder: Path) -> Iterator[bytes]:
    """Damaged bytes, documents and tensors: of each form of rows, some hundred in all."""
    path, dice = folder / "bad.nest", random.Random("web")
    whole = [coded("wordpiece", scheme) for scheme in SCHEMES]
    for model in [*whole, with_plan(model_of("unigram"), UNIGRAM["unigram-folded"])]:
        model.save(path)
        raw = path.read_bytes()
        yield from mutants(raw, 30, f"web {model.document.scheme}", near=8 + struct.unpack("<Q", raw[:8])[0])
        document, tensors = taken_apart(path)
        for _ in range(40):
            name = dice.choice(list(tensors))
            changed = {**tensors, name: damage_tensor(name, tensors[name], dice)}
            yield put_together(path, document, changed).read_bytes()
        for _ in range(20):
            yield put_together(path, json.dumps(damage_value(document, dice)), tensors).read_bytes()


def write_hostile(folder: Path) -> None:
    files, python = list(hostile(folder)), []
    for raw in files:
        (folder / "bad.nest").write_bytes(raw)
        said = outcome(folder / "bad.nest")
        bits = None
        if said == "loads":
            vectors = nestling.load(folder / "bad.nest").encode(TEXTS, overflow="split")
            bits = np.ascontiguousarray(vectors, "<f4").view("<u4").ravel().tolist()
        python.append([said, bits])
    (folder / "hostile.bin").write_bytes(b"".join(files))
    (folder / "hostile.json").write_text(json.dumps({"sizes": list(map(len, files)), "texts": TEXTS, "python": python}))


def write_transformers(folder: Path) -> None:
    """Transformers with Python's vectors, and some whose blocks are not what they should be."""
    texts = [*real_texts()[:150], *ODD, "dog " * 700, ""]
    shutil.copy(shipped()["micro"], folder / "micro.nest")
    TransformerModel(parts_of(student_of("wordpiece"), "wordpiece")).save(folder / "wordpiece.nest")
    shutil.copy(shipped()["mini"], folder / "mini.nest")
    ways: list[tuple[str, str, dict[str, Any]]] = [
        ("micro", "text", {}), ("micro", "query", {"dim": 64}), ("micro", "document", {"normalize": False}),
        ("micro", "text", {"task": "doc", "overflow": "cut"}), ("wordpiece", "text", {}), ("wordpiece", "query", {}),
        ("mini", "document", {}),
    ]  # fmt: skip
    runs = []
    for number, (name, role, options) in enumerate(ways):
        model = nestling.load(folder / f"{name}.nest")
        task = options.get("task") or model.document.routes.get(role)
        given = {key: value for key, value in options.items() if key != "task"}
        vectors, cut = model.encode_counting(texts, task=task, **given)
        (folder / f"transformer-{number}.bin").write_bytes(np.ascontiguousarray(vectors, "<f4").tobytes())
        file = f"transformer-{number}.bin"
        runs.append({"model": name, "role": role, "options": options, "file": file, "cut": cut})
    document, tensors = taken_apart(folder / "micro.nest")
    up, wide, hostile = "body.up.weight", "body.blocks.1.wide.weight", []
    most = np.ones(65_536, np.float32)  # columns of one head, and tokens: positions of gigabytes
    huge = {name: None for name in tensors if name.startswith("body.")} | {
        up: np.zeros((256, 65_536), np.int8), f"{up}.scales": most, "body.last.weight": most,
    }  # fmt: skip
    for number, change in enumerate((
        {up: None}, {wide: None}, {f"{wide}.scales": None}, {"body.weigh.weight": None},
        {"body.blocks.1.narrow.weight": None}, {up: tensors[up][:48]}, {f"{wide}.words": None},
        {f"{wide}.words": tensors[f"{wide}.words"][:9]}, {f"{wide}.words": tensors[f"{wide}.words"][:, :1]},
        {f"{wide}.words": np.zeros((257, 2), np.int8)}, {f"{wide}.words": np.zeros((256, 5), np.int8)},
        {up: tensors[up][:, :60]}, {wide: tensors[wide][:, :50]}, {"body.more": tensors[up]},
        {"body.last.weight": np.full(128, np.nan, np.float32)}, {"body.places": tensors[up]}, {"head": 48}, {"head": 0},
        {"task_tokens": {"qry": 1 << 20}, "routes": {}}, {**huge, "head": 65_536, "max_tokens": 65_536},
    )):  # fmt: skip
        said = {name: value for name, value in change.items() if name in document}
        changed = {**tensors, **{name: value for name, value in change.items() if name not in document}}
        hostile.append(f"hostile-{number}.nest")
        kept = {name: value for name, value in changed.items() if value is not None}
        put_together(folder / hostile[-1], {**document, **said}, kept)
    said = {"texts": texts, "runs": runs, "hostile": hostile}
    (folder / "transformers.json").write_text(json.dumps(said))


# --- vectors


def test_vectors_are_python_s_to_the_bit(report: Any) -> None:
    runs = report["vectors"]
    assert len(runs) > 70
    assert {run["model"] for run in runs} >= {"nano", "float", "half", "int8", "int4", "centroids", "small-exact"}
    for run in runs:
        assert run["fits"], run
        assert not run["different"], run
        assert not run["alone"], run
        assert run["cut"], run


def test_the_same_vectors_in_a_worker(report: Any) -> None:
    assert report["worker"] is True


def test_transformers_have_python_s_vectors_to_the_bit(report: Any) -> None:
    assert len(report["transformer"]["runs"]) == 7
    for run in report["transformer"]["runs"]:
        assert run["fits"], run
        assert run["different"] == 0, run
        assert run["alone"] == 0, run


def test_what_a_transformer_gives_and_refuses(report: Any) -> None:
    uses = report["transformer"]["uses"]
    given = {
        "tasks": ["qry", "doc", "sym"], "tokens": [4, [2, 0]], "a tier at load": True, "into an array": True,
    }  # fmt: skip
    assert {name: uses[name] for name in given} == given
    refused = {
        "another wasm": "A nestling.wasm without transformers was given. This model needs nestling-transformer.wasm. ",
        "another task": 'task "nli" is not a task of micro. It has qry, doc, sym. ',
        "a text that is too long": "texts[1] is too long. micro takes at most 1024 tokens. ",
    }
    for name, said in refused.items():
        assert uses[name].startswith(f"NestlingError: {said}"), uses[name]


def test_blocks_that_are_wrong_give_errors(report: Any) -> None:
    assert len(report["transformer"]["hostile"]) == 20
    for said in report["transformer"]["hostile"]:
        assert said.startswith("NestlingError: The model file has "), said
    assert "too many columns, or tokens at once" in report["transformer"]["hostile"][-1]


# --- hostile files


def test_hostile_files_give_errors(report: Any, folder: Path) -> None:
    python = json.loads((folder / "hostile.json").read_text())["python"]
    loads = 0
    for index, (ours, (said, bits)) in enumerate(zip(report["hostile"], python, strict=True)):
        assert ours["ms"] < 5000, index
        if ours["said"] == "loads":
            loads += 1
            assert said == "loads", f"file {index} is refused by Python"
            assert ours["bits"] == bits, f"file {index} gives other vectors"
        else:
            assert ours["refused"], ours["said"]
            assert ours["said"].count(". ") >= 1, ours["said"]
    assert 20 < loads < len(python) - 200


# --- the interface


GIVES = {
    "one text": ["Float32Array", 128],
    "no text": [0, 128],
    "an empty text": True,
    "unit length": True,
    "at the end": True,
    "each of them": 3,
    "a generator": 2,
    "into an array": [True, 128],
    "similar numbers": ["1.0000", "0.0000"],
    "similar lists": [[3, 3, 3], 3, 3],
    "vectors that were kept": "1.0000",
    "tokens": [4, [2, 0]],
    "half a character, replaced": True,
    "a long text": 300_000,
    "a tier at load": [True, [64, 32]],
    "a response": "nano",
}
THROWS = {
    "half a character": "texts[1] holds half a character, a lone surrogate. Text that UTF-8 can hold was expected. ",
    "halves that meet": "texts[0] holds half a character",
    "a number": "texts[1] is of type number; a string or an array of strings was expected. Pass one of these.",
    "nothing": "texts is of type null; ",
    "a dim between": "dim 50 is not a tier of nano. It offers 128, 96, 64, 32. Choose one of them.",
    "another overflow": 'overflow: "drop" was given; known are cut, error, split. Choose one of them.',
    "an array of another size": "out is Float32Array of length 3. A Float32Array of length 128 was expected. ",
    "other dims": "Vectors of 128 and of 64 dims were given. ",
    "no vector": "String was given. A vector, Vectors, or an array of vectors was expected. ",
    "a larger dim at load": "dim 100 is not a tier of nano. ",
    "no such file": "/nothing.nest cannot be fetched: status 404. ",
    "no core": "nestling.wasm cannot be compiled: ",
    "no model": "number was given as a model. A URL, a path or bytes were expected. Pass one of these.",
}


@pytest.mark.parametrize("use", GIVES)
def test_what_the_interface_gives(report: Any, use: str) -> None:
    assert report["interface"][use] == GIVES[use]


@pytest.mark.parametrize("use", THROWS)
def test_what_the_interface_refuses(report: Any, use: str) -> None:
    said = report["interface"][use]
    assert said.startswith(f"NestlingError: {THROWS[use]}"), said


def test_what_a_model_says_of_itself(report: Any) -> None:
    nano = nestling.load("nano")
    said = [nano.name, nano.dim, list(nano.dims), nano.licence, nano.max_tokens, len(nano.fingerprint)]
    assert report["interface"]["what it says"] == said


def test_node_gives_the_same(folder: Path) -> None:
    code = f"""import {{ load }} from "{WEB}/nestling.js"; import {{ readFileSync }} from "node:fs";
        const model = await load("{folder}/nano.nest");
        const texts = JSON.parse(readFileSync("{folder}/texts.json", "utf8"));
        const expected = readFileSync("{folder}/nano-0.bin");
        console.log(Buffer.compare(Buffer.from(model.encode(texts).data.buffer), expected));
        await load("{folder}/nothing.nest").catch((error) => console.log(error.message));"""
    done = subprocess.run(["node", "--input-type=module", "-e", code], capture_output=True, text=True, timeout=60)
    same, refused = done.stdout.splitlines()
    assert same == "0", done.stderr
    assert "nothing.nest cannot be read: " in refused


# --- the demo


def test_the_demo_searches(report: Any) -> None:
    demo = report["demo"]
    assert "250 passages embedded in " in demo["status"]
    assert "night" in demo["started"] or "ghost" in demo["started"]
    assert "gold" in demo["searched"]
    assert demo["like"] == ["1.00", demo["searched"]]
    assert demo["empty"] == "Type a few words. What is near in meaning comes first."
    assert demo["label"].startswith("A map of 250 passages.")


def test_the_demo_searches_what_is_dropped_or_pasted(report: Any) -> None:
    demo = report["demo"]
    assert demo["dropped"].startswith("2 passages embedded in ")
    assert demo["foundInDrop"].startswith("Our ship left the harbour")
    assert demo["refused"].startswith("picture.png is no text. A text file was expected: ")
    assert demo["pasted"] == ["Your text", "A bird built its nest in the chimney."]
    assert "passages embedded" in demo["whole"]
    assert demo["back"].startswith("250 passages")


def test_the_demo_reaches_nothing_else_and_complains_of_nothing(report: Any) -> None:
    assert report["strayed"] == []
    assert report["demo"]["problems"] == []


def test_the_demo_is_small(report: Any) -> None:
    transfer = report["demo"]["transfer"]
    assert set(transfer) == {"/", "/nano.nest", *(f"/{name}" for name in (*DEMO[1:], *RUNTIME))}
    assert sum(size for path, size in transfer.items() if path.endswith((".js", ".wasm", ".nest"))) < MOST_TRANSFER
    assert sum(transfer.values()) < 800_000


def test_versions_are_the_same() -> None:
    version = json.loads((WEB / "package.json").read_text())["version"]
    assert f'version = "{version}"' in (ROOT / "pyproject.toml").read_text()


def test_the_core_is_what_the_sources_give() -> None:
    if not shutil.which("emcc"):
        pytest.skip("no emcc: run web/packages.sh")
    done = subprocess.run([WEB / "build.sh", "--check"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr

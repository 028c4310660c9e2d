"""Embedding files: the right rows, the same bytes after a break, the old target until a new one is whole."""

import hashlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestling import CutWarning, load
from nestling.embed import EmbedReport, embed_file
from nestling.errors import InputError, InputTypeError, MissingExtraError
from nestling.model.common import Dtype
from tests.conftest import model_of

TEXTS = [f"text {i}\nélan 👋" for i in range(2000)]


class HashModel:
    """A model without a table: the vector of a text is the first `dim` bytes of its SHA-256, as int8.

    float32 and float16 are these bytes / 128, exactly; binary has a bit for each that is positive. After
    `calls` calls with texts the process ends, as if it were killed.
    """

    max_tokens = 3

    def __init__(self, fingerprint: str = "hash-1", calls: int | None = None) -> None:
        self.fingerprint, self.calls = fingerprint, calls

    def encode_counting(
        self, texts: list[str], /, *, dim: int | None = None, dtype: Dtype = "float32", **_: Any
    ) -> tuple[npt.NDArray[Any], int]:
        """Texts that say "cut me" count as cut."""
        return self.encode(texts, dim=dim, dtype=dtype), sum("cut me" in text for text in texts)

    def encode(self, texts: list[str], *, dim: int | None = None, dtype: Dtype = "float32") -> npt.NDArray[Any]:
        if texts and self.calls is not None:
            if self.calls == 0:
                os._exit(9)
            self.calls -= 1
        raw = b"".join(hashlib.sha256(text.encode()).digest()[: dim or 8] for text in texts)
        rows = np.frombuffer(raw, np.int8).reshape(-1, dim or 8)
        if dtype == "binary":
            return np.packbits(rows > 0, axis=1)
        return rows if dtype == "int8" else (rows / np.float32(128)).astype(dtype)


def write_source(path: Path, texts: list[str] = TEXTS) -> Path:
    path.write_text("".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in enumerate(texts)))
    return path


def in_a_child(code: str, *arguments: Path) -> subprocess.CompletedProcess[str]:
    """Run code that can use everything in this module; its arguments are `source, target`."""
    setup = "import sys; from pathlib import Path; from test_embed import *; source, target = sys.argv[1:]\n"
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    return subprocess.run(
        [sys.executable, "-c", setup + code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def vectors_in(path: Path) -> npt.NDArray[Any]:
    if path.suffix == ".npy":
        return np.load(path)
    column = pq.read_table(path)["embedding"].combine_chunks()
    return column.values.to_numpy(zero_copy_only=False).reshape(len(column), -1)


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "binary"])
def test_row_i_is_text_i(tmp_path: Path, suffix: str, dtype: Dtype) -> None:
    source, target = write_source(tmp_path / "a.jsonl"), tmp_path / f"a{suffix}"
    report = embed_file(HashModel(), source, target, dim=12, dtype=dtype, rows_per_part=300)
    expected = HashModel().encode(TEXTS, dim=12, dtype=dtype)
    assert vectors_in(target).dtype == expected.dtype
    assert np.array_equal(vectors_in(target), expected)
    assert report == EmbedReport(rows=2000, parts_made=7, parts_found=0, cut=0, seconds=report.seconds)
    assert sorted(tmp_path.iterdir()) == sorted([source, target])


def test_what_the_texts_are(tmp_path: Path) -> None:
    texts = TEXTS[:20]
    source, target = write_source(tmp_path / "a.jsonl", texts), tmp_path / "a.npy"
    model = load("micro")
    embed_file(model, source, target, role="document")
    assert np.array_equal(np.load(target), model.encode_document(texts))
    embed_file(model, source, target, role="query")
    assert np.array_equal(np.load(target), model.encode_query(texts))
    bare = model.with_table(model.table, routes={"text": "sym"}, task_tokens={"sym": model.document.task_tokens["sym"]})
    embed_file(bare, source, target, role="query")
    assert np.array_equal(np.load(target), bare.encode_query(texts))
    with pytest.raises(InputError, match="role='passage'"):
        embed_file(model, source, target, role="passage")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="A model of nestling"):
        embed_file(HashModel(), source, target, role="query")


@given(texts=st.lists(st.text(), max_size=7), rows=st.integers(1, 4))
def test_any_texts_in_any_parts(tmp_path_factory: pytest.TempPathFactory, texts: list[str], rows: int) -> None:
    folder = tmp_path_factory.getbasetemp()
    source = write_source(folder / "any.jsonl", texts)
    embed_file(HashModel(), source, folder / "any.npy", rows_per_part=rows)
    embed_file(HashModel(), source, folder / "any.parquet", rows_per_part=rows)
    saved = io.BytesIO()
    np.save(saved, HashModel().encode(texts))
    assert (folder / "any.npy").read_bytes() == saved.getvalue()
    assert pq.read_table(folder / "any.parquet")["text"].to_pylist() == texts


@pytest.mark.parametrize("dtype", ["float32", "binary"])
@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_no_texts_give_no_rows_of_the_right_width(tmp_path: Path, suffix: str, dtype: Dtype) -> None:
    (tmp_path / "a.txt").touch()
    report = embed_file(HashModel(), tmp_path / "a.txt", tmp_path / f"a{suffix}", dim=9, dtype=dtype)
    if suffix == ".npy":
        assert np.load(tmp_path / "a.npy").shape == (0, 9 if dtype == "float32" else 2)
    else:
        kind = pq.read_schema(tmp_path / "a.parquet").field("embedding").type
        assert kind.list_size == (9 if dtype == "float32" else 2)
    assert (report.rows, report.parts_made, report.parts_found) == (0, 0, 0)


def test_parquet_says_what_made_it_and_keeps_the_text_only(tmp_path: Path) -> None:
    embed_file(HashModel(), write_source(tmp_path / "a.jsonl"), tmp_path / "a.parquet", dim=12, dtype="binary")
    schema = pq.read_schema(tmp_path / "a.parquet")
    assert schema.names == ["text", "embedding"]
    assert json.loads(schema.metadata[b"nestling"]) == {"model": "hash-1", "dim": 12, "dtype": "binary"}


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    source, target, whole = (
        write_source(tmp_path / "a.jsonl"),
        tmp_path / f"a{suffix}",
        tmp_path / f"b{suffix}",
    )
    target.write_text("old")
    killed = in_a_child("embed_file(HashModel(calls=2), source, target, rows_per_part=500)", source, target)
    assert killed.returncode == 9, killed.stderr
    assert target.read_text() == "old"
    report = embed_file(HashModel(), source, target, rows_per_part=500)
    assert (report.parts_found, report.parts_made) == (2, 2)
    embed_file(HashModel(), source, whole, rows_per_part=500)
    assert target.read_bytes() == whole.read_bytes()
    assert sorted(tmp_path.iterdir()) == sorted([source, target, whole])


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_a_full_disk_leaves_the_old_target_and_the_parts(tmp_path: Path, suffix: str) -> None:
    source, target = write_source(tmp_path / "a.jsonl"), tmp_path / f"a{suffix}"
    target.write_text("old")
    code = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (32_000, 32_000))\n"
    full = in_a_child(code + "embed_file(HashModel(), source, target, rows_per_part=500)", source, target)
    assert full.returncode == 1
    assert "OSError" in full.stderr.splitlines()[-1]
    assert target.read_text() == "old"
    assert sorted(tmp_path.iterdir()) == sorted([source, target, tmp_path / f"a{suffix}.parts"])
    report = embed_file(HashModel(), source, target, rows_per_part=500)
    assert (report.parts_found, report.parts_made) == (4, 0)
    assert np.array_equal(vectors_in(target), HashModel().encode(TEXTS))


def test_parts_of_another_job_are_refused(tmp_path: Path) -> None:
    source, target = write_source(tmp_path / "a.jsonl"), tmp_path / "a.npy"
    in_a_child("embed_file(HashModel(calls=2), source, target, rows_per_part=500)", source, target)
    with pytest.raises(InputError) as caught:
        embed_file(HashModel("hash-2"), source, target, rows_per_part=500)
    assert str(caught.value) == (
        f'{target}.parts holds parts of another job: "model": "hash-1". This one is: "model": "hash-2". '
        "Delete the folder to start again, or choose another target."
    )
    write_source(source, [*TEXTS, "one more"])
    with pytest.raises(InputError, match='holds parts of another job: "sha256": '):
        embed_file(HashModel(), source, target, rows_per_part=500)
    assert not target.exists()


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npy.parts").mkdir()
    (tmp_path / "a.npy.parts" / "00000000.npy").touch()
    with pytest.raises(InputError, match=r"holds no parts\. A new folder"):
        embed_file(HashModel(), write_source(tmp_path / "a.jsonl"), tmp_path / "a.npy")


def test_a_mistake_in_the_arguments_leaves_nothing(tmp_path: Path) -> None:
    source = write_source(tmp_path / "a.jsonl")
    with pytest.raises(InputError, match=r"has no 'body'\. It has 'id', 'text'\."):
        embed_file(HashModel(), source, tmp_path / "a.npy", column="body")
    with pytest.raises(
        InputError, match=r"has the unknown suffix '\.csv'\. A name that ends in \.npy or \.parquet was expected\."
    ):
        embed_file(HashModel(), source, tmp_path / "a.csv")
    with pytest.raises(InputError, match="is both source and target"):
        embed_file(HashModel(), tmp_path / "a.parquet", tmp_path / "a.parquet")
    assert list(tmp_path.iterdir()) == [source]


def test_a_source_that_changes_meanwhile_is_refused(tmp_path: Path) -> None:
    source = write_source(tmp_path / "a.jsonl")

    class Appender(HashModel):
        def encode(self, texts: list[str], **options: Any) -> npt.NDArray[Any]:
            if texts:
                with source.open("a") as file:
                    file.write('"late"\n')
            return super().encode(texts, **options)

    with pytest.raises(InputError, match=r"a\.jsonl was written to while it was read\."):
        embed_file(Appender(), source, tmp_path / "a.npy")
    assert not (tmp_path / "a.npy").exists()


def test_without_pyarrow_the_extra_is_named_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match="pip install --upgrade pyarrow"):
        embed_file(HashModel(), write_source(tmp_path / "a.jsonl"), tmp_path / "a.parquet")
    assert not (tmp_path / "a.parquet.parts").exists()


def test_pyarrow_waits_until_it_is_needed() -> None:
    code = "import sys, nestling.embed; assert 'pyarrow' not in sys.modules"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


LONG = ["one two three four five six seven eight nine", "one"] * 3


def test_texts_that_were_cut_are_counted_and_said_once(tmp_path: Path) -> None:
    source, model = write_source(tmp_path / "a.jsonl", LONG), model_of("wordpiece", max_tokens=5)
    with pytest.warns(
        CutWarning, match=r"3 of 6 texts had more than 5 tokens and were cut; .*--overflow split"
    ) as said:
        report = embed_file(model, source, tmp_path / "a.npy", rows_per_part=2)
    assert (report.cut, len(said)) == (3, 1)
    whole = embed_file(model, source, tmp_path / "b.npy", rows_per_part=2, overflow="split")
    assert whole.cut == 0
    np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), model.encode(LONG, overflow="split"))
    assert not np.array_equal(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"))
    with pytest.raises(InputError, match=r"Counted from row 0: texts\[0\] has \d+ tokens"):
        embed_file(model, source, tmp_path / "c.npy", overflow="error")


def test_texts_cut_before_a_break_are_counted_after_it(tmp_path: Path) -> None:
    source, target = write_source(tmp_path / "a.jsonl", ["cut me", "a", "b", "cut me", "c"]), tmp_path / "a.npy"
    in_a_child("embed_file(HashModel(calls=1), source, target, rows_per_part=2)", source, target)
    assert (tmp_path / "a.npy.parts" / "00000000.1.npy").exists()
    with pytest.raises(InputError, match='another job: "overflow": "cut"'):
        embed_file(HashModel(), source, target, rows_per_part=2, overflow="split")
    with pytest.warns(CutWarning, match="2 of 5 texts had more than 3 tokens"):
        report = embed_file(HashModel(), source, target, rows_per_part=2)
    assert (report.parts_found, report.parts_made, report.cut) == (1, 2, 2)


def test_a_damaged_part_is_named(tmp_path: Path) -> None:
    source, target = write_source(tmp_path / "a.jsonl"), tmp_path / "a.npy"
    in_a_child("embed_file(HashModel(calls=2), source, target, rows_per_part=500)", source, target)
    part = tmp_path / "a.npy.parts" / "00000001.0.npy"
    for raw in (part.read_bytes()[:-3], b""):
        part.write_bytes(raw)
        with pytest.raises(InputError, match=r"The part .*00000001\.0\.npy is damaged: .* Delete it and run again\."):
            embed_file(HashModel(), source, target, rows_per_part=500)
    part.unlink()
    assert embed_file(HashModel(), source, target, rows_per_part=500).parts_made == 3


def test_numpy_s_dtypes_are_taken(tmp_path: Path) -> None:
    source, target = write_source(tmp_path / "a.jsonl"), tmp_path / "a.npy"
    embed_file("nano", source, target, dtype=np.dtype("int8"))  # type: ignore[arg-type]
    assert np.load(target).dtype == np.int8


def test_what_others_keep_beside_the_parts_stays(tmp_path: Path) -> None:
    source, target, parts = write_source(tmp_path / "a.jsonl"), tmp_path / "a.npy", tmp_path / "a.npy.parts"
    parts.mkdir()
    (parts / ".mine").touch()
    (parts / ".git").mkdir()
    embed_file(HashModel(), source, target)
    assert sorted(file.name for file in parts.iterdir()) == [".git", ".mine"]


def test_a_part_of_another_shape_is_named(tmp_path: Path) -> None:
    source, target = write_source(tmp_path / "a.jsonl"), tmp_path / "a.npy"
    in_a_child("embed_file(HashModel(calls=2), source, target, rows_per_part=500)", source, target)
    part = tmp_path / "a.npy.parts" / "00000000.0.npy"
    np.save(part, np.load(part)[1:])
    with pytest.raises(InputError, match=r"00000000\.0\.npy is damaged: its shape is not \(500, \d+\)\."):
        embed_file(HashModel(), source, target, rows_per_part=500)


@pytest.mark.parametrize("job", [b"\xff\xfe", None])
def test_parts_that_are_none_are_refused(tmp_path: Path, job: bytes | None) -> None:
    parts = tmp_path / "a.npy.parts"
    if job is None:
        parts.touch()
    else:
        parts.mkdir()
        (parts / "job.json").write_bytes(job)
    with pytest.raises(InputError, match=r"is a file\.|holds parts of another job"):
        embed_file(HashModel(), write_source(tmp_path / "a.jsonl"), tmp_path / "a.npy")


def test_a_target_that_cannot_be_is_refused_before_the_work(tmp_path: Path) -> None:
    source = write_source(tmp_path / "a.jsonl")
    (tmp_path / "dir.npy").mkdir()
    with pytest.raises(InputError, match=r"dir\.npy' is a folder\. The name of a file to write was expected\."):
        embed_file(HashModel(), source, tmp_path / "dir.npy")
    with pytest.raises(InputError, match=r"The folder .*gone is not there\."):
        embed_file(HashModel(), source, tmp_path / "gone" / "a.npy")
    assert sorted(tmp_path.iterdir()) == sorted([source, tmp_path / "dir.npy"])


def test_capital_suffixes_are_the_same(tmp_path: Path) -> None:
    source = write_source(tmp_path / "a.jsonl", ["a", "b"])
    for name in ("A.NPY", "A.PARQUET"):
        embed_file(HashModel(), source, tmp_path / name)
    assert np.array_equal(np.load(tmp_path / "A.NPY"), HashModel().encode(["a", "b"]))
    assert pq.read_table(tmp_path / "A.PARQUET")["text"].to_pylist() == ["a", "b"]


def test_a_name_is_loaded_and_other_kinds_are_refused(tmp_path: Path) -> None:
    source, target = write_source(tmp_path / "a.jsonl", ["a cat"]), tmp_path / "a.npy"
    embed_file("nano", source, target, dim=32)
    assert np.load(target).shape == (1, 32)
    with pytest.raises(InputTypeError, match=r"A model of type int was given; a loaded model"):
        embed_file(5, source, target)  # type: ignore[arg-type]
    with pytest.raises(InputTypeError, match=r"rows_per_part=1\.5 was given; a whole number was expected"):
        embed_file("nano", source, target, rows_per_part=1.5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="rows_per_part=0 was given; at least 1"):
        embed_file("nano", source, target, rows_per_part=0)

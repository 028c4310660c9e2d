"""Reading texts: what was written comes back, row for row, and what is no text is named with its place."""

import csv
import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nestling.errors import InputError, InputTypeError, MissingExtraError
from nestling.files.texts import read_texts

ODD = [
    "plain",
    "",
    " ",
    "naïve café",
    "日本語",
    "👩‍👩‍👧",
    "a,b\t'c' \"d\"",
    "\u2028 \x85 \x0b",
    "x" * 200_000,
]
LINES = ["two\nlines", "old\rmac", "dos\r\n", "\n"]


def write_txt(path: Path, texts: list[str]) -> None:
    path.write_bytes("".join(f"{text}\n" for text in texts).encode())


def write_objects(path: Path, texts: list[str]) -> None:
    rows = [json.dumps({"id": i, "text": text}, ensure_ascii=i % 2 == 0) for i, text in enumerate(texts)]
    write_txt(path, rows)


def write_strings(path: Path, texts: list[str]) -> None:
    write_txt(path, [json.dumps(text) for text in texts])


def write_table(path: Path, texts: list[str]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
        table.writerows([("id", "text"), *enumerate(texts)])


def write_parquet(path: Path, texts: list[str]) -> None:
    pq.write_table(pa.table({"id": pa.array(range(len(texts))), "text": pa.array(texts, pa.string())}), path)


WRITERS = {
    "a.jsonl": write_objects,
    "b.ndjson": write_strings,
    "c.csv": write_table,
    "d.tsv": write_table,
    "e.parquet": write_parquet,
}


def all_texts(path: Path, column: str | None = None) -> list[str]:
    return [text for texts in read_texts(path, column=column) for text in texts]


@pytest.mark.parametrize(("name", "write"), WRITERS.items())
def test_odd_texts_come_back(tmp_path: Path, name: str, write: Callable[[Path, list[str]], None]) -> None:
    write(tmp_path / name, ODD + LINES)
    assert all_texts(tmp_path / name) == ODD + LINES


@given(texts=st.lists(st.text()))
def test_any_texts_come_back(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    for name, write in WRITERS.items():
        path = tmp_path_factory.getbasetemp() / name
        write(path, texts)
        assert all_texts(path) == texts


@settings(deadline=None)
@given(texts=st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]))))
def test_any_lines_come_back(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / "f.txt"
    for end in "\n", "\r\n":
        path.write_bytes(b"\xef\xbb\xbf" + "".join(text + end for text in texts).encode())
        assert all_texts(path) == texts


@pytest.mark.parametrize(
    ("name", "raw", "texts"),
    [
        ("a.txt", b"", []),
        ("a.txt", b"\xef\xbb\xbf", []),
        ("a.txt", b"one\n\n  three\r\n\nlast", ["one", "", "  three", "", "last"]),
        ("a.jsonl", b"", []),
        ("a.jsonl", b'\xef\xbb\xbf"x"\r\n\n"y"\n\n', ["x", "y"]),
        ("a.csv", b"\xef\xbb\xbftext,n\r\na,1\r\n\r\nb,2\r\n", ["a", "b"]),
        ("a.csv", b"body\na\n\nb\n", ["a", "", "b"]),
        ("a.csv", b"id,text\n1,x\n\n2,y\n\n", ["x", "y"]),
        ("A.TSV", b'id\ttext\n1\t"x\n""y"""\n', ['x\n"y"']),
    ],
)
def test_exact_bytes(tmp_path: Path, name: str, raw: bytes, texts: list[str]) -> None:
    (tmp_path / name).write_bytes(raw)
    assert all_texts(tmp_path / name) == texts


def test_a_named_column_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,body\nx,y\n")
    (tmp_path / "a.jsonl").write_text('{"text": "x", "body": "y"}\n')
    pq.write_table(pa.table({"text": ["x"], "body": ["y"]}), tmp_path / "a.parquet")
    for path in tmp_path.iterdir():
        assert all_texts(path, "body") == ["y"]


def test_batches_are_full_but_the_last(tmp_path: Path) -> None:
    write_txt(tmp_path / "a.txt", list("abcde"))
    assert list(read_texts(tmp_path / "a.txt", batch=2)) == [["a", "b"], ["c", "d"], ["e"]]


def test_the_only_text_column_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": 1, "body": "x"}\n')
    pq.write_table(pa.table({"id": [1], "body": ["x"]}), tmp_path / "a.parquet")
    assert all_texts(tmp_path / "a.jsonl") == all_texts(tmp_path / "a.parquet") == ["x"]


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())])
def test_every_kind_of_parquet_text(tmp_path: Path, kind: pa.DataType) -> None:
    pq.write_table(pa.table({"text": pa.array(["é", "b"]).cast(kind)}), tmp_path / "a.parquet")
    assert all_texts(tmp_path / "a.parquet") == ["é", "b"]


@pytest.mark.parametrize(
    ("name", "raw", "column", "message"),
    [
        (
            "a.pdf",
            b"",
            None,
            "has the unknown suffix '.pdf'. Texts are read from .txt, .jsonl, .ndjson, .csv, .tsv",
        ),
        ("a.txt", b"x", "text", "has no column 'text'. A .txt file has no columns."),
        ("a.txt", b"ok\ncaf\xe9", None, "line 2, is not UTF-8: byte 0xe9 at 3."),
        (
            "a.jsonl",
            b'{"text": "x"}\n{"text": ',
            None,
            "line 2, is broken: Expecting value. JSON was expected.",
        ),
        ("a.jsonl", b"[" * 100_000, None, "line 1, is broken"),
        ("a.jsonl", b'{"text": "x"}\n\n{"text": null}', None, "line 3, column 'text' holds null."),
        ("a.jsonl", b'{"text": 7}', None, "line 1, column 'text' holds a value of type int."),
        ("a.jsonl", b'{"text": "\\ud800"}', None, "line 1, column 'text' holds half a surrogate pair."),
        (
            "a.jsonl",
            b'{"a": "", "b": ""}',
            None,
            "no columns of text named 'text'. Its columns of text: 'a', 'b'.",
        ),
        ("a.jsonl", b'{"text": "x"}\n{"a": "", "b": 1}', None, "line 2, has no 'text'. It has 'a', 'b'."),
        ("a.jsonl", b'"x"\n{"text": "y"}', None, "line 2, holds a value of type dict. A text was expected."),
        ("a.jsonl", b'"x"', "text", "line 1, is no object. An object with 'text' was expected."),
        ("a.csv", b"id;text\n1;x\n", None, "has one column, 'id;text'. Columns parted by ',' were expected."),
        ("a.csv", b"id\ttext\n1\tx\n", None, "has one column, 'id\\ttext'."),
        ("a.tsv", b"id,text\n1,x\n", None, "has one column, 'id,text'. Columns parted by '\\t' were expected."),
        ("a.jsonl", b'{"text": "x", "text": "y"}', None, "line 1, is broken: a key is repeated."),
        ("a.csv", b"a,b\n", "c", "has no columns of text named 'c'. Its columns of text: 'a', 'b'."),
        ("a.csv", b"a,a\n", "a", "has 2 columns of text named 'a'."),
        (
            "a.csv",
            b'id,text\n1,"x\ny"\n2,a,b\n',
            None,
            "line 4, has 3 fields. The header has 2: 'id', 'text'.",
        ),
        ("a.csv", b'text\n"open\nx\n', None, "line 3, is broken: unexpected end of data."),
        ("a.csv", b"text\nx\n\xff\n", None, "line 3, is not UTF-8: byte 0xff at 0."),
        ("a.parquet", b"PAR1 or not", None, "A whole Parquet file was expected."),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, raw: bytes, column: str | None, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(raw)
    with pytest.raises(InputError) as caught:
        all_texts(path, column)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    ("values", "column", "message"),
    [
        (pa.array(["a", None]), "text", "row 2, column 'text' holds null."),
        (pa.array([b"a", b"\xff"]).view(pa.string()), "text", "row 2, column 'text' is not UTF-8"),
        (pa.array([1]), "text", "has no columns of text named 'text'. Its columns of text: none."),
        (pa.array(["a"]), "body", "has no columns of text named 'body'. Its columns of text: 'text'."),
    ],
)
def test_what_is_no_text_in_parquet_is_named(tmp_path: Path, values: pa.Array, column: str, message: str) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": values}), path)
    with pytest.raises(InputError) as caught:
        all_texts(path, column)
    assert message in str(caught.value)


def test_damaged_pages_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_parquet(path, [f"text {i}" for i in range(1000)])
    raw = path.read_bytes()
    path.write_bytes(raw[:4] + b"\xff" * (len(raw) // 2) + raw[4 + len(raw) // 2 :])
    with pytest.raises(InputError, match=r"A whole Parquet file was expected\."):
        all_texts(path)


def test_arguments_are_checked_before_the_first_batch(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing\.txt is not a file\."):
        read_texts(tmp_path / "missing.txt")
    with pytest.raises(InputError, match=r"batch=0 was given; at least 1 was expected\."):
        read_texts(tmp_path / "a.txt", batch=0)
    with pytest.raises(InputTypeError, match=r"batch=1\.5 was given; a whole number"):
        read_texts(tmp_path / "a.txt", batch=1.5)  # type: ignore[arg-type]


def test_a_table_of_no_bytes_has_no_texts(tmp_path: Path) -> None:
    (tmp_path / "a.csv").touch()
    assert all_texts(tmp_path / "a.csv") == all_texts(tmp_path / "a.csv", "text") == []


def test_one_column_may_be_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id;text\n1;x\n")
    assert all_texts(tmp_path / "a.csv", "id;text") == ["1;x"]
    (tmp_path / "a.csv").write_text('"one, or two"\nx\n')
    assert all_texts(tmp_path / "a.csv") == ["x"]


def test_long_fields_in_several_threads(tmp_path: Path) -> None:
    """The limit of fields belongs to the process: none lowers it while others read."""
    (tmp_path / "a.csv").write_text("text\n" + ("x" * 200_000 + "\n") * 20)
    csv.field_size_limit(131_072)
    with ThreadPoolExecutor(4) as pool:
        lengths = pool.map(lambda _: [len(text) for text in all_texts(tmp_path / "a.csv")], range(8))
    assert [*lengths] == [[200_000] * 20] * 8


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parquet(tmp_path / "a.parquet", ["x"])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match="pip install --upgrade pyarrow"):
        all_texts(tmp_path / "a.parquet")

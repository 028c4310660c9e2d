"""Files of each kind -> sections: their text, lines and headings."""

import builtins
import io
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pypdf
import pytest

from nestling.search.decode import Binary, Unreadable
from nestling.search.outline import Section
from nestling.search.read import read
from nestling.search.table import WrongColumns


def sections(folder: Path, name: str, content: str | bytes, columns: list[str] | None = None) -> list[Section]:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read(path, columns)


def outline(found: list[Section]) -> list[tuple[int, str]]:
    return [(section.line, section.heading) for section in found]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    assert sections(tmp_path, "a.txt", "Grüße\r\nan\ralle 🐦".encode(encoding))[0].text == "Grüße\nan\nalle 🐦"


def test_no_letters_are_guessed(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="not UTF-8: invalid start byte at byte 2"):
        sections(tmp_path, "a.txt", "Grüße".encode("latin-1"))
    with pytest.raises(Unreadable, match="not UTF-16"):
        sections(tmp_path, "a.txt", "x".encode("utf-16") + b"\x00")
    for encoding in ("utf-32", "utf-32-be"):
        with pytest.raises(Unreadable, match="UTF-32; only UTF-8 and UTF-16 are read"):
            sections(tmp_path, "a.txt", "\ufeffThe nest".encode(encoding))
    with pytest.raises(Unreadable, match="not UTF-16: a NUL at character 2"):
        sections(tmp_path, "a.txt", "ab\0".encode("utf-16"))
    with pytest.raises(Binary):
        sections(tmp_path, "a.txt", b"PNG\x00 and more")
    with pytest.raises(Unreadable, match="No such file"):
        read(tmp_path / "gone.txt")


@pytest.mark.parametrize("suffix", ["txt", "md", "rst", "html", "csv", "tsv", "jsonl", "py", "c"])
@pytest.mark.parametrize("content", ["", "\n", " \n\n\t\n", "\ufeff"])
def test_nothing_is_no_section_with_words(tmp_path: Path, suffix: str, content: str) -> None:
    assert not any(section.text.strip() for section in sections(tmp_path, f"a.{suffix}", content))


def test_markdown(tmp_path: Path) -> None:
    front = "---\ntitle: x\n---\nintro\n\n"
    text = front + "# One\n## Two ##\nbody\n```\n# comment\n```\n\nThree\n=====\nbody\n### Four\nend\n"
    found = sections(tmp_path, "a.md", text)
    assert outline(found) == [(1, ""), (6, "One > Two"), (13, "Three"), (16, "Three > Four")]
    assert "".join(section.text for section in found) == text


def test_rst(tmp_path: Path) -> None:
    text = "=====\nTitle\n=====\n\nintro\n\nPart\n----\nbody\n\nOther\n-----\n\n===  ===\na    b\n===  ===\n"
    assert outline(sections(tmp_path, "a.rst", text)) == [(1, "Title"), (7, "Title > Part"), (11, "Title > Other")]


def test_html(tmp_path: Path) -> None:
    text = (
        "<html><head><title>Birds</title>\n<style>p { x }</style>\n<script>\nvar no = '<p>no</p>';\n</script>"
        "</head>\n"
        '<body><h1>The <b>nest</b></h1><p class="a"\n  id="b">Twigs &amp; moss.</p>'
        "<p>Eggs.</p>\n<h2>Young</h2>\n<p>Fly."
    )
    found = sections(tmp_path, "a.html", text)
    assert outline(found) == [(1, "Birds > The nest"), (8, "Birds > The nest > Young")]
    assert [section.text.split() for section in found] == [
        ["Birds", "The", "nest", "Twigs", "&", "moss.", "Eggs."],
        ["Young", "Fly."],
    ]
    assert found[0].text.split("\n")[6].strip() == "Twigs & moss.\u2029\u2029Eggs."


PYTHON = '''"""What this module is for, told at some length, so that it is worth a passage of its own, and then some
more words, as a module that is of any use has them."""

import os

# About first.
@decorated
def first(a):
    return "a text that is long enough for the function to stand alone, and a few words"


class Second:
    """def not_this: one."""

    def third(self):
        """A method of a small class stays in it."""
'''


def test_code(tmp_path: Path) -> None:
    found = sections(tmp_path, "a.py", PYTHON)
    assert outline(found) == [(1, ""), (6, "first"), (12, "Second")]
    assert {section.kind for section in found} == {"code"}


def test_large_classes_are_opened(tmp_path: Path) -> None:
    method = "    def method_{}(self):\n" + "        # words about it\n" * 12
    found = sections(tmp_path, "a.py", "class Large:\n" + "".join(method.format(n) for n in range(5)))
    assert outline(found)[:2] == [(1, "Large"), (15, "Large > method_1")]


@pytest.mark.parametrize(
    ("suffix", "line", "name"),
    [
        ("c", "static int *main(int argc, char **argv) {", "main"),
        ("c", "void\nrun(struct thing *a)\n{", "run"),
        ("cpp", "bool Nest::empty() const {", "Nest::empty"),
        ("rs", "pub(crate) async fn hatch<T>(egg: T) {", "hatch"),
        ("rs", "impl<T> Bird for Swift {", "Bird"),
        ("go", "func (n *Nest) Add(egg Egg) error {", "Add"),
        ("js", "export default async function hatch(egg) {", "hatch"),
        ("ts", "export interface Egg {", "Egg"),
        ("java", "public final class Nest extends Tree {", "Nest"),
        ("sh", "hatch() {", "hatch"),
        ("rb", "module Birds", "Birds"),
    ],
)
def test_definitions_of_many_languages(tmp_path: Path, suffix: str, line: str, name: str) -> None:
    found = sections(tmp_path, f"a.{suffix}", "\n\n\n" + "// filler words\n" * 20 + "\n" + line + "\n")
    assert [section.heading for section in found] == ["", name]


def test_csv(tmp_path: Path) -> None:
    text = 'id,title,text\r\n1,Nest,"two\r\nlines"\r\n\r\n2,Egg,"say ""peep"""\r\n3,Short\r\n'
    found = sections(tmp_path, "a.csv", text)
    assert [(section.line, section.text) for section in found] == [
        (2, "Nest\u2029two\nlines"), (5, 'Egg\u2029say "peep"'), (6, "Short"),
    ]  # fmt: skip
    assert [s.text for s in sections(tmp_path, "a.csv", text, ["text", "id"])] == [
        "two\nlines\u20291",
        'say "peep"\u20292',
        "3",
    ]
    assert sections(tmp_path, "b.csv", "a;b\nx, y;z\n")[0].text == "x, y\u2029z"
    assert sections(tmp_path, "b.tsv", "a\tb\nx, y\tz\n")[0].text == "x, y\u2029z"


def test_json_lines(tmp_path: Path) -> None:
    text = '{"id": 1, "title": "Nest", "tags": ["wood", {"by": "bird"}]}\n\nno json\n{"title": "half \\ud800\\nline"}\n'
    found = sections(tmp_path, "a.jsonl", text)
    assert [(s.line, s.text) for s in found] == [
        (1, "Nest\u2029wood\u2029bird"), (3, "no json"), (4, "half ?\u2029line"),
    ]  # fmt: skip
    assert sections(tmp_path, "a.jsonl", text, ["tags"])[0].text == "wood\u2029bird"
    assert sections(tmp_path, "deep.jsonl", "[" * 100_000)[0].text == "[" * 100_000


@pytest.mark.parametrize(("name", "text"), [("a.csv", "id,title\n1,x\n"), ("a.jsonl", '{"id": 1}\n{"title": "x"}\n')])
def test_a_missing_column_names_those_that_are_there(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(WrongColumns, match=r"^no column 'body'; its columns: id, title$"):
        sections(tmp_path, name, text, ["title", "body"])


def test_two_columns_of_the_wanted_name_are_refused(tmp_path: Path) -> None:
    text = "a,b,a\none,two,three\n"
    with pytest.raises(WrongColumns, match=r"^2 columns 'a'; its columns: a, b, a$"):
        sections(tmp_path, "a.csv", text, ["a"])
    assert sections(tmp_path, "a.csv", text, ["b"])[0].text == "two"
    assert sections(tmp_path, "a.csv", text)[0].text == "one\u2029two\u2029three"


def test_broken_quotes_are_a_problem_not_one_long_record(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match=r"^line 3: unexpected end of data$"):
        sections(tmp_path, "a.csv", 'id,text\n1,one\n2,"two\n3,three\n')
    with pytest.raises(Unreadable, match=r"^line 2: ',' expected after"):
        sections(tmp_path, "a.csv", 'id,text\n1,"one" more\n2,two\n')


def test_a_long_cell_is_read(tmp_path: Path) -> None:
    assert sections(tmp_path, "a.csv", "text\n" + "egg " * 50_000)[0].text == "egg " * 50_000


def make_pdf(*pages: str) -> bytes:
    """A PDF of one line a page, written by hand."""
    writer = pypdf.PdfWriter()
    font = pypdf.generic.DictionaryObject(
        {pypdf.generic.NameObject(f"/{key}"): pypdf.generic.NameObject(f"/{value}")
         for key, value in {"Type": "Font", "Subtype": "Type1", "BaseFont": "Helvetica"}.items()}
    )  # fmt: skip
    for text in pages:
        page = writer.add_blank_page(300, 300)
        stream = pypdf.generic.StreamObject()
        stream.set_data(f"BT /F1 12 Tf 20 200 Td ({text}) Tj ET".encode())
        name = pypdf.generic.NameObject
        fonts = pypdf.generic.DictionaryObject({name("/F1"): font})
        page[name("/Resources")] = pypdf.generic.DictionaryObject({name("/Font"): fonts})
        page[name("/Contents")] = writer._add_object(stream)
    data = io.BytesIO()
    writer.write(data)
    return data.getvalue()


def test_pdf(tmp_path: Path) -> None:
    found = sections(tmp_path, "a.pdf", make_pdf("Eggs hatch in May.", "Chicks leave in June."))
    assert found == [Section("Eggs hatch in May.\fChicks leave in June.", kind="page")]
    with pytest.raises(Unreadable, match="damaged or locked PDF"):
        sections(tmp_path, "b.pdf", b"%PDF-1.7 and then nothing")


def test_a_pdf_that_spells_half_a_character(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pypdf.PageObject, "extract_text", lambda self: "An egg \ud800 hatches.")
    assert sections(tmp_path, "a.pdf", make_pdf("An egg")) == [Section("An egg ? hatches.", kind="page")]


def test_pictures_are_read_by_their_words(tmp_path: Path) -> None:
    svg = '<svg><title>Speed</title><path d="M 0 0 L 10 10"/>\n<text x="1">texts a second</text></svg>'
    text = "".join(section.text for section in sections(tmp_path, "a.svg", svg.encode()))
    assert "texts a second" in text
    assert "M 0 0" not in text


def test_pdf_without_pypdf_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_pypdf(name: str, globals: Mapping[str, object] | None = None, *rest: Any) -> Any:
        if name == "pypdf":
            raise ImportError(name)
        return real(name, globals, *rest)

    monkeypatch.setattr(builtins, "__import__", without_pypdf)
    with pytest.raises(Unreadable, match="pip install --upgrade pypdf"):
        sections(tmp_path, "a.pdf", b"")


@pytest.mark.parametrize(
    "text",
    [
        ">" * 20_000 + "<a " * 20_000, '<a b="' * 50_001, "<a b=c" * 50_000, "<a b='><a c=\">" * 20_000,
        "<!-- " * 50_000, "<!x " * 50_000, "<? " * 50_000, "<![CDATA[ " * 50_000, "</a " * 50_000, "&#" * 50_000,
        "<script>" * 50_000, "<script>" + "</script " * 50_000, "<script/>" * 20_000, "<style " * 50_000,
        "<a" + " " * 200_000, "<a " + "b=" * 100_000, "<" * 200_000, "<h1>" * 50_000,
    ],
)  # fmt: skip
def test_broken_html_takes_a_moment(tmp_path: Path, text: str) -> None:
    began = time.perf_counter()
    assert "".join(section.text for section in sections(tmp_path, "a.html", text)).count("\n") == 0
    assert time.perf_counter() - began < 2


def test_broken_html_is_read_as_far_as_a_browser_would(tmp_path: Path) -> None:
    text = "<P>one<SCRIPT src=x />two<!-->three<p title='a > b'>four<p x=\"5>six</p a></><!DOCTYPE x>seven"
    text += " 1 < 2 &lt; 3\n<a "
    assert sections(tmp_path, "a.html", text)[0].text.split() == [
        "one" "two" "three", "four", "six", "seven", "1", "<", "2", "<", "3", "<a",
    ]  # fmt: skip
    assert sections(tmp_path, "a.html", "one<!-- two")[0].text == "one"
    assert sections(tmp_path, "a.html", "one<style>two\n<p>")[0].text == "one\n"
    assert [
        s.line for s in sections(tmp_path, "a.html", "a&#10;b\n<h1\nid=x>c</h1>f\n<script>\n</script><h2>d</h2>e")
    ] == [1, 2, 5]
    with pytest.raises(Unreadable, match=r"damaged \.html file: Exceeds the limit"):
        sections(tmp_path, "a.html", "&#" + "9" * 5000 + ";")


def test_a_long_line_of_fences_takes_a_moment(tmp_path: Path) -> None:
    began = time.perf_counter()
    sections(tmp_path, "a.md", "`" * 200_000)
    assert time.perf_counter() - began < 2

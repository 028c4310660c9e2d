"""Passages: nothing lost, nothing twice, and cut where a reader would."""

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestling.search.chunk import passages, stretches
from nestling.search.outline import Section
from nestling.search.read import read

WORDS = [
    "nest", "# Title", "def egg():", "- item", "| a | b |", "=====", "---", "```", "End. Next", "x" * 150, "", "   ",
    "\t indented", "1. first", "日本語の文。", "\f", "word " * 40, "class Bird {", "@egg",
]  # fmt: skip
documents = st.lists(st.sampled_from(WORDS), max_size=120).map("\n".join)


@given(document=documents, suffix=st.sampled_from(["txt", "md", "rst", "py", "js"]))
def test_every_line_is_in_exactly_one_passage(
    tmp_path_factory: pytest.TempPathFactory, document: str, suffix: str
) -> None:
    path = tmp_path_factory.getbasetemp() / f"document.{suffix}"
    path.write_text(document, encoding="utf-8")
    found = list(passages("document", read(path)))
    lines = document.split("\n")
    covered = [number for each in found for number in range(each.line, each.end_line + 1)]
    assert [number for number in covered if lines[number - 1].strip()] == [
        number for number, line in enumerate(lines, 1) if line.strip()
    ]
    for each in found:
        *before, last = lines[each.line - 1 : each.end_line]
        assert each.text == "\n".join([*before, last.rstrip()])


@given(text=st.text(alphabet=st.sampled_from("ab .\n,。\u2029\t🐦"), max_size=3000))
def test_only_white_space_is_dropped(text: str) -> None:
    found = list(stretches(text, tokens=10))
    assert "".join("".join(part for _, part in found).split()) == "".join(text.split())
    assert all(text.startswith(part, start) for start, part in found)
    assert all(part.strip() for _, part in found)


def test_paragraphs_are_kept_whole_and_short_ones_join() -> None:
    paragraphs = ["Short.", "Words of a paragraph. " * 30, "More of another one. " * 30, "Tail."]
    found = [text for _, text in stretches("\n\n".join(paragraph.strip() for paragraph in paragraphs))]
    assert [text.count("\n\n") for text in found] == [1, 1]
    assert found[1].endswith("Tail.")


def test_lists_are_cut_between_items() -> None:
    text = "\n".join(f"- item {number} which goes on\n  for another line" for number in range(60))
    assert all(part.startswith("- item") for _, part in stretches(text))


def test_indents_are_kept() -> None:
    text = "    first\n" + "    line of code\n" * 100
    assert all(part.startswith("    ") for _, part in stretches(text))


def test_pages_count_as_lines() -> None:
    found = list(passages("a.pdf", [Section("\f".join(["one " * 300, "two " * 100, "three " * 20]), kind="page")]))
    assert [(passage.line, passage.end_line) for passage in found] == [(1, 1), (1, 3)]
    assert found[-1].line_at(found[-1].text.index("three")) == 3


@pytest.mark.parametrize("text", ['{"a":[1,2,3],"b":null},', "x", "word ", " ", "\n", " \n", "🐦", "。"])
def test_ten_megabytes_on_a_line_take_a_moment(text: str, tmp_path: Path) -> None:
    path = tmp_path / "line.js"
    path.write_text("x" + text * (5_000_000 // len(text)) + "x", encoding="utf-8")
    began = time.perf_counter()
    found = list(passages("line.js", read(path)))
    assert time.perf_counter() - began < 5
    assert max(len(passage.text) for passage in found) <= 1200

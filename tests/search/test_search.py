"""The whole way: files in, report out, and the report as text and JSON."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click import unstyle

import nestling
from nestling.errors import InputError, InputTypeError
from nestling.search import Embedder, Passage, Problem, Report, search
from nestling.search import rank as ranking
from nestling.search.rank import Ranked, rank
from nestling.search.show import render, show_summary, summary, to_json
from nestling.search.snippet import LENGTH, hit, sentences
from nestling.search.words import Wording, shares

PLACE = Ranked("a", 0, 1, 0.5, 0.5, 0.5)
NEST = (
    "# Nests\n\nA nest is made of twigs.\nIt is lined with moss.\n\n"
    "## Eggs\n\nMost eggs are blue. The eggs hatch in May!\n"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "nest.md").write_text(NEST)
    (tmp_path / "tree.txt").write_text("Trees have leaves.\n")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\x00\x00")
    (tmp_path / "old.txt").write_bytes(b"caf\xe9")
    (tmp_path / "gone.txt").symlink_to("nowhere")
    return tmp_path


def test_report(folder: Path, model: Embedder) -> None:
    report = search("when do eggs hatch", [folder], model, top=2)
    assert (report.files, report.passages, report.binaries) == (2, 3, 1)
    assert report.problems == (
        Problem(str(folder / "gone.txt"), "No such file or directory"),
        Problem(str(folder / "old.txt"), "not UTF-8: unexpected end of data at byte 3"),
    )
    best = report.hits[0]
    assert (best.passage.path, best.passage.line, best.best_line) == (str(folder / "nest.md"), 6, 8)
    assert best.passage.heading == "Nests > Eggs"
    assert best.snippet[slice(*best.span)] == "The eggs hatch in May!"
    assert search("when do eggs hatch", str(folder), model, top=2).hits == report.hits


def test_min_score_and_an_empty_folder(folder: Path, tmp_path_factory: pytest.TempPathFactory, model: Embedder) -> None:
    assert len(search("moss", [folder], model, min_score=0.1).hits) == 1
    assert search("moss", [folder], model, min_score=0.99).hits == ()
    empty = search("moss", [tmp_path_factory.mktemp("empty")], model)
    assert (empty.hits, empty.files, empty.passages) == ((), 0, 0)


def test_what_cannot_be_asked(folder: Path, model: Embedder) -> None:
    for query in (" \n", "?!"):
        with pytest.raises(InputError, match=r"has no word\. .* Say more\."):
            search(query, [folder], model)
    with pytest.raises(InputError, match=r"The query holds a lone surrogate, U\+DCE9, at position 3\."):
        search("caf\udce9", [folder], model)
    with pytest.raises(InputError, match="cannot be searched"):
        search("nest", [folder / "no"], model)


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"query": None}, InputTypeError, "The query is of type NoneType;"),
        ({"model": None}, InputTypeError, "model is of type NoneType;"),
        ({"paths": None}, InputTypeError, "paths holds a value of type NoneType;"),
        ({"paths": []}, InputError, r"paths=\[\] names nothing\."),
        ({"paths": ["a", ""]}, InputError, r"An empty path was given\."),
        ({"top": None}, InputTypeError, "top=None was given; a whole number"),
        ({"top": 2.5}, InputTypeError, r"top=2\.5 was given; a whole number"),
        ({"top": 0}, InputError, r"top=0 was given; at least 1"),
        ({"min_score": "0.3"}, InputTypeError, "min_score='0.3' is no number"),
        ({"min_score": float("nan")}, InputError, r"min_score is not a number \(NaN\)"),
        ({"columns": []}, InputError, r"columns=\[\] names nothing\."),
        ({"columns": [1]}, InputTypeError, "columns holds a value of type int;"),
    ],
)
def test_each_argument_is_checked(
    folder: Path, model: Embedder, asked: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        search(**{"query": "nest", "paths": [folder], "model": model, **asked})


def test_a_model_may_be_named(folder: Path) -> None:
    assert search("hatching eggs", folder, "nano").hits == search("hatching eggs", folder, nestling.load("nano")).hits


def test_a_table_without_the_column_is_a_problem_of_its_own(folder: Path, model: Embedder) -> None:
    (folder / "u.csv").write_text("id,title\n1,eggs\n")
    with pytest.raises(InputError, match=r"No table can be searched by 'body'\. .*u\.csv has no column 'body'; its"):
        search("eggs", folder, model, columns="body")
    (folder / "t.csv").write_text("id,body\n1,eggs\n")
    report = search("eggs", folder, model, columns="body")
    assert Problem(str(folder / "u.csv"), "no column 'body'; its columns: id, title") in report.problems
    assert str(folder / "t.csv") in [hit.passage.path for hit in report.hits]
    assert search("eggs", folder / "nest.md", model, columns="body").hits


def test_a_pipe_that_is_named_is_searched(model: Embedder) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"The eggs hatch.")
    os.close(writing)
    report = search("eggs hatch", [f"/dev/fd/{reading}"], model)
    os.close(reading)
    assert [hit.snippet for hit in report.hits] == ["The eggs hatch."]
    assert (report.files, report.problems) == (1, ())


@pytest.mark.parametrize("batch", [1, 3, 1024])
def test_rank_is_the_exact_order(model: Embedder, monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    monkeypatch.setattr(ranking, "_BATCH", batch)
    texts, wording = ["egg", "nest egg", "nest", "tree", "nest egg", "egg", ""], Wording("nest egg")
    passages = [Passage("ab"[n // 4], n, n, "", text) for n, text in enumerate(texts)]
    words = shares([wording.count(f" {text}") for text in texts], [len(text) for text in texts])
    scores = (model.encode_document(texts) @ model.encode_query("nest egg") + words) / 2
    order = sorted(range(len(texts)), key=lambda n: (-scores[n], passages[n].path, n))
    ranked = rank(iter(passages), model.encode_query("nest egg"), wording, model, top=5)
    assert [(place.path, place.line) for place in ranked] == [(passages[n].path, n) for n in order[:5]]
    assert [place.number for place in ranked] == [n % 4 for n in order[:5]]
    assert np.allclose([place.score for place in ranked], scores[order[:5]])
    assert np.allclose([(place.cosine + place.words) / 2 for place in ranked], [place.score for place in ranked])


def test_headings_count(model: Embedder) -> None:
    passages = [Passage("a", 1, 1, "", "blue"), Passage("b", 1, 1, "Eggs", "blue")]
    ranked = rank(passages, model.encode_query("blue eggs"), Wording("blue eggs"), model, top=1)
    assert ranked[0].path == "b"
    assert ranked[0].words > 0.5


def test_a_word_the_model_does_not_know_is_found_all_the_same(folder: Path, model: Embedder) -> None:
    (folder / "errors.txt").write_text("Code E1101 means that a member is missing.\n")

    class Silent:
        def encode_query(self, text):
            return np.zeros(512, np.float32)

        def encode_document(self, texts, *, titles=None):
            return np.zeros((len(texts), 512), np.float32)

    assert search("E1101", [folder], Silent(), top=1).hits[0].passage.path == str(folder / "errors.txt")


def test_a_file_that_changes_meanwhile_is_a_problem(folder: Path, model: Embedder) -> None:
    class Meddling(type(model)):
        def encode_document(self, texts, *, titles=None):
            (folder / "nest.md").write_text("")
            return super().encode_document(texts, titles=titles)

    report = search("when do eggs hatch", [folder], Meddling(), top=2)
    assert Problem(str(folder / "nest.md"), "changed while it was searched") in report.problems
    assert all(hit.passage.path != str(folder / "nest.md") for hit in report.hits)


def test_snippets_stay_short_and_point_to_the_best_sentence(model: Embedder) -> None:
    filler = "Some words that are about nothing. " * 20
    passage = Passage("a", 5, 7, "", f"{filler}\n{filler}The egg\x1b[31m hatches. {filler}")
    found = hit(PLACE, passage, model.encode_query("egg hatches"), Wording("egg hatches"), model)
    assert found.snippet[slice(*found.span)] == "The egg [31m hatches."
    assert found.best_line == 6
    assert len(found.snippet) <= LENGTH
    long = hit(PLACE, Passage("a", 1, 1, "", "egg" * 500), model.encode_query("egg"), Wording("egg"), model)
    assert long.span == (0, LENGTH)


def test_sentences() -> None:
    text = "# Title\nOne is e.g. here. Two\ngoes on! - no\n\n- item\n| a | b |\n日本。語"
    pieces = ["# Title", "One is e.g. here.", "Two\ngoes on!", "- no", "- item", "| a | b |", "日本。", "語"]
    assert [text[start:end] for start, end in sentences(Passage("a", 1, 1, "", text))] == pieces
    code = Passage("a", 1, 1, "", "def a():\n\n    b. C", "code")
    assert [code.text[start:end] for start, end in sentences(code)] == ["def a():", "b. C"]


def test_text(folder: Path, model: Embedder) -> None:
    report = search("when do eggs hatch", [folder / "nest.md"], model, top=1)
    plain = render(report)
    score = f"{report.hits[0].score:.2f}"
    head = f"{folder / 'nest.md'}:8  {score}  Nests > Eggs"
    assert plain == f"{head}\n    Most eggs are blue. The eggs hatch in May!\n"
    styled = render(report, colour=True, width=30)
    assert "\x1b[1mThe\x1b[0m" in styled
    assert unstyle(styled) == f"{head}\n    Most eggs are blue. The\n    eggs hatch in May!\n"


def test_json(folder: Path, model: Embedder) -> None:
    report = search("when do eggs hatch", [folder], model, top=1)
    document = json.loads(to_json(report, "nano"))
    assert list(document) == ["query", "model", "files", "passages", "binaries", "seconds", "hits", "problems"]
    assert document["hits"] == [
        {
            "path": str(folder / "nest.md"), "unit": "line", "line": 6, "end_line": 8, "best_line": 8,
            "score": round(report.hits[0].score, 4), "cosine": round(report.hits[0].cosine, 4),
            "words": round(report.hits[0].words, 4), "heading": "Nests > Eggs",
            "snippet": "Most eggs are blue. The eggs hatch in May!", "span": [20, 42],
        }
    ]  # fmt: skip
    assert [problem["path"] for problem in document["problems"]] == [str(folder / "gone.txt"), str(folder / "old.txt")]


def test_summary_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report("q", (), 214, 3120, 3, (Problem("a\udcff.txt", "not UTF-8"),), 1.23)
    expected = "searched 214 files, 3,120 passages in 1.2 s; 3 binary files skipped; 1 file could not be read:"
    assert summary(report) == f"{expected}\n  a\ufffd.txt: not UTF-8"
    show_summary(report)
    assert capsys.readouterr().err == summary(report) + "\n"

"""Which files are found, in which order."""

import os
from pathlib import Path

import pytest

from nestling.errors import InputError
from nestling.search.results import Problem
from nestling.search.walk import walk


def make(top: Path, *names: str) -> None:
    for name in names:
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text("text")


def found(*paths: Path, top: Path) -> list[str]:
    return [str(Path(str(item)).relative_to(top)) for item in walk(list(paths))]


def test_order_is_by_name_and_hidden_folders_are_passed_over(tmp_path: Path) -> None:
    make(tmp_path, "b.md", "a/z.md", "a/b/c.md", ".git/config", ".venv/x.py", "node_modules/m.js", "__pycache__/p.py")
    assert found(tmp_path, top=tmp_path) == ["a/b/c.md", "a/z.md", "b.md"]


def test_named_files_are_read_whatever_the_rules_say(tmp_path: Path) -> None:
    make(tmp_path, "a.log", ".hidden", "b.md", "build/c.log", "build/c.md")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".gitignore").write_text("*.log\nbuild/\n")
    assert found(tmp_path, top=tmp_path) == ["b.md"]
    assert found(tmp_path / "a.log", tmp_path / ".hidden", top=tmp_path) == ["a.log", ".hidden"]
    assert found(tmp_path / "build", top=tmp_path) == ["build/c.log", "build/c.md"]


def test_rules_of_the_folders_above_hold_up_to_the_repository(tmp_path: Path) -> None:
    make(tmp_path, "repository/docs/a.log", "repository/docs/a.md", "repository/docs/b.tmp")
    (tmp_path / ".gitignore").write_text("*.md\n")
    (tmp_path / "repository" / ".gitignore").write_text("*.log\n/docs/*.tmp\n")
    docs = tmp_path / "repository" / "docs"
    assert found(docs, top=docs) == ["a.log", "a.md", "b.tmp"]
    (tmp_path / "repository" / ".git").mkdir()
    assert found(docs, top=docs) == ["a.md"]


def test_each_file_once_and_no_loop(tmp_path: Path) -> None:
    make(tmp_path, "a/one.md")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "a" / "again.md").symlink_to("one.md")
    (tmp_path / "a" / "itself").symlink_to("itself")
    assert found(tmp_path, tmp_path / "a", top=tmp_path) == ["a/again.md", "a/itself"]


def test_pipes_are_passed_over(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert found(tmp_path, top=tmp_path) == []


def test_what_would_be_waited_for_is_passed_over(tmp_path: Path) -> None:
    make(tmp_path, "a.md")
    os.mkfifo(tmp_path / ".gitignore")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "to_pipe.md").symlink_to("pipe")
    (tmp_path / "to_device.md").symlink_to("/dev/zero")
    assert found(tmp_path, top=tmp_path) == ["a.md"]


def test_many_wildcards_take_a_moment(tmp_path: Path) -> None:
    """Each star tried at each place, with all that follow, would take years."""
    make(tmp_path, "a" * 60 + ".txt", "/".join("aaaaaaaaaa") + "/c.txt")
    (tmp_path / ".gitignore").write_text("*a" * 14 + "b\n" + "**/a/" * 12 + "b\n" + "**/*a*/" * 9 + "b")
    assert len(found(tmp_path, top=tmp_path)) == 2


def test_a_folder_that_goes_away_is_a_problem(tmp_path: Path) -> None:
    make(tmp_path, "a/one.md", "b/two.md")
    walking = walk([tmp_path])
    assert next(walking) == tmp_path / "a" / "one.md"
    (tmp_path / "b" / "two.md").unlink()
    (tmp_path / "b").rmdir()
    assert list(walking) == [Problem(str(tmp_path / "b"), "the folder cannot be listed: No such file or directory")]


def test_the_folder_we_are_in_is_not_spelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "a/one.md")
    monkeypatch.chdir(tmp_path)
    assert [str(path) for path in walk([Path()])] == ["a/one.md"]


def test_a_path_that_does_not_exist_is_told_at_once(tmp_path: Path) -> None:
    expected = r"nowhere' cannot be searched: No such file or directory\. Each path is a file or a folder\. Check"
    with pytest.raises(InputError, match=expected):
        walk([tmp_path, tmp_path / "nowhere"])
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(InputError, match=r"loop' cannot be searched: Too many levels of symbolic links\."):
        walk([tmp_path / "loop"])
    with pytest.raises(InputError, match=r"cannot be searched: embedded null byte\."):
        walk([Path("a\0b")])

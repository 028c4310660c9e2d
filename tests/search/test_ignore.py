"""The rules of .gitignore files, held against git itself."""

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from nestling.search.walk import walk

NAMES = ["a", "b.md", "c.log", "build", "keep me", "[x]", "déjà vu.md"]
GLOBS = [
    "a", "b", "b.md", "c.log", "build", "keep", "keep me", "*", "*.md", "*.l?g", "**", "?", "[abc]", "[!a]", "[^b]*",
    "[a-c].md", "[z-a]", "\\[x\\]", "déjà vu.md", "?.md", "b*d", "\\a", "[]x]", "[[]*", "*\\", "*e*e*", "*[ .]*d",
    "b*.*", "*a*v*.*",
]  # fmt: skip
lines = st.builds(
    lambda negated, root, parts, end: negated + root + "/".join(parts) + end,
    st.sampled_from(["", "", "!"]),
    st.sampled_from(["", "", "/"]),
    st.lists(st.sampled_from(GLOBS), min_size=1, max_size=3),
    st.sampled_from(["", "", "/", " ", "\\ ", "\r"]),
) | st.sampled_from(["", "# a", "\\#a", "/", "!", "  ", "**/", "/**", "\\!a", "!*/"])  # fmt: skip
rules = st.lists(lines, max_size=5).map("\n".join)


FOLDERS = [".", "a", "build", "a/build", "build/keep me", "a/b.md"]


def make_tree(top: Path) -> list[str]:
    """Six folders, each holding a file of every name that is not a folder there."""
    for folder in FOLDERS:
        (top / folder).mkdir(exist_ok=True)
    for folder in FOLDERS:
        for name in NAMES:
            if not (top / folder / name).is_dir():
                (top / folder / name).write_text("x")
    return sorted(path.relative_to(top).as_posix() for path in top.rglob("*") if path.is_file())


def kept_by_git(top: Path, names: list[str]) -> set[str]:
    """The files that git would not ignore."""
    answer = subprocess.run(
        ["git", "check-ignore", "--no-index", "--stdin", "-z"],
        input="\0".join(names).encode(),
        capture_output=True,
        cwd=top,
        env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull},
        check=False,
    )
    assert answer.returncode in (0, 1), answer.stderr
    return set(names) - set(answer.stdout.decode().split("\0"))


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    top = tmp_path_factory.mktemp("tree")
    names = make_tree(top)
    subprocess.run(["git", "init", "-q", str(top)], check=True, capture_output=True)
    return top, names


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(outer=rules, inner=rules)
@example(outer="", inner="*\\/**/a")
def test_agrees_with_git(tree: tuple[Path, list[str]], outer: str, inner: str) -> None:
    top, names = tree
    (top / ".gitignore").write_bytes(outer.encode())
    (top / "a" / ".gitignore").write_bytes(inner.encode())
    found = {Path(str(path)).relative_to(top).as_posix() for path in walk([top])}
    assert sorted(found ^ kept_by_git(top, names)) == []
    below = {Path(str(path)).relative_to(top).as_posix() for path in walk([top / "a"])}
    assert sorted({name for name in found if name.startswith("a/")} - below) == []

"""What README.md and docs/ show is what is there."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from nestling.cli import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("number", range(len(re.findall(r"```python\n", README))))
def test_the_code_of_the_readme_runs(number: int, tmp_path: Path) -> None:
    code = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[number]
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_the_uses_run_and_find_what_they_say(tmp_path: Path) -> None:
    code = "\n".join(re.findall(r"```python\n(.*?)```", (ROOT / "docs/uses.md").read_text(encoding="utf-8"), re.DOTALL))
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n") == [
        "['Open the account page and press Cancel.', 'Parcels arrive within three days.']",
        "Anna's birthday is on the third of May.",
        "run_sql None",
        "[('Do you ship to Canada?', 'Do you deliver to Canada?')]",
        "[1]",
        "(1, 128)",
        "",
    ]


def test_the_first_example_comes_early() -> None:
    assert "```" in README.split("\n")[:20]


def test_the_search_of_the_readme_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (line,) = (line for line in README.split("\n") if line.startswith("nestling search"))
    done = CliRunner().invoke(main, shlex.split(line)[1:])
    assert done.exit_code == 0, done.output
    assert done.stdout.count("\n") > 5


def test_tables_are_what_the_results_say() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "tables.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_shown_have_the_options_shown(page: Path) -> None:
    for command, rest in re.findall(r"^(?:.*\$ )?nestling (\w+)((?: .*)?)$", page.read_text(encoding="utf-8"), re.M):
        known = {name for option in main.commands[command].params for name in option.opts}
        assert set(re.findall(r"--[a-z-]+", rest)) <= known, f"nestling {command}{rest}"

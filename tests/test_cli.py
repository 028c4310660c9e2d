"""The command line from end to end, with the shipped model, in this process and in a fresh one."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

import nestling
from nestling.cli import main
from tests.conftest import model_of

DOCS = Path(__file__).parent.parent / "docs"


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def run_apart(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nestling.cli", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def float_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "float.nest"
    model_of("wordpiece").save(path)
    return path


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("a nest in a tree\n\nan egg\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("command", ["search", "embed", "make", "shrink", "info", "models"])
def test_every_command_explains_itself(command: str) -> None:
    assert command in run("--help").output
    helped = run(command, "--help")
    assert helped.exit_code == 0
    assert "--json" in helped.output


def test_search_finds_the_page_and_says_where() -> None:
    found = run("search", "a full disk kills the process with SIGBUS", DOCS, "--top", 2)
    assert found.exit_code == 0
    place, score, *_ = found.stdout.split("\n")[0].split("  ")
    path, line = place.rsplit(":", 1)
    assert Path(path) == DOCS / "log.md"
    assert "SIGBUS" in (DOCS / "log.md").read_text(encoding="utf-8").split("\n")[int(line) - 1]
    assert 0 < float(score) <= 1
    assert "searched" in found.stderr


def test_search_as_json() -> None:
    found = json.loads(run("search", "what a reader must refuse", DOCS / "format.md", "--json").stdout)
    best = found["hits"][0]
    assert best["heading"].endswith("What a reader must refuse")
    assert best["line"] <= best["best_line"] <= best["end_line"]
    assert best["score"] == pytest.approx((best["cosine"] + best["words"]) / 2, abs=1e-4)
    assert found["files"] == 1


def test_min_score_leaves_out() -> None:
    assert run("search", "quantum chromodynamics", DOCS, "--min-score", 0.99).stdout == ""


def test_embed_writes_what_encode_gives(texts: Path, tmp_path: Path) -> None:
    out = tmp_path / "vectors.npy"
    done = run("embed", texts, out, "--dim", 64, "--json")
    assert json.loads(done.stdout)["rows"] == 3
    lines = texts.read_text(encoding="utf-8").split("\n")[:3]
    np.testing.assert_array_equal(np.load(out), nestling.load("nano").encode(lines, dim=64))


def test_shrink_prints_the_loss_of_each_step(float_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "small.nest"
    done = run("shrink", float_model, out, "--dim", 8, "--dtype", "int8")
    assert done.exit_code == 0, done.output
    words = [line.split("  ")[0] for line in done.stdout.split("\n")]
    assert words[1:5] == ["as given", "8 dims", "int8", "without token counts"]
    assert nestling.load(out).dims == (8, 4)
    assert f"{out.stat().st_size:,} bytes" in done.stdout


def test_shrink_to_a_budget(float_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "small.nest"
    budget = float_model.stat().st_size // 2
    done = run("shrink", float_model, out, "--budget", budget, "--json")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["size"] == out.stat().st_size <= budget
    assert all(trial["size"] <= budget for trial in result["trials"])


def test_info_and_models() -> None:
    facts = json.loads(run("info", "nano", "--json", "--verify").stdout)
    assert facts["fingerprint"] == nestling.load("nano").fingerprint
    assert all(check["cosine"] >= 0.9999 for check in facts["verified"])
    assert "BAAI/bge-small-en-v1.5 (MIT)" in run("info", "nano").stdout
    (listed,) = json.loads(run("models", "--json").stdout)
    assert (listed["name"], listed["licence"]) == ("nano", "Apache-2.0")
    assert "nano" in run("models").stdout


def test_info_notices_a_machine_that_computes_otherwise(tmp_path: Path) -> None:
    model = model_of("wordpiece")
    path = tmp_path / "other.nest"
    model.save(path)
    data = bytearray(path.read_bytes())
    stored = model.encode(list(model.document.canaries)).astype("<f4").tobytes()
    at = data.index(stored)
    data[at : at + len(stored)] = (-np.frombuffer(stored, "<f4")).tobytes()
    path.write_bytes(data)
    done = run("info", path, "--verify")
    assert done.exit_code == 1
    assert "does not give the vectors" in done.stderr


def test_failures_exit_with_1_and_three_parts(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for words in (["search", "eggs", tmp_path / "none"], ["search", "?!", DOCS], ["info", tmp_path / "empty"]):
        done = run(*words)
        assert done.exit_code == 1
        assert done.stdout == ""
        assert done.stderr.startswith("nestling: ")
        assert "Traceback" not in done.stderr


def test_misuse_exits_with_2() -> None:
    assert run("search", "no path given").exit_code == 2
    assert run("embed", "a", "b", "--dtype", "float64").exit_code == 2
    assert run("hatch").exit_code == 2


def test_help_loads_nothing_heavy() -> None:
    program = "import sys; sys.argv = ['nestling', '--help']\nfrom nestling.cli import main\n"
    program += "try: main()\nexcept SystemExit: print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "Commands:" in done.stdout
    assert {"numpy", "tokenizers", "tqdm"}.isdisjoint(done.stderr.split())


def test_results_and_remarks_keep_apart(texts: Path) -> None:
    done = run_apart("search", "eggs in a nest", texts, "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["hits"][0]["best_line"] in (1, 3)
    assert done.stderr == ""


def test_a_closed_pipe_is_no_traceback(texts: Path) -> None:
    command = f"{sys.executable} -m nestling.cli search eggs {texts} | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr

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


def test_embed_says_in_one_line_what_was_cut(tmp_path: Path) -> None:
    model_of("wordpiece", max_tokens=5).save(tmp_path / "short.nest")
    source = tmp_path / "long.txt"
    source.write_text("one two three four five six seven eight nine\n" * 3)
    words = ["embed", source, tmp_path / "a.npy", "--model", tmp_path / "short.nest"]
    done = run_apart(*words, "--json")
    assert json.loads(done.stdout)["cut"] == 3
    (line,) = [line for line in done.stderr.split("\n") if "cut" in line]
    assert line.startswith("nestling: 3 of 3 texts had more than 5 tokens and were cut;")
    assert "Warning" not in done.stderr
    assert json.loads(run(*words, "--overflow", "split", "--json").stdout)["cut"] == 0


def test_shrink_prints_the_loss_of_each_step(float_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "small.nest"
    done = run("shrink", float_model, out, "--dim", 8, "--dtype", "int8")
    assert done.exit_code == 0, done.output
    words = [line.split("  ")[0] for line in done.stdout.split("\n")]
    assert words[1:4] == ["as given", "8 dims", "int8"]
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
    listed = json.loads(run("models", "--json").stdout)
    assert [one["name"] for one in listed] == ["nano", "micro", "mini", "static"]
    assert {one["licence"] for one in listed} == {"Apache-2.0"}
    assert all(one["name"] in run("models").stdout for one in listed)


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


def test_info_cannot_verify_a_model_without_canaries(tmp_path: Path) -> None:
    model_of("wordpiece", canaries=()).save(tmp_path / "a.nest")
    model_of("wordpiece").save(tmp_path / "folder", layout="model2vec")
    for source in (tmp_path / "a.nest", tmp_path / "folder"):
        done = run("info", source, "--verify")
        assert done.exit_code == 1
        assert done.stderr == "nestling: wordpiece carries no canary texts, so it cannot be verified.\n"


def test_info_gives_sizes_of_files(tmp_path: Path) -> None:
    model = model_of("wordpiece")
    model.save(tmp_path / "a.nest")
    model.save(tmp_path / "folder", layout="model2vec")
    facts = json.loads(run("info", tmp_path / "a.nest", "--json").stdout)
    assert facts["size"] == (tmp_path / "a.nest").stat().st_size
    assert facts["bytes"] == {"rows": 600 * 16 * 4, "tokenizer": facts["bytes"]["tokenizer"]}
    assert 1000 < facts["bytes"]["tokenizer"] < facts["size"]
    assert f"size         {facts['size']:,} bytes" in run("info", tmp_path / "a.nest").stdout
    assert "size" not in json.loads(run("info", tmp_path / "folder", "--json").stdout)


def test_control_characters_do_not_reach_the_terminal(tmp_path: Path) -> None:
    odd = "\x1b[2J\x9b1m\u202e\nfake line"
    model_of("wordpiece", name=f"a{odd}", description=odd, licence=odd, canaries=()).save(tmp_path / "a.nest")
    for words in (["info", tmp_path / "a.nest", "--verify"], ["info", tmp_path / "a.nest", "--json"]):
        done = run(*words)
        assert not set("\x1b\x9b\u202e") & set(done.output)
    assert "\nfake line" not in run("info", tmp_path / "a.nest", "--verify").output


@pytest.mark.parametrize("out", ["a.out", "gone/a.nest", "."])
def test_shrink_refuses_a_bad_target_before_the_work(out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nestling.shrink.steps.shrink", lambda *_, **__: pytest.fail("the work was begun"))
    done = run("shrink", "nano", tmp_path / out, "--dim", 32)
    assert done.exit_code == 1
    assert done.stderr.startswith("nestling: ")
    assert "layout" not in done.stderr


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

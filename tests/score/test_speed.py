"""Speed: the report is whole and its figures fit one another. Who is faster is not asserted."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nestling.errors import InputError, ModelFileError, NestlingError
from nestling.model.load import load
from nestling.score import speed
from nestling.score.peers import Peer, make_peer
from nestling.score.processes import Worker, cold_start
from nestling.score.speed import Cell
from nestling.score.speed_text import as_text
from nestling.shrink.fidelity import sample_texts

SAMPLES = Path(__file__).parent.parent / "samples"
ROUNDS = 2


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """3,000 distinct real texts: pairs of sentences."""
    sentences = sample_texts()
    return [f"{sentences[i % 660]} {sentences[(i * 7 + i // 660) % 660]}" for i in range(3000)]


@pytest.fixture(scope="module")
def report(texts: list[str]) -> Any:
    """nano beside itself in model2vec, as read back from JSON."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "COLD_RUNS", 1)
        peers = ["nano", "model2vec:nano"]
        found = speed.measure(peers, texts, rounds=ROUNDS, seconds_a_cell=0.01, lengths=(8, 64))
    return json.loads(json.dumps(found))


class Pretender:
    """A worker that takes the same time for each text."""

    def __init__(self, seconds_a_text: float) -> None:
        self.seconds, self.seen = seconds_a_text, list[str]()

    def run(self, calls: Sequence[Sequence[str]]) -> list[tuple[float, float]]:
        self.seen += [text for texts in calls for text in texts]
        return [(len(texts) * self.seconds, len(texts) * self.seconds) for texts in calls]


def cell_of(count: int, tokens: int = 10) -> Cell:
    column = np.full(count, tokens)
    return Cell("mixed", [f"text {index}" for index in range(count)], column, column * 5, ROUNDS)


def refused(error: type[NestlingError], *what: Any, **named: Any) -> str:
    """The error of measure, with its three parts there."""
    with pytest.raises(error) as caught:
        speed.measure(*what, **named)
    assert all((caught.value.given, caught.value.expected, caught.value.do))
    return str(caught.value)


def test_the_report_has_the_keys_that_its_page_names(report: dict[str, Any]) -> None:
    def keys(value: Any) -> set[str]:
        if isinstance(value, dict):
            return set(value) | set().union(*map(keys, value.values()))
        return set().union(*map(keys, value)) if isinstance(value, list) else set()

    named = keys({**report, "versions": {}})
    assert all(key in (speed.__doc__ or "") for key in named), named
    assert report["first"] == report["token_counter"] == "nano"
    assert report["cells"] == ["mixed", "8", "64"]
    assert [peer["name"] for peer in report["peers"]] == ["nano", "model2vec:nano"]
    for peer in report["peers"]:
        measured = [(cell["cell"], cell["threads"]) for cell in peer["cells"]]
        assert measured == [(cell, threads) for threads in report["threads"] for cell in report["cells"]]
        assert peer["bytes"] > 600_000
    assert {"model2vec", "numpy", "nestling"} <= set(report["versions"])


def test_rates_and_counts_fit(report: dict[str, Any]) -> None:
    for cell in (cell for peer in report["peers"] for cell in peer["cells"]):
        assert cell["texts_s"] * cell["wall_s"] == pytest.approx(cell["texts"], rel=2e-3)
        assert cell["texts_cpu_s"] * cell["cpu_s"] == pytest.approx(cell["texts"], rel=2e-3)
        assert cell["tokens_s"] == pytest.approx(cell["texts_s"] * cell["tokens_a_text"], rel=2e-3)
        assert cell["mb_s"] * 1e6 == pytest.approx(cell["texts_s"] * cell["bytes_a_text"], rel=2e-3)
        assert cell["cut_share"] == 0
        assert cell["cell"] == "mixed" or cell["tokens_a_text"] == int(cell["cell"])
    for peer in report["peers"]:
        assert peer["latency"]["texts"] >= 200
        assert 0 < peer["latency"]["median_ms"] <= peer["latency"]["p95_ms"]


def test_a_fresh_interpreter_needs_memory(report: dict[str, Any]) -> None:
    bare = report["interpreter"]
    for peer in report["peers"]:
        cold = peer["cold_start"]
        assert 20 < cold["peak_mb"] < 2000
        assert cold["peak_mb"] > bare["peak_mb"]
        assert cold["cpu_s"] > bare["cpu_s"]


def test_ratios_are_to_the_first(report: dict[str, Any]) -> None:
    first, other = report["peers"]
    for mine, its in zip(first["cells"], other["cells"], strict=True):
        assert (mine["ratio"], mine["ratio_cpu"]) == (1, 1)
        assert its["ratio"] == pytest.approx(its["texts_s"] / mine["texts_s"], rel=1e-3)
        assert its["ratio_cpu"] == pytest.approx(its["texts_cpu_s"] / mine["texts_cpu_s"], rel=1e-3)
    assert other["latency"]["ratio"] == pytest.approx(
        other["latency"]["median_ms"] / first["latency"]["median_ms"], rel=1e-3
    )
    for ratio, key in (("ratio", "wall_s"), ("ratio_cpu", "cpu_s"), ("ratio_peak", "peak_mb")):
        expected = other["cold_start"][key] / first["cold_start"][key]
        assert other["cold_start"][ratio] == pytest.approx(expected, rel=1e-3)


def test_people_see_every_peer_and_the_ratios_first(report: dict[str, Any]) -> None:
    text = as_text(report)
    lines = text.split("\n")
    assert all(sum(line.startswith(f"{peer['name']} ") for line in lines) >= 6 for peer in report["peers"])
    assert text.index("nano = 1") < text.index("tokens/s")
    unknown = json.loads(json.dumps(report))
    unknown["peers"][0]["cold_start"]["peak_mb"] = None
    assert " - " in as_text(unknown)


def test_no_text_is_met_twice(texts: list[str]) -> None:
    cells, singles = speed.cut_cells(texts + texts, load("nano").tokenizer, (8, 64), ROUNDS)
    everything = [text for cell in [*cells, singles] for text in cell.texts]
    assert len(everything) == len(set(everything))
    for cell in cells:
        parts = [cell.texts[cell.span(turn, cell.most)] for turn in range(ROUNDS + 1)]
        assert all(len(part) == cell.most for part in parts)
        assert len({text for part in parts for text in part}) == cell.most * (ROUNDS + 1)


def test_texts_of_a_length_have_it(texts: list[str]) -> None:
    model = load("nano")
    cells, _ = speed.cut_cells(texts, model.tokenizer, (8, 64), ROUNDS)
    for cell in cells[1:]:
        assert set(model.count_tokens(cell.texts)) == {int(cell.name)}
    assert cells[0].texts[0] in texts


def test_calibration_gives_the_slow_fewer_texts() -> None:
    cell = cell_of(3 * 5000)
    slow, middling, fast = Pretender(0.02), Pretender(0.0005), Pretender(1e-6)
    counts = [speed.calibrate(worker, cell, 1.0) for worker in (slow, middling, fast)]  # type: ignore[arg-type]
    assert counts == [50, 2000, cell.most]
    for worker in (slow, middling, fast):
        assert len(worker.seen) == len(set(worker.seen))
        assert set(worker.seen) <= set(cell.texts[cell.span(0, cell.most)])
    assert speed.calibrate(Pretender(60.0), cell, 1.0) == 1  # type: ignore[arg-type]


def test_tokens_that_a_peer_cuts_are_not_counted() -> None:
    times = [(2.0, 1.0), (2.0, 1.0)]
    whole = speed.figures(Peer("whole", "tokie", "", 1), cell_of(30), 8, times, 1)
    cut = speed.figures(Peer("cut", "tokie", "", 1, max_tokens=4), cell_of(30), 8, times, 1)
    assert (whole["tokens_s"], whole["cut_share"], whole["texts_s"], whole["cores"]) == (40, 0, 4, 0.5)
    assert (cut["tokens_s"], cut["cut_share"], cut["texts_s"]) == (16, 1, 4)


def test_an_onnx_folder_runs(tmp_path: Path) -> None:
    for name in ("model.onnx", "tokenizer.json"):
        (tmp_path / name).write_bytes((SAMPLES / "teacher" / name).read_bytes())
    (tmp_path / "teacher.json").write_text('{"max_tokens": 16, "pooling": "mean"}')
    peer = make_peer(f"minilm-onnx:{tmp_path}", tmp_path)
    files = [tmp_path / "model.onnx", tmp_path / "tokenizer.json"]
    assert (peer.max_tokens, peer.size) == (16, sum(file.stat().st_size for file in files))
    with Worker(peer.name, peer.program(1), 1) as worker:
        times = worker.run([["a cat", "a much longer text " * 20, "dogs"], ["one"]])
    assert all(wall > 0 for wall, _ in times)
    assert len(times) == 2


def test_the_same_folder_in_int8(tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.mkdir()
    for name in ("model.onnx", "tokenizer.json"):
        (given / name).write_bytes((SAMPLES / "teacher" / name).read_bytes())
    (given / "teacher.json").write_text('{"max_tokens": 16, "pooling": "mean"}')
    peer = make_peer(f"minilm-int8:{given}", tmp_path)
    assert (peer.name, Path(peer.place)) == ("minilm-int8:given", tmp_path / "int8" / "given")
    with Worker(peer.name, peer.program(1), 1) as worker:
        assert all(wall > 0 for wall, _ in worker.run([["a cat", "dogs"], ["one"]]))


def test_an_onnx_folder_that_does_not_say_where_it_cuts(tmp_path: Path) -> None:
    given = Path(shutil.copytree(SAMPLES / "teacher", tmp_path / "given"))
    (given / "teacher.json").write_text('{"pooling": "mean"}')
    with pytest.raises(ModelFileError, match="lacks max_tokens"):
        make_peer(f"minilm-onnx:{given}", tmp_path)


def test_a_peer_that_dies_says_why(tmp_path: Path) -> None:
    broken = Peer("broken", "nestling", str(tmp_path / "no.nest"), 0)
    with (
        Worker(broken.name, broken.program(1), 1) as worker,
        pytest.raises(ModelFileError, match=r"broken does not run: .*no\.nest"),
    ):
        worker.run([["a"]])
    with pytest.raises(ModelFileError, match="broken does not run"):
        cold_start(broken.program(None), broken.name)


@pytest.mark.parametrize("source", ["fasttext:nano", "model2vec:nowhere", "nonsense.nest"])
def test_unknown_peers_are_refused(source: str, texts: list[str]) -> None:
    assert source.partition(":")[2] in refused(NestlingError, ["nano", source], texts)


def test_too_little_is_refused(texts: list[str], tmp_path: Path) -> None:
    assert "0 models" in refused(InputError, [], texts)
    assert "0 rounds" in refused(InputError, ["nano"], texts, rounds=0)
    assert "20 distinct texts leave too few" in refused(InputError, ["nano"], texts[:20])
    few = tmp_path / "few.txt"
    few.write_text("\n".join([*texts, *texts, " "]), encoding="utf-8")
    for path, given in ((None, "No texts were given"), (few, f"{len(set(texts)):,} distinct texts")):
        with pytest.raises(InputError, match=given) as caught:
            speed.draw_texts(path)
        assert "--texts FILE with at least 60,000" in caught.value.do


def test_texts_are_drawn_by_seed(tmp_path: Path, texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "LEAST_TEXTS", 100)
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(texts), encoding="utf-8")
    drawn = speed.draw_texts(path, seed=1)
    assert drawn == speed.draw_texts(path, seed=1) != speed.draw_texts(path, seed=2)
    assert sorted(drawn) == sorted(set(texts))

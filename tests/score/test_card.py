"""Cards and pictures say what the files say."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

import nestling
from nestling.cli import main
from nestling.errors import InputError
from nestling.score.encoders import Tier, load_encoder
from nestling.score.plots import by_length, losses, pareto, retention, throughput
from nestling.score.results import Results, averages, read_results
from nestling.score.run import score
from tests.score.conftest import TASKS


@pytest.fixture(scope="module")
def with_tier(results: Path, tasks_folder: Path) -> Path:
    score(Tier(load_encoder("nano"), 32), TASKS, tasks_folder, results)
    return results / "nano"


def test_the_card_holds_the_scores_of_every_tier(with_tier: Path, tmp_path: Path) -> None:
    out = tmp_path / "README.md"
    done = CliRunner().invoke(main, ["card", "nano", "--results", str(with_tier), "--out", str(out)])
    assert done.exit_code == 0, done.output
    text = out.read_text(encoding="utf-8")
    full, tier = (read_results(folder) for folder in (with_tier, f"{with_tier}@32"))
    assert "| task | metric | 128 dims | 32 dims |" in text
    for name, line in full.lines.items():
        assert f"| {name} | {line.metric} | {100 * line.score:.2f} | {100 * tier.lines[name].score:.2f} |" in text
    assert f"{100 * averages(full.lines.values()).mean_type:.2f}" in text
    assert "BAAI/bge-small-en-v1.5, MIT" in text
    assert f"{nestling.shipped()['nano'].stat().st_size:,} bytes" in text
    assert nestling.load("nano").fingerprint in text


def test_the_front_matter_is_yaml_with_a_model_index(with_tier: Path, tmp_path: Path) -> None:
    out = tmp_path / "README.md"
    CliRunner().invoke(main, ["card", "nano", "--results", str(with_tier), "--out", str(out)])
    front = yaml.safe_load(out.read_text(encoding="utf-8").split("---")[1])
    assert front["license"] == "apache-2.0"
    assert front["base_model"] == ["BAAI/bge-small-en-v1.5"]
    (index,) = front["model-index"]
    assert len(index["results"]) == len(TASKS)
    lines = read_results(with_tier).lines
    for entry in index["results"]:
        line = lines[entry["dataset"]["name"]]
        assert entry["metrics"] == [{"type": line.metric, "value": round(100 * line.score, 2)}]


def test_a_card_without_results_claims_no_scores(tmp_path: Path) -> None:
    out = tmp_path / "README.md"
    CliRunner().invoke(main, ["card", "nano", "--out", str(out)])
    text = out.read_text(encoding="utf-8")
    assert "## Scores" not in text
    assert "model-index" not in text


def test_results_of_another_model_are_refused(with_tier: Path, tmp_path: Path) -> None:
    nestling.load("nano", dtype="int8").save(tmp_path / "other.nest")
    words = ["card", str(tmp_path / "other.nest"), "--results", str(with_tier), "--out", str(tmp_path / "c.md")]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 1
    assert "is of another model" in done.stderr


def test_pictures_are_drawn_and_the_same_each_time(with_tier: Path, tmp_path: Path) -> None:
    words = ["plot", "dims", str(with_tier), "--out"]
    for name in ("a.svg", "b.svg"):
        done = CliRunner().invoke(main, [*words, str(tmp_path / name)])
        assert done.exit_code == 0, done.output
    first = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert first == (tmp_path / "b.svg").read_text(encoding="utf-8")
    assert first.startswith("<?xml")
    done = CliRunner().invoke(main, ["plot", "size", str(with_tier), "--out", str(tmp_path / "size.png")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "size.png").read_bytes().startswith(b"\x89PNG")


def test_losses_are_those_of_a_report(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    words = ["plot", "losses", str(report), "--out", str(tmp_path / "losses.svg")]
    report.write_text(json.dumps({"losses": {"student": [{"step": 8, "loss": 0.5, "held_out": 0.6}]}}))
    assert CliRunner().invoke(main, words).exit_code == 0
    assert "student" in (tmp_path / "losses.svg").read_text(encoding="utf-8")
    report.write_text(json.dumps({"losses": {}}))
    assert "report.json has no losses" in CliRunner().invoke(main, words).stderr


def test_every_picture(tmp_path: Path, results: Path) -> None:
    pareto([read_results(results / "nano")], tmp_path / "size.svg")
    retention({128: 0.5, 64: 0.45}, tmp_path / "dims.svg", "nano")
    cells = [{"cell": "8", "threads": 1, "texts_s": 1e5}, {"cell": "8", "threads": 2, "texts_s": 2e5},
             {"cell": "32", "threads": 1, "texts_s": 5e4}, {"cell": "mixed", "threads": 1, "texts_s": 7e4}]  # fmt: skip
    assert by_length({"peers": [{"name": "nano", "cells": cells}]}) == {"nano": {8: 1e5, 32: 5e4}}
    throughput({"nano": {8: 1e5, 32: 5e4}, "other": {8: 1e4, 32: 5e3}}, tmp_path / "speed.svg")
    log = [
        {"step": 8, "loss": 0.5, "held_out": 0.6, "dev": 0.7},
        {"step": 16, "loss": 0.4, "held_out": 0.5, "dev": 0.8},
    ]
    losses({"student": log, "tasks": [{"step": 4, "loss": 0.4, "held_out": 0.5}]}, tmp_path / "losses.svg")
    names = ["dims.svg", "losses.svg", "size.svg", "speed.svg"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    with pytest.raises(InputError, match=r"A picture is \.svg or \.png"):
        retention({1: 1.0}, tmp_path / "a.pdf", "nano")
    with pytest.raises(InputError, match="no known size"):
        pareto([Results("x", {})], tmp_path / "a.svg")

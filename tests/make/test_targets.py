"""Targets: the teacher's own vectors, made once, found again after a kill, whoever else writes meanwhile."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sentence_transformers import SentenceTransformer

import nestling.make.targets as module
from nestling.errors import InputError
from nestling.make.targets import Look, Targets, hash_texts
from nestling.teacher import Teacher, load_teacher


@pytest.fixture
def teacher(onnx_folder: Path) -> Teacher:
    return load_teacher(str(onnx_folder))


def by_hand(teacher: Teacher, text: str, most: int = 256) -> npt.NDArray[np.float32]:
    """Mean of the tokens, and the sentence vector, of one text alone."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(teacher.tokenizer_json)
    before, after = teacher.ends()
    ids = [*before, *tokenizer.encode(text, add_special_tokens=False).ids[: most - len(before) - len(after)], *after]
    states = teacher.forward(np.array([ids], np.int64))[0]
    inner = states[len(before) : len(states) - len(after)]
    sentence = states[0] if teacher.pooling == "cls" else states.mean(axis=0)
    return np.stack([inner.mean(axis=0) if len(inner) else np.zeros(teacher.dim, np.float32), sentence])


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_vectors_are_the_teacher_s(
    teacher: Teacher, sentences: list[str], tmp_path: Path, pooling: str, dtype: str
) -> None:
    teacher = replace(teacher, pooling=pooling)
    texts = [*sentences[:50], "", sentences[3]]
    targets = Targets(teacher, tmp_path, Look(dtype=dtype))
    assert targets.fill(texts) == 0
    expected = np.stack([by_hand(teacher, text) for text in texts])
    tolerance = np.abs(expected).max() * (1e-3 if dtype == "float16" else 1e-2)
    for place, name in enumerate(("tokens", "sentence")):
        got = targets.gather(texts, name)  # type: ignore[arg-type]
        assert got.dtype == np.float32
        assert got.shape == (52, teacher.dim)
        np.testing.assert_allclose(got, expected[:, place], atol=tolerance)


def test_a_sentence_transformer_s_vectors(
    teacher_folders: dict[str, Path], sentences: list[str], tmp_path: Path
) -> None:
    folder = teacher_folders["wordpiece"]
    targets = Targets(load_teacher(str(folder)), tmp_path)
    targets.fill(sentences[:30])
    theirs = SentenceTransformer(str(folder), device="cpu").encode(sentences[:30])
    ours = targets.gather(sentences[:30], "sentence")
    cosines = (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    assert cosines.min() > 0.999


def test_a_text_is_looked_at_once(
    teacher: Teacher, sentences: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TEXTS_A_SHARD", 16)
    seen: list[int] = []

    def counted(ids: npt.NDArray[np.int64]) -> Any:
        seen.append(len(ids))
        return teacher.forward(ids)

    targets = Targets(replace(teacher, forward=counted), tmp_path)
    targets.fill(sentences[:40] * 2)
    assert sum(seen) == 40
    targets.fill(sentences[20:60])
    assert sum(seen) == 60
    again = Targets(teacher, tmp_path)
    assert np.array_equal(again.gather(sentences[:60], "tokens"), targets.gather(sentences[:60], "tokens"))
    with pytest.raises(InputError, match=r"has no target\. .* Call fill first\."):
        again.gather(sentences[55:65], "tokens")
    with pytest.raises(InputError, match="has no target"):
        Targets(teacher, tmp_path / "empty").gather(["a"], "tokens")
    assert Targets(teacher, tmp_path / "empty").gather([], "tokens").shape == (0, teacher.dim)


def test_looks_are_kept_apart(teacher: Teacher, sentences: list[str], tmp_path: Path) -> None:
    plain, prompted = Targets(teacher, tmp_path), Targets(teacher, tmp_path, Look(prompt="query: "))
    short, other = Targets(teacher, tmp_path, Look(max_tokens=8)), Targets(replace(teacher, pooling="cls"), tmp_path)
    assert len({targets.folder for targets in (plain, prompted, short, other)}) == 4
    long = [text for text in sentences if len(text) > 100][:5]
    assert short.fill(long) == 5  # cut, and said so
    assert Targets(teacher, tmp_path, Look(max_tokens=8)).fill([*long, *long, "short"]) == 5  # whenever it is asked
    np.testing.assert_allclose(short.gather(long, "tokens")[0], by_hand(teacher, long[0], 8)[0], atol=1e-2)
    prompted.fill(long)
    np.testing.assert_allclose(
        prompted.gather(long, "sentence")[0], by_hand(teacher, "query: " + long[0])[1], atol=1e-2
    )
    about = json.loads((prompted.folder / "about.json").read_text())
    assert (about["prompt"], about["teacher"]) == ("query: ", "sample/teacher")
    with pytest.raises(InputError, match="dtype="):
        Look(dtype="float64")


def test_a_teacher_s_own_limit_is_part_of_the_look(teacher: Teacher, sentences: list[str], tmp_path: Path) -> None:
    limited = Targets(replace(teacher, max_tokens=8), tmp_path)
    assert limited.folder == Targets(teacher, tmp_path, Look(max_tokens=8)).folder != Targets(teacher, tmp_path).folder
    long = [text for text in sentences if len(text) > 100][:5]
    assert limited.fill(long) == 5
    np.testing.assert_allclose(limited.gather(long, "tokens")[0], by_hand(teacher, long[0], 8)[0], atol=1e-2)


def test_vectors_that_were_made_before_are_found(teacher: Teacher, tmp_path: Path) -> None:
    """Hours of work: those of the shipped recipes lie under this name."""
    fingerprint = "a1cb03627de52eb00d9cc071c2eba0daae03a2e7eead224773ae9ef9ee478412"
    theirs = replace(teacher, name="BAAI/bge-small-en-v1.5", fingerprint=fingerprint, pooling="cls", max_tokens=512)
    assert Targets(theirs, tmp_path).folder.name == "bge-small-en-v1.5-c0bc23ee5ca0"


KILLED = """
import sys, time
from pathlib import Path
import nestling.make.targets as module
from nestling.shrink.fidelity import sample_texts
from nestling.teacher import load_teacher
module.TEXTS_A_SHARD = 32
module.Targets(load_teacher(sys.argv[1]), Path(sys.argv[2])).fill(sample_texts())
"""


def test_a_killed_run_goes_on(onnx_folder: Path, teacher: Teacher, sentences: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(onnx_folder)]
    process = subprocess.Popen([*command, str(tmp_path / "killed")])
    targets = Targets(teacher, tmp_path / "killed")
    while process.poll() is None and len(list(targets.folder.glob("*.keys.npy"))) < 3:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = {path: path.stat().st_mtime_ns for path in targets.folder.glob("*.keys.npy")}
    assert done
    subprocess.run([*command, str(tmp_path / "killed")], check=True)
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in done.items())
    subprocess.run([*command, str(tmp_path / "whole")], check=True)
    whole = Targets(teacher, tmp_path / "whole")
    assert sorted(path.name for path in whole.folder.glob("*.npy")) == sorted(
        path.name for path in targets.folder.glob("*.npy")
    )
    for pooling in module.LOOK_POOLINGS:
        assert np.array_equal(whole.gather(sentences, pooling), targets.gather(sentences, pooling))


def test_reading_while_another_run_writes(
    teacher: Teacher, sentences: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shard that appears while vectors are gathered shifts no row (it once did)."""
    monkeypatch.setattr(module, "TEXTS_A_SHARD", 8)
    targets = Targets(teacher, tmp_path)
    targets.fill(sentences[:64])
    expected = targets.gather(sentences[:64], "tokens")
    load = targets._load

    def slow(name: str, places: Any, pooling: int) -> Any:
        Targets(teacher, tmp_path).fill(sentences[64:128])
        return load(name, places, pooling)

    monkeypatch.setattr(targets, "_load", slow)
    assert np.array_equal(targets.gather(sentences[:64], "tokens"), expected)


def test_keys_tell_texts_apart(sentences: list[str]) -> None:
    keys = hash_texts([*sentences, *(text + " " for text in sentences)])
    assert len(set(keys.tolist())) == 2 * len(set(sentences))
    assert keys.dtype == np.dtype("S16")

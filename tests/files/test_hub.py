"""Hub ids: found in the local cache without a network, by revision, or refused quickly with the name in the error."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import huggingface_hub
import huggingface_hub.constants
import numpy as np
import pytest

import nestling
from nestling.errors import InputError, InputTypeError
from nestling.files.hub import find_folder
from tests.conftest import model_of

OLD, NEW = "a" * 40, "b" * 40
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hub cache with two snapshots of owner/name: main is a WordPiece model, v1 a BPE one."""
    cache = tmp_path_factory.mktemp("built")
    home = cache / "models--owner--name"
    (home / "refs").mkdir(parents=True)
    for kind, sha, ref in (("wordpiece", NEW, "main"), ("bpe", OLD, "v1")):
        model_of(kind).save(home / "snapshots" / sha, layout="model2vec")
        (home / "refs" / ref).write_text(sha)
    return cache


@pytest.fixture
def cache(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    cache = shutil.copytree(built, tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    return cache


def as_in_the_hub(home: Path) -> None:
    """Move the files of each snapshot to blobs and leave links, as the hub's own client does."""
    (home / "blobs").mkdir()
    for file in list(home.glob("snapshots/*/*")):
        if file.is_file():
            blob = home / "blobs" / f"{file.parent.name[:2]}-{file.name}"
            file.rename(blob)
            file.symlink_to(os.path.relpath(blob, file.parent))


@pytest.mark.parametrize("linked", [False, True])
def test_a_cached_model_is_loaded_without_network(cache: Path, linked: bool) -> None:
    if linked:
        as_in_the_hub(cache / "models--owner--name")
    model = nestling.load("owner/name")
    texts = ["The quick brown fox", "naïve café"]
    np.testing.assert_array_equal(model.encode(texts), model_of("wordpiece").encode(texts))


@pytest.mark.parametrize("offline", [False, True])
def test_the_cache_comes_first_even_when_online(cache: Path, offline: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """`no_network` of conftest fails this test at any connection."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", offline)
    assert nestling.load("owner/name").tokenizer.size == 600


@pytest.mark.parametrize(("revision", "size"), [(None, 600), ("main", 600), (NEW, 600), ("v1", 700), (OLD, 700)])
def test_a_revision_selects_a_snapshot(cache: Path, revision: str | None, size: int) -> None:
    assert nestling.load("owner/name", revision=revision).tokenizer.size == size


@pytest.mark.parametrize(
    ("hub_id", "revision", "named"),
    [
        ("owner/missing", None, "owner/missing is no local path"),
        ("owner/name", "v2", "owner/name@v2 is no local path"),
        ("owner/name", "c" * 40, f"owner/name@{'c' * 40} is no local path"),
        ("owner/two--dashes", None, "owner/two--dashes is no local path"),
        ("owner/dots..dots", None, "owner/dots..dots is no local path"),
        ("owner/name.git", None, "owner/name.git is no local path"),
        ("owné/name", None, "owné/name is no local path"),
        ("o/" + "n" * 200, None, "n is no local path"),
    ],
)
def test_what_is_not_cached_is_refused_offline_quickly(
    cache: Path, hub_id: str, revision: str | None, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "socket", None)
    began = time.perf_counter()
    with pytest.raises(InputError) as refused:
        nestling.load(hub_id, revision=revision)
    assert time.perf_counter() - began < 2
    error = refused.value
    assert named in error.given
    assert error.expected == "A path, a cached hub id, or access to the hub was expected."
    assert error.do.startswith("Check the name, go online without HF_HUB_OFFLINE,")
    assert isinstance(error, ValueError)


def forget(cache: Path, *names: str) -> None:
    for name in names:
        (cache / "models--owner--name" / "snapshots" / NEW / name).unlink()


@pytest.mark.parametrize("left_out", ["model.safetensors", "tokenizer.json"])
def test_a_part_of_a_model_in_the_cache_is_none(
    cache: Path, left_out: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    forget(cache, left_out)
    with pytest.raises(InputError, match="owner/name is no local path, only partly in the hub cache, and was not"):
        nestling.load("owner/name")
    model_of("unigram").save(tmp_path / "whole", layout="model2vec")
    cached = huggingface_hub.snapshot_download

    def download(hub_id: str, local_files_only: bool = False, **options: object) -> str:
        return cached(hub_id, local_files_only=True, **options) if local_files_only else str(tmp_path / "whole")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert nestling.load("owner/name").tokenizer.json["model"]["type"] == "Unigram"


OFFLINE = """
import socket, sys
socket.socket.connect = socket.getaddrinfo = None
import nestling
try:
    print(nestling.load(sys.argv[1]).tokenizer.size)
except nestling.InputError as error:
    print(error.given)
"""


@pytest.mark.parametrize(
    ("hub_id", "said"), [("owner/name", "600"), ("owner/missing", "owner/missing is no local path")]
)
def test_the_environment_decides(cache: Path, hub_id: str, said: str) -> None:
    """HF_HUB_CACHE and HF_HUB_OFFLINE, in a new interpreter without sockets."""
    environment = {**os.environ, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", OFFLINE, hub_id]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.startswith(said), done.stderr


def test_a_local_folder_wins_over_the_hub(cache: Path) -> None:
    model_of("unigram").save(Path("owner") / "name", layout="model2vec")
    assert find_folder("owner/name") == Path("owner/name")
    local = nestling.load("owner/name")
    assert local.tokenizer.json["model"]["type"] == "Unigram"


def test_a_local_file_wins_over_the_hub(cache: Path) -> None:
    Path("owner").mkdir()
    model_of("bpe").save(Path("owner") / "name", layout="nest")
    assert nestling.load("owner/name").tokenizer.size == 700


@pytest.mark.parametrize(
    "source",
    [
        "nothing",
        "a/b/c",
        "../owner/name/",
        "owner/",
        "/owner",
        ".owner/name",
        "owner/.name",
        "owner/name@v1",
        "https://example.org/name",
        "owner/na me",
        "owner/name\n",
        "a\0b",
        "x" * 5000,
        "~nobody-of-this-name/model",
        Path("owner/name"),
        Path("gone.nest"),
        Path("nano"),
        "build/model.nest",
        "build/MODEL.NEST",
        "here/model",
        "./name",
    ],
)
def test_what_is_neither_path_nor_id_is_refused_without_a_look(
    cache: Path, source: str | Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: pytest.fail("the hub was asked"))
    Path("here").mkdir()
    with pytest.raises(InputError) as refused:
        nestling.load(source)
    assert refused.value.given == f"{source} is not there."
    expected = "A file, a folder, a hub id (owner/name), nano, micro, mini or static was expected."
    assert (refused.value.expected, refused.value.do) == (expected, "Check the spelling.")


def test_an_empty_source_is_refused(cache: Path) -> None:
    with pytest.raises(InputError, match=r"'' is not there\."):
        nestling.load("")


@pytest.mark.parametrize("source", [None, 5, b"nano", ["nano"]])
def test_a_source_of_another_type_is_refused(source: Any) -> None:
    with pytest.raises(InputTypeError, match=rf"A source of type {type(source).__name__} was given;"):
        nestling.load(source)


def test_only_a_hub_id_has_revisions(tmp_path: Path) -> None:
    model_of("bpe").save(tmp_path / "a.nest")
    for source in ("nano", str(tmp_path / "a.nest"), tmp_path / "a.nest"):
        with pytest.raises(InputError, match=r"revision='v7' came with .*, which is here\. Only a hub id"):
            nestling.load(source, revision="v7")

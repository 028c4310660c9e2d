"""Bytes on disk: a write happens whole or not at all, and no crafted file gets past the header check."""

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from nestling.errors import InputError, ModelFileError
from nestling.safe import (
    atomic_write,
    check_target,
    parse_json,
    read_bytes,
    read_header,
    read_json,
    read_tensors,
    write_tensors,
)

OLD = b"the old bytes"
TENSORS = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.arange(4, dtype=np.int8)}


def run_python(code: str, *arguments: object, wait: float = 60) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=wait, check=False)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "model.bin"
    path.write_bytes(OLD)
    return path


def test_a_clean_exit_replaces(target: Path) -> None:
    with atomic_write(target) as temporary:
        assert temporary.parent == target.parent
        temporary.write_bytes(b"new")
        assert target.read_bytes() == OLD
    assert target.read_bytes() == b"new"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("failure", [ValueError, OSError, KeyboardInterrupt, SystemExit])
def test_a_failure_keeps_the_old_bytes_and_no_other_file(target: Path, failure: type[BaseException]) -> None:
    def write() -> None:
        with atomic_write(target) as temporary:
            temporary.write_bytes(b"half of the ne")
            raise failure

    with pytest.raises(failure):
        write()
    assert target.read_bytes() == OLD
    assert list(target.parent.iterdir()) == [target]


def test_a_missing_temporary_file_keeps_the_old_bytes(target: Path) -> None:
    def write() -> None:
        with atomic_write(target) as temporary:
            temporary.unlink()

    with pytest.raises(FileNotFoundError):
        write()
    assert target.read_bytes() == OLD


def test_a_symlink_stays_and_what_it_points_to_is_replaced(target: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link.bin"
    link.symlink_to(Path("..") / target.name)
    with atomic_write(link) as temporary:
        temporary.write_bytes(b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert sorted(tmp_path.rglob("*")) == sorted([target, link.parent, link])


def test_a_target_that_cannot_be_written_is_refused_in_three_parts(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(InputError, match=r"^The folder .* cannot be written to\. .* Choose another\.$"):
        check_target(target)


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_the_umask_is_respected(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_tensors(tmp_path / "x.safetensors", TENSORS)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x.safetensors").stat().st_mode) == 0o666 & ~mask


FULL_DISK = """
import resource, signal, sys
import numpy as np
from nestling.safe import write_tensors
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    write_tensors(sys.argv[1], {"rows": np.ones(100_000, np.float32)})
except OSError as error:
    print(error.strerror)
"""


def test_a_full_disk_keeps_the_old_file(target: Path) -> None:
    done = run_python(FULL_DISK, target)
    assert done.stdout == "File too large\n", done.stderr
    assert target.read_bytes() == OLD
    assert list(target.parent.iterdir()) == [target]


KILLED = """
import os, signal, sys
from nestling.safe import atomic_write
with atomic_write(sys.argv[1]) as temporary:
    temporary.write_bytes(b"new" * 100_000)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_keeps_the_old_file(target: Path) -> None:
    assert run_python(KILLED, target).returncode == -signal.SIGKILL
    assert target.read_bytes() == OLD


def test_many_kills_at_any_moment_leave_the_old_file_or_the_new(tmp_path: Path) -> None:
    """A process that saves without end, killed at ten different moments: the file is always whole."""
    path = tmp_path / "x.safetensors"
    code = (
        "import sys, itertools\nimport numpy as np\nfrom nestling.safe import write_tensors\n"
        "for k in itertools.count():\n"
        "    write_tensors(sys.argv[1], {'rows': np.full(200_000, k % 100, np.int8)})\n"
        "    print(k, flush=True)\n"
    )
    for moment in range(10):
        with subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            for _ in range(1 + moment):
                process.stdout.readline()
            process.kill()
        rows = read_tensors(path)["rows"]
        assert rows.shape == (200_000,)
        assert len(set(rows.tolist())) == 1


# --- safetensors headers


def header_file(path: Path, header: Any, body: bytes = b"", length: int | None = None) -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(raw) if length is None else length).to_bytes(8, "little") + raw + body)
    return path


def entry(dtype: str = "F32", shape: Any = (1,), offsets: Any = (0, 4), **more: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}


BAD_HEADERS: dict[str, tuple[Any, bytes, str]] = {
    "no object": ([], b"", "no JSON object"),
    "a number": (5, b"", "no JSON object"),
    "a hole at the start": ({"a": entry(offsets=[4, 8])}, b"\0" * 8, "overlap or leave holes"),
    "a hole between": ({"a": entry(), "b": entry(offsets=[8, 12])}, b"\0" * 12, "overlap or leave holes"),
    "an overlap": ({"a": entry(shape=[2], offsets=[0, 8]), "b": entry(offsets=[4, 8])}, b"\0" * 8, "overlap"),
    "two on one place": ({"a": entry(), "b": entry()}, b"\0" * 4, "overlap or leave holes"),
    "a tail": ({"a": entry()}, b"\0" * 5, "in a body of 5"),
    "a short body": ({"a": entry(shape=[4], offsets=[0, 16])}, b"\0" * 4, "in a body of 4"),
    "a body of nothing": ({}, b"\0", "in a body of 1"),
    "a wrong shape": ({"a": entry(shape=[2])}, b"\0" * 4, "disagrees with its bytes"),
    "a zero side": ({"a": entry(shape=[0, 9])}, b"\0" * 4, "disagrees with its bytes"),
    "a wrapping shape": ({"a": entry("U8", [2**32, 2**32], [0, 0])}, b"", "disagrees with its bytes"),
    "a wrapping shape of four": ({"a": entry("F32", [2**31, 2**31, 4, 1], [0, 0])}, b"", "disagrees"),
    "a zero side beside huge ones": ({"a": entry("F32", [0, 2**47, 2**47, 2**47], [0, 0])}, b"", "disagrees"),
    "offsets that fall": ({"a": entry(offsets=[4, 0])}, b"\0" * 4, "disagrees with its bytes"),
    "a negative side": ({"a": entry(shape=[-1], offsets=[0, 4])}, b"\0" * 4, "bad shape or data_offsets"),
    "two negative sides": ({"a": entry(shape=[-1, -1])}, b"\0" * 4, "bad shape or data_offsets"),
    "negative offsets": ({"a": entry(offsets=[-4, 0])}, b"\0" * 4, "bad shape or data_offsets"),
    "a huge side": ({"a": entry(shape=[2**64])}, b"\0" * 4, "bad shape or data_offsets"),
    "huge offsets": ({"a": entry(offsets=[0, 10**30])}, b"\0" * 4, "bad shape or data_offsets"),
    "a float side": ({"a": entry(shape=[1.0])}, b"\0" * 4, "bad shape or data_offsets"),
    "a true side": ({"a": entry(shape=[True])}, b"\0" * 4, "bad shape or data_offsets"),
    "a text shape": ({"a": entry(shape="1")}, b"\0" * 4, "bad shape or data_offsets"),
    "five sides": ({"a": entry(shape=[1] * 5)}, b"\0" * 4, "bad shape or data_offsets"),
    "three offsets": ({"a": entry(offsets=[0, 4, 4])}, b"\0" * 4, "bad shape or data_offsets"),
    "no offsets": ({"a": {"dtype": "F32", "shape": [1]}}, b"\0" * 4, "without dtype, shape and data_offsets"),
    "another key": ({"a": entry(code="print()")}, b"\0" * 4, "without dtype, shape and data_offsets"),
    "an entry that is a list": ({"a": ["F32", [1], [0, 4]]}, b"\0" * 4, "without dtype"),
    "an unknown dtype": ({"a": entry("F128")}, b"\0" * 4, "has dtype 'F128'"),
    "bfloat16": ({"a": entry("BF16", [2])}, b"\0" * 4, "has dtype 'BF16'"),
    "bool": ({"a": entry("BOOL", [4])}, b"\0" * 4, "has dtype 'BOOL'"),
    "a dtype that is a list": ({"a": entry(["F32"])}, b"\0" * 4, "has dtype ['F32']"),  # type: ignore[arg-type]
    "a repeated tensor": (b'{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":1}', b"", "a key is repeated"),
    "a repeated key within": (b'{"a":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}}', b"", "repeated"),
    "bad UTF-8": (b'{"\xff":1}', b"", "not valid JSON"),
    "a half character": (b'{"\\ud800":1}', b"", "not valid JSON"),
    "cut JSON": (b'{"a":', b"", "not valid JSON"),
    "no JSON": (b"", b"", "not valid JSON"),
    "bottomless lists": (b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}", b"", "not valid JSON"),
    "bottomless objects": (b'{"a":' * 200_000 + b"1" + b"}" * 200_000, b"", "not valid JSON"),
    "a number without end": (b'{"a":' + b"9" * 100_000 + b"}", b"", "not valid JSON"),
}


@pytest.mark.parametrize("name", BAD_HEADERS)
def test_a_bad_header_is_refused(tmp_path: Path, name: str) -> None:
    header, body, said = BAD_HEADERS[name]
    path = header_file(tmp_path / "bad.safetensors", header, body)
    for read in (read_header, read_tensors):
        with pytest.raises(ModelFileError) as refused:
            read(path)
        assert said in str(refused.value)
        assert "bad.safetensors" in refused.value.given
        assert refused.value.expected.endswith(".")
        assert refused.value.do.endswith(".")


@pytest.mark.parametrize("metadata", [5, {"a": 5}, ["x"], "x", {"a": None}])
def test_bad_metadata_is_refused(tmp_path: Path, metadata: Any) -> None:
    path = header_file(tmp_path / "bad.safetensors", {"__metadata__": metadata})
    with pytest.raises(ModelFileError, match=r"bad\.safetensors"):
        read_tensors(path)


@pytest.mark.parametrize("length", [3, 1_000, 10_000_001, 2**40, 2**63, 2**64 - 1])
def test_a_header_longer_than_the_file_or_the_cap_is_refused_before_it_is_read(tmp_path: Path, length: int) -> None:
    path = header_file(tmp_path / "bad.safetensors", b"{}", length=length)
    if length == 10_000_001:
        with path.open("ab") as file:
            file.truncate(11_000_000)
    with pytest.raises(ModelFileError, match=r"a header of [0-9,]+ bytes in a file of [0-9,]+"):
        read_header(path)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.safetensors"
    whole = safetensors.numpy.save(TENSORS)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelFileError):
            read_tensors(path)
    path.write_bytes(whole)
    assert set(read_tensors(path)) == set(TENSORS)


def unreadable(tmp_path: Path) -> dict[str, Path]:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "zeros").symlink_to("/dev/zero")
    return {name: tmp_path / name for name in ("pipe", "loop", "zeros", ".", "missing")}


@pytest.mark.parametrize("read", [read_header, read_tensors, read_json, lambda path: read_bytes(path, 100)])
def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    for path in unreadable(tmp_path).values():
        with pytest.raises(ModelFileError, match="cannot be read"):
            read(path)


def test_read_bytes_stops_at_the_cap(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"12345")
    assert read_bytes(tmp_path / "x", 5) == b"12345"
    with pytest.raises(ModelFileError, match="has 5 bytes; at most 4 are read"):
        read_bytes(tmp_path / "x", 4)


@pytest.mark.parametrize(
    "raw", [b'{"a":1,"a":2}', b'"\\udc80"', b'{"\\uD834":1}', b'["\\udd1e\\ud834"]', b"\xed\xa0\x80"]
)
def test_json_that_no_utf8_can_hold_or_with_repeats_is_refused(raw: bytes) -> None:
    with pytest.raises(ModelFileError, match="here is not valid JSON"):
        parse_json(raw, "here")


def test_whole_pairs_are_read() -> None:
    assert parse_json(b'["\\ud834\\udd1e", "\\\\ud834"]', "here") == ["\U0001d11e", "\\ud834"]


# --- writing


def test_the_same_tensors_give_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    backwards = dict(reversed(TENSORS.items()))
    write_tensors(tmp_path / "one", TENSORS, {"nest": "x"})
    write_tensors(tmp_path / "two", TENSORS, {"nest": "x"})
    write_tensors(tmp_path / "three", backwards, {"nest": "x"})
    one = (tmp_path / "one").read_bytes()
    assert (tmp_path / "two").read_bytes() == one
    assert (tmp_path / "three").read_bytes() == one


def test_what_is_written_is_read_by_us_and_by_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    strided = {**TENSORS, "c": np.arange(12, dtype=np.float16).reshape(3, 4).T, "none": np.zeros((0, 3), np.uint16)}
    write_tensors(path, strided, {"nest": "x"})
    for read in (read_tensors(path), safetensors.numpy.load_file(path)):
        assert set(read) == set(strided)
        for name, tensor in strided.items():
            assert read[name].dtype == tensor.dtype
            np.testing.assert_array_equal(read[name], tensor)
    assert read_header(path)["__metadata__"] == {"nest": "x"}

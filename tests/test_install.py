"""Without a compiler the package installs all the same, without the core."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("given", [{"CXX": "/bin/false", "CC": "/bin/false"}, {"NESTLING_PURE": "1"}])
def test_without_a_compiler(given: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "-v", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    options = ["-C", f"build-dir={tmp_path / 'build'}"]
    env = {**os.environ, **given}
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stdout[-3000:]
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "nestling/models/nano.nest" in names
    assert not [name for name in names if name.endswith((".so", ".pyd"))]
    if "CXX" in given:
        assert "this is the Python twin alone" in done.stdout + done.stderr

"""Runs a Python module with another build of the core, such as one with sanitizers.

python core/run_with.py build/sanitize/_core.*.so pytest tests/core
"""

import importlib.util
import runpy
import sys
from pathlib import Path


def use_core(path: Path) -> None:
    """Let `from nestling import _core` give this one."""
    spec = importlib.util.spec_from_file_location("nestling._core", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules["nestling._core"] = module


if __name__ == "__main__":
    use_core(Path(sys.argv[1]))
    del sys.argv[:2]
    sys.path[0] = ""
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)

"""Imports run one way, and are light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import nestling

SOURCE = Path(nestling.__file__).parent
# A room may import from rooms of a lower number, and from its own.
FLOORS = {
    "errors": 0, "safe": 1, "text": 2, "files": 3, "model": 4, "teacher": 5, "search": 5, "probe": 5, "score": 6,
    "shrink": 7, "embed": 7, "sentence_transformers": 7, "make": 8, "cli_score": 9, "cli": 10,
}  # fmt: skip
ONLY_IN = {
    "torch": {"teacher", "score", "make", "sentence_transformers"}, "onnx": {"files", "make"},
    "sentence_transformers": {"teacher", "score", "sentence_transformers"},
    "onnxruntime": {"teacher", "score", "model"}, "mteb": {"score"}, "sklearn": {"score"},
    "matplotlib": {"score"}, "pypdf": {"search"},
}  # fmt: skip
NEVER = {"pickle", "model2vec", "fastembed", "optimum", "joblib", "skops", "dill"}


def imports() -> list[tuple[str, str]]:
    """(room, imported module) for every import in the package, wherever in a file it stands."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found += [(room, alias.name) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path} has a relative import"
                found.append((room, node.module or ""))
    return found


def test_imports_run_one_way() -> None:
    for room, module in imports():
        head, _, rest = module.partition(".")
        if head != "nestling" or not rest or room == "__init__":
            continue
        below = rest.split(".")[0]
        assert below == room or FLOORS[below] < FLOORS[room], f"{room} imports {module}"


def test_heavy_packages_stay_in_their_rooms() -> None:
    for room, module in imports():
        head = module.split(".")[0]
        assert head not in NEVER, f"{room} imports {module}"
        assert room in ONLY_IN.get(head, {room}), f"{room} imports {module}"


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import nestling", {"numpy", "tokenizers", "safetensors", "click", "tqdm"}),
        ("import nestling.cli", {"numpy", "tokenizers", "safetensors"}),
        (
            "import nestling; nestling.load('nano').encode('a cat')",
            {
                "torch",
                "onnxruntime",
                "transformers",
                "huggingface_hub",
                "pyarrow",
                "scipy",
                "sklearn",
                "mteb",
                "matplotlib",
            },
        ),
        ("import nestling.search", {"pathspec", "pypdf", "tokenizers"}),
        ("import nestling; nestling.Probe", {"sklearn", "scipy", "mteb", "torch", "matplotlib"}),
        ("import nestling.cli, nestling.cli_score", {"numpy", "mteb", "sklearn", "matplotlib", "datasets"}),
    ],
)
def test_light_at_import(code: str, absent: set[str]) -> None:
    program = f"{code}\nimport sys; print(' '.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert absent.isdisjoint(loaded), absent & set(loaded)


def test_the_menu_is_what_it_says() -> None:
    assert all(hasattr(nestling, name) for name in nestling.__all__)
    assert len(nestling.__all__) <= 12
    with pytest.raises(AttributeError, match="no attribute 'Encoder'"):
        nestling.Encoder  # noqa: B018

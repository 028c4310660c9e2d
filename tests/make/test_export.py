"""A student as a graph without weights: what onnxruntime says is what torch says; else it is refused."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import nestling.make.export as module
from nestling.errors import MissingExtraError, ModelFileError
from nestling.make.export import export
from nestling.make.student import Size, Student
from nestling.model.graph import open_graph, run_graph
from tests.students import woken

Exported = tuple[bytes, dict[str, np.typing.NDArray[np.float32]]]
SIZE = Size(rows=120, inner=32, dim=48, layers=2, head=16)


@pytest.fixture(scope="module")
def student() -> Student:
    return woken(SIZE)


@pytest.fixture(scope="module")
def exported(student: Student) -> Exported:
    return export(student, 1024)


def texts(
    student: Student, lengths: list[int], width: int = 0
) -> tuple[np.typing.NDArray[np.float32], np.typing.NDArray[np.float32]]:
    """Padded rows of texts, of which each depends on its length alone, and what they count."""
    width = max([*lengths, width])
    weights = np.where(np.arange(width) < np.array(lengths)[:, None], 1 / (1 + np.arange(width) % 3), 0)
    ids = np.stack([np.resize(np.random.default_rng(length).integers(0, 120, length), width) for length in lengths])
    return student.table()[ids], weights.astype(np.float32)


def test_the_graph_holds_no_weights(student: Student, exported: Exported) -> None:
    graph, weights = exported
    assert len(graph) < 20_000
    assert sum(each.size for each in weights.values()) >= student.size.parameters - 5 * 48 - 120 * 32
    assert {"up.weight", "blocks.0.wide.weight", "blocks.1.narrow.weight"} < set(weights)
    assert b"export.py" not in graph  # nor where it was made


def test_the_same_student_gives_the_same_graph(student: Student, exported: Exported) -> None:
    graph, weights = export(student, 1024)
    assert graph == exported[0]
    assert all(np.array_equal(weights[name], exported[1][name]) for name in exported[1])


def test_it_says_what_torch_says(student: Student, exported: Exported) -> None:
    session = open_graph(*exported)
    rows, weights = texts(student, [3, 17, 1, 60])
    with torch.no_grad():
        sums = student.through(torch.from_numpy(rows), torch.from_numpy(weights)).numpy()
    means = sums / np.count_nonzero(weights, axis=1, keepdims=True)
    np.testing.assert_allclose(run_graph(session, rows, weights), means, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_text_has_the_same_bits_in_any_batch_of_one_width(student: Student, exported: Exported, threads: int) -> None:
    session = open_graph(*exported, threads)
    lengths = np.random.default_rng(0).integers(1, 24, 50).tolist()
    whole = run_graph(session, *texts(student, lengths, 24))
    for place in (0, 13, 49):
        pair = run_graph(session, *texts(student, [lengths[place], lengths[place]], 24))
        assert np.array_equal(pair[0], whole[place])
        assert np.array_equal(pair[1], whole[place])


def test_a_graph_that_says_something_else_is_refused(student: Student, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Student(SIZE, seed=7)
    traced = module._traced(student, 64)
    monkeypatch.setattr(module, "_traced", lambda *_: traced)
    with pytest.raises(ModelFileError, match="parameter of the student"):
        export(other, 64)
    monkeypatch.setattr(module, "MOST_DIFFERENCE", -1.0)
    with pytest.raises(ModelFileError, match="differs from torch"):
        export(student, 64)


def test_without_onnxscript_it_says_what_to_install(student: Student, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(MissingExtraError, match=r"extra \[train\]. Type: pip install"):
        export(student, 64)


def test_what_is_no_such_graph_is_refused(exported: Exported) -> None:
    graph, weights = exported
    with pytest.raises(ModelFileError, match="cannot be run"):
        open_graph(graph[: len(graph) // 2], weights)
    with pytest.raises(ModelFileError, match="cannot be run"):
        open_graph(graph, {name: each for name, each in weights.items() if name != "up.weight"})
    other = onnx.load_from_string(graph)
    del other.graph.node[:], other.graph.output[:], other.graph.initializer[:]
    node = onnx.helper.make_node("Identity", ["weights"], ["same"])
    other.graph.node.append(node)
    other.graph.output.append(onnx.helper.make_tensor_value_info("same", onnx.TensorProto.FLOAT, None))
    del other.graph.input[0]
    with pytest.raises(ModelFileError, match="its inputs are weights"):
        open_graph(other.SerializeToString(), {})


@pytest.mark.parametrize("location", ["weights", "/etc/hostname", "", "/" * 200])
def test_a_graph_that_names_files_is_refused(
    exported: Exported, location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, weights = exported
    other = onnx.load_from_string(graph)
    external = next(each for each in other.graph.initializer if each.external_data)
    next(entry for entry in external.external_data if entry.key == "location").value = location
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").write_bytes(bytes(weights[external.name].nbytes))
    with pytest.raises(ModelFileError, match="names files"):
        open_graph(other.SerializeToString(), weights)


def test_a_graph_reads_nothing_that_was_not_handed_over(exported: Exported) -> None:
    graph, weights = exported
    for name in weights:
        with pytest.raises(ModelFileError, match="cannot be run"):
            open_graph(graph, {other: each for other, each in weights.items() if other != name})

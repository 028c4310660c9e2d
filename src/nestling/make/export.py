"""A student as an ONNX graph, and its weights beside it by name.

The graph has no weights of its own: whoever runs it hands them over (nestling.model.transformer), so that they lie in
the model's file as plain tensors, in few bits if need be. What the graph computes is compared with torch before it is
handed out.
"""

import io
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from nestling.errors import MissingExtraError, ModelFileError
from nestling.make.student import Student
from nestling.model.graph import NOWHERE, open_graph, run_graph

Floats = npt.NDArray[np.float32]
SHAPES = ((1, 1), (1, 40), (2, 8), (5, 7), (3, 300), (64, 24), (2, 1024))  # texts, tokens, that are compared
MOST_DIFFERENCE = 1e-5  # of the graph's values from torch's
OPSET = 21
MOST_CONSTANTS = 256  # numbers of a tensor that lies in the graph, and is no weight
TABLE = ("directions", "lengths")  # parameters that are no weights of the graph
INPUTS, OUTPUT = ("rows", "weights"), "sentence_embedding"


class Means(nn.Module):
    """The student behind its table, as the graph has it: padded rows of tokens, (n, length, inner), and what each
    counts, (n, length), 0 where none is -> means, (n, dim)."""

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.student = student

    def forward(self, rows: Tensor, weights: Tensor) -> Tensor:
        means: Tensor = self.student.through(rows, weights) / weights.bool().sum(dim=1, keepdim=True).float()
        return means


def _elsewhere(name: str, kind: int, shape: Sequence[int], size: int) -> Any:
    """A tensor of a graph that lies in a place that is never opened."""
    import onnx

    tensor = onnx.TensorProto(name=name, data_type=kind, dims=shape, data_location=onnx.TensorProto.EXTERNAL)
    for key, value in (("location", NOWHERE), ("offset", "0"), ("length", str(size))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return tensor


def export(student: Student, longest: int) -> tuple[bytes, dict[str, Floats]]:
    """The graph of all that stands behind the table, and its weights: name -> float32, matrices (in, out). longest: the
    most tokens of a text.

    Raises ModelFileError where onnxruntime finds other values than torch, over texts of all kinds of lengths.
    """
    import onnx
    from onnx.numpy_helper import to_array

    model = onnx.load_from_string(_traced(student, longest))
    named = {name.removeprefix("student."): each.numpy() for name, each in Means(student).state_dict().items()}
    weights = {}
    for each in model.graph.initializer:
        values = to_array(each)
        name = _name_of(values, named) if values.dtype == np.float32 and values.ndim else ""
        if not name and values.size <= MOST_CONSTANTS:
            continue  # rates of positions, and numbers that shapes follow from
        if not name:
            raise ModelFileError(
                f"The graph holds {values.shape} numbers that are no parameter of the student.",
                "Its own parameters alone were expected.",
                "Keep what the student computes from constants small.",
            )
        _rename(model.graph, each.name, name)
        weights[name] = np.ascontiguousarray(values, np.float32)
        each.CopyFrom(_elsewhere(name, each.data_type, values.shape, values.nbytes))
    for name, values in named.items():  # of parameters that are alike the graph has kept one
        if name not in weights and name not in TABLE:
            alike = next(each for each in weights if np.array_equal(named[each], values))
            weights[name] = weights[alike]
    graph = _bare(model).SerializeToString(deterministic=True)
    _compare(student, graph, weights, longest)
    return graph, weights


def _traced(student: Student, longest: int) -> bytes:
    """torch's own export, with batch and length left open."""
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("onnxscript", "train", "Exporting a transformer") from error
    weights = torch.ones(3, min(17, longest))
    rows = torch.zeros(*weights.shape, student.size.columns)
    open_sizes = {0: torch.export.Dim("texts", min=1), 1: torch.export.Dim("tokens", min=1, max=longest)}
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            Means(student).eval(),
            (rows, weights),
            dynamo=True,
            input_names=INPUTS,
            output_names=[OUTPUT],
            dynamic_shapes=(open_sizes, open_sizes),
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    serialized: bytes = program.model_proto.SerializeToString()
    return serialized


def _name_of(values: Floats, named: dict[str, Floats]) -> str:
    """The parameter that a weight of the graph is, turned or not; "" where it is none."""
    for name, parameter in named.items():
        turned = parameter.T if parameter.ndim == 2 else parameter
        if any(values.shape == one.shape and np.array_equal(values, one) for one in (parameter, turned)):
            return name
    return ""


def _rename(graph: Any, old: str, new: str) -> None:
    for each in graph.initializer:
        each.name = new if each.name == old else each.name
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name == old:
                node.input[place] = new


def _bare(model: Any) -> Any:
    """The same graph without names of source files, shapes that follow from others, and the like."""
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for each in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        del each.metadata_props[:]
    del model.graph.value_info[:], model.graph.metadata_props[:], model.metadata_props[:]
    model.producer_name = model.producer_version = model.graph.doc_string = model.doc_string = ""
    model.graph.name = "student"
    return model


def _compare(student: Student, graph: bytes, weights: dict[str, Floats], longest: int) -> None:
    """Raise ModelFileError unless the graph says what torch says."""
    session, random, table = open_graph(graph, weights), np.random.default_rng(0), student.table()
    for texts, tokens in SHAPES:
        counts = random.choice(np.array([1, 0.4, 0.1], np.float32), (texts, min(tokens, longest)))
        counts[1::2, max(counts.shape[1] // 2, 1) :] = 0
        rows = table[random.integers(0, len(table), counts.shape)]
        with torch.no_grad():
            wanted = Means(student)(torch.from_numpy(rows), torch.from_numpy(counts)).numpy()
        largest = float(np.abs(run_graph(session, rows, counts) - wanted).max())
        if not largest <= MOST_DIFFERENCE * max(1.0, float(np.abs(wanted).max())):
            raise ModelFileError(
                f"The exported graph differs from torch by {largest:.1e} for {texts} texts of {tokens} tokens.",
                f"At most {MOST_DIFFERENCE:.0e} was expected.",
                "Try other versions of torch and onnxruntime.",
            )

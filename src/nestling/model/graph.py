"""A transformer's ONNX graph, run by onnxruntime; the weights come from outside.

A graph is data, but it may name files that onnxruntime then reads, and loop for ever. Here each matrix is said to lie
in a place that it never opens, and a graph that names another place is refused: what was not handed over is not found.
And it may hold only the plain operations that a student needs, none of which holds a graph of its own.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from nestling.errors import MissingExtraError, ModelFileError
from nestling.safe import DAMAGED

NOWHERE = "/"  # an absolute path, which onnxruntime does not take for a model that came as bytes
OPERATIONS = {
    "Abs", "Add", "Cast", "Concat", "Cos", "Div", "Expand", "Gather", "Gelu", "Gemm", "Identity",
    "LayerNormalization", "MatMul", "MatMulInteger", "Max", "Mul", "Neg", "Not", "Pow", "Range", "Reciprocal",
    "ReduceMax", "ReduceMean", "ReduceSum", "Reshape", "Round", "Shape", "Sin", "Slice", "Softmax", "Split", "Sqrt",
    "Squeeze", "Sub", "Transpose", "Unsqueeze", "Where",
}  # fmt: skip
MOST_NODES = 10_000
# Numbers of the fields of ONNX's messages.
MODEL = {"graph": 7, "training": 20, "functions": 25}
GRAPH = {"node": 1, "initializer": 5, "sparse": 15}
NODE = {"kind": 4, "attribute": 5, "domain": 7}
WITHIN = {5, 6, 10, 11, 22, 23}  # attributes that are tensors, graphs, lists of them, and sparse tensors
TENSOR = {"external": 13}
PLACES = (b"location", b"offset", b"length")  # what may be said of an external tensor
Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]


def open_graph(graph: bytes, weights: dict[str, Array], threads: int = 1) -> Any:
    """An onnxruntime session. weights: by name, all that the graph lacks, and maybe more.

    Its memory goes back after each run: onnxruntime keeps the most that it ever needed otherwise.
    Raises MissingExtraError without onnxruntime, ModelFileError for what is no such graph.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("onnxruntime", "onnx", "A transformer's graph") from error
    _check(graph)
    how = onnxruntime.SessionOptions()
    how.intra_op_num_threads, how.inter_op_num_threads = threads, 1
    how.enable_cpu_mem_arena = how.enable_mem_pattern = False
    how.log_severity_level = 4
    weights = {name: each for name, each in weights.items() if _named(name) in graph}
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(each)) for each in weights.values()]
    how.add_external_initializers(list(weights), values)
    try:
        session = onnxruntime.InferenceSession(graph, how, providers=["CPUExecutionProvider"])
        inputs = {each.name: (each.type, len(each.shape)) for each in session.get_inputs()}
    except Exception as error:  # onnxruntime has an exception of its own for each of a dozen causes
        raise _refused(str(error).splitlines()[0][:200]) from error
    if inputs != {"rows": ("tensor(float)", 3), "weights": ("tensor(float)", 2)} or len(session.get_outputs()) != 1:
        raise _refused(f"its inputs are {', '.join(inputs) or 'none'}")
    return session


def run_graph(session: Any, rows: Floats, weights: Floats) -> Floats:
    """Padded rows of tokens, (n, length, inner) float32, and what each counts, (n, length) float32, 0 where none is ->
    means of what the tokens become, (n, dim) float32."""
    try:
        means: Floats = session.run(None, {"rows": rows, "weights": weights})[0]
    except Exception as error:  # as above; shapes that do not fit one another show here alone
        raise _refused(str(error).splitlines()[0][:200]) from error
    return means


def _check(graph: bytes) -> None:
    """Raise ModelFileError for a graph that names files, or does more than a student does."""
    try:
        model = list(_fields(graph))
        parts = [part for number, body in model if number == MODEL["graph"] for part in _fields(body)]
        nodes = [body for number, body in parts if number == GRAPH["node"]]
        for node in nodes[:MOST_NODES]:
            _check_node(list(_fields(node)))
        for number, body in parts:
            if number == GRAPH["initializer"]:
                _check_tensor(list(_fields(body)))
    except (IndexError, UnicodeDecodeError, TypeError) as error:
        raise _refused("it is no ONNX") from error
    if not nodes or len(nodes) > MOST_NODES:
        raise _refused(f"it has {len(nodes):,} nodes")
    if any(number in (MODEL["training"], MODEL["functions"]) for number, _ in model):
        raise _refused("it has functions of its own")
    if any(number == GRAPH["sparse"] for number, _ in parts):
        raise _refused("it has sparse tensors")


def _check_node(node: list[tuple[int, Any]]) -> None:
    kinds = [value.decode() for number, value in node if number == NODE["kind"]]
    domains = [value for number, value in node if number == NODE["domain"]]
    if len(kinds) != 1 or kinds[0] not in OPERATIONS or any(domains):
        raise _refused(f"it asks for {', '.join(kinds)[:60] or 'nothing'}, which no student needs")
    attributes = [list(_fields(value)) for number, value in node if number == NODE["attribute"]]
    if any(number in WITHIN for attribute in attributes for number, _ in attribute):
        raise _refused("it has graphs or tensors within its nodes")


def _check_tensor(tensor: list[tuple[int, Any]]) -> None:
    for number, entry in tensor:
        if number == TENSOR["external"]:
            said = dict(_fields(entry))  # of a field that comes twice the last counts, as for onnxruntime
            if said.get(1) not in PLACES or (said[1] == b"location" and said.get(2) != NOWHERE.encode()):
                raise _refused("it names files")


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Numbers and values of the fields of a protobuf message: bytes, or, of plain numbers, None. IndexError where it
    is broken off."""
    place = 0
    while place < len(message):
        key, place = _number(message, place)
        kind, size = key & 7, 0
        if kind == 0:
            _, place = _number(message, place)
        elif kind == 2:
            size, place = _number(message, place)
        elif kind in (1, 5):
            place += 8 if kind == 1 else 4
        else:
            raise IndexError
        if place + size > len(message):
            raise IndexError
        if key >= 1 << 32:  # others read the lower bits alone
            raise IndexError
        yield key >> 3, message[place : place + size] if kind == 2 else None
        place += size


def _number(message: bytes, place: int) -> tuple[int, int]:
    """A number of seven bits a byte, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        byte = message[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
    raise IndexError


def _named(name: str) -> bytes:
    """How the bytes of a graph name a tensor: the field's number, the length, the name."""
    raw = name.encode()
    return b"\x42" + bytes([len(raw) % 128]) + raw


def _refused(why: str) -> ModelFileError:
    return ModelFileError(
        f"The graph cannot be run: {why}.",
        "An ONNX graph of rows and their weights was expected.",
        DAMAGED,
    )

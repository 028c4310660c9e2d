"""A transformer's ONNX graph, run by onnxruntime; the weights come from outside.

A graph is data, but it may name files that onnxruntime then reads. Here each matrix is said to lie in a place that it
never opens, and a graph that names another place is refused: what was not handed over is not found.
"""

import re
from typing import Any

import numpy as np
import numpy.typing as npt

from nestling.errors import MissingExtraError, ModelFileError
from nestling.safe import DAMAGED

NOWHERE = "/"  # an absolute path, which onnxruntime does not take for a model that came as bytes
INT8, SCALES = ".int8", ".scales"  # behind the names of matrices in whole numbers, and of their scales
PLACE = re.compile(rb"location\x12(.)(?=(.))", re.DOTALL)  # of external data, in the bytes of a graph
Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


def open_graph(graph: bytes, weights: dict[str, Array], threads: int = 1) -> Any:
    """An onnxruntime session. weights: by name, all that the graph lacks, and maybe more.

    Its memory goes back after each run: onnxruntime keeps the most that it ever needed otherwise.
    Raises MissingExtraError without onnxruntime, ModelFileError for what is no such graph.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("onnxruntime", "onnx", "A transformer") from error
    if any(place.groups() != (b"\x01", NOWHERE.encode()) for place in PLACE.finditer(graph)):
        raise _refused("it names files")
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
    if inputs != {"rows": ("tensor(float)", 3), "mask": ("tensor(int64)", 2)} or len(session.get_outputs()) != 1:
        raise _refused(f"its inputs are {', '.join(inputs) or 'none'}")
    return session


def run_graph(session: Any, rows: Floats, mask: Ints) -> Floats:
    """Padded rows of tokens, (n, length, inner) float32, and what of them is text, (n, length) int64 -> means of what
    the tokens become, (n, dim) float32."""
    try:
        means: Floats = session.run(None, {"rows": rows, "mask": mask})[0]
    except Exception as error:  # as above; shapes that do not fit one another show here alone
        raise _refused(str(error).splitlines()[0][:200]) from error
    return means


def _named(name: str) -> bytes:
    """How the bytes of a graph name a tensor: the field's number, the length, the name."""
    raw = name.encode()
    return b"\x42" + bytes([len(raw) % 128]) + raw


def _refused(why: str) -> ModelFileError:
    return ModelFileError(
        f"The graph cannot be run: {why}.", "An ONNX graph of rows and mask, without weights, was expected.", DAMAGED
    )

"""A transformer's ONNX graph, run by onnxruntime; the weights come from outside.

A graph is data, but it may name files. These have no weights in them and name none that exist: all that they ask for is
handed over when the session is opened, so nothing else is read.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from nestling.errors import MissingExtraError, ModelFileError
from nestling.safe import DAMAGED

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


def open_graph(graph: bytes, weights: dict[str, Floats], threads: int = 1) -> Any:
    """An onnxruntime session. weights: name -> float32, all that the graph lacks.

    Its memory goes back after each run: onnxruntime keeps the most that it ever needed otherwise.
    Raises MissingExtraError without onnxruntime, ModelFileError for what is no such graph.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("onnxruntime", "onnx", "A transformer") from error
    how = onnxruntime.SessionOptions()
    how.intra_op_num_threads, how.inter_op_num_threads = threads, 1
    how.enable_cpu_mem_arena = how.enable_mem_pattern = False
    how.log_severity_level = 4
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(each)) for each in weights.values()]
    how.add_external_initializers(list(weights), values)
    try:
        session = onnxruntime.InferenceSession(graph, how, providers=["CPUExecutionProvider"])
        inputs = {each.name: (each.type, len(each.shape)) for each in session.get_inputs()}
    except Exception as error:  # onnxruntime has an exception of its own for each of a dozen causes
        raise _refused(str(error).splitlines()[0][:200]) from error
    if inputs != {"ids": ("tensor(int64)", 2), "mask": ("tensor(int64)", 2)} or len(session.get_outputs()) != 1:
        raise _refused(f"its inputs are {', '.join(inputs) or 'none'}")
    return session


def run_graph(session: Any, ids: Ints, mask: Ints) -> Floats:
    """Padded ids and what of them is text, (n, length) int64 each -> (n, dim) float32 means."""
    means: Floats = session.run(None, {"ids": ids, "mask": mask})[0]
    return means


def _refused(why: str) -> ModelFileError:
    return ModelFileError(
        f"The graph cannot be run: {why}.", "An ONNX graph of ids and mask, without weights, was expected.", DAMAGED
    )

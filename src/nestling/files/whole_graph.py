"""A transformer as one ONNX file that needs nothing beside it but its tokenizer: token ids in, vectors out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nestling.errors import MissingExtraError

Array = npt.NDArray[Any]
FAR = 1 << 30  # behind any token
MOST_REPEATS = 255  # as in model/pool.py, from where on repeats weigh the same


def whole_graph(
    graph: bytes, weights: dict[str, Array], table: npt.NDArray[np.float32], drop: Sequence[int], sublinear: bool
) -> bytes:
    """input_ids and attention_mask, I64 (texts, tokens), padded on the right -> sentence_embedding, F32 (texts, dim),
    unit length; zeros for a text without a known token.

    graph, weights: as in the model's file (docs/format.md). table: (tokens, inner). Ids in `drop` are left out, and
    those after them move up; in sublinear pooling the row of a token's k-th occurrence is shortened.
    Raises MissingExtraError without the package onnx.
    """
    try:
        import onnx
        from onnx.helper import make_node, make_tensor_value_info
        from onnx.numpy_helper import from_array
    except ImportError as error:
        raise MissingExtraError("onnx", "train", "Writing an ONNX file") from error

    model = onnx.load_from_string(graph)
    for tensor in model.graph.initializer:
        if tensor.name in weights:
            tensor.CopyFrom(from_array(np.ascontiguousarray(weights[tensor.name]), tensor.name))
    numbers = {
        "none": np.int64(0), "one": np.int64(1), "far": np.int64(FAR), "columns": np.array([2], np.int64),
        "row": np.array([1], np.int64), "drop": np.array([*drop] or [-1], np.int64).reshape(1, 1, -1),
        "most": np.float32(MOST_REPEATS), "onef": np.float32(1), "least": np.float32(1e-30),
        "axis": np.int64(1), "nil": np.float32(0),
    }  # fmt: skip

    def node(kind: str, given: str, result: str, **more: Any) -> Any:
        """given: names, those of this part of the graph with a stop before them."""
        names = [name if name[0] != "." else "ids" + name for name in given.split()]
        return make_node(kind, names, ["ids" + result if result[0] == "." else result], **more)

    known = [  # 1 for what is a token and not dropped
        node("Unsqueeze", "input_ids .columns", ".each"),
        node("Equal", ".each .drop", ".hits"),
        node("Cast", ".hits", ".hit", to=onnx.TensorProto.INT64),
        node("ReduceMax", ".hit .columns", ".dropped", keepdims=0),
        node("Sub", ".one .dropped", ".left"),
        node("Mul", ".left attention_mask", ".known"),
    ]
    moved = [  # known ones first, in their order
        node("Sub", ".one .known", ".unknown"),
        node("Mul", ".unknown .far", ".behind"),
        node("Add", ".known .unknown", ".ones"),
        node("CumSum", ".ones .axis", ".place"),
        node("Add", ".behind .place", ".key"),
        node("Shape", "input_ids", ".length", start=1, end=2),
        node("TopK", ".key .length", ".sorted", axis=1, largest=0, sorted=1),
    ]
    moved[-1].output.append("ids.order")
    moved += [
        node("GatherElements", "input_ids .order", ".ids", axis=1),
        node("GatherElements", ".known .order", "mask", axis=1),
    ]
    rows = [
        node("Gather", ".table .ids", ".found"),
        node("Cast", "mask", ".real", to=onnx.TensorProto.FLOAT),
        *(_repeats(node) if sublinear else [node("Identity", ".real", ".weight")]),
        node("Unsqueeze", ".weight .columns", ".weights"),
        node("Mul", ".found .weights", "rows"),
    ]
    for made in model.graph.node:
        for place, name in enumerate(made.output):
            if name == model.graph.output[0].name:
                made.output[place] = "ids.means"
    unit = [
        node("ReduceMax", "mask .row", ".any", keepdims=1),
        node("Equal", ".any .none", ".empty"),
        node("ReduceL2", ".means .row", ".size", keepdims=1),
        node("Max", ".size .least", ".divisor"),
        node("Div", ".means .divisor", ".scaled"),
        node("Where", ".empty .nil .scaled", "sentence_embedding"),
    ]
    model.graph.initializer.extend(from_array(np.asarray(value), f"ids.{name}") for name, value in numbers.items())
    model.graph.initializer.append(from_array(table, "ids.table"))
    own = list(model.graph.node)
    del model.graph.node[:], model.graph.input[:], model.graph.output[:]
    model.graph.node.extend([*known, *moved, *rows, *own, *unit])
    whole = onnx.TensorProto.INT64, ["texts", "tokens"]
    model.graph.input.extend(make_tensor_value_info(name, *whole) for name in ("input_ids", "attention_mask"))
    vectors = make_tensor_value_info("sentence_embedding", onnx.TensorProto.FLOAT, ["texts", "dim"])
    model.graph.output.append(vectors)
    onnx.checker.check_model(model)
    serialized: bytes = model.SerializeToString(deterministic=True)
    return serialized


def _repeats(node: Any) -> list[Any]:
    """sqrt(k) - sqrt(k - 1) for the k-th occurrence of an id in its text."""
    return [
        node("Unsqueeze", ".ids .columns", ".down"),
        node("Unsqueeze", ".ids .row", ".across"),
        node("Equal", ".down .across", ".same"),
        node("Cast", ".same", ".alike", to=1),
        node("Trilu", ".alike", ".before", upper=0),
        node("ReduceSum", ".before .columns", ".count", keepdims=0),
        node("Min", ".count .most", ".times"),
        node("Sub", ".times .onef", ".less"),
        node("Sqrt", ".times", ".root"),
        node("Sqrt", ".less", ".lesser"),
        node("Sub", ".root .lesser", ".share"),
        node("Mul", ".share .real", ".weight"),
    ]

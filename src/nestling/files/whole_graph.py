"""A transformer as one ONNX file that needs nothing beside it but its tokenizer: token ids in, vectors out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nestling.errors import MissingExtraError

Array = npt.NDArray[Any]
FAR = 1 << 30  # behind any token
FLOAT, INT64 = 1, 7  # onnx.TensorProto's numbers for them
MOST_REPEATS = 255  # as in model/pool.py, from where on repeats weigh the same


def whole_graph(
    graph: bytes,
    weights: dict[str, Array],
    table: npt.NDArray[np.float32],
    drop: Sequence[int],
    sublinear: bool,
    dim: int,
) -> bytes:
    """input_ids and attention_mask, I64 (texts, tokens), padded on the right -> sentence_embedding, F32 (texts, dim),
    unit length; zeros for a text without a known token.

    graph, weights: as in the model's file (docs/format.md). table: (tokens, inner). Ids in `drop` are left out, and
    those after them move up; in sublinear pooling the row of a token's k-th occurrence is shortened. dim: columns of a
    vector, the first of those that the graph gives.
    Raises MissingExtraError without the package onnx.
    """
    try:
        import onnx
        from onnx.helper import make_tensor_value_info
        from onnx.numpy_helper import from_array
    except ImportError as error:
        raise MissingExtraError("onnx", "export", "Writing an ONNX file") from error

    model = onnx.load_from_string(graph)
    for tensor in model.graph.initializer:
        if tensor.name in weights:
            tensor.CopyFrom(from_array(np.ascontiguousarray(weights[tensor.name]), tensor.name))
    _rename_output(model.graph, "ids.means")
    numbers = _numbers(drop, dim)
    model.graph.initializer.extend(from_array(np.asarray(value), f"ids.{name}") for name, value in numbers.items())
    model.graph.initializer.append(from_array(table, "ids.table"))
    own = list(model.graph.node)
    del model.graph.node[:], model.graph.input[:], model.graph.output[:]
    model.graph.node.extend([*_known(), *_moved(), *_rows(sublinear), *own, *_unit()])
    whole = onnx.TensorProto.INT64, ["texts", "tokens"]
    model.graph.input.extend(make_tensor_value_info(name, *whole) for name in ("input_ids", "attention_mask"))
    vectors = make_tensor_value_info("sentence_embedding", onnx.TensorProto.FLOAT, ["texts", "dim"])
    model.graph.output.append(vectors)
    onnx.checker.check_model(model)
    serialized: bytes = model.SerializeToString(deterministic=True)
    return serialized


def _numbers(drop: Sequence[int], dim: int) -> dict[str, Any]:
    """The constants of this part of the graph."""
    return {
        "none": np.int64(0), "one": np.int64(1), "far": np.int64(FAR), "columns": np.array([2], np.int64),
        "row": np.array([1], np.int64), "drop": np.array([*drop] or [-1], np.int64).reshape(1, 1, -1),
        "most": np.float32(MOST_REPEATS), "onef": np.float32(1), "least": np.float32(1e-30),
        "axis": np.int64(1), "nil": np.float32(0), "start": np.array([0], np.int64), "dim": np.array([dim], np.int64),
    }  # fmt: skip


def _node(kind: str, given: str, results: str, **more: Any) -> Any:
    """given, results: names, those of this part of the graph with a stop before them."""
    from onnx.helper import make_node

    ins, outs = (["ids" + name if name[0] == "." else name for name in each.split()] for each in (given, results))
    return make_node(kind, ins, outs, **more)


def _rename_output(graph: Any, name: str) -> None:
    """Give another name to what a graph puts out."""
    for made in graph.node:
        for place, result in enumerate(made.output):
            if result == graph.output[0].name:
                made.output[place] = name


def _known() -> list[Any]:
    """1 for what is a token and not dropped."""
    return [
        _node("Unsqueeze", "input_ids .columns", ".each"),
        _node("Equal", ".each .drop", ".hits"),
        _node("Cast", ".hits", ".hit", to=INT64),
        _node("ReduceMax", ".hit .columns", ".dropped", keepdims=0),
        _node("Sub", ".one .dropped", ".left"),
        _node("Mul", ".left attention_mask", ".known"),
    ]


def _moved() -> list[Any]:
    """Known tokens first, in their order."""
    return [
        _node("Sub", ".one .known", ".unknown"),
        _node("Mul", ".unknown .far", ".behind"),
        _node("Add", ".known .unknown", ".ones"),
        _node("CumSum", ".ones .axis", ".place"),
        _node("Add", ".behind .place", ".key"),
        _node("Shape", "input_ids", ".length", start=1, end=2),
        _node("TopK", ".key .length", ".sorted .order", axis=1, largest=0, sorted=1),
        _node("GatherElements", "input_ids .order", ".ids", axis=1),
        _node("GatherElements", ".known .order", ".mask", axis=1),
    ]


def _rows(sublinear: bool) -> list[Any]:
    """The rows of the tokens, and what each counts."""
    return [
        _node("Gather", ".table .ids", "rows"),
        _node("Cast", ".mask", ".real", to=FLOAT),
        *(_repeats() if sublinear else [_node("Identity", ".real", "weights")]),
    ]


def _unit() -> list[Any]:
    """Unit length, or zeros."""
    return [
        _node("ReduceMax", ".mask .row", ".any", keepdims=1),
        _node("Equal", ".any .none", ".empty"),
        _node("Slice", ".means .start .dim .row", ".prefix"),
        _node("ReduceL2", ".prefix .row", ".size", keepdims=1),
        _node("Max", ".size .least", ".divisor"),
        _node("Div", ".prefix .divisor", ".scaled"),
        _node("Where", ".empty .nil .scaled", "sentence_embedding"),
    ]


def _repeats() -> list[Any]:
    """sqrt(k) - sqrt(k - 1) for the k-th occurrence of an id in its text."""
    return [
        _node("Unsqueeze", ".ids .columns", ".down"),
        _node("Unsqueeze", ".ids .row", ".across"),
        _node("Equal", ".down .across", ".same"),
        _node("Cast", ".same", ".alike", to=FLOAT),
        _node("Trilu", ".alike", ".before", upper=0),
        _node("ReduceSum", ".before .columns", ".count", keepdims=0),
        _node("Min", ".count .most", ".times"),
        _node("Sub", ".times .onef", ".less"),
        _node("Sqrt", ".times", ".root"),
        _node("Sqrt", ".less", ".lesser"),
        _node("Sub", ".root .lesser", ".share"),
        _node("Mul", ".share .real", "weights"),
    ]

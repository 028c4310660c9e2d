"""Builds tests/samples/teacher: a small ONNX teacher over the WordPiece sample.

    pip install onnx && python tests/samples/build_teacher.py

Each position's output is its token's row plus a mix of all rows that the attention mask lets through:
x + tanh(mean(x) @ W). 64 dims whose power falls, stored as int8 with a scale a column.
"""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).parent
DIM = 64
CLS, SEP = "[CLS]", "[SEP]"


def main() -> None:
    """Write model.onnx, tokenizer.json and teacher.json."""
    folder = HERE / "teacher"
    folder.mkdir(exist_ok=True)
    plan = json.loads((HERE / "wordpiece.json").read_text(encoding="utf-8"))
    ids = plan["model"]["vocab"]
    ends = {name: {"id": name, "ids": [ids[name]], "tokens": [name]} for name in (CLS, SEP)}
    single = [special(CLS), sequence("A", 0), special(SEP)]
    pair = [*single, sequence("B", 1), special(SEP, 1)]
    plan["post_processor"] = {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": ends}
    write_json(folder / "tokenizer.json", plan)
    write_json(folder / "teacher.json", {"name": "sample/teacher", "licence": "CC0-1.0", "form": "encoder"})
    (folder / "model.onnx").write_bytes(graph(len(ids)).SerializeToString())


def special(name: str, kind: int = 0) -> dict[str, object]:
    return {"SpecialToken": {"id": name, "type_id": kind}}


def sequence(name: str, kind: int) -> dict[str, object]:
    return {"Sequence": {"id": name, "type_id": kind}}


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


def graph(tokens: int) -> onnx.ModelProto:
    random = np.random.default_rng(0)
    constants = {
        "rows": np.clip(np.rint(random.standard_normal((tokens, DIM)) * 40), -127, 127).astype(np.int8),
        "powers": (1 / (40 * np.sqrt(1 + np.arange(DIM) / 4))).astype(np.float32),
        "mix": (random.standard_normal((DIM, DIM)) / 8).astype(np.float16),
        "last": np.array([2], np.int64),
        "middle": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("Gather", ["rows", "input_ids"], ["bytes"]),
        helper.make_node("Cast", ["bytes"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["wide", "powers"], ["x"]),
        helper.make_node("Cast", ["attention_mask"], ["flat_mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["flat_mask", "last"], ["mask"]),
        helper.make_node("Mul", ["x", "mask"], ["seen"]),
        helper.make_node("ReduceSum", ["seen", "middle"], ["total"], keepdims=1),
        helper.make_node("ReduceSum", ["mask", "middle"], ["length"], keepdims=1),
        helper.make_node("Div", ["total", "length"], ["mean"]),
        helper.make_node("Cast", ["mix"], ["mix_wide"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["mean", "mix_wide"], ["mixed"]),
        helper.make_node("Tanh", ["mixed"], ["bounded"]),
        helper.make_node("Add", ["x", "bounded"], ["last_hidden_state"]),
    ]
    shape = ["batch", "length"]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name in ("input_ids", "attention_mask")]
    outputs = [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, [*shape, DIM])]
    initial = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    whole = helper.make_graph(nodes, "teacher", inputs, outputs, initial)
    model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model


if __name__ == "__main__":
    main()

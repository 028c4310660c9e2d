"""Teachers: what they put out is what transformers or the ONNX graph puts out; anything else is refused by name."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import pytest
import torch
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer
from transformers import AutoModel, AutoModelForSequenceClassification

from nestling.errors import InputError, ModelFileError
from nestling.teacher import load_teacher
from tests.conftest import model_of
from tests.make.conftest import ENDS

CLS = {"SpecialToken": {"id": "[CLS]", "type_id": 0}}
IDS = np.array([[3, 9, 200, 41], [5, 6, 7, 300]])


def copy(folder: Path, target: Path) -> Path:
    return Path(shutil.copytree(folder, target))


def change_tokenizer(folder: Path, **changes: Any) -> None:
    plan = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps({**plan, **changes}))


def refusal(folder: Path | str) -> ModelFileError:
    """The error that loading raises, with its three parts there."""
    with pytest.raises(ModelFileError) as caught:
        load_teacher(str(folder))
    assert all((caught.value.given, caught.value.expected, caught.value.do))
    return caught.value


def test_torch_teacher_gives_the_last_hidden_state(teacher_folder: Path, kind: str) -> None:
    teacher = load_teacher(str(teacher_folder))
    with torch.inference_mode():
        expected = AutoModel.from_pretrained(teacher_folder).eval()(torch.from_numpy(IDS)).last_hidden_state.numpy()
    states = teacher.forward(IDS)
    assert (states.dtype, states.shape, teacher.dim) == (np.float32, (2, 4, 32), 32)
    np.testing.assert_allclose(states, expected, atol=1e-5)
    assert (teacher.name, teacher.licence) == (f"tests/{kind}", "MIT")


def test_ends_are_the_special_tokens(teacher_folder: Path, kind: str) -> None:
    tokenizer = Tokenizer.from_file(str(teacher_folder / "tokenizer.json"))
    first, last = (tokenizer.token_to_id(end) for end in ENDS[kind])
    assert load_teacher(str(teacher_folder)).ends() == ([first], [last])


def test_a_tokenizer_that_pads_and_cuts(teacher_folders: dict[str, Path], tmp_path: Path) -> None:
    """all-MiniLM-L6-v2's tokenizer.json pads to 128 tokens."""
    folder = copy(teacher_folders["wordpiece"], tmp_path / "padded")
    padding = {
        "strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": None,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]",
    }  # fmt: skip
    truncation = {"max_length": 2, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    change_tokenizer(folder, padding=padding, truncation=truncation)
    teacher, plain = (load_teacher(str(each)) for each in (folder, teacher_folders["wordpiece"]))
    assert teacher.ends() == plain.ends()
    one, other = (each.bare_tokenizer.encode("a cat sat on the mat").ids for each in (teacher, plain))
    assert one == other
    assert len(one) > 4
    assert teacher.bare_tokenizer is teacher.bare_tokenizer is not plain.bare_tokenizer


def test_onnx_teacher_gives_the_graph_s_output(onnx_folder: Path) -> None:
    constants = {
        entry.name: onnx.numpy_helper.to_array(entry)
        for entry in onnx.load(onnx_folder / "model.onnx").graph.initializer
    }
    rows = constants["rows"][IDS] * constants["powers"]
    mixed = np.tanh(rows.mean(axis=1, keepdims=True) @ constants["mix"].astype(np.float32))
    teacher = load_teacher(str(onnx_folder))
    states = teacher.forward(IDS)
    assert (states.dtype, states.shape, teacher.dim) == (np.float32, (2, 4, 64), 64)
    np.testing.assert_allclose(states, rows + mixed, atol=1e-5)
    assert (teacher.name, teacher.licence, teacher.ends()) == ("sample/teacher", "CC0-1.0", ([2], [3]))
    assert teacher.card == {"name": "sample/teacher", "licence": "CC0-1.0", "form": "encoder"}


def test_the_fingerprint_follows_what_decides_the_outputs(teacher_folders: dict[str, Path], tmp_path: Path) -> None:
    source = teacher_folders["wordpiece"]
    before = load_teacher(str(source)).fingerprint
    same = copy(source, tmp_path / "same")
    assert load_teacher(str(same)).fingerprint == before
    shallow = copy(source, tmp_path / "shallow")
    config = json.loads((shallow / "config.json").read_text())
    (shallow / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1}))
    other = load_teacher(str(shallow))
    assert not np.allclose(other.forward(IDS), load_teacher(str(source)).forward(IDS), atol=1e-3)
    assert other.fingerprint != before
    change_tokenizer(same, normalizer=None)
    assert load_teacher(str(same)).fingerprint != before


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"gone is not there\. A file, a folder or a hub id \(owner/name\) was expected\. Check the spelling\.",
    ):
        load_teacher(str(tmp_path / "gone"))


def test_no_tokenizer(onnx_folder: Path, teacher_folders: dict[str, Path], tmp_path: Path) -> None:
    for source in (onnx_folder, teacher_folders["bpe"]):
        folder = copy(source, tmp_path / source.name)
        (folder / "tokenizer.json").unlink()
        assert refusal(folder).given == f"{folder} has no tokenizer.json."


def test_onnx_without_teacher_json(onnx_folder: Path, tmp_path: Path) -> None:
    folder = copy(onnx_folder, tmp_path / "onnx")
    (folder / "teacher.json").unlink()
    assert "neither one .onnx graph with a teacher.json nor config.json" in refusal(folder).given
    (folder / "teacher.json").write_text("[1]")
    assert "no JSON object" in refusal(folder).given
    (folder / "teacher.json").write_text("{")
    assert "not valid JSON" in refusal(folder).given


@pytest.mark.parametrize("tokens", [0, -1, "512", 1.5, None, True])
def test_a_longest_text_that_is_no_number(onnx_folder: Path, tokens: object, tmp_path: Path) -> None:
    folder = copy(onnx_folder, tmp_path / "onnx")
    (folder / "teacher.json").write_text(json.dumps({"name": "x", "max_tokens": tokens}))
    assert refusal(folder).given.endswith(f"max_tokens {tokens!r}, which is no whole number above 0.")


def test_two_graphs(onnx_folder: Path, tmp_path: Path) -> None:
    folder = copy(onnx_folder, tmp_path / "onnx")
    shutil.copy(folder / "model.onnx", folder / "more.onnx")
    assert "neither one .onnx graph" in refusal(folder).given


@pytest.mark.parametrize("form", ["onnx-int8-cross-encoder", "cross-encoder"])
def test_a_cross_encoder(onnx_folder: Path, teacher_folders: dict[str, Path], form: str, tmp_path: Path) -> None:
    for source in (onnx_folder, teacher_folders["bpe"]):
        folder = copy(source, tmp_path / source.name)
        (folder / "teacher.json").write_text(json.dumps({"name": "pairs", "form": form}))
        assert "a cross-encoder, which scores pairs and embeds nothing" in refusal(folder).given


def test_a_cross_encoder_that_torch_runs(teacher_folders: dict[str, Path], tmp_path: Path) -> None:
    source = teacher_folders["wordpiece"]
    AutoModelForSequenceClassification.from_pretrained(source, num_labels=1).save_pretrained(tmp_path / "pairs")
    shutil.copy(source / "tokenizer.json", tmp_path / "pairs")
    assert "a cross-encoder, which scores pairs and embeds nothing" in refusal(tmp_path / "pairs").given


def test_a_graph_with_other_inputs_or_outputs(onnx_folder: Path, tmp_path: Path) -> None:
    for name, replacement in (("input_ids", "tokens"), ("attention_mask", "position_ids")):
        folder = copy(onnx_folder, tmp_path / replacement)
        graph = onnx.load(folder / "model.onnx")
        for node in graph.graph.node:
            node.input[:] = [replacement if entry == name else entry for entry in node.input]
        for entry in graph.graph.input:
            entry.name = replacement if entry.name == name else entry.name
        onnx.save(graph, folder / "model.onnx")
        assert replacement in refusal(folder).given
    folder = copy(onnx_folder, tmp_path / "pooled")
    graph = onnx.load(folder / "model.onnx")
    graph.graph.output[0].name = "mean"
    onnx.save(graph, folder / "model.onnx")
    graph.graph.output.pop()
    graph.graph.output.append(onnx.helper.make_tensor_value_info("flat_mask", 1, ["batch", "length"]))
    onnx.save(graph, folder / "model.onnx")
    assert "flat_mask" in refusal(folder).given


@pytest.mark.parametrize("layout", ["model2vec", "sentence-transformers"])
def test_a_static_model_is_no_teacher(layout: str, tmp_path: Path) -> None:
    model_of("wordpiece").save(tmp_path / "static", layout=layout)
    refusal(tmp_path / "static")


def test_a_static_embedding_is_no_teacher(tmp_path: Path) -> None:
    """As sentence-transformers saves one itself."""
    model_of("wordpiece").save(tmp_path / "ours", layout="sentence-transformers")
    SentenceTransformer(str(tmp_path / "ours"), device="cpu").save(str(tmp_path / "theirs"), create_model_card=False)
    refusal(tmp_path / "theirs")


@pytest.mark.parametrize(
    "single",
    [
        [CLS],
        [{"Sequence": {"id": "A", "type_id": 0}}, CLS, {"Sequence": {"id": "A", "type_id": 0}}],
    ],
    ids=["text left out", "special token inside"],
)
def test_a_post_processor_that_changes_the_text(
    onnx_folder: Path, single: list[dict[str, Any]], tmp_path: Path
) -> None:
    folder = copy(onnx_folder, tmp_path / "onnx")
    plan = json.loads((folder / "tokenizer.json").read_text())
    change_tokenizer(folder, post_processor={**plan["post_processor"], "single": single})
    teacher = load_teacher(str(folder))
    with pytest.raises(ModelFileError, match=r"changes a text.*only before and after.*Choose another teacher\."):
        teacher.ends()

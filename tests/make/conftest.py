"""Teachers for the tests: a small transformer over each kind of tokenizer, made once a session, and an ONNX graph."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, RobertaConfig, RobertaModel

from tests.conftest import KINDS, SAMPLES, plan_of

MORE_PIECES = {
    "wordpiece": ["[unused0]", "[unused17]"],
    "bpe": ["<unk>", "<pad>", "<mask>"],
    "unigram": ["<pad>", "<mask>"],
}
ENDS = {"wordpiece": ("[CLS]", "[SEP]"), "bpe": ("<s>", "</s>"), "unigram": ("<s>", "</s>")}
PADS = {"wordpiece": ("[PAD]", 0), "bpe": ("</s>", 1), "unigram": ("</s>", 1)}


def whole_plan(kind: str) -> dict[str, Any]:
    """A sample's plan as teachers have it: with unused or special pieces more, and a post-processor."""
    plan = plan_of(kind)
    vocabulary = plan["model"]["vocab"]
    for piece in MORE_PIECES[kind]:
        index = len(vocabulary)
        if kind == "unigram":
            vocabulary.append([piece, 0.0])
        else:
            vocabulary[piece] = index
        if piece.startswith("<"):
            plan["added_tokens"].append({**plan["added_tokens"][0], "id": index, "content": piece})
    pieces = list(vocabulary) if kind != "unigram" else [piece for piece, _ in vocabulary]
    first, last = ({"SpecialToken": {"id": end, "type_id": 0}} for end in ENDS[kind])
    text, second = ({"Sequence": {"id": side, "type_id": 0}} for side in "AB")
    plan["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [first, text, last],
        "pair": [first, text, last, second, last],
        "special_tokens": {end: {"id": end, "ids": [pieces.index(end)], "tokens": [end]} for end in ENDS[kind]},
    }
    return plan


def save_teacher(kind: str, folder: Path) -> Path:
    """A seeded, untrained transformer of two layers and 32 dims, in sentence-transformers' layout."""
    plan = whole_plan(kind)
    (first, last), (pad, pad_id) = ENDS[kind], PADS[kind]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(plan)), pad_token=pad, cls_token=first, sep_token=last
    )
    config, model = (BertConfig, BertModel) if kind == "wordpiece" else (RobertaConfig, RobertaModel)
    torch.manual_seed(0)
    encoder = model(
        config(
            vocab_size=len(plan["model"]["vocab"]),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=40,
            pad_token_id=pad_id,
            initializer_range=0.3,
        )
    )
    bare = folder.with_name(f"{folder.name}-bare")
    encoder.save_pretrained(bare)
    tokenizer.save_pretrained(bare)
    SentenceTransformer(str(bare), device="cpu").save(str(folder), create_model_card=False)
    (folder / "teacher.json").write_text(json.dumps({"hub_id": f"tests/{kind}", "licence": "MIT"}))
    return folder


@pytest.fixture(scope="session")
def teacher_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """kind -> the folder of a small transformer."""
    torch.set_num_threads(1)  # small matrices; more threads only wait for one another
    home = tmp_path_factory.mktemp("teachers")
    return {kind: save_teacher(kind, home / kind) for kind in KINDS}


@pytest.fixture
def teacher_folder(teacher_folders: dict[str, Path], kind: str) -> Path:
    return teacher_folders[kind]


@pytest.fixture(scope="session")
def onnx_folder() -> Path:
    """tests/samples/build_teacher.py made it."""
    return SAMPLES / "teacher"

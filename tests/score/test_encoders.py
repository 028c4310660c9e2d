"""What is scored, seen alike: ONNX folders as their cards say, and texts embedded once."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from nestling.errors import ModelFileError
from nestling.score.encoders import Derived, Remembering, Role, Vectors, load_encoder
from nestling.teacher import load_teacher
from tests.conftest import SAMPLES

SAID = {"pooling": "cls", "max_tokens": 6, "query_prefix": "ask: "}
TEXT = "a cat sat on the mat and slept"


def onnx_folder(folder: Path, **said: object) -> str:
    """The sample teacher with this card."""
    shutil.copytree(SAMPLES / "teacher", folder)
    (folder / "teacher.json").write_text(json.dumps(said))
    return str(folder)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_an_onnx_folder_pools_and_cuts_as_its_card_says(pooling: str, tmp_path: Path) -> None:
    folder = onnx_folder(tmp_path / "onnx", **{**SAID, "pooling": pooling})
    encoder, teacher = load_encoder(folder), load_teacher(folder)
    assert encoder.max_tokens == 6
    (before, after) = teacher.ends()
    for role, text in (("text", TEXT), ("query", f"ask: {TEXT}")):
        ids = teacher.bare_tokenizer.encode(text, add_special_tokens=False).ids
        states = teacher.forward(np.array([[*before, *ids[: 6 - len(before) - len(after)], *after]]))[0]
        expected = states[0] if pooling == "cls" else states.mean(axis=0)
        np.testing.assert_allclose(encoder.encode([TEXT], role)[0], expected / np.linalg.norm(expected), atol=1e-6)


@pytest.mark.parametrize("key", ["pooling", "max_tokens"])
def test_an_onnx_folder_whose_card_lacks_something(key: str, tmp_path: Path) -> None:
    folder = onnx_folder(tmp_path / "onnx", **{name: value for name, value in SAID.items() if name != key})
    with pytest.raises(ModelFileError, match=rf"teacher\.json lacks {key}\. Its pooling .* were expected\. Add them"):
        load_encoder(folder)


class Watched(Derived):
    """An encoder that notes what it is given."""

    def __init__(self, source: str) -> None:
        super().__init__(load_encoder(source))
        self.given: list[tuple[Role, str]] = []

    def encode(self, texts: Sequence[str], role: Role = "text") -> Vectors:
        self.given += [(role, text) for text in texts]
        return self.encoder.encode(texts, role)


def test_a_text_is_embedded_once_a_role() -> None:
    watched, nano = Watched("nano"), load_encoder("nano")
    once = Remembering(watched)
    for texts, role in ((["a", "b", "a"], "text"), (["b", "c"], "text"), (["a"], "query"), ([], "document")):
        np.testing.assert_array_equal(once.encode(texts, role), nano.encode(texts, role))
    assert watched.given == [("text", "a"), ("text", "b"), ("text", "c"), ("query", "a")]

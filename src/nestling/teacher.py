"""Teachers: pretrained encoders, seen as `token ids -> one vector a position`.

A teacher is a sentence-transformers folder or hub id (run by torch), or a folder with one ONNX graph and a
`teacher.json` that says what it is (run by onnxruntime). Nothing in a teacher's folder is executed.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from nestling.errors import MissingExtraError, ModelFileError
from nestling.files.hub import find_folder
from nestling.model.native import usable_cores
from nestling.safe import MAX_JSON_BYTES, read_bytes, read_json
from nestling.text.twin import parse_tokenizer

Vectors = npt.NDArray[np.float32]
CROSS_ENCODER = "a cross-encoder, which scores pairs and embeds nothing"


@dataclass(frozen=True)
class Teacher:
    """name and licence: for the lineage. tokenizer_json: its whole tokenizer. fingerprint: a hash of its files.

    forward: (n, length) int64 token ids -> (n, length, dim) float32 outputs of the last layer, one a position.
    pooling: "cls" or "mean", how outputs become its sentence vector. max_tokens: the longest text that it was made for.
    workers: threads that may call `forward` at once. tokens_a_batch: what it is fastest with.
    encoder: the whole SentenceTransformer, where torch runs the teacher. card: its teacher.json, as it stands.
    """

    name: str
    licence: str
    dim: int
    tokenizer_json: str
    fingerprint: str
    forward: Callable[[npt.NDArray[np.int64]], Vectors]
    pooling: str = "mean"
    max_tokens: int = 512
    workers: int = 1
    tokens_a_batch: int = 8192
    encoder: Any = None
    card: Mapping[str, Any] = field(default_factory=dict)

    @property
    def bare_tokenizer(self) -> Tokenizer:
        """Its tokenizer, which neither pads nor cuts. All callers share it: change nothing in it."""
        return _bare_tokenizer(self.tokenizer_json, self.name)

    def ends(self) -> tuple[list[int], list[int]]:
        """The special token ids that the teacher puts before and after a text."""
        bare = self.bare_tokenizer.encode("a", add_special_tokens=False).ids
        whole = self.bare_tokenizer.encode("a", add_special_tokens=True).ids
        for start in range(len(whole) - len(bare) + 1):
            if bare and whole[start : start + len(bare)] == bare:
                return whole[:start], whole[start + len(bare) :]
        raise ModelFileError(
            f"The tokenizer of teacher {self.name} changes a text when it adds special tokens.",
            "Special tokens only before and after the text were expected.",
            "Choose another teacher.",
        )


@lru_cache(maxsize=4)
def _bare_tokenizer(tokenizer_json: str, name: str) -> Tokenizer:
    tokenizer = parse_tokenizer(tokenizer_json, name)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def load_teacher(source: str, device: str = "cpu", revision: str | None = None) -> Teacher:
    """Load a teacher from a folder or a hub id. device: "cpu" or "cuda", for teachers that torch runs."""
    folder = find_folder(source, revision=revision)
    card = read_json(folder / "teacher.json") if (folder / "teacher.json").exists() else {}
    if not isinstance(card, dict):
        raise _refused(folder, "a teacher.json that is no JSON object")
    if "cross-encoder" in str(card.get("form", "")):
        raise _refused(folder, CROSS_ENCODER)
    graphs = sorted(folder.glob("*.onnx"))
    if len(graphs) == 1 and card:
        return _onnx_teacher(folder, graphs[0], card)
    if (folder / "config.json").exists() and (folder / "model.safetensors").exists():
        return _torch_teacher(folder, card, device, source)
    raise _refused(folder, "neither one .onnx graph with a teacher.json nor config.json with model.safetensors")


def _refused(folder: Path, what: str) -> ModelFileError:
    return ModelFileError(
        f"{folder} has {what}.",
        "A teacher is a sentence-transformers folder (safetensors) or an ONNX folder with teacher.json.",
        "Point --teacher at such a folder or at a hub id.",
    )


def _known_pooling(folder: Path, pooling: str) -> str:
    if pooling not in ("cls", "mean"):
        raise _refused(folder, f"a pooling {pooling!r}, which is neither cls nor mean")
    return pooling


def _known_length(folder: Path, tokens: object) -> int:
    if type(tokens) is not int or tokens < 1:
        raise _refused(folder, f"max_tokens {tokens!r}, which is no whole number above 0")
    return tokens


def _read_tokenizer(folder: Path) -> str:
    if not (folder / "tokenizer.json").exists():
        raise _refused(folder, "no tokenizer.json")
    return read_bytes(folder / "tokenizer.json", MAX_JSON_BYTES).decode("utf-8")


def _hash_files(folder: Path, *names: str) -> str:
    digest = hashlib.sha256()
    for name in names:
        digest.update(hashlib.sha256((folder / name).read_bytes()).digest())
    return digest.hexdigest()


def _onnx_teacher(folder: Path, graph: Path, card: dict[str, Any]) -> Teacher:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("onnxruntime", "onnx", f"The ONNX teacher {folder}") from error
    alone = onnxruntime.SessionOptions()
    alone.intra_op_num_threads = 1  # a third faster when each core has a batch of its own than with shared ones
    session = onnxruntime.InferenceSession(graph, alone, providers=["CPUExecutionProvider"])
    inputs = [entry.name for entry in session.get_inputs()]
    output = session.get_outputs()[0]
    known = {"input_ids", "attention_mask", "token_type_ids"}
    if len(output.shape) != 3 or not isinstance(output.shape[2], int) or not {"input_ids"} <= set(inputs) <= known:
        raise _refused(folder, f"a graph with output {output.name} {output.shape} and inputs {inputs}")

    def forward(ids: npt.NDArray[np.int64]) -> Vectors:
        given = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        (states,) = session.run([output.name], {name: given[name] for name in inputs})
        return np.asarray(states, dtype=np.float32)

    return Teacher(
        name=str(card.get("hub_id") or card.get("name") or folder.name),
        licence=str(card.get("licence", "unknown")),
        dim=output.shape[2],
        tokenizer_json=_read_tokenizer(folder),
        fingerprint=_hash_files(folder, graph.name, "tokenizer.json"),
        forward=forward,
        pooling=_known_pooling(folder, str(card.get("pooling", "mean"))),
        max_tokens=_known_length(folder, card.get("max_tokens", 512)),
        workers=usable_cores(),
        tokens_a_batch=512,
        card=card,
    )


def _torch_teacher(folder: Path, card: dict[str, Any], device: str, source: str) -> Teacher:
    try:
        import torch
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise MissingExtraError("sentence-transformers", "train", f"The teacher {folder}") from error
    tokenizer_json = _read_tokenizer(folder)
    if "ForSequenceClassification" in str(read_json(folder / "config.json").get("architectures")):
        raise _refused(folder, CROSS_ENCODER)
    encoder = SentenceTransformer(str(folder), device=device, local_files_only=True, trust_remote_code=False)
    encoder.eval()
    first = encoder[0]
    if type(first).__name__ != "Transformer":
        raise _refused(folder, f"a {type(first).__name__}, which gives no vector a position (a static model, say)")

    @torch.inference_mode()
    def forward(ids: npt.NDArray[np.int64]) -> Vectors:
        tokens = torch.from_numpy(ids).to(device)
        features = first({"input_ids": tokens, "attention_mask": torch.ones_like(tokens)})
        states: Vectors = features["token_embeddings"].float().cpu().numpy()
        return states

    return Teacher(
        name=str(card.get("hub_id") or source),
        licence=str(card.get("licence", "unknown")),
        dim=int(forward(np.zeros((1, 1), dtype=np.int64)).shape[2]),
        tokenizer_json=tokenizer_json,
        fingerprint=_hash_files(folder, "config.json", "model.safetensors", "tokenizer.json"),
        forward=forward,
        pooling=_torch_pooling(folder, encoder),
        max_tokens=int(encoder.max_seq_length or 512),
        encoder=encoder,
        card=card,
    )


def _torch_pooling(folder: Path, encoder: Any) -> str:
    """That of the module after the transformer; what comes after it but unit length would change its vectors."""
    others = [type(module).__name__ for module in list(encoder)[2:]]
    if others not in ([], ["Normalize"]):
        raise _refused(folder, f"the modules {', '.join(others)} after its pooling")
    return _known_pooling(folder, str(getattr(encoder[1], "pooling_mode", "mean"))) if len(encoder) > 1 else "mean"

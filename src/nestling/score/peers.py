"""What speed is measured beside: our own models, and other libraries as their users call them."""

import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from nestling.errors import InputError, MissingExtraError, ModelFileError
from nestling.model.load import load_static, shipped
from nestling.model.static import Layout
from nestling.score.encoders import WORDLLAMA, Own, load_encoder
from nestling.score.processes import HEAD, can_pin, cores, run
from nestling.text.tokenizer import TextTokenizer

LAYOUTS: dict[str, Layout] = {"model2vec": "model2vec", "tokie": "model2vec", "st-static": "sentence-transformers"}
# What runs in a peer's own process, as a user would write it: `place` and `threads` (None: as it comes) are given,
# `encode`, of a list of texts, is left behind.
PROGRAMS = {
    "nestling": """
import nestling
model = nestling.load(place)
def encode(texts): return model.encode(texts, threads=threads)
""",
    "load_encoder": """
from nestling.score.encoders import load_encoder
encode = load_encoder(place).encode
""",
    "model2vec": """
from model2vec import StaticModel
model = StaticModel.from_pretrained(place, max_length=None)
def encode(texts): return model.encode(texts, normalize=True, use_multiprocessing=threads != 1)
""",
    "st-static": """
from sentence_transformers import SentenceTransformer
model = SentenceTransformer(place, device="cpu", local_files_only=True)
def encode(texts): return model.encode(texts, batch_size=1024, normalize_embeddings=True, show_progress_bar=False)
""",
    "wordllama": """
from pathlib import Path
import wordllama
model = wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)
def encode(texts): return model.embed(texts, norm=True)
""",
    "tokie": """
import tokie
tokenizer = tokie.Tokenizer.from_json(place + "/tokenizer.json")
tokenizer.no_padding()
tokenizer.no_truncation()
def encode(texts): return tokenizer.encode_batch_flat(texts, add_special_tokens=False)[1]
""",
    "minilm-onnx": """
import json
from pathlib import Path
import numpy as np
import onnxruntime
from tokenizers import Tokenizer
card = json.loads((Path(place) / "teacher.json").read_text())
tokenizer = Tokenizer.from_file(place + "/tokenizer.json")
tokenizer.enable_truncation(card["max_tokens"])
tokenizer.enable_padding()
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = threads or 0
(graph,) = Path(place).glob("*.onnx")
session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
def encode(texts):
    order = sorted(range(len(texts)), key=lambda index: -len(texts[index]))
    batches = [order[start:start + 32] for start in range(0, len(order), 32)]
    rows = [None] * len(texts)
    for batch in batches:
        for index, row in zip(batch, forward([texts[index] for index in batch])):
            rows[index] = row
    return np.array(rows)
def forward(texts):
    found = tokenizer.encode_batch(texts)
    ids, mask = (np.array([getattr(one, what) for one in found]) for what in ("ids", "attention_mask"))
    given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    states = session.run(None, {entry.name: given[entry.name] for entry in session.get_inputs()})[0]
    mask = mask[..., None].astype(np.float32)
    means = states[:, 0] if card["pooling"] == "cls" else (states * mask).sum(1) / mask.sum(1)
    return means / np.linalg.norm(means, axis=1, keepdims=True)
""",
}
PROGRAMS["onnxruntime"] = PROGRAMS["nestling"].replace("load(place)", 'load(place, runtime="onnxruntime")')
PROGRAMS["minilm-int8"] = PROGRAMS["minilm-onnx"]
# Writes the graph of a sentence-transformers folder, which has none, to `target`.
EXPORT = """
import torch
from sentence_transformers import SentenceTransformer
class States(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = SentenceTransformer(place, device="cpu", local_files_only=True)[0].auto_model.eval()
    def forward(self, ids, mask): return self.inner(input_ids=ids, attention_mask=mask).last_hidden_state
names = ["input_ids", "attention_mask", "states"]
example = torch.ones((2, 16), dtype=torch.long)
axes = {name: {0: "texts", 1: "tokens"} for name in names}
torch.onnx.export(States(), (example, example), target, input_names=names[:2], output_names=names[2:],
                  dynamic_axes=axes, dynamo=False)
"""
# Writes a graph with int8 weights, whose products are in int8 too, as onnxruntime makes them.
QUANTIZE = """
import onnxruntime.quantization as onnx_int8
onnx_int8.quantize_dynamic(place, target, weight_type=onnx_int8.QuantType.QInt8)
"""
PACKAGES = {  # import name, name on PyPI, extra
    "model2vec": ("model2vec", "model2vec", "bench"),
    "st-static": ("sentence_transformers", "sentence-transformers", "train"),
    WORDLLAMA: ("wordllama", "wordllama", "bench"),
    "tokie": ("tokie", "tokie", "bench"),
    "minilm-onnx": ("onnxruntime", "onnxruntime", "onnx"),
    "minilm-int8": ("onnx", "onnx", "train"),
    "onnxruntime": ("onnxruntime", "onnxruntime", "onnx"),
}
NOTES = {
    "tokie": "token ids only, no vectors",
    "st-static": "batches of 1,024",
    "minilm-onnx": "batches of 32, sorted by length",
    "minilm-int8": "batches of 32, sorted by length, dynamic int8",
    "onnxruntime": "int8 in the file, float32 in memory",
}


@dataclass(frozen=True)
class Peer:
    """kind: one of PROGRAMS. place: what that loads. size: bytes of weights and tokenizer. max_tokens: longer texts are
    cut there; None for no limit."""

    name: str
    kind: str
    place: str
    size: int
    max_tokens: int | None = None
    notes: tuple[str, ...] = ()

    def program(self, threads: int | None) -> str:
        """Python code that leaves `encode`. threads: 1 keeps it on one core where the system can; None: as it comes."""
        pin = f"os.sched_setaffinity(0, {{{max(cores())}}})\n" if threads == 1 and can_pin() else ""
        return f"{HEAD}{pin}place, threads = {self.place!r}, {threads}{PROGRAMS[self.kind]}"


def make_peer(source: str, scratch: Path) -> Peer:
    """A peer from its source; what must be converted for it first is written to `scratch`."""
    kind, colon, place = source.partition(":")
    if source == WORDLLAMA:
        _need(WORDLLAMA)
        return Peer(source, WORDLLAMA, "", load_encoder(source).size)
    if colon and kind in PACKAGES and kind != WORDLLAMA:
        _need(kind)
        return _library_peer(kind, place, scratch)
    if colon and not Path(source).exists():
        known = ", ".join(f"{kind}:FOLDER" for kind in PACKAGES if kind != WORDLLAMA)
        raise InputError(
            f"{source} is no peer that is known.",
            f"Peers are models that nestling loads, {known} and {WORDLLAMA}.",
            "Choose one of them.",
        )
    path = Path(source).expanduser()
    place, encoder = str(path) if path.exists() else source, load_encoder(source)
    own = isinstance(encoder, Own)
    notes = () if own else (f"{encoder.kind}, as nestling score runs it",)
    return Peer(
        path.stem if path.is_file() else path.name,
        "nestling" if own else "load_encoder",
        place,
        encoder.size,
        encoder.max_tokens,
        notes,
    )


def _library_peer(kind: str, place: str, scratch: Path) -> Peer:
    """A peer that its own library runs, from a folder, or from a shipped model saved in that library's layout."""
    if kind == "onnxruntime":
        own = load_encoder(place)
        return Peer(f"{kind}:{own.name}", kind, place, own.size, own.max_tokens, (NOTES[kind],))
    folder = Path(place).expanduser()
    if kind in LAYOUTS and (place in shipped() or folder.suffix == ".nest"):
        folder = scratch / kind / folder.stem
        folder.parent.mkdir(exist_ok=True)
        load_static(place).with_pooling("mean").save(folder, layout=LAYOUTS[kind])
    if not any(folder.rglob("tokenizer.json")):
        raise InputError(
            f"{kind}:{place} names no model.", "A folder with a tokenizer.json was expected.", "Check the path."
        )
    name, notes, limit = f"{kind}:{folder.name}", [NOTES[kind]] if kind in NOTES else [], None
    if kind in ("minilm-onnx", "minilm-int8"):
        folder = _with_graph(folder, scratch)
        folder = folder if kind == "minilm-onnx" else _in_int8(folder, scratch)
        limit = load_encoder(str(folder)).max_tokens
    wanted = ["tokenizer.json"] if kind == "tokie" else ["tokenizer.json", "*.safetensors", "*.onnx"]
    size = sum(file.stat().st_size for pattern in wanted for file in folder.rglob(pattern))
    return Peer(name, kind, str(folder), size, limit, tuple(notes))


def _with_graph(folder: Path, scratch: Path) -> Path:
    """The folder if it has an ONNX graph, else a copy with the float32 graph of its sentence-transformers model."""
    if any(folder.glob("*.onnx")) and (folder / "teacher.json").exists():
        return folder
    return _converted(folder, folder, EXPORT, scratch / "onnx", f"minilm-onnx:{folder.name}")


def _in_int8(folder: Path, scratch: Path) -> Path:
    """A copy of an ONNX folder, its graph in dynamic int8."""
    (graph,) = folder.glob("*.onnx")
    return _converted(folder, graph, QUANTIZE, scratch / "int8", f"minilm-int8:{folder.name}")


def _converted(folder: Path, place: Path, program: str, scratch: Path, name: str) -> Path:
    """A copy of a folder without its weights, with the graph that a program makes of what lies at `place`."""
    target = scratch / folder.name
    if target.exists():  # for another peer of this run
        return target
    target.mkdir(parents=True)
    try:
        for file in ("tokenizer.json", "teacher.json"):
            shutil.copy(folder / file, target)
    except FileNotFoundError as error:
        raise ModelFileError(
            f"{folder} has no {file}.",
            "An ONNX or sentence-transformers folder with a teacher.json was expected.",
            "Write one with max_tokens and pooling (cls or mean).",
        ) from error
    run(f"place, target = {str(place)!r}, {str(target / 'model.onnx')!r}{program}", name, None)
    return target


def tokenizer_of(peer: Peer) -> TextTokenizer:
    if peer.kind in ("nestling", "onnxruntime", WORDLLAMA):
        encoder = load_encoder(peer.place or peer.kind)
        assert isinstance(encoder, Own)
        return encoder.model.tokenizer
    return TextTokenizer(next(Path(peer.place).rglob("tokenizer.json")).read_text(encoding="utf-8"), peer.name)


def _need(kind: str) -> None:
    module, package, extra = PACKAGES[kind]
    if find_spec(module) is None:
        raise MissingExtraError(package, extra, f"The peer {kind}")

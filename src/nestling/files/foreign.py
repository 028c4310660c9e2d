"""The layouts of other libraries: model2vec's folder, and sentence-transformers' StaticEmbedding.

Both are a safetensors table beside a tokenizer.json. Only JSON and safetensors are read; code and pickles that lie in
a folder are never touched, and are named when nothing else is there to load.
"""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nestling.errors import ModelFileError
from nestling.files.card import card
from nestling.files.parts import MAX_DIM, Document, Parts, document_from_json, document_to_json
from nestling.safe import (
    DAMAGED,
    MAX_JSON_BYTES,
    check_target,
    read_bytes,
    read_json,
    read_tensors,
    write_tensors,
    write_text,
)
from nestling.text.packed import PackedTokenizer
from nestling.text.plan import check_plan, dump_plan

Array = npt.NDArray[Any]
NEVER_RUN = (".py", ".pkl", ".pickle", ".bin", ".pt", ".pth", ".joblib", ".skops", ".ckpt", ".h5")
PROMPTS = "config_sentence_transformers.json"
OURS = "nestling"  # key of config.json, for what their layouts have no place for
KEPT = ("dims", "name", "description", "licence", "lineage", "recipe", "scores", "canaries")
GRAPH = "model.onnx"
ONNX_USE = """## How to use it

`model.onnx` takes `input_ids` and `attention_mask`, int64 (texts, tokens), padded on the right, and gives
`sentence_embedding`, float32 (texts, dims) of unit length. Ids are those of `tokenizer.json`, without special tokens.
Where a text has a task, the task's id goes before them: `config.json` has these ids as `task_tokens`, and as `routes`
the tasks of what asks (`query`), of what is searched (`document`) and of any other `text`."""
STATIC_MODULES = ("StaticEmbedding", "Normalize")


def read_folder(folder: Path) -> Parts:
    """Read a model2vec or sentence-transformers StaticEmbedding folder. Raises ModelFileError for any other."""
    config = _object(folder / "config.json")
    home = _static_module(folder) if config.get("model_type") != "model2vec" else folder
    if not ((home / "model.safetensors").exists() and (home / "tokenizer.json").exists()):
        raise _unknown(folder, "has no model.safetensors beside a tokenizer.json")
    tensors = read_tensors(home / "model.safetensors")
    text = read_bytes(home / "tokenizer.json", MAX_JSON_BYTES).decode("utf-8", "surrogateescape")
    plan = check_plan(text, folder.name)
    is_model2vec = "embeddings" in tensors
    try:
        scheme, table = _table(tensors)
        dim = next(iter(table.values())).shape[1]
        about = {
            "dims": [dim],
            "name": folder.resolve().name,
            "licence": _stated_licence(folder / "README.md"),
            **_kept(config),
            "scheme": scheme,
            "dim": dim,
            "drop": _unknown_id(plan) if is_model2vec else [],
            "max_tokens": config.get("max_length") if is_model2vec else _truncation(plan),
            "prompts": _prompts(folder),
        }
        document = document_from_json(about)
    except (ValueError, TypeError) as error:
        raise ModelFileError(
            f"{folder}: {error}.", "A model2vec or StaticEmbedding folder was expected.", DAMAGED
        ) from error
    return Parts(document, table, PackedTokenizer.of(plan, document.name))


def _kept(config: dict[str, Any]) -> dict[str, Any]:
    """What we wrote beside their own keys; checked as a part of the whole document."""
    kept = config.get(OURS, {})
    if not isinstance(kept, dict) or set(kept) - set(KEPT):
        raise ValueError(f"{OURS} in config.json is no object of {', '.join(KEPT)}")
    return kept


def _keep(document: Document) -> dict[str, Any]:
    plain = document_to_json(document)
    return {OURS: {key: plain[key] for key in KEPT}}


def _object(path: Path) -> dict[str, Any]:
    value = read_json(path) if path.exists() else {}
    if not isinstance(value, dict):
        raise ModelFileError(f"{path} holds no JSON object.", "One was expected.", DAMAGED)
    return value


def _unknown(folder: Path, why: str) -> ModelFileError:
    if (folder / GRAPH).exists() and OURS in _object(folder / "config.json"):
        return ModelFileError(
            f"{folder} is a model of nestling written as ONNX, for other runtimes.",
            "The .nest file that it was written from was expected.",
            "Load that one.",
        )
    near = [*folder.glob("*"), *folder.glob("*/*")]
    unsafe = sorted(path.name for path in near if path.suffix in NEVER_RUN)[:5]
    note = f" It holds {', '.join(unsafe)}, which nestling never runs or unpickles." if unsafe else ""
    return ModelFileError(
        f"{folder} {why}.{note}",
        "A .nest file, or a model2vec or StaticEmbedding folder with safetensors, was expected.",
        "Save the model with safetensors, or make a static one from it: nestling make --help",
    )


def _static_module(folder: Path) -> Path:
    """Where modules.json says that the StaticEmbedding lies; the folder itself without a modules.json."""
    if not (folder / "modules.json").exists():
        return folder
    modules = read_json(folder / "modules.json")
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise ModelFileError(f"{folder / 'modules.json'} is no list of modules.", "One was expected.", DAMAGED)
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in modules]
    others = [kind for kind in kinds if kind not in STATIC_MODULES]
    if others or kinds[:1] != ["StaticEmbedding"]:
        raise _unknown(folder, f"has modules {', '.join(kinds)}, not a StaticEmbedding alone")
    place = str(modules[0].get("path", ""))
    try:
        home = (folder / place).resolve(strict=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise _unknown(folder, f"points to {place[:60]!r}, which cannot be opened") from error
    if not home.is_relative_to(folder.resolve()):
        raise _unknown(folder, f"points outside itself, to {home}")
    return home


def _table(tensors: Mapping[str, Array]) -> tuple[str, dict[str, Array]]:
    """Their tensors -> our scheme and tensors. float64 becomes float32; int8, whose one scale is not stored, gets 1."""
    rows = tensors.get("embeddings", tensors.get("embedding.weight"))
    if rows is None or rows.ndim != 2 or not 0 < rows.shape[1] <= MAX_DIM:
        raise ValueError(f"no 2-d tensor `embeddings` or `embedding.weight` among {', '.join(tensors) or 'none'}")
    if rows.dtype.kind == "f":
        table = {"rows": rows if rows.dtype.itemsize < 8 else rows.astype(np.float32)}
    elif rows.dtype == np.int8:
        table = {"rows": rows, "scales": np.ones(len(rows), np.float16)}
    else:
        raise ValueError(f"a table of dtype {rows.dtype}; read are float64, float32, float16 and int8")
    if "weights" in tensors:
        table["weights"] = tensors["weights"].astype(np.float32)
    if "mapping" not in tensors:
        return "int8" if "scales" in table else "float", table
    mapping = tensors["mapping"]
    if mapping.dtype.kind not in "iu" or (
        mapping.size and not 0 <= int(mapping.min()) <= int(mapping.max()) < len(rows)
    ):
        raise ValueError(f"mapping does not point into the {len(rows)} rows")
    return "centroids", {**table, "mapping": mapping.astype(np.uint16 if len(rows) <= 2**16 else np.int32)}


def _unknown_id(plan: dict[str, Any]) -> list[int]:
    model = plan["model"]
    if model["type"] == "Unigram":
        return [] if model.get("unk_id") is None else [model["unk_id"]]
    ids = {**{token["content"]: token["id"] for token in plan.get("added_tokens") or []}, **model["vocab"]}
    token = model.get("unk_token")
    return [ids[token]] if isinstance(token, str) and token in ids else []


def _truncation(plan: dict[str, Any]) -> int | None:
    """The longest text of a StaticEmbedding: what its tokenizer cuts at, if it cuts."""
    cut = plan.get("truncation")
    return cut.get("max_length") if isinstance(cut, dict) else None


def _prompts(folder: Path) -> dict[str, str]:
    config = _object(folder / PROMPTS)
    if config.get("default_prompt_name"):
        raise ValueError("default_prompt_name is set, which nestling does not apply; remove it and pass task=")
    prompts = config.get("prompts") or {}
    if not isinstance(prompts, dict) or any(not isinstance(prompt, str) for prompt in prompts.values()):
        raise ValueError("prompts is no object of strings")
    return {task: prompt for task, prompt in prompts.items() if prompt}


def _stated_licence(readme: Path) -> str:
    """The `license:` of the README's front matter, which is how the hub states it."""
    text = read_bytes(readme, 10_000_000).decode("utf-8", "replace") if readme.exists() else ""
    found = re.search(r"\A---\n(?:(?!---).*\n)*?license:[ \t]*['\"]?([\w.+-]+)", text)
    return found.group(1) if found else "unknown"


def write_model2vec(folder: Path, parts: Parts, rows: Array, extra: dict[str, Array]) -> None:
    """Write model2vec's layout. rows: (n or k, dim) float32; extra: `weights`, `mapping` with centroids."""
    document = parts.document
    config: dict[str, Any] = {
        "model_type": "model2vec",
        "architectures": ["StaticModel"],
        "tokenizer_name": document.name,
        "hidden_dim": document.dim,
        "seq_length": 1_000_000,
        "normalize": True,
        "max_length": document.max_tokens,
        "embedding_dtype": "float32",
        **_keep(document),
    }
    if "mapping" not in extra and len(rows) != _count_pieces(parts.tokenizer.plan):
        extra = {"mapping": np.arange(len(rows), dtype=np.int32)}  # without one, ids must have no holes
    if "mapping" in extra:
        config["vocabulary_quantization"] = len(rows)
    files = {"config.json": config, "modules.json": _modules("."), PROMPTS: _prompts_config(document)}
    _write_folder(folder, parts, {"model.safetensors": {"embeddings": rows, **extra}}, files)


def _count_pieces(plan: dict[str, Any]) -> int:
    vocabulary = plan["model"]["vocab"]
    pieces = {entry[0] for entry in vocabulary} if isinstance(vocabulary, list) else set(vocabulary)
    return len(pieces | {token["content"] for token in plan.get("added_tokens") or []})


def write_sentence_transformers(folder: Path, parts: Parts, rows: Array) -> None:
    """Write sentence-transformers' layout. rows: (n, dim) float32, the weights folded in."""
    home = "0_StaticEmbedding"
    document = parts.document
    files = {"config.json": _keep(document), "modules.json": _modules(home), PROMPTS: _prompts_config(document)}
    _write_folder(folder, parts, {f"{home}/model.safetensors": {"embedding.weight": rows}}, files, tokenizer_in=home)


def write_sentence_transformers_module(folder: Path, document: Document, save: Callable[[Path], None]) -> None:
    """Write a folder of a .nest file, which `save` writes, for sentence-transformers: its only module is ours."""
    module = {"idx": 0, "name": "0", "path": "", "type": "nestling.sentence_transformers.Nestling"}
    files = {"modules.json": [module], PROMPTS: _prompts_config(document)}

    def fill(building: Path) -> None:
        save(building / "model.nest")
        _write_json(building, files)
        write_text(building / "README.md", card(document))

    _write_whole(folder, fill)


def prompts_of(document: Document) -> dict[str, str]:
    """Prompts as sentence-transformers has them; "[qry] " stands for the task of that name, where it is a token."""
    routed = {**{task: task for task in document.task_tokens}, **document.routes}
    tasks = {role: task for role, task in routed.items() if task in document.task_tokens}
    return {**document.prompts, **{role: task_prompt(task) for role, task in tasks.items()}}


def task_prompt(task: str) -> str:
    """What stands for the token of a task where only prompts are known."""
    return f"[{task}] "


def _prompts_config(document: Document) -> dict[str, Any]:
    return {
        "model_type": "SentenceTransformer",
        "prompts": prompts_of(document),
        "default_prompt_name": None,
        "similarity_fn_name": "cosine",
    }


def _modules(home: str) -> list[dict[str, Any]]:
    kind = "sentence_transformers.models."
    return [
        {"idx": 0, "name": "0", "path": home, "type": kind + "StaticEmbedding"},
        {"idx": 1, "name": "1", "path": "1_Normalize", "type": kind + "Normalize"},
    ]


def write_onnx(folder: Path, parts: Parts, graph: bytes) -> None:
    """Write a folder of an ONNX file (whole_graph.py), the tokenizer that it stands behind, and how to use them."""
    document = parts.document
    tasks = {"max_tokens": document.max_tokens, "task_tokens": document.task_tokens, "routes": document.routes}

    def fill(building: Path) -> None:
        (building / GRAPH).write_bytes(graph)
        _write_json(building, {"config.json": {OURS: {**_keep(document)[OURS], **tasks}}})
        write_text(building / "tokenizer.json", dump_plan(_cut_at_limit(parts)))
        write_text(building / "README.md", f"{card(document)}\n{ONNX_USE}\n")

    _write_whole(folder, fill)


def _write_folder(
    folder: Path, parts: Parts, tensors: dict[str, dict[str, Array]], files: dict[str, Any], tokenizer_in: str = "."
) -> None:
    def fill(building: Path) -> None:
        for name, table in tensors.items():
            (building / name).parent.mkdir(exist_ok=True)
            write_tensors(building / name, table)
        _write_json(building, files)
        write_text(building / tokenizer_in / "tokenizer.json", dump_plan(_cut_at_limit(parts)))
        write_text(building / "README.md", card(parts.document))
        (building / "1_Normalize").mkdir()

    _write_whole(folder, fill)


def _write_json(folder: Path, files: dict[str, Any]) -> None:
    for name, content in files.items():
        write_text(folder / name, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _write_whole(folder: Path, fill: Callable[[Path], None]) -> None:
    """Build the folder beside its place and rename it there whole."""
    check_target(folder, folder=True)
    folder = Path(os.path.realpath(folder))  # of a link, what it leads to
    folder.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        building.chmod(0o755)
        fill(building)
        if folder.exists():
            folder.rmdir()
        building.rename(folder)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise


def _cut_at_limit(parts: Parts) -> dict[str, Any]:
    """The plan with the model's limit, less a task's token, as its truncation, where sentence-transformers looks."""
    most = parts.document.max_tokens
    room = most and most - bool(parts.document.task_tokens)
    cut = {"direction": "Right", "max_length": room, "strategy": "LongestFirst", "stride": 0}
    return {**parts.tokenizer.plan, "truncation": cut if room else None}

"""The full card of a model, for a hub: front matter with a model-index, what it is, its scores, how to make it again.

Everything comes from the model's own document and from result files; nothing is typed by hand.
"""

import json
from collections.abc import Sequence
from typing import Any

from nestling.files.parts import Document
from nestling.model.common import Model
from nestling.model.load import shipped
from nestling.score.results import Line, Results, averages

TYPES = {
    "STS": "semantic-similarity",
    "Classification": "text-classification",
    "Retrieval": "text-retrieval",
    "Reranking": "text-ranking",
    "Clustering": "text-clustering",
    "PairClassification": "text-classification",
    "Summarization": "summarization",
    "BitextMining": "translation",
}


def full_card(model: Model, size: int, results: Results | None, tiers: Sequence[Results] = ()) -> str:
    """Markdown. size: bytes of the file. results: of the full model; tiers: of the same tasks at fewer dims."""
    document = model.document
    parts = [
        _front_matter(document, results),
        f"# {document.name}\n\n{document.description}",
        _use(document),
        _facts(model, size),
        *([_scores(results, tiers)] if results else []),
        _made(document),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(document: Document, results: Results | None) -> str:
    """YAML, in which JSON is valid, so that every string is quoted right."""
    entries: dict[str, Any] = {
        "license": document.licence.lower(),
        "library_name": "nestling",
        "pipeline_tag": "sentence-similarity",
        "tags": ["embeddings", document.architecture, "sentence-similarity", *(["mteb"] if results else [])],
        "base_model": [source.name for source in document.lineage if source.role == "teacher"],
    }
    if results:
        entries["model-index"] = [{"name": document.name, "results": [_index(line) for line in results.lines.values()]}]
    return "\n".join(
        ["---", *(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in entries.items()), "---"]
    )


def _index(line: Line) -> dict[str, Any]:
    return {
        "task": {"type": TYPES.get(line.type, line.type)},
        "dataset": {"type": f"mteb/{line.task}", "name": line.name},
        "metrics": [{"type": line.metric, "value": round(100 * line.score, 2)}],
    }


def _use(document: Document) -> str:
    called = document.name if document.name in shipped() else f"{document.name}.nest"
    code = f'import nestling\n\nmodel = nestling.load("{called}")\nvectors = model.encode(["a text"])'
    if document.routes:
        code += '\nqueries, documents = model.encode_query(["a question"]), model.encode_document(["what answers it"])'
    return f"```python\n{code}\n```"


def _facts(model: Model, size: int) -> str:
    document = model.document
    limit = "no limit" if document.max_tokens is None else f"{document.max_tokens:,} tokens"
    rows = [
        ["size", f"{size:,} bytes, tokenizer included"],
        ["rows", f"{model.table.size:,} tokens x {document.dim}, {document.scheme}"],
        ["dims", ", ".join(map(str, document.dims))],
        ["longest text", limit],
        ["tokenizer", str(model.tokenizer.json["model"]["type"])],
        ["fingerprint", model.fingerprint],
    ]
    return "## What it is\n\n" + table(["", ""], rows)


def _scores(results: Results, tiers: Sequence[Results]) -> str:
    """A column a tier; both means below."""
    every = [results, *tiers]
    head = ["task", "metric", *(_dims(each) for each in every)]
    rows = [
        [name, line.metric, *(f"{100 * each.lines[name].score:.2f}" for each in every)]
        for name, line in sorted(results.lines.items())
    ]
    means = [averages(each.lines.values()) for each in every]
    counts = ", ".join(f"{kind} {count}" for kind, (_, count) in means[0].by_type.items())
    rows.append([f"**mean(task)**, {means[0].tasks} tasks", "", *(f"{100 * mean.mean_task:.2f}" for mean in means)])
    rows.append([f"**mean(type)**: {counts}", "", *(f"{100 * mean.mean_type:.2f}" for mean in means)])
    return "## Scores\n\nx 100, by mteb's metrics, with `nestling score`.\n\n" + table(head, rows)


def _dims(results: Results) -> str:
    return f"{results.dim} dims" if results.dim else results.name


def _made(document: Document) -> str:
    lines = [f"- {source.role}: {source.name}, {source.licence}" for source in document.lineage] or ["- unknown"]
    if document.recipe:
        lines.append(f"- recipe: sha256 {document.recipe}; `nestling make` makes it again")
    return "\n".join([f"## What it was made from\n\nLicence: {document.licence}.\n", *lines])


def table(head: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """A table in Markdown."""
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in [head, ["---"] * len(head), *rows])

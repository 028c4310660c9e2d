"""What is in a model: the facts that `nestling info` and `nestling models` print."""

from typing import Any

from nestling.files.nest import read_document
from nestling.files.parts import document_to_json
from nestling.model.load import shipped
from nestling.model.static import StaticModel

LEAST_COSINE = 0.9999


def describe(model: StaticModel, *, verify: bool = False) -> dict[str, Any]:
    """Facts of a model as plain JSON values. verify: embed the canary texts and compare with the stored vectors."""
    facts = document_to_json(model.document)
    del facts["drop"], facts["canaries"]
    facts["tokens"] = model.table.size
    facts["tokenizer"] = model.tokenizer.json["model"]["type"]
    facts["bytes"] = {name: int(tensor.nbytes) for name, tensor in sorted(model.table.tensors().items())}
    facts["fingerprint"] = model.fingerprint
    if verify:
        checks = model.verify()
        facts["verified"] = [{**vars(check), "cosine": round(check.cosine, 6)} for check in checks]
    return facts


def failed(facts: dict[str, Any]) -> bool:
    """Whether a canary text no longer gives its vector, or there is none to check."""
    checks = facts["verified"]
    return not checks or any(check["cosine"] < LEAST_COSINE for check in checks)


def describe_as_text(facts: dict[str, Any]) -> str:
    """The same facts for people."""
    limit = "no limit" if facts["max_tokens"] is None else f"{facts['max_tokens']:,} tokens"
    lines = [
        f"{facts['name']}: {facts['description']}".rstrip(": "),
        f"rows         {facts['tokens']:,} x {facts['dim']}, {facts['scheme']}; {facts['tokenizer']} tokenizer",
        f"tiers        {', '.join(map(str, facts['dims']))}",
        f"longest text {limit}",
        f"tasks        {', '.join(facts['prompts']) or 'none'}",
        f"licence      {facts['licence']}",
        *(f"{source['role']:12} {source['name']} ({source['licence']})" for source in facts["lineage"]),
        *(f"{name:12} {size:,} bytes" for name, size in facts["bytes"].items()),
        *(f"score        {task}: " + _by_dim(by_dim) for task, by_dim in facts["scores"].items()),
        f"fingerprint  {facts['fingerprint']}",
    ]
    for check in facts.get("verified", ()):
        lines.append(f"canary       cosine {check['cosine']:.6f}, largest difference {check['largest_difference']:.1e}")
    return "\n".join(lines)


def _by_dim(scores: dict[str, float]) -> str:
    return ", ".join(f"{score:.4f} at {dim} dims" for dim, score in scores.items())


def shipped_models() -> list[dict[str, Any]]:
    """Name, size in bytes, dims, licence and description of each shipped model."""
    listed = []
    for name, path in shipped().items():
        document, _ = read_document(path)
        facts = {"dims": list(document.dims), "licence": document.licence, "description": document.description}
        listed.append({"name": name, "size": path.stat().st_size, **facts, "scores": document.scores})
    return listed

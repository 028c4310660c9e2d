"""What is in a model: the facts that `nestling info` and `nestling models` print."""

from typing import Any

from nestling.files.nest import read_document
from nestling.files.parts import document_to_json
from nestling.model.common import Model
from nestling.model.load import shipped

LEAST_COSINE = 0.9999


def describe(model: Model, *, size: int | None = None, verify: bool = False) -> dict[str, Any]:
    """Facts of a model as plain JSON values.

    size: bytes of its file, if it is one. verify: embed the canary texts and compare with the stored vectors.
    """
    facts = document_to_json(model.document)
    del facts["drop"], facts["canaries"]
    if size is not None:
        facts["size"] = size
    facts["tokens"] = model.table.size
    facts["tokenizer"] = model.tokenizer.packed.frame["model"]["type"]
    facts["tasks"] = list(model.tasks)
    table = model.table.tensors()
    facts["bytes"] = {name: int(tensor.nbytes) for name, tensor in sorted(table.items())}
    beside = sum(tensor.nbytes for name, tensor in model.parts().tensors.items() if name not in table)
    if beside:
        facts["bytes"]["blocks"] = beside
    facts["bytes"]["tokenizer"] = sum(tensor.nbytes for tensor in model.tokenizer.packed.tensors.values())
    facts["backend"] = model.backend
    facts["fingerprint"] = model.fingerprint
    if verify:
        checks = model.verify()
        facts["verified"] = [{**vars(check), "cosine": round(check.cosine, 6)} for check in checks]
    return facts


def why_unverified(facts: dict[str, Any]) -> str | None:
    """What `verify` has against a model; None if every canary text gives its vector."""
    checks, name = facts["verified"], printable(facts["name"])
    if not checks:
        return f"{name} carries no canary texts, so it cannot be verified."
    if any(check["cosine"] < LEAST_COSINE for check in checks):
        return f"{name} does not give the vectors that it was saved with on this machine."
    return None


def printable(text: str) -> str:
    """The text with an escape for all that could move a terminal's cursor or hide what is there."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def describe_as_text(facts: dict[str, Any]) -> str:
    """The same facts for people."""
    limit = "no limit" if facts["max_tokens"] is None else f"{facts['max_tokens']:,} tokens"
    rows = f"{facts['tokens']:,} x {facts.get('inner', facts['dim'])}, {facts['scheme']}"
    lines = [
        f"{facts['name']}: {facts['description']}".rstrip(": "),
        f"rows         {rows}; {facts['tokenizer']} tokenizer",
        f"tiers        {', '.join(map(str, facts['dims']))}",
        f"longest text {limit}",
        f"tasks        {', '.join(facts['tasks']) or 'none'}",
        *(f"{role:12} task {task} by default" for role, task in facts.get("routes", {}).items()),
        f"licence      {facts['licence']}",
        *(f"{source['role']:12} {source['name']} ({source['licence']})" for source in facts["lineage"]),
        *([f"size         {facts['size']:,} bytes"] if "size" in facts else []),
        *(f"{name:12} {size:,} bytes" for name, size in facts["bytes"].items()),
        *(f"score        {task}: " + _by_dim(by_dim) for task, by_dim in facts["scores"].items()),
        f"fingerprint  {facts['fingerprint']}",
        f"backend      {facts['backend']}",
    ]
    for check in facts.get("verified", ()):
        lines.append(f"canary       cosine {check['cosine']:.6f}, largest difference {check['largest_difference']:.1e}")
    return "\n".join(map(printable, lines))


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

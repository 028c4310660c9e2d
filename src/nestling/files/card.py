"""The model card: what a document says, as Markdown with the hub's front matter. Nothing in it is typed by hand."""

from nestling.files.parts import Document


def card(document: Document, size: int | None = None) -> str:
    """Markdown for a README.md. size: bytes of the .nest file, if it is one."""
    front = [
        "---",
        f"license: {document.licence.lower()}",
        "library_name: nestling",
        f"tags: [embeddings, {document.architecture}]",
        "---",
    ]
    limit = "no limit" if document.max_tokens is None else f"{document.max_tokens:,} tokens"
    facts = [
        f"- rows: {document.scheme}, {document.dim} dims; tiers {', '.join(map(str, document.dims))}",
        f"- longest text: {limit}",
        *([f"- size: {size:,} bytes, tokenizer included"] if size is not None else []),
        f"- licence: {document.licence}",
        *(f"- {source.role}: {source.name} ({source.licence})" for source in document.lineage),
        *([f"- recipe: sha256 {document.recipe}"] if document.recipe else []),
    ]
    return "\n".join([*front, f"# {document.name}", "", document.description, "", *facts, *_scores(document)]) + "\n"


def _scores(document: Document) -> list[str]:
    if not document.scores:
        return []
    tiers = [str(tier) for tier in document.dims]
    head = ["", "| task | " + " | ".join(f"{tier} dims" for tier in tiers) + " |", "|---" * (len(tiers) + 1) + "|"]
    rows = [
        f"| {task} | " + " | ".join(f"{by_dim[tier]:.4f}" if tier in by_dim else "" for tier in tiers) + " |"
        for task, by_dim in document.scores.items()
    ]
    return [*head, *rows]

"""Twenty natural questions over the documents in --data, written down before there was a search.

    python benchmarks/questions.py [--data DIR]

A question counts as answered if the first passage is from the expected file and holds the expected words
(tests/samples/questions.jsonl). What `nestling search` ranks by stands beside its two halves and, where nano's teacher
is in the cache, beside the teacher's own vectors on the same passages: how far a better model alone would go. Writes
benchmarks/results/questions.json.
"""

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

import nestling
from nestling.make.recipe import cache_folder, data_folder
from nestling.score.encoders import embed_once
from nestling.search.chunk import passages
from nestling.search.decode import Unreadable
from nestling.search.model import Embedder, Vectors
from nestling.search.rank import rank
from nestling.search.read import read
from nestling.search.results import Passage
from nestling.search.walk import walk
from nestling.search.words import Wording
from nestling.teacher import load_teacher

HERE = Path(__file__).parent
QUESTIONS = HERE.parent / "tests" / "samples" / "questions.jsonl"
QUERY_PROMPT = "Represent this sentence for searching relevant passages: "


class Remembering:
    """A model that embeds each passage once, for all questions."""

    def __init__(self, encode_query: Callable[[str], Vectors], encode: Callable[[Sequence[str]], Vectors]) -> None:
        self.encode_query, self.encode = encode_query, encode
        self.met: dict[str, Vectors] = {}

    def encode_document(self, texts: Sequence[str], *, titles: Sequence[str] | None = None) -> Vectors:
        whole = [f"{title}\n{text}" for title, text in zip(titles or [""] * len(texts), texts, strict=True)]
        return embed_once(whole, self.met, self.encode)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=data_folder())
    data = parser.parse_args().data
    asked = [json.loads(line) for line in QUESTIONS.read_text(encoding="utf-8").splitlines()]
    found = [passage for path in walk([data]) if isinstance(path, Path) for passage in passages_of(path)]
    nano = nestling.load("nano")
    models: dict[str, Embedder] = {"nano": nano}
    teacher = cache_folder() / "teachers" / "bge-small"
    if teacher.exists():
        models["its teacher, bge-small (33 M parameters)"] = remembering_teacher(teacher)
    rankings, answers = [], []
    for name, model in models.items():
        for what, share in (("cosine", 1.0), ("cosine and words", 0.5), ("words", 0.0)):
            ranks = [place(question, data, found, model, share) for question in asked]
            rankings.append({"ranking": f"{name}: {what}" if share else "words alone (BM25)", **summary(ranks)})
            if model is nano and share == 0.5:
                answers = [{"question": q["question"], "rank": rank} for q, rank in zip(asked, ranks, strict=True)]
    unique = {entry["ranking"]: entry for entry in rankings}
    result = {
        "command": "python benchmarks/questions.py",
        "fingerprint": nano.fingerprint,
        "passages": len(found),
        "asked": len(asked),
        "rankings": list(unique.values()),
        "nano: cosine and words": answers,
    }
    (HERE / "results" / "questions.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    for entry in unique.values():
        print(f"{entry['first']:>2} first, {entry['in the first five']:>2} in the first five: {entry['ranking']}")


def passages_of(path: Path) -> Iterable[Passage]:
    """What search would look through; it leaves out what is no text."""
    with suppress(Unreadable):
        yield from passages(str(path), read(path))


def place(question: dict[str, str], data: Path, found: list[Passage], model: Embedder, share: float) -> int:
    """The rank of the expected passage, from 1. share: of the cosine in the score; the rest is the words'."""
    wording, query = Wording(question["question"]), model.encode_query(question["question"])
    ranked = rank(found, query, wording, model, top=len(found))
    ranked.sort(key=lambda one: -(share * one.cosine + (1 - share) * one.words))
    expected = str(data / question["path"])
    holding = {(one.path, one.line) for one in found if one.path == expected and question["contains"] in one.text}
    return next(rank for rank, one in enumerate(ranked, 1) if (one.path, one.line) in holding)


def summary(ranks: list[int]) -> dict[str, int]:
    return {"first": sum(rank == 1 for rank in ranks), "in the first five": sum(rank <= 5 for rank in ranks)}


def remembering_teacher(folder: Path) -> Remembering:
    """The teacher as a whole: the vector of [CLS], of at most 512 tokens, as it was trained."""
    teacher = load_teacher(str(folder))
    tokenizer = Tokenizer.from_str(teacher.tokenizer_json)
    tokenizer.no_padding()
    tokenizer.enable_truncation(512)

    def encode(texts: Sequence[str]) -> Vectors:
        ids = [np.array([tokenizer.encode(text).ids], np.int64) for text in texts]
        first = np.stack([teacher.forward(one)[0, 0] for one in ids])
        return (first / np.linalg.norm(first, axis=1, keepdims=True)).astype(np.float32)

    return Remembering(lambda text: encode([QUERY_PROMPT + text])[0], encode)


if __name__ == "__main__":
    main()

"""Twenty natural questions over the documents in --data, written down before there was a search.

    python benchmarks/questions.py [--data DIR]

A question counts as answered if the first passage is from the expected file and holds the expected words
(tests/samples/questions.jsonl). Writes benchmarks/results/questions.json.
"""

import argparse
import json
import os
from pathlib import Path

import nestling
from nestling.search import search

HERE = Path(__file__).parent
QUESTIONS = HERE.parent / "tests" / "samples" / "questions.jsonl"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("NESTLING_DATA") or "../shared"))
    parser.add_argument("--model", default="nano")
    options = parser.parse_args()
    model = nestling.load(options.model)
    asked = [json.loads(line) for line in QUESTIONS.read_text(encoding="utf-8").splitlines()]
    answers = [answer(question, options.data, model) for question in asked]
    first = sum(entry["rank"] == 1 for entry in answers)
    result = {
        "command": "python benchmarks/questions.py",
        "model": model.name,
        "fingerprint": model.fingerprint,
        "first": first,
        "in the first five": sum(entry["rank"] is not None and entry["rank"] <= 5 for entry in answers),
        "asked": len(answers),
        "answers": answers,
    }
    if options.model == "nano":
        (HERE / "results" / "questions.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    for entry in answers:
        print(f"{entry['rank'] or '-':>3}  {entry['score']:.2f}  {entry['question']}  ->  {entry['first']}")
    print(f"{first} of {len(answers)} have the expected passage first")


def answer(question: dict[str, str], data: Path, model: nestling.StaticModel) -> dict[str, object]:
    """The rank of the expected passage among the first ten (None if it is not there), and what came first."""
    hits = search(question["question"], [data], model, top=10).hits
    expected = str(data / question["path"])
    ranks = [
        rank
        for rank, hit in enumerate(hits, 1)
        if hit.passage.path == expected and question["contains"] in hit.passage.text
    ]
    best = hits[0]
    place = f"{Path(best.passage.path).relative_to(data)}:{best.best_line}"
    return {
        "question": question["question"],
        "rank": ranks[0] if ranks else None,
        "score": round(best.score, 3),
        "first": f"{place} {best.passage.heading}",
    }


if __name__ == "__main__":
    main()

"""Our models and their peers on real tasks, and whether the way of scoring is right.

    python benchmarks/baselines.py [--data DIR] [--only NAME]

Runs what is missing of `nestling score MODEL --suite english,tools,long,safety` for every model that is at hand
(fetched as docs/score.md says, or made by references.py and peer_recipe.py), and the tiers of ours; writes
benchmarks/results/scores/. Then holds the scores of
all-MiniLM-L6-v2 against the published ones, wherever the data's own README says that the data agree, and writes
benchmarks/results/validity.json; and static's scores beside the published ones of larger potions, published.json.
"""

import argparse
import json
import re
from pathlib import Path

from nestling.errors import NestlingError
from nestling.make.recipe import cache_folder, data_folder
from nestling.model.load import shipped
from nestling.score.encoders import load_encoder, with_tiers
from nestling.score.results import published, read_results
from nestling.score.run import score
from nestling.score.tasks import SUITES as SUITES_OF
from nestling.score.tasks import names_of

RESULTS = Path(__file__).parent / "results"
SUITES = ("english", "tools", "long", "safety")
JUDGE = "sentence-transformers/all-MiniLM-L6-v2"
TOLERANCE = 0.003
PUBLISHED = ("minishlab/potion-base-8M", "minishlab/potion-base-32M")
OURS, TIERS = tuple(shipped()), (128, 64, 32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=data_folder())
    parser.add_argument("--only", help="Score this one alone.")
    given = parser.parse_args()
    data = given.data
    names = [name for suite in SUITES for name in names_of(suite)]
    for source in [given.only] if given.only else sources(data):
        try:
            encoder = load_encoder(str(source))
        except NestlingError as error:
            print(f"left out: {error}")
            continue
        tiers = [dim for dim in encoder.dims[1:] if dim in TIERS] if source in OURS else []
        for each in with_tiers(encoder, tiers):
            failed = [one for one in score(each, names, data / "eval", RESULTS / "scores", progress=True) if one.error]
            print(f"{each.name} at {each.dims[0]} dims: {len(names) - len(failed)} tasks", *failed, sep="\n")
    beside = [beside_published(name, data) for name in PUBLISHED]
    (RESULTS / "published.json").write_text(json.dumps(beside, indent=1) + "\n")
    validity = check(data)
    (RESULTS / "validity.json").write_text(json.dumps(validity, indent=1) + "\n")
    print(json.dumps(validity, indent=1))


def sources(data: Path) -> list[str | Path]:
    cache = cache_folder()
    return [
        *OURS,
        cache / "peers" / "reference-int8.nest",
        cache / "peers" / "reference-2000-centroids.nest",
        cache / "peers" / "reference-700KB.nest",
        cache / "peers" / "reference-mean.nest",
        cache / "peers" / "model2vec-distilled",
        cache / "peers" / "tokenlearn",
        cache / "peers" / "potion-base-2m",
        data / "peers" / "potion-base-4M-int8",
        "wordllama",
        cache / "teachers" / "minilm",
        cache / "teachers" / "bge-small",
    ]


def beside_published(model: str, data: Path) -> dict[str, object]:
    """static's scores and a peer's published ones, on the tasks that both have."""
    ours = read_results(RESULTS / "scores" / "static").only(SUITES_OF["broad"]).lines
    theirs = published(model, data / "eval" / "anchors.csv").lines
    both = {
        name: (round(100 * ours[name].score, 2), round(100 * theirs[name].score, 2)) for name in ours if name in theirs
    }
    return {
        "command": "python benchmarks/baselines.py",
        "model": model,
        "tasks": {name: {"static": one, "published": other} for name, (one, other) in sorted(both.items())},
    }


def check(data: Path) -> dict[str, object]:
    """Measured and published scores of the judge, x 100, on the tasks whose data are said to agree."""
    ours = read_results(RESULTS / "scores" / JUDGE.replace("/", "__")).lines
    theirs = published(JUDGE, data / "eval" / "anchors.csv").lines
    agreeing = agreed_in((data / "eval" / "README.md").read_text(encoding="utf-8"))
    rows = [
        {
            "task": name,
            "measured": round(100 * line.score, 2),
            "published": round(100 * theirs[name].score, 2),
            "difference": round(100 * (line.score - theirs[name].score), 2),
            "data agree": line.task in agreeing,
        }
        for name, line in sorted(ours.items())
        if name in theirs
    ]
    judged = [row for row in rows if row["data agree"]]
    within = [row for row in judged if abs(float(str(row["difference"]))) <= 100 * TOLERANCE]
    return {
        "command": "python benchmarks/baselines.py",
        "model": JUDGE,
        "tolerance": 100 * TOLERANCE,
        "within": len(within),
        "of": len(judged),
        "tasks": rows,
    }


def agreed_in(readme: str) -> set[str]:
    """The tasks of the table whose last column says yes. (SummEval's is of its second version.)"""
    rows = [re.split(r" *\| *", line.strip("| ")) for line in readme.splitlines() if line.startswith("| ")]
    yes = {row[0] for row in rows if row[-1].startswith("yes")}
    return yes | {"SummEvalSummarization.v2" for row in rows if row[0] == "SummEval" and "v2 yes" in row[-1]}


if __name__ == "__main__":
    main()

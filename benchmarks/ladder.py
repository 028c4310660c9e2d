"""What each step of recipes/static.toml is worth, one change at a time, on a small scale and without any test split.

    python benchmarks/ladder.py [--texts N] [--seeds K] [--part rung --part variant --part quantized]

Trains on the first 100,000 texts of the recipe's corpus and on 60,000 of its pairs (without those that the proxy asks),
and judges with benchmarks/proxy.py; what is random is done with three seeds. Rungs stand on one another; a variant
changes one thing of the rung "Matryoshka dims". Writes benchmarks/results/ladder.json and docs/pictures/ladder.svg.
"""

import argparse
import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from proxy import Proxy, first_pairs
from references import TOKENS, centroids, one_scale

from nestling.make import learn
from nestling.make.distil import distil
from nestling.make.lessons import fitted_to
from nestling.make.recipe import Places, cache_folder, data_folder, read_recipe
from nestling.make.run import Run
from nestling.make.settings import Distillation, Repairing, Training
from nestling.model.rows import FloatRows, Table
from nestling.model.static import StaticModel
from nestling.score import plots
from nestling.shrink.budget import file_size, shrink_to_budget, without_counts
from nestling.shrink.codebook import block_widths, to_products
from nestling.shrink.vocabulary import prune_vocabulary

ROOT = Path(__file__).parent.parent
PAIRS = 60_000
BASE = Training(epochs=2.0, relational=0.0, checks=2)
E5 = {"others": ["cache:teachers/e5-small"], "prompts": ["", "query: "]}


class Ladder:
    """Rungs and variants, measured as they are climbed."""

    def __init__(self, texts: int, seeds: int) -> None:
        self.places = Places(cache_folder(), data_folder())
        self.texts, self.seeds = texts, range(seeds)
        self.proxy = Proxy(self.places.data)
        self.lines: list[dict[str, Any]] = []

    def run(self, *, words: bool = True, pooling: str = "sublinear", pairs: bool = False, **targets: Any) -> Run:
        """The recipe on a small scale, with some of its targets' settings changed."""
        recipe = copy.deepcopy(read_recipe(ROOT / "recipes" / "static.toml"))
        recipe["targets"] |= {"texts": self.texts, **targets}
        recipe["distil"]["pooling"] = pooling
        for table in ([] if words else ["vocabulary"]) + ([] if pairs else ["pairs", "tune"]):
            del recipe[table]
        run = Run(recipe, self.places)
        if pairs:
            asked = {text for pair in first_pairs(self.places.data) for text in pair}
            run.inputs.sides = [pair for pair in run.inputs.sides if not asked & {*pair}][:PAIRS]
        return run

    def measure(self, kind: str, name: str, models: Sequence[StaticModel], dims: int | None = None) -> None:
        """Judge a model of each seed."""
        scores = [self.proxy(lambda texts, m=model: m.encode(texts, dim=dims, overflow="split")) for model in models]
        mean = {key: round(float(np.mean([score[key] for score in scores])), 2) for key in scores[0]}
        spread = round(float(np.std([score["mean"] for score in scores], ddof=1)), 2) if len(scores) > 1 else None
        size = file_size(without_counts(models[0]))
        self.lines.append({"kind": kind, "name": name, "bytes": size, **mean, "seeds": len(scores), "spread": spread})
        print(self.lines[-1], flush=True)

    def trained(self, run: Run, how: Training) -> list[StaticModel]:
        """A model of each seed, from targets."""
        return [
            learn.learn_from_targets(run.distilled, *run.lessons, run.inputs.aim, replace(how, seed=seed))
            for seed in self.seeds
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=100_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--part", action="append", choices=PARTS, help="Climb this part alone; the others stay.")
    given = parser.parse_args()
    ladder = Ladder(given.texts, given.seeds)
    path = ROOT / "benchmarks/results/ladder.json"
    chosen = given.part or list(PARTS)
    for name in chosen:
        PARTS[name](ladder)
    kept = json.loads(path.read_text())["lines"] if path.exists() else []  # now: another part may have ended meanwhile
    kept = [line for line in kept if line["kind"] not in chosen]
    lines = sorted([*kept, *ladder.lines], key=lambda line: list(PARTS).index(line["kind"]))
    said = {"command": "python benchmarks/ladder.py", "texts": given.texts, "pairs": PAIRS, "lines": lines}
    path.write_text(json.dumps(said, indent=1) + "\n")
    draw(lines)


def draw(lines: Sequence[dict[str, Any]]) -> None:
    """docs/pictures/ladder.svg: the mean of each rung."""
    steps = [(line["name"], line["mean"], line["spread"] or 0.0) for line in lines if line["kind"] == "rung"]
    plots.ladder(steps, ROOT / "docs/pictures/ladder.svg", "mean over the proxy's four types")


def climb(ladder: Ladder) -> None:
    """The rungs up to the float model."""
    plain, grown, sublinear = ladder.run(words=False, pooling="mean"), ladder.run(pooling="mean"), ladder.run()
    rung = lambda name, models: ladder.measure("rung", name, models)  # noqa: E731
    as_published = Distillation(dim=256, a=1e-4, whiten=0.0)
    rung("token vectors, Zipf weights, token PCA", [distil(plain.teacher, None, as_published, ladder.places.cache)])
    ladder.measure("rung", "counted weights, sentence PCA", [plain.distilled], dims=256)
    rows = fitted_to(plain.distilled.table.expanded(), plain.lessons[0], plain.aim.sample)
    rung("one linear map to the targets", [with_rows(plain.distilled, rows)])
    rung("training: cosine", ladder.trained(plain, BASE))
    relational = replace(BASE, relational=1.0)
    rung("relational loss", ladder.trained(plain, relational))
    rung("words of the corpus", ladder.trained(grown, relational))
    rung("repeats weigh their root", ladder.trained(sublinear, relational))
    models = ladder.trained(sublinear, replace(relational, dims=(32, 64, 128)))
    rung("Matryoshka dims", models)
    paired = ladder.run(pairs=True)
    how = replace(paired.training("tune"), checks=2)
    tuned = [
        learn.tune_on_pairs(model, *paired.lessons, replace(how, seed=seed))
        for seed, model in zip(ladder.seeds, models, strict=True)
    ]
    rung("tuned on pairs", tuned)
    soup = with_rows(tuned[0], np.mean([model.table.expanded() for model in tuned], axis=0, dtype=np.float32))
    rung("soup of the seeds", [soup])


def vary(ladder: Ladder) -> None:
    """What else was tried, each beside the rung "Matryoshka dims"."""
    how, run = replace(BASE, relational=1.0, dims=(32, 64, 128)), ladder.run()
    first = ladder.trained(run, how)

    def again(how: Training) -> list[StaticModel]:
        return [
            learn.learn_from_targets(
                run.distilled, *run.lessons, run.inputs.aim, replace(how, seed=seed + 10), own=model.table.expanded()
            )
            for seed, model in zip(ladder.seeds, first, strict=True)
        ]

    contrastive = replace(how, cosine=0.0, relational=0.0, contrastive=1.0, temperature=0.07)
    tries: dict[str, Callable[[], list[StaticModel]]] = {
        "contrastive loss alone (tokenlearn's)": lambda: ladder.trained(run, contrastive),
        "mean squared error alone": lambda: ladder.trained(run, replace(how, cosine=0.0, relational=0.0, mse=1.0)),
        "prefixes: 75 % of the loss": lambda: ladder.trained(run, replace(how, prefixes=0.75)),
        "temperature 0.05": lambda: ladder.trained(run, replace(how, temperature=0.05)),
        "token dropout 0.1": lambda: ladder.trained(run, replace(how, dropout=0.1)),
        "averaged over steps (EMA 0.995)": lambda: ladder.trained(run, replace(how, ema=0.995)),
        "like texts together": lambda: ladder.trained(ladder.run(groups=500), replace(how, near=64)),
        "born again, as published": lambda: again(contrastive),
        "born again, half the teacher's targets": lambda: again(replace(how, own=0.5)),
        "targets: the sentence vector alone": lambda: ladder.trained(ladder.run(poolings=["sentence"]), how),
        "targets: the token mean alone": lambda: ladder.trained(ladder.run(poolings=["tokens"]), how),
        "targets of e5-small too": lambda: ladder.trained(ladder.run(**E5), how),
        "targets not whitened": lambda: ladder.trained(ladder.run(whiten=0.0), how),
        "targets whitened by 0.6": lambda: ladder.trained(ladder.run(whiten=0.6), how),
        "512 dims": lambda: ladder.trained(ladder.run(dim=512), replace(how, dims=(32, 64, 128, 256))),
    }
    for name, attempt in tries.items():
        ladder.measure("variant", name, attempt())


def quantize(ladder: Ladder) -> None:
    """The float model of the whole recipe in few bytes, in the references' schemes and in ours, and repaired."""
    model = Run(read_recipe(ROOT / "recipes" / "static.toml"), ladder.places).full()
    ladder.measure("quantized", "float32", [model])
    kept = prune_vocabulary(model, TOKENS)
    for name, code in (("int8, one scale", one_scale), ("2,000 centroids", centroids)):
        table = code(kept.table.expanded())
        ladder.measure(
            "quantized", f"{name}, {TOKENS:,} tokens (the references')", [kept.with_table(table, pooling="mean")]
        )
    assert model.counts is not None
    codes = to_products(model.table.expanded(), model.counts, block_widths(model.dim, 2))
    ladder.measure("quantized", "a code for 2 dims", [model.with_table(codes)])
    run = ladder.run()
    held_out = list(run.inputs.texts[: run.inputs.first])
    small, _ = shrink_to_budget(model, 700_000, held_out, widths=(4, 8), shares=(0.4,), dim=128)
    ladder.measure("quantized", "700 KB", [small])
    how = replace(BASE, epochs=1.0, rate=1e-3, relational=1.0, dims=(32, 64))
    texts, lessons = run.inputs.texts[run.inputs.first :], run.lessons
    for rounds in (1, 2):
        repaired = [
            learn.repair(
                small, model, texts, lessons[0], (held_out, lessons[1]), replace(how, seed=seed), Repairing(rounds)
            )
            for seed in ladder.seeds
        ]
        ladder.measure("quantized", f"700 KB, repaired, rounds: {rounds}", repaired)


PARTS = {"rung": climb, "variant": vary, "quantized": quantize}


def with_rows(model: StaticModel, rows: npt.NDArray[np.float32]) -> StaticModel:
    return model.with_table(Table(FloatRows(rows)))


if __name__ == "__main__":
    main()

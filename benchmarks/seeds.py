"""How far the shipped models depend on their seed: each recipe with two more, scored on the 23 test tasks.

    python benchmarks/seeds.py

The shipped ones, of the recipes' own seed, must have been scored (baselines.py). Writes benchmarks/results/seeds.json.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nestling.make.recipe import cache_folder, data_folder, read_recipe
from nestling.make.run import make
from nestling.score.encoders import load_encoder
from nestling.score.results import averages, read_results
from nestling.score.run import score
from nestling.score.tasks import names_of

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
SEEDS = (1, 2)
STS = ("STSBenchmark", "STS12", "STS13", "STS15", "STS16")


def main() -> None:
    names, lines = names_of("broad"), []
    for name in ("nano", "static"):
        recipe = ROOT / "recipes" / f"{name}.toml"
        lines.append(line(name, int(read_recipe(recipe)["seed"]), RESULTS / "scores" / name))
        for seed in SEEDS:
            path = cache_folder() / "peers" / f"{name}-seed{seed}.nest"
            path.parent.mkdir(parents=True, exist_ok=True)
            make(recipe, path, seed=seed, progress=True)
            with TemporaryDirectory() as folder:
                score(load_encoder(str(path)), names, data_folder() / "eval", Path(folder), progress=True)
                lines.append(line(name, seed, Path(folder) / name))
            print(lines[-1], flush=True)
    said = {"command": "python benchmarks/seeds.py", "lines": lines}
    (RESULTS / "seeds.json").write_text(json.dumps(said, indent=1) + "\n")


def line(name: str, seed: int, folder: Path) -> dict[str, Any]:
    """The figures of one model."""
    results = read_results(folder).only(names_of("broad"))
    means = averages(results.lines.values())
    figures = {
        "mean_type": means.mean_type,
        "mean_task": means.mean_task,
        "STSBenchmark": results.lines["STSBenchmark"].score,
        "STS_five": sum(results.lines[each].score for each in STS) / len(STS),
        "Retrieval": means.by_type["Retrieval"][0],
    }
    return {"model": name, "seed": seed, **{key: round(100 * figure, 2) for key, figure in figures.items()}}


if __name__ == "__main__":
    main()

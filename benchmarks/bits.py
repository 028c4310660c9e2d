"""What the matrices of micro and mini lose in few bits, behind their tables as they ship, without any test split.

    python benchmarks/bits.py

Both as their recipes make them, whose stages the cache has, with matrices of one to four values a byte, each by itself
and with error feedback (as with `feedback` in [shrink]). Judged with benchmarks/proxy.py. Writes
benchmarks/results/bits.json.
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

from proxy import Proxy

from nestling.make.contextual import to_model, with_body_of
from nestling.make.recipe import Places, cache_folder, data_folder, read_recipe
from nestling.make.run import Run
from nestling.make.transformer import moments, taught
from nestling.shrink.budget import file_size
from nestling.shrink.transformer import table_alone, with_small_body

ROOT = Path(__file__).parent.parent
PATH = ROOT / "benchmarks/results/bits.json"
WORDS = {"micro": (1, 2, 4), "mini": (1, 2, 3, 4)}  # values a byte, of which the columns are multiples


def main() -> None:
    places, lines = Places(cache_folder(), data_folder()), list[dict[str, Any]]()
    proxy = Proxy(places.data)
    for name, words in WORDS.items():
        recipe = read_recipe(ROOT / "recipes" / f"{name}.toml")
        run = Run(recipe, places, progress=True)
        coded, student = taught(run)
        trained, seen = to_model(student, table_alone(coded), run.inputs.body), moments(run, student, coded)
        for word, feedback in [(words[0], False), *((word, way) for word in words[1:] for way in (False, True))]:
            small = with_small_body(trained, word, run.seed, seen if feedback else {})
            model = with_body_of(coded, small, recipe["routes"])
            line = {"model": name, "bits": round(8 / word, 1), "feedback": feedback, "size": file_size(model)}
            lines.append({**line, **proxy(partial(model.encode, overflow="split"))})
            PATH.write_text(json.dumps({"command": "python benchmarks/bits.py", "lines": lines}, indent=1) + "\n")
            print(lines[-1], flush=True)


if __name__ == "__main__":
    main()

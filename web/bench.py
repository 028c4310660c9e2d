"""How fast nestling is in Chromium and in Node: writes benchmarks/results/web.json.

    python web/bench.py

Embeds distinct English sentences, one thread, with nano, with an int8 model of 256 dims whose rows are random (its
speed is that of any rows), and with micro. web/bench.mjs does the timing. Needs what web/packages.sh and
`npm ci --prefix web` install, ../shared (or NESTLING_DATA) and a BERT tokenizer in ~/.cache/nestling/teachers/bge-small
(or NESTLING_CACHE).
"""

import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from nestling.files.parts import Document, Parts
from nestling.make.recipe import cache_folder, data_folder
from nestling.model.static import StaticModel
from nestling.text.packed import PackedTokenizer
from nestling.text.plan import check_plan

WEB = Path(__file__).parent
RESULT = WEB.parent / "benchmarks" / "results" / "web.json"
TEXTS = 150_000


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = sentences()
        (folder / "texts.json").write_text(json.dumps(texts))
        (folder / "empty.html").write_text("<!doctype html><title>bench</title>")
        for model in ("nano.nest", "micro.nest"):
            shutil.copy(WEB.parent / "src" / "nestling" / "models" / model, folder)
        random_int8().save(folder / "int8.nest")
        done = subprocess.run(["node", WEB / "bench.mjs", folder], stdout=subprocess.PIPE, text=True, check=True)
    sizes = {path.name: path.stat().st_size for path in sorted(WEB.glob("*.wasm"))}
    mean_bytes = sum(len(text.encode("utf-8")) for text in texts) / len(texts)
    report = {
        "command": "python web/bench.py",
        "machine": {"cpu": processor(), "cores": os.cpu_count(), "load before": round(os.getloadavg()[0], 1)},
        "texts": {"count": len(texts), "bytes a text": round(mean_bytes, 1)},
        "wasm bytes": sizes,
        **json.loads(done.stdout),
    }
    RESULT.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(RESULT.read_text(encoding="utf-8"))


def sentences() -> list[str]:
    """Distinct English sentences of 70 to 170 characters, in a seeded order."""
    texts = pq.read_table(data_folder() / "corpus/english.parquet", columns=["text"]).column("text").slice(0, 500_000)
    found = list(dict.fromkeys(text for text in texts.to_pylist() if 70 < len(text) < 170))
    return random.Random(0).sample(found, TEXTS)


def random_int8() -> StaticModel:
    """BERT's 30,522 pieces with random int8 rows of 256 dims and a scale each."""
    text = (cache_folder() / "teachers" / "bge-small" / "tokenizer.json").read_text(encoding="utf-8")
    plan, dice = check_plan(text, "int8"), np.random.default_rng(0)
    size = len(plan["model"]["vocab"])
    rows = dice.integers(-127, 128, (size, 256)).astype(np.int8)
    scales = dice.uniform(0.001, 0.01, size).astype(np.float32)
    document = Document("int8", 256, (256,), name="int8", drop=(plan["model"]["vocab"]["[UNK]"],))
    return StaticModel(Parts(document, {"rows": rows, "scales": scales}, PackedTokenizer.of(plan, "int8")))


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


if __name__ == "__main__":
    main()

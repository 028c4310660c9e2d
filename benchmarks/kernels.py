"""How fast each kernel of this machine reads texts: writes benchmarks/results/kernels.json.

    python benchmarks/kernels.py

Texts of the corpus by one thread, every kernel in turn in each round, by CPU time; and whether all give the same bits.
Needs ../shared (or NESTLING_DATA), and a machine that does nothing else.
"""

import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

import nestling
from nestling.make.corpus import Corpus
from nestling.make.recipe import data_folder
from nestling.model.layout import lay_out
from nestling.model.native import CoreReader, native_model
from nestling.model.static import StaticModel
from nestling.model.transformer import TransformerModel
from nestling.safe import write_text
from nestling.score.speed import cpu_name
from nestling.text.native import core_module

ROOT = Path(__file__).parent.parent
OUT = ROOT / "benchmarks" / "results" / "kernels.json"
DATA = data_folder()
TEXTS = {"static": 40_000, "micro": 2_000, "mini": 500}
ROUNDS = 5


def main() -> None:
    core, _ = core_module()
    report: dict[str, Any] = {"command": "python benchmarks/kernels.py", "cpu": cpu_name(), "models": {}}
    corpus = Corpus(DATA / "corpus/english.parquet")
    for name, count in TEXTS.items():
        texts = list(corpus.texts(0, count))
        models = {isa: by_kernel(name, isa) for isa in core.kernels()}
        vectors = [model.encode(texts, threads=1) for model in models.values()]
        assert all(np.array_equal(each, vectors[0]) for each in vectors), "kernels that differ"
        rounds = [{isa: rate(model, texts) for isa, model in models.items()} for _ in range(ROUNDS)]
        rates = {isa: round(statistics.median(each[isa] for each in rounds)) for isa in models}
        report["models"][name] = {"texts": count, "same_bits": True, "texts_s": rates}
        print(name, rates, flush=True)
    write_text(OUT, json.dumps(report, indent=1) + "\n")


def by_kernel(name: str, isa: str) -> StaticModel | TransformerModel:
    """A shipped model whose texts this kernel reads."""
    model = nestling.load(name)
    how = model.table.size, model.document.drop, model.document.sublinear
    layout, tokenizer = lay_out(model.table), model.tokenizer.core
    if isinstance(model, StaticModel):
        model._reads_in_core(native_model(tokenizer, layout, *how, isa=isa).encode)
        return model
    model._reads_in_core(CoreReader(model._blocks(), layout, *how, isa=isa, tokenizer=tokenizer).encode)
    return model


def rate(model: StaticModel | TransformerModel, texts: list[str]) -> float:
    """Texts a second, by CPU time."""
    start = time.process_time()
    model.encode(texts, threads=1)
    return len(texts) / (time.process_time() - start)


if __name__ == "__main__":
    main()

"""Write the golden ids, and vectors of the small and the shipped models: python -m tests.golden.make

Run it only when the meaning is meant to change; the diff then shows what did.
"""

import json
from pathlib import Path

import numpy as np

import nestling
from tests.conftest import KINDS, SAMPLES, model_of

HERE = Path(__file__).parent


def main() -> None:
    texts = (SAMPLES / "odd.txt").read_text(encoding="utf-8").split("\n")[:20]
    ids, vectors = {}, {}
    for kind in KINDS:
        model = model_of(kind)
        tokens = model.tokenizer.encode(texts)
        ids[kind] = [tokens.ids[a:b].tolist() for a, b in zip(tokens.offsets, tokens.offsets[1:], strict=False)]
        vectors[kind] = model.encode(texts)
    for name in nestling.shipped():
        vectors[name] = nestling.load(name).encode(texts)
    (HERE / "ids.json").write_text(json.dumps(ids) + "\n")
    np.savez(HERE / "vectors.npz", **vectors)


if __name__ == "__main__":
    main()

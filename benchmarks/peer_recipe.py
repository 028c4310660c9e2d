"""The peers' own way on our teacher and corpus: model2vec's distillation, then tokenlearn's training, as published.

    pip install tokenlearn==0.2.1 'model2vec[distill]==0.10.0'
    python benchmarks/peer_recipe.py [--texts N]

Writes the model, int8 as model2vec stores it (29.5k x 256, 7.5 MB), to the cache, where benchmarks/baselines.py finds
it, and what it took to benchmarks/results/peer_recipe.json. All code that teaches is theirs. What is ours: the corpus
(recipes/static.toml's), its vectors from the cache of `nestling make` (tokenlearn's target is the mean of a teacher's
token outputs, which is our pooling "tokens"), and a shell that lets model2vec call a teacher that is an ONNX graph.
"""

import argparse
import json
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from model2vec.distill import distill_from_model
from tokenlearn.train import train_model
from transformers import AutoTokenizer, BertConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from nestling.make.corpus import Corpus
from nestling.make.recipe import Places, cache_folder, data_folder, read_recipe
from nestling.make.targets import Targets
from nestling.teacher import Teacher, load_teacher

ROOT = Path(__file__).parent.parent
DIMS = 256


class Shell(PreTrainedModel):  # type: ignore[misc]
    """An ONNX teacher as model2vec wants it. Its one weight is the teacher's id of each token, which model2vec moves
    about as it would move rows when it drops tokens."""

    config_class = BertConfig
    teacher: ClassVar[Teacher]

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.ids = torch.nn.Embedding(config.vocab_size, 1)
        self.ids.weight.data = torch.arange(config.vocab_size, dtype=torch.float32)[:, None]

    def get_input_embeddings(self) -> torch.nn.Embedding:
        return self.ids

    def set_input_embeddings(self, value: torch.nn.Embedding) -> None:
        self.ids = value

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> BaseModelOutput:
        own = self.ids.weight[input_ids, 0].round().long().numpy()
        lengths = attention_mask.sum(1).numpy()
        states = np.zeros((*own.shape, self.teacher.dim), np.float32)
        for length in np.unique(lengths):
            rows = np.flatnonzero(lengths == length)
            states[rows, :length] = self.teacher.forward(own[rows, :length])
        return BaseModelOutput(last_hidden_state=torch.from_numpy(states))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=400_000)
    most = parser.parse_args().texts
    places, recipe = Places(cache_folder(), data_folder()), read_recipe(ROOT / "recipes" / "static.toml")
    folder = places.find(recipe["teacher"]["source"])
    Shell.teacher = load_teacher(str(folder))
    corpus = Corpus(places.find(recipe["corpus"]["path"]), leave_out=tuple(recipe["corpus"]["leave_out"]))
    held_out = int(recipe["distil"]["held_out"])
    texts = list(corpus.texts(held_out, held_out + most))
    torch.manual_seed(0)
    np.random.seed(0)
    started = time.monotonic()
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    config = BertConfig(vocab_size=len(tokenizer), hidden_size=Shell.teacher.dim, pad_token_id=tokenizer.pad_token_id)
    distilled = distill_from_model(Shell(config), tokenizer, pca_dims=DIMS, quantize_to="float32", device="cpu")
    targets = Targets(Shell.teacher, places.cache)
    targets.fill(texts, progress=True)
    trained = train_model(distilled, texts, targets.gather(texts, "tokens"), device="cpu", pca_dims=DIMS)
    out = places.cache / "peers"
    for name, model in (("model2vec-distilled", distilled), ("tokenlearn", trained)):
        quantized = type(model).from_pretrained(_saved(model, out / f"{name}-float"), quantize_to="int8")
        _saved(quantized, out / name)
    said = {
        "command": "python benchmarks/peer_recipe.py",
        "texts": len(texts),
        "teacher": Shell.teacher.name,
        "rows": list(trained.embedding.shape),
        "minutes": round((time.monotonic() - started) / 60, 1),
        "versions": {name: version(name) for name in ("model2vec", "tokenlearn", "torch")},
    }
    (ROOT / "benchmarks/results/peer_recipe.json").write_text(json.dumps(said, indent=1) + "\n")


def _saved(model: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    return folder


if __name__ == "__main__":
    main()

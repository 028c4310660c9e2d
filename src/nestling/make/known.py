"""What a pretrained encoder knows, or a transformer whose blocks are layers of one: word vectors, and layers, by the
names that a student has for them (encoder.py)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nestling.errors import ModelFileError
from nestling.model.blocks import BEHIND, SEEN
from nestling.model.transformer import TransformerModel
from nestling.teacher import Teacher
from nestling.text.plan import check_plan, dump_plan
from nestling.text.tokenizer import TextTokenizer

Floats = npt.NDArray[np.float32]
OPENERS = ("##", "▁")  # what pieces may begin with that is no text
WORDS = "embeddings.word_embeddings.weight"
POSITIONS, KINDS = "embeddings.position_embeddings.weight", "embeddings.token_type_embeddings.weight"


@dataclass(frozen=True)
class Known:
    """What an encoder knows. tokenizer: its own. vectors: (pieces, dim) of its words, as they go into its layers, but
    for positions. tensors: by the names that a PrunedEncoder has for them, those of all its layers among them."""

    name: str
    tokenizer: TextTokenizer
    vectors: Floats
    tensors: dict[str, Tensor]
    head: int

    @property
    def layers(self) -> int:
        """How many."""
        return len({name.split(".")[1] for name in self.tensors if name.startswith("blocks.")})


def known_by(encoder: Teacher | TransformerModel) -> Known:
    """What an encoder knows; or a transformer whose blocks are layers of one.

    Raises ModelFileError for those that have no such layers."""
    return _known_by_model(encoder) if isinstance(encoder, TransformerModel) else _known_by_teacher(encoder)


def _known_by_teacher(teacher: Teacher) -> Known:
    network = teacher.encoder[0].auto_model if teacher.encoder is not None else None
    config: Any = getattr(network, "config", None)
    kind = getattr(config, "model_type", "no network that torch runs")
    if network is None or kind != "bert" or config.hidden_act != "gelu":
        raise ModelFileError(
            f"The encoder {teacher.name} is {kind}.",
            "Layers are taken from a BERT with GELU, in safetensors.",
            "Choose another encoder, or leave it out: blocks then start from nothing.",
        )
    named = {name: each.detach().float().cpu() for name, each in network.state_dict().items()}
    # The first position is that of [CLS], which no text has here.
    tensors = {"places": (named[POSITIONS] + named[KINDS][0])[1:]}
    copied: dict[str, tuple[str, ...]] = {"first": ("embeddings.LayerNorm",)}
    for number in range(config.num_hidden_layers):
        theirs, mine = f"encoder.layer.{number}.", f"blocks.{number}."
        copied[mine + "queries_keys_values"] = tuple(
            f"{theirs}attention.self.{part}" for part in ("query", "key", "value")
        )
        copied[mine + "attended"] = (theirs + "attention.output.dense",)
        copied[mine + "after_attention"] = (theirs + "attention.output.LayerNorm",)
        copied[mine + "wide"] = (theirs + "intermediate.dense",)
        copied[mine + "narrow"] = (theirs + "output.dense",)
        copied[mine + "after_feed"] = (theirs + "output.LayerNorm",)
    for mine, parts in copied.items():
        tensors |= {f"{mine}.{it}": torch.cat([named[f"{each}.{it}"] for each in parts]) for it in ("weight", "bias")}
    tokenizer = TextTokenizer(dump_plan(check_plan(teacher.tokenizer_json, teacher.name)), teacher.name)
    head = config.hidden_size // config.num_attention_heads
    return Known(teacher.name, tokenizer, named[WORDS].numpy(), tensors, head)


def _known_by_model(model: TransformerModel) -> Known:
    weights = model.weights()
    if "places" not in weights:
        raise ModelFileError(
            f"The blocks of {model.name} are no layers of an encoder.",
            "Such layers were expected.",
            "Choose another encoder.",
        )
    up, bias = weights.pop("up.weight"), weights.pop("up.bias")
    rows = model.table.expanded()[: model.tokenizer.size, -len(up) :]
    # Matrices lie (in, out) in a file, torch has them (out, in), as all do that stand behind the sum.
    turned = {
        name: each.T if name.endswith("weight") and name not in BEHIND else each for name, each in weights.items()
    }
    tensors = {name: torch.from_numpy(np.array(each)) for name, each in turned.items()}
    return Known(model.name, model.tokenizer, as_seen(rows) @ up + bias, tensors, model.document.head or 0)


def word_vectors(known: Known, pieces: list[str]) -> Floats:
    """The encoder's word vector of each piece; of those that it lacks, the mean of its pieces': (n, dim) float32."""
    own, tokenizer = known.vectors, known.tokenizer
    there = {piece: place for place, piece in enumerate(tokenizer.pieces)}
    texts = [piece.removeprefix(OPENERS[0]).removeprefix(OPENERS[1]) for piece in pieces]
    found = tokenizer.encode([text or " " for text in texts])
    vectors = np.empty((len(pieces), own.shape[1]), np.float32)
    for place, piece in enumerate(pieces):
        ids = found.ids[found.offsets[place] : found.offsets[place + 1]]
        vectors[place] = own[there[piece]] if piece in there or not len(ids) else own[ids].mean(axis=0)
    return vectors


def as_seen(rows: Floats) -> Floats:
    """As the layers see rows: to a mean square of one."""
    normal: Floats = rows / np.sqrt(np.square(rows).mean(axis=1, keepdims=True) + SEEN)
    return normal

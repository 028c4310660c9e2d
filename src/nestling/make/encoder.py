"""A student whose blocks are layers of a pretrained encoder, which knew what words mean together long before.

    token ids -> rows: a static model's columns, and beside them the encoder's word vectors, on their main axes
              -> the encoder's layers -> what each static row weighs, and maybe what is added to their sum

It starts by saying nothing: an untrained one is the static model. Layers are as BERT has them (arXiv:1810.04805): a
norm after each sum, biases, learned positions. Blocks that start from nothing need far more texts to be worth as much
(docs/training.md).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, rms_norm

from nestling.errors import InputError, ModelFileError
from nestling.make.settings import Body, columns_fit
from nestling.make.student import Student, attend, silent
from nestling.model.blocks import AROUND, SEEN, STRIP
from nestling.model.graph_reader import STEP
from nestling.model.output import unit
from nestling.teacher import Teacher
from nestling.text.plan import check_plan, dump_plan
from nestling.text.tokenizer import TextTokenizer

Floats = npt.NDArray[np.float32]
WORDS_LENGTH = 0.5  # of a token's columns for the layers, beside those of the static model: what few bits are spent on
OPENERS = ("##", "▁")  # what pieces may begin with that is no text
WORDS = "embeddings.word_embeddings.weight"


@dataclass(frozen=True)
class EncoderSize:
    """rows: of the table, those of the tasks among them. inner: its columns of the static model; words: those behind
    them, which the layers see. dim: columns of the layers, head: of an attention head, feed: of the feed-forward part.
    places: the most tokens of a text, padded. adds: whether the layers add vectors of their own to what they weigh."""

    rows: int
    inner: int
    words: int
    dim: int
    layers: int
    head: int
    feed: int
    places: int
    adds: bool = True

    @property
    def columns(self) -> int:
        """Of the table."""
        return self.inner + self.words

    @property
    def vector(self) -> int:
        """Columns of a text's vector."""
        return self.inner


class Layer(nn.Module):
    """norm(x + attention(x)), then norm(x + feed-forward(x))."""

    def __init__(self, size: EncoderSize) -> None:
        super().__init__()
        dim, self.head = size.dim, size.head
        self.queries_keys_values, self.attended = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.wide, self.narrow = nn.Linear(dim, size.feed), nn.Linear(size.feed, dim)
        self.after_attention, self.after_feed = nn.LayerNorm(dim, eps=AROUND), nn.LayerNorm(dim, eps=AROUND)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x: (n, length, dim). mask: (n, 1, 1, length), True for tokens."""
        n, length, dim = x.shape
        parts = self.queries_keys_values(x).view(n, length, 3, dim // self.head, self.head)
        queries, keys, values = parts.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = attend(queries, keys, values, mask).transpose(1, 2).reshape(n, length, dim)
        x = self.after_attention(x + self.attended(mixed))
        y: Tensor = self.after_feed(x + self.narrow(gelu(self.wide(x))))
        return y


class PrunedEncoder(Student):
    """The table and the layers, for training and for export."""

    size: EncoderSize

    def build(self) -> None:
        size = self.size
        self.up = nn.Linear(size.words, size.dim)
        self.places = nn.Parameter(torch.zeros(size.places, size.dim))
        self.first = nn.LayerNorm(size.dim, eps=AROUND)
        self.blocks = nn.ModuleList(Layer(size) for _ in range(size.layers))
        self.weigh = silent(size.dim, 1)
        self.back = silent(size.dim, size.inner) if size.adds else None

    def said(self, rows: Tensor, mask: Tensor) -> Tensor:
        words = rows[..., self.size.inner :]
        x = self.up(rms_norm(words, words.shape[-1:], eps=SEEN)) + self.places[: rows.shape[1]]
        x = self.first(x)
        for block in self.blocks:
            x = block(x, mask)
        said: Tensor = x.float()
        return said

    def summed(self, rows: Tensor, x: Tensor, weights: Tensor) -> Tensor:
        return super().summed(rows[..., : self.size.inner], x, weights)


def prune_encoder(
    teacher: Teacher,
    rows: Floats,
    pieces: list[str],
    counts: npt.NDArray[np.float64],
    size: EncoderSize,
    keep: tuple[int, ...],
    seed: int = 0,
) -> PrunedEncoder:
    """A student that starts as a static model, with layers of an encoder.

    rows, pieces, counts: of the static model's tokens. keep: which layers, counted from 0; of each, the columns of the
    feed-forward part whose weights are largest. The word vectors of tokens that the encoder lacks are means of those of
    their pieces; all are brought onto their main axes, weighted by counts, and to the length of their tokens' rows.
    """
    named = _weights(teacher)
    vectors = word_vectors(teacher, named[WORDS].numpy(), pieces)
    share = (counts + 0.5) / (counts + 0.5).sum()
    mean = share @ vectors
    centred = (vectors - mean) * np.sqrt(share)[:, None]
    axes = np.linalg.eigh((centred.T @ centred).astype(np.float64))[1][:, ::-1][:, : size.words]
    words = (vectors - mean) @ axes
    usual = float(share @ np.linalg.norm(words, axis=1)) / size.words**0.5
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    student = PrunedEncoder(size, seed)
    student.start_from(
        np.concatenate([rows, unit(words.astype(np.float32)) * (WORDS_LENGTH * lengths)], axis=1), counts
    )
    with torch.no_grad():
        student.up.weight.copy_(torch.from_numpy(axes * usual))
        student.up.bias.copy_(torch.from_numpy(mean))
        places = named["embeddings.position_embeddings.weight"] + named["embeddings.token_type_embeddings.weight"][0]
        student.places[: len(places) - 1].copy_(places[1 : 1 + size.places])
        _copy(student.first, named, "embeddings.LayerNorm")
        for block, number in zip(student.blocks, keep, strict=True):
            assert isinstance(block, Layer)
            _copy_layer(block, named, f"encoder.layer.{number}.", size.feed)
    return student


def word_vectors(teacher: Teacher, own: Floats, pieces: list[str]) -> Floats:
    """The encoder's word vector of each piece; of those that it lacks, the mean of its pieces': (n, dim) float32."""
    tokenizer = TextTokenizer(dump_plan(check_plan(teacher.tokenizer_json, teacher.name)), teacher.name)
    known = {piece: place for place, piece in enumerate(tokenizer.pieces)}
    texts = [piece.removeprefix(OPENERS[0]).removeprefix(OPENERS[1]) for piece in pieces]
    found = tokenizer.encode([text or " " for text in texts])
    vectors = np.empty((len(pieces), own.shape[1]), np.float32)
    for place, piece in enumerate(pieces):
        ids = found.ids[found.offsets[place] : found.offsets[place + 1]]
        vectors[place] = own[known[piece]] if piece in known or not len(ids) else own[ids].mean(axis=0)
    return vectors


def size_of(teacher: Teacher, rows: int, inner: int, body: Body) -> EncoderSize:
    """The student that `body` asks for, of a table of so many rows and columns of a static model.

    Raises InputError where the encoder has no such layers, or knows no texts so long.
    """
    config = _network(teacher).config
    most = config.max_position_embeddings - 1  # its first is that of [CLS], which no text has here
    if body.tokens > most or not set(body.keep) <= set(range(config.num_hidden_layers)) or not body.keep:
        raise InputError(
            f"[student] asks {teacher.name} for layers {list(body.keep)} and {body.tokens} tokens.",
            f"It has layers 0 to {config.num_hidden_layers - 1}, and knows {most} tokens.",
            "Correct keep, or tokens.",
        )
    dim, heads, feed = config.hidden_size, config.num_attention_heads, body.feed or config.intermediate_size
    words, places = min(body.words, dim), -(-body.tokens // STEP) * STEP
    if not columns_fit(inner, dim, dim // heads, words, feed):
        raise InputError(
            f"{teacher.name} has {dim} columns in heads of {dim // heads}, {feed} in between, {words} of words.",
            f"Multiples of {STRIP} were expected of all, and of the static model's {inner}.",
            "Choose another encoder, feed or words.",
        )
    return EncoderSize(rows, inner, words, dim, len(body.keep), dim // heads, feed, places, body.adds)


def _network(teacher: Teacher) -> Any:
    network = teacher.encoder[0].auto_model if teacher.encoder is not None else None
    kind = getattr(getattr(network, "config", None), "model_type", "no network that torch runs")
    if network is None or kind != "bert" or network.config.hidden_act != "gelu":
        raise ModelFileError(
            f"The encoder {teacher.name} is {kind}.",
            "Layers are taken from a BERT with GELU, in safetensors.",
            "Choose another encoder, or leave it out: blocks then start from nothing.",
        )
    return network


def _weights(teacher: Teacher) -> dict[str, Tensor]:
    return {name: each.detach().float().cpu() for name, each in _network(teacher).state_dict().items()}


def _copy(module: nn.Module, named: dict[str, Tensor], *names: str) -> None:
    """Weights and biases, those of several names one after the other."""
    for kind in ("weight", "bias"):
        getattr(module, kind).copy_(torch.cat([named[f"{name}.{kind}"] for name in names]))


def _copy_layer(layer: Layer, named: dict[str, Tensor], own: str, feed: int) -> None:
    attention = [f"{own}attention.self.{part}" for part in ("query", "key", "value")]
    _copy(layer.queries_keys_values, named, *attention)
    _copy(layer.attended, named, f"{own}attention.output.dense")
    _copy(layer.after_attention, named, f"{own}attention.output.LayerNorm")
    _copy(layer.after_feed, named, f"{own}output.LayerNorm")
    wide, narrow = f"{own}intermediate.dense", f"{own}output.dense"
    sizes = named[f"{wide}.weight"].norm(dim=1) * named[f"{narrow}.weight"].norm(dim=0)
    kept = torch.sort(torch.argsort(sizes, descending=True, stable=True)[:feed]).values
    layer.wide.weight.copy_(named[f"{wide}.weight"][kept])
    layer.wide.bias.copy_(named[f"{wide}.bias"][kept])
    layer.narrow.weight.copy_(named[f"{narrow}.weight"][:, kept])
    layer.narrow.bias.copy_(named[f"{narrow}.bias"])

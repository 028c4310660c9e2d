"""A student whose blocks are layers of a pretrained encoder, which knew what words mean together long before.

    token ids -> rows: a static model's columns, and beside them the encoder's word vectors, on their main axes
              -> the encoder's layers -> what each static row weighs, and maybe what is added to their sum

It starts by saying nothing: an untrained one is the static model; or, with layers of a transformer that was made so, by
saying what those say. Layers are as BERT has them (arXiv:1810.04805): a norm after each sum, biases, learned positions.
Blocks that start from nothing need far more texts to be worth as much (docs/training.md).
"""

import re
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, rms_norm

from nestling.errors import InputError
from nestling.make.known import Known, as_seen, word_vectors
from nestling.make.ridge import ridge
from nestling.make.settings import Body, columns_fit
from nestling.make.student import Student, attend, silent, weighted_axes
from nestling.model.blocks import AROUND, SEEN, STRIP
from nestling.model.graph_reader import STEP
from nestling.model.output import unit

Floats = npt.NDArray[np.float32]
WORDS_LENGTH = 0.5  # of a token's columns for the layers, beside those of the static model: what few bits are spent on
TINY = 1e-9  # instead of nothing, of which nothing is a part
RIDGE = 1e-4  # beside the mean power of the columns that words are made of


@dataclass(frozen=True)
class EncoderSize:
    """rows: of the table, those of the tasks among them. inner: its columns of the static model; words: those behind
    them, which the layers see. dim: columns of the layers, head: of an attention head, feed: of the feed-forward part.
    places: the most tokens of a text, padded. adds: whether the layers add vectors of their own to what they weigh.
    whole: whether they see whole rows, of which words say what the other columns do not."""

    rows: int
    inner: int
    words: int
    dim: int
    layers: int
    head: int
    feed: int
    places: int
    adds: bool = True
    whole: bool = False

    @property
    def seen(self) -> int:
        """Columns that the layers see, the last ones."""
        return self.words + self.whole * self.inner

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
        self.up = nn.Linear(size.seen, size.dim)
        self.places = nn.Parameter(torch.zeros(size.places, size.dim))
        self.first = nn.LayerNorm(size.dim, eps=AROUND)
        self.blocks = nn.ModuleList(Layer(size) for _ in range(size.layers))
        self.weigh = silent(size.dim, 1)
        self.back = silent(size.dim, size.inner) if size.adds else None

    def said(self, rows: Tensor, mask: Tensor) -> Tensor:
        seen = rows[..., self.size.columns - self.size.seen :]
        x = self.up(rms_norm(seen, seen.shape[-1:], eps=SEEN)) + self.places[: rows.shape[1]]
        x = self.first(x)
        for block in self.blocks:
            x = block(x, mask)
        said: Tensor = x.float()
        return said

    def summed(self, rows: Tensor, x: Tensor, weights: Tensor) -> Tensor:
        return super().summed(rows[..., : self.size.inner], x, weights)


def prune_encoder(
    known: Known,
    rows: Floats,
    pieces: list[str],
    counts: npt.NDArray[np.float64],
    size: EncoderSize,
    keep: tuple[int, ...],
    seed: int = 0,
) -> PrunedEncoder:
    """A student that starts as a static model, with layers of an encoder.

    rows, pieces, counts: of the static model's tokens. keep: which layers, counted from 0. The word vectors of tokens
    that the encoder lacks are means of those of their pieces. What a transformer's layers weigh and add comes along;
    its static model and this one are to have learnt the same targets.
    """
    vectors = word_vectors(known, pieces)
    student = PrunedEncoder(size, seed)
    words, up, bias = (_words_beside if size.whole else _words_alone)(vectors, rows, counts + 0.5, size.words)
    student.start_from(np.concatenate([rows, words], axis=1), counts)
    with torch.no_grad():
        student.up.weight.copy_(torch.from_numpy(up.T))
        student.up.bias.copy_(torch.from_numpy(bias))
        for name, parameter in student.named_parameters():
            theirs = known.tensors.get(re.sub(r"^blocks\.(\d+)", lambda own: f"blocks.{keep[int(own[1])]}", name))
            if theirs is not None:
                both = min(len(parameter), len(theirs))  # of `places` and `back` there may be more or fewer rows
                parameter[:both].copy_(theirs[:both])
    return student


@torch.no_grad()
def narrowed(student: PrunedEncoder, feed: int, moments: dict[str, Tensor]) -> PrunedEncoder:
    """The same student with as many columns of its feed-forward parts: those that say most, and out of them what all
    said, as nearly as a linear map can tell. moments: of what goes into its maps (moments.py)."""
    other = PrunedEncoder(replace(student.size, feed=feed))
    named = student.state_dict()
    for number in range(student.size.layers):
        own = f"blocks.{number}."
        moment, out = moments[own + "narrow"], named[own + "narrow.weight"].double()
        says = moment.diagonal()[:-1] * out.square().sum(dim=0)
        kept = torch.sort(torch.argsort(says, descending=True, stable=True)[:feed]).values
        beside = torch.cat([kept, torch.tensor([len(says)])])  # a column of ones, for the bias
        told = ridge(moment[beside][:, beside].numpy(), (moment[beside, :-1] @ out.T).numpy(), RIDGE)
        found = torch.from_numpy(told).float()
        named[own + "narrow.weight"] = found[:-1].T.contiguous()
        named[own + "narrow.bias"] = named[own + "narrow.bias"] + found[-1]
        named |= {f"{own}wide.{it}": named[f"{own}wide.{it}"][kept] for it in ("weight", "bias")}
    other.load_state_dict(named)
    return other


def _words_alone(
    vectors: Floats, rows: Floats, counts: npt.NDArray[np.float64], words: int
) -> tuple[Floats, Floats, Floats]:
    """Columns for word vectors, on their main axes, weighted by counts, and at the length of their tokens' rows; the
    matrix and bias that make word vectors of them again."""
    share = counts / counts.sum()
    mean = share @ vectors
    axes = weighted_axes(centred := vectors - mean, share, words)
    main = centred @ axes
    usual = float(share @ np.linalg.norm(main, axis=1)) / words**0.5
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return unit(main.astype(np.float32)) * (WORDS_LENGTH * lengths), (axes * usual).T, mean


def _words_beside(
    vectors: Floats, rows: Floats, counts: npt.NDArray[np.float64], words: int
) -> tuple[Floats, Floats, Floats]:
    """Columns for what word vectors have that rows do not tell, on its main axes; the matrix and bias that make word
    vectors of both. Rare tokens count as roots of their counts."""
    share = np.sqrt(counts) / np.sqrt(counts).sum()
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    told, _, _ = _fit(unit(rows), vectors, share)
    rest = vectors - told
    rest = rest - share @ rest
    main = rest @ weighted_axes(rest, share, words)
    usual = max(float(share @ np.square(main).sum(axis=1)) ** 0.5, TINY)
    columns = (main * (WORDS_LENGTH / usual) * lengths).astype(np.float32)
    _, matrix, bias = _fit(as_seen(np.concatenate([rows, columns], axis=1)), vectors, share)
    return columns, matrix, bias


def _fit(x: Floats, y: Floats, share: npt.NDArray[np.float64]) -> tuple[Floats, Floats, Floats]:
    """What a linear map of x says of y, the map and its bias: a ridge regression, rows weighted."""
    beside = np.concatenate([x, np.ones((len(x), 1), x.dtype)], axis=1).astype(np.float64)
    weighted = beside * share[:, None]
    found = ridge(weighted.T @ beside, weighted.T @ y, RIDGE)
    return (beside @ found).astype(np.float32), found[:-1].astype(np.float32), found[-1].astype(np.float32)


def size_of(known: Known, rows: int, inner: int, body: Body) -> EncoderSize:
    """The student that `body` asks for, of a table of so many rows and columns of a static model, its feed-forward
    parts as wide as the encoder's.

    Raises InputError where the encoder has no such layers, or knows no texts so long.
    """
    most, dim = known.tensors["places"].shape
    feed = len(known.tensors["blocks.0.wide.weight"])
    fits = body.tokens <= most and body.feed <= feed and set(body.keep) <= set(range(known.layers))
    if not (fits and body.keep):
        raise InputError(
            f"[student] asks {known.name} for layers {list(body.keep)}, {body.tokens} tokens, and feed = {body.feed}.",
            f"It has layers 0 to {known.layers - 1}, knows {most} tokens, and has {feed} columns in between.",
            "Correct keep, tokens, or feed.",
        )
    words, places = min(body.words, dim), -(-body.tokens // STEP) * STEP
    if not columns_fit(inner, dim, known.head, words, feed) or not (words or body.whole):
        raise InputError(
            f"{known.name} has {dim} columns in heads of {known.head}, {feed} in between; {words} of words were asked.",
            f"Multiples of {STRIP} were expected of all, and of the static model's {inner}, and some that are seen.",
            "Choose another encoder, or other words.",
        )
    return EncoderSize(rows, inner, words, dim, len(body.keep), known.head, feed, places, body.adds, body.whole)

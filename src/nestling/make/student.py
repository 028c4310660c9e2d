"""The small transformer: a factorised table, a few pre-norm blocks without biases, mean pooling.

    token ids -> rows (V x d_e) -> d columns -> blocks of attention with rotary positions and GELU -> mean over tokens

With the static path, what a block adds starts at zero and no norm stands before the mean: an untrained student is the
static model that its table was cut from, and training adds what depends on context.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, gelu

Floats = npt.NDArray[np.float32]
TASKS = ("QRY", "DOC", "SYM")  # rows of the table behind those of the tokenizer
HEAD = 64  # columns of an attention head
TOKENS_AT_ONCE = 4_096  # padded, of texts of about one length
THETA = 10_000.0  # of the rotary positions


@dataclass(frozen=True)
class Size:
    """How large a student is.

    rows: of the table, those of the tasks among them. inner: columns of the table. dim: columns of the blocks. layers:
    blocks. head: columns of an attention head. out: columns of a last matrix, behind the mean; 0 for none. static:
    whether an untrained student is a static model; else a norm stands before the mean, and what a block adds starts at
    random.
    """

    rows: int
    inner: int
    dim: int
    layers: int
    head: int = HEAD
    out: int = 0
    static: bool = True

    @property
    def parameters(self) -> int:
        """How many numbers are learnt: table, columns, blocks (four matrices for attention, eight for the rest, two
        norms), the last norm and the last matrix."""
        block = 12 * self.dim**2 + 2 * self.dim
        last = (0 if self.static else self.dim) + self.dim * self.out
        return self.rows * self.inner + self.inner * self.dim + self.layers * block + last


# The published family of ogma: its counts of parameters, but for 2 dim + 512 that no account of it explains.
SIZES = {
    "micro": Size(30_007, 64, 128, 2),
    "mini": Size(30_007, 64, 256, 2),
    "small": Size(30_007, 128, 256, 6),
    "base": Size(30_007, 128, 256, 12),
    "large": Size(30_007, 128, 512, 9, out=256),
}


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x))."""

    def __init__(self, dim: int, head: int, silent: bool) -> None:
        super().__init__()
        self.head = head
        self.before_attention, self.before_feed = nn.RMSNorm(dim, eps=1e-6), nn.RMSNorm(dim, eps=1e-6)
        self.queries_keys_values = nn.Linear(dim, 3 * dim, bias=False)
        self.attended = nn.Linear(dim, dim, bias=False)
        self.wide, self.narrow = nn.Linear(dim, 4 * dim, bias=False), nn.Linear(4 * dim, dim, bias=False)
        if silent:
            nn.init.zeros_(self.attended.weight)
            nn.init.zeros_(self.narrow.weight)

    def forward(self, x: Tensor, turns: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
        """x: (n, length, dim). turns: cosines and sines of the positions. mask: (n, 1, 1, length), True for tokens."""
        n, length, dim = x.shape
        parts = self.queries_keys_values(self.before_attention(x)).view(n, length, 3, dim // self.head, self.head)
        parts = parts.permute(2, 0, 3, 1, 4)
        queries, keys = rotate(parts[:2], *turns).unbind(0)
        mixed = attend(queries, keys, parts[2], mask)
        x = x + self.attended(mixed.transpose(1, 2).reshape(n, length, dim))
        y: Tensor = x + self.narrow(gelu(self.wide(self.before_feed(x))))
        return y


class Student(nn.Module):
    """The transformer, for training and for export."""

    def __init__(self, size: Size, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.size = size
            self.directions = nn.Parameter(torch.randn(size.rows, size.inner) / size.inner**0.5)
            self.lengths = nn.Buffer(torch.ones(size.rows))
            self.up = nn.Linear(size.inner, size.dim, bias=False)
            self.blocks = nn.ModuleList(Block(size.dim, size.head, size.static) for _ in range(size.layers))
            self.last = nn.Identity() if size.static else nn.RMSNorm(size.dim, eps=1e-6)
            self.out = nn.Linear(size.dim, size.out, bias=False) if size.out else nn.Identity()

    def body(self) -> Iterator[nn.Parameter]:
        """What every text goes through: all parameters but the rows of the table."""
        return (each for each in self.parameters() if each is not self.directions)

    def start_from(self, rows: Floats, counts: npt.ArrayLike) -> None:
        """Take the table of a static model: the product of two factors that is nearest to it, seen as often as `counts`
        says. rows: (tokens, dim), of which there are as many as the student's less its tasks', whose rows are zero."""
        left, right = factors(rows, np.asarray(counts, np.float64), self.size.inner)
        left = np.concatenate([left, np.zeros((self.size.rows - len(left), self.size.inner), np.float32)])
        lengths = np.linalg.norm(left, axis=1)
        scale = lengths[lengths > 0].mean()
        with torch.no_grad():
            self.directions.copy_(torch.from_numpy(left / np.maximum(lengths, 1e-6)[:, None]))
            self.lengths.copy_(torch.from_numpy(np.where(lengths > 0, lengths / scale, 1.0).astype(np.float32)))
            self.up.weight.copy_(torch.from_numpy(right.T * scale))

    def table(self) -> Floats:
        """The rows of the table, (rows, inner) float32."""
        rows: Floats = (self.directions * self.lengths[:, None]).detach().cpu().numpy()
        return rows

    def forward(self, ids: Tensor, starts: Tensor, weights: Tensor) -> Tensor:
        """Sums over the tokens of texts that lie end to end: (total,), (n,) -> (n, dim). weights: not looked at; where
        tokens stand, and with which, says more."""
        lengths = torch.diff(starts, append=torch.tensor([len(ids)], device=starts.device))
        order = torch.argsort(lengths)
        sums = []
        for part in _spans(lengths[order].tolist()):
            chosen = order[part]
            longest = max(int(lengths[chosen[-1]]), 1)
            within = torch.arange(longest, device=ids.device)
            mask = within < lengths[chosen, None]
            places = torch.where(mask, starts[chosen, None] + within, 0)
            sums.append(self.pooled(torch.where(mask, ids[places], 0), mask))
        return torch.cat(sums)[torch.argsort(order)]

    def pooled(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Padded texts -> sums over their tokens: (n, length), (n, length) bool -> (n, dim)."""
        return self.through(embedding(ids, self.directions) * self.lengths[ids].unsqueeze(-1), mask)

    def through(self, rows: Tensor, mask: Tensor) -> Tensor:
        """The same from rows of the table: (n, length, inner)."""
        x = self.up(rows).float()
        turns = positions(rows.shape[1], self.size.head, rows.device)
        for block in self.blocks:
            x = block(x, turns, mask[:, None, None, :])
        sums: Tensor = self.out((self.last(x).float() * mask.unsqueeze(-1)).sum(dim=1))
        return sums.float()


def positions(length: int, head: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary positions: (length, head / 2) each (arXiv:2104.09864)."""
    rates = THETA ** (-torch.arange(0, head, 2, device=device, dtype=torch.float32) / head)
    angles = torch.arange(length, device=device, dtype=torch.float32)[:, None] * rates
    return torch.cos(angles), torch.sin(angles)


def rotate(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Turn each pair of columns (i, i + half) by its position's angle: (n, heads, length, head) -> the same."""
    one, other = x.chunk(2, dim=-1)
    cosines, sines = cosines.to(x.dtype), sines.to(x.dtype)
    return torch.cat([one * cosines - other * sines, other * cosines + one * sines], dim=-1)


def attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """Attention over the tokens that the mask lets through: (n, heads, length, head) each. Written out: for texts of a
    sentence, on CPUs, three times as fast as torch's."""
    near = (queries @ keys.transpose(-1, -2)).float() * queries.shape[-1] ** -0.5
    mixed: Tensor = near.masked_fill(~mask, float("-inf")).softmax(dim=-1).to(values.dtype) @ values
    return mixed


def factors(rows: Floats, counts: npt.NDArray[np.float64], inner: int) -> tuple[Floats, Floats]:
    """The two factors, (n, inner) and (inner, dim), whose product is nearest to rows (n, dim), weighted by counts."""
    weighted = rows * np.sqrt(np.maximum(counts, 1.0))[:, None]
    axes = np.linalg.eigh((weighted.T @ weighted).astype(np.float64))[1][:, ::-1][:, :inner].astype(np.float32)
    if inner > rows.shape[1]:
        axes = np.pad(axes, ((0, 0), (0, inner - rows.shape[1])))
    return rows @ axes, np.ascontiguousarray(axes.T)


def _spans(lengths: Sequence[int]) -> list[slice]:
    """Cut texts, shortest first, where the next one would make a part too large, padded."""
    spans, start = [], 0
    for index, length in enumerate(lengths):
        if index > start and length * (index + 1 - start) > TOKENS_AT_ONCE:
            spans.append(slice(start, index))
            start = index
    return [*spans, slice(start, len(lengths))]

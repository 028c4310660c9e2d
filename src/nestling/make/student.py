"""The small transformer: a table, a few pre-norm blocks without biases, mean pooling.

    token ids -> rows (V x inner) -> dim columns -> blocks: attention, rotary positions, GELU -> mean over tokens

With the static path, a text's vector is the mean of its rows, as in a static model, and all that the blocks do is to
say what each of them weighs in its context. They start by saying nothing: an untrained student is the static model that
its table came from. (Vectors that the blocks add of their own bring a student nearer to its teacher, and away from what
people say of texts that it has not seen: docs/log.md.)
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, gelu, rms_norm

from nestling.errors import InputError
from nestling.make.settings import columns_fit
from nestling.model.blocks import SEEN, STRIP, THETA, WITHIN

Floats = npt.NDArray[np.float32]
HEAD = 64  # columns of an attention head
TOKENS_AT_ONCE = 4_096  # padded, of texts of about one length
TASK_LENGTH = 0.05  # of the row of a task, beside that of a token
MASKED = -1e30  # near no token; an infinity would make a text without any NaN, and with it all that is learnt


@dataclass(frozen=True)
class Size:
    """How large a student is.

    rows: of the table, those of the tasks among them. inner: columns of the table. dim: columns of the blocks. layers:
    blocks. head: columns of an attention head. static: whether there is a static path; vectors then have `inner`
    columns, else `dim`, or `out`, where that is not 0: the columns of a last matrix behind the mean.
    """

    rows: int
    inner: int
    dim: int
    layers: int
    head: int = HEAD
    static: bool = True
    out: int = 0

    def __post_init__(self) -> None:
        if not columns_fit(self.inner, self.dim, self.head, self.out):
            raise InputError(
                f"A student has {self.inner} columns, {self.dim} within, heads of {self.head}, {self.out} behind.",
                f"Multiples of {STRIP}, and heads that add up to the columns within, were expected.",
                "Choose others.",
            )

    @property
    def columns(self) -> int:
        """Of the table."""
        return self.inner

    @property
    def vector(self) -> int:
        """Columns of a text's vector."""
        return self.inner if self.static else self.out or self.dim

    @property
    def parameters(self) -> int:
        """How many numbers are learnt: table, columns, blocks (four matrices for attention, eight for the rest, two
        norms), the last norm, and the last matrix or, with the static path, what weighs the rows."""
        block = 12 * self.dim**2 + 2 * self.dim
        last = self.dim if self.static else self.dim * self.out
        return self.rows * self.inner + self.inner * self.dim + self.layers * block + self.dim + last


# The published family of ogma-micro: its counts of parameters, but for dim + 512 that no account of it explains.
SIZES = {
    "micro": Size(30_007, 64, 128, 2, static=False),
    "mini": Size(30_007, 64, 256, 2, static=False),
    "small": Size(30_007, 128, 256, 6, static=False),
    "base": Size(30_007, 128, 256, 12, static=False),
    "large": Size(30_007, 128, 512, 9, static=False, out=256),
}


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x))."""

    def __init__(self, dim: int, head: int) -> None:
        super().__init__()
        self.head = head
        self.before_attention, self.before_feed = nn.RMSNorm(dim, eps=WITHIN), nn.RMSNorm(dim, eps=WITHIN)
        self.queries_keys_values = nn.Linear(dim, 3 * dim, bias=False)
        self.attended = nn.Linear(dim, dim, bias=False)
        self.wide, self.narrow = nn.Linear(dim, 4 * dim, bias=False), nn.Linear(4 * dim, dim, bias=False)

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

    def __init__(self, size: Any, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.size = size
            self.directions = nn.Parameter(torch.randn(size.rows, size.columns) / size.columns**0.5)
            self.lengths = nn.Buffer(torch.ones(size.rows))
            self.build()

    def build(self) -> None:
        """Make what stands behind the table."""
        size: Size = self.size
        self.up = nn.Linear(size.inner, size.dim, bias=False)
        nn.init.orthogonal_(self.up.weight)
        self.blocks = nn.ModuleList(Block(size.dim, size.head) for _ in range(size.layers))
        self.last = nn.RMSNorm(size.dim, eps=WITHIN)
        self.weigh = silent(size.dim, 1) if size.static else None
        self.back: nn.Linear | None = None
        self.out = nn.Linear(size.dim, size.out, bias=False) if size.out else None

    def body(self) -> Iterator[nn.Parameter]:
        """What every text goes through: all parameters but the rows of the table."""
        return (each for each in self.parameters() if each is not self.directions)

    def start_from(self, rows: Floats, counts: npt.ArrayLike) -> None:
        """Take the table of a static model, (tokens, columns), as many as the student's less its tasks', which stay as
        they are, but short: the blocks look at directions, and nothing else is to change. Where the student's table has
        fewer columns, the main ones, seen as often as `counts` says."""
        rows = rows @ main_columns(rows, np.asarray(counts, np.float64), self.size.columns)
        lengths = np.linalg.norm(rows, axis=1)
        with torch.no_grad():
            self.directions[: len(rows)] = torch.from_numpy(rows / np.maximum(lengths, 1e-6)[:, None])
            self.lengths[: len(rows)] = torch.from_numpy(np.maximum(lengths / lengths.mean(), 1e-6))
            self.lengths[len(rows) :] = self.lengths[: len(rows)].median() * TASK_LENGTH

    def take_rows(self, rows: Floats) -> None:
        """Take rows as they are, (rows, columns), those of the tasks last."""
        lengths = np.maximum(np.linalg.norm(rows, axis=1), 1e-9)
        with torch.no_grad():
            self.directions.copy_(torch.from_numpy(rows / lengths[:, None]))
            self.lengths.copy_(torch.from_numpy(lengths))

    def table(self) -> Floats:
        """The rows of the table, (rows, inner) float32."""
        rows: Floats = (self.directions * self.lengths[:, None]).detach().cpu().numpy()
        return rows

    def forward(self, ids: Tensor, starts: Tensor, weights: Tensor) -> Tensor:
        """Sums over the tokens of texts that lie end to end: (total,), (n,), (total,) -> (n, dim). weights: what each
        token counts in its sum; the blocks look at directions."""
        lengths = torch.diff(starts, append=torch.tensor([len(ids)], device=starts.device))
        order = torch.argsort(lengths)
        tokens = _end_to_end(starts[order], lengths[order])
        ids, weights = ids[tokens], weights[tokens]
        rows = embedding(ids, self.directions) * self.lengths[ids].unsqueeze(-1)
        parts = [lengths[order][part] for part in _spans(lengths[order].tolist())]
        shares = [torch.split(each, [int(part.sum()) for part in parts]) for each in (rows, weights)]
        sums = [self.pooled(*share) for share in zip(*shares, parts, strict=True)]
        return torch.cat(sums)[torch.argsort(order)]

    def pooled(self, rows: Tensor, weights: Tensor, lengths: Tensor) -> Tensor:
        """Rows of texts that lie end to end, and what they count -> sums over their tokens: (total, inner), (total,),
        (n,) -> (n, dim)."""
        within = torch.arange(max(int(lengths.max()), 1), device=rows.device)
        mask = within < lengths[:, None]
        places = torch.where(mask, (lengths.cumsum(0) - lengths)[:, None] + within, 0)
        if not len(rows):
            rows, weights = rows.new_zeros(1, rows.shape[1]), weights.new_zeros(1)
        padded = rows.index_select(0, places.flatten()).view(*places.shape, -1)
        return self.through(padded, weights[places] * mask)

    def through(self, rows: Tensor, weights: Tensor) -> Tensor:
        """The same of padded texts: (n, length, inner), and what their tokens count, (n, length), 0 where none is."""
        mask, weights = weights.bool()[:, None, None, :], weights.unsqueeze(-1)
        rows = rows * weights
        return self.summed(rows, self.said(rows, mask), weights)

    def said(self, rows: Tensor, mask: Tensor) -> Tensor:
        """What the blocks say of each token: (n, length, dim). mask: (n, 1, 1, length), True for tokens."""
        x = self.up(rms_norm(rows, rows.shape[-1:], eps=SEEN)).float()
        turns = positions(rows.shape[1], self.size.head, rows.device)
        for block in self.blocks:
            x = block(x, turns, mask)
        said: Tensor = self.last(x).float()
        return said

    def summed(self, rows: Tensor, x: Tensor, weights: Tensor) -> Tensor:
        """Sums over tokens, (n, dim): of what the blocks say of them, x, as often as each counts; or of rows, which it
        weighs, and adds to."""
        sums: Tensor = (x * weights).sum(dim=1)
        if self.weigh is None:
            return sums if self.out is None else self.out(sums).float()
        weighed: Tensor = (rows * (1 + self.weigh(x).float())).sum(dim=1)
        return weighed if self.back is None else weighed + self.back(sums).float()


def silent(dim: int, columns: int) -> nn.Linear:
    """A matrix of zeros: what it will say must be learnt."""
    matrix = nn.Linear(dim, columns, bias=False)
    nn.init.zeros_(matrix.weight)
    return matrix


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
    mixed: Tensor = near.masked_fill(~mask, MASKED).softmax(dim=-1).to(values.dtype) @ values
    return mixed


def main_columns(rows: Floats, counts: npt.NDArray[np.float64], inner: int) -> Floats:
    """What turns rows (n, dim) onto their `inner` main axes, weighted by counts: (dim, inner). All stay as they are
    where there are no more than that."""
    if rows.shape[1] <= inner:
        return np.eye(rows.shape[1], inner, dtype=np.float32)
    return weighted_axes(rows, np.maximum(counts, 1.0), inner).astype(np.float32)


def weighted_axes(rows: Floats, shares: npt.NDArray[np.float64], most: int) -> npt.NDArray[np.float64]:
    """The main axes of rows, each weighted by its share: (n, dim), (n,) -> (dim, most)."""
    weighted = rows * np.sqrt(shares)[:, None]
    axes: npt.NDArray[np.float64] = np.linalg.eigh((weighted.T @ weighted).astype(np.float64))[1][:, ::-1][:, :most]
    return axes


def _end_to_end(starts: Tensor, lengths: Tensor) -> Tensor:
    """Where the tokens of texts stand, one text after the other: (n,), (n,) -> (total,)."""
    shifts = starts - (lengths.cumsum(0) - lengths)
    return torch.arange(int(lengths.sum()), device=starts.device) + torch.repeat_interleave(shifts, lengths)


def _spans(lengths: Sequence[int]) -> list[slice]:
    """Cut texts, shortest first, where the next one would make a part too large, padded."""
    spans, start = [], 0
    for index, length in enumerate(lengths):
        if index > start and length * (index + 1 - start) > TOKENS_AT_ONCE:
            spans.append(slice(start, index))
            start = index
    return [*spans, slice(start, len(lengths))]

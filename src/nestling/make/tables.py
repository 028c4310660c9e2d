"""The table of a static model while it is trained: token ids -> mean rows, by torch, from parameters that can learn.

Parameters are directions of about unit length; lengths stand beside them as weights. So one step turns all rows alike,
the rare and the frequent, whose short rows it would else tear about.
"""

from dataclasses import replace
from itertools import groupby
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from nestling.model.pack import to_int8
from nestling.model.rows import CentroidRows, Int8Rows, ProductRows, Rows, Table
from nestling.shrink.codebook import pack_lengths, quantize_words

Floats = npt.NDArray[np.float32]


class FloatTable(nn.Module):
    """Float rows, each of them free; their lengths stay as weights. rows: (n, d) float32."""

    def __init__(self, rows: Floats) -> None:
        super().__init__()
        lengths = np.maximum(np.linalg.norm(rows, axis=1), 1e-6).astype(np.float32)
        self.directions = nn.Parameter(torch.from_numpy(rows / lengths[:, None]))
        self.lengths = nn.Buffer(torch.from_numpy(lengths / lengths.mean()))

    def forward(self, ids: Tensor, starts: Tensor, weights: Tensor) -> Tensor:
        """Weighted sums of rows over spans of ids that begin at `starts`: (total,), (n,), (total,) -> (n, d)."""
        return embedding_bag(ids, self.directions, starts, mode="sum", per_sample_weights=self.lengths[ids] * weights)

    def rows(self) -> Floats:
        """The table, (n, d) float32."""
        table: Floats = (self.directions.detach() * self.lengths[:, None]).cpu().numpy()
        return table


class CodedTable(nn.Module):
    """Product codes or centroids: which word a token takes is fixed; words, exact rows and lengths learn."""

    def __init__(self, table: Table) -> None:
        super().__init__()
        self.like = table.rows
        codes, words, exact, widths = _pieces(table.rows)
        self.groups = [(width, len(list(group))) for width, group in groupby(widths)]  # blocks of one width
        edges = np.cumsum([0, *(width * blocks for width, blocks in self.groups)])
        by_block = [
            words[:, start : start + width * blocks].reshape(len(words), blocks, width).swapaxes(0, 1)
            for start, (width, blocks) in zip(edges, self.groups, strict=False)
        ]
        self.words = nn.ParameterList(torch.from_numpy(part.copy()) for part in by_block)
        self.exact = nn.Parameter(torch.from_numpy(exact))
        factors = np.ones(table.size, np.float32) if table.factors is None else table.factors
        self.weights = nn.Parameter(torch.from_numpy(factors / factors.mean()))
        self.codes = nn.Buffer(torch.from_numpy(codes))
        places = np.zeros(table.size, np.int64)  # in codes, or, below zero, in exact
        places[_coded(table.rows)] = np.arange(len(codes))
        places[~_coded(table.rows)] = np.arange(len(exact)) - len(exact)
        self.places = nn.Buffer(torch.from_numpy(places))

    def forward(self, ids: Tensor, starts: Tensor, weights: Tensor) -> Tensor:
        """Weighted sums of rows over spans of ids that begin at `starts`: (total,), (n,), (total,) -> (n, d)."""
        used, index = torch.unique(ids, return_inverse=True)
        own = self.weights[ids] * weights
        return embedding_bag(index, self.decode(used), starts, mode="sum", per_sample_weights=own)

    def decode(self, ids: Tensor) -> Tensor:
        """Rows of some tokens, without their weights: (k,) -> (k, d)."""
        places = self.places[ids]
        codes = self.codes[places.clamp(min=0)]
        parts = [
            words[torch.arange(len(words), device=ids.device), own].flatten(1)
            for words, own in zip(
                self.words, torch.split(codes, [blocks for _, blocks in self.groups], dim=1), strict=True
            )
        ]
        rows = torch.cat(parts, dim=1)
        if not len(self.exact):
            return rows
        return torch.where((places < 0)[:, None], self.exact[places.clamp(max=-1) + len(self.exact)], rows)

    def table(self) -> Table:
        """The same as a table whose words, rows and weights have their few bits again."""
        parts = [words.detach().swapaxes(0, 1).flatten(1) for words in self.words]
        words, weights = torch.cat(parts, dim=1).cpu().numpy(), self.weights.detach().cpu().numpy()
        if isinstance(self.like, CentroidRows):
            return pack_lengths(replace(self.like, centroids=Int8Rows(*to_int8(words))), weights)
        like = cast(ProductRows, self.like)
        values, word_scales = quantize_words(words, like.widths)
        exact, scales = to_int8(self.exact.detach().cpu().numpy())
        kept = Int8Rows(exact, scales.astype(np.float16))
        return pack_lengths(replace(like, words=values, scales=word_scales, exact=kept), weights)


def _pieces(rows: Rows) -> tuple[npt.NDArray[np.int64], Floats, Floats, tuple[int, ...]]:
    """codes (m, blocks), words (k, d), exact rows (e, d), widths of the blocks."""
    if isinstance(rows, CentroidRows):
        words = rows.centroids.gather(np.arange(rows.centroids.size))
        return rows.mapping.astype(np.int64)[:, None], words, np.zeros((0, rows.dim), np.float32), (rows.dim,)
    product = cast(ProductRows, rows)
    exact = product.exact.gather(np.arange(product.exact.size))
    return product.codes.astype(np.int64), product.float_words(), exact, product.widths


def _coded(rows: Rows) -> npt.NDArray[np.bool_]:
    return rows.coded if isinstance(rows, ProductRows) else np.ones(rows.size, np.bool_)

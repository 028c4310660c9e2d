"""Fewer dims: a prefix of an ordered table; a table without order is first turned onto its main axes."""

import numpy as np
import numpy.typing as npt

from nestling.errors import InputError
from nestling.model.rows import FloatRows, Table
from nestling.model.static import StaticModel

Floats = npt.NDArray[np.float32]
TIERS = (1024, 768, 512, 384, 256, 192, 128, 96, 64, 32)


def tiers_of(dim: int) -> tuple[int, ...]:
    """The tiers that a table in order offers: all its dims, and the usual prefixes."""
    return (dim, *(tier for tier in TIERS if tier < dim))


def main_axes(moment: npt.NDArray[np.float64], dim: int, *, skip: int = 0, whiten: float = 0.0) -> Floats:
    """Axes number skip to skip + dim of a second moment, by falling power: (d, d) -> (d, dim) float32.

    whiten: each axis is scaled by its power to the -whiten / 2. Each axis is turned so that its largest entry is
    positive, which makes the result one of a kind.
    """
    if not np.any(moment):
        raise InputError(
            "No text has a known token.", "Text in the model's language was expected.", "Check the corpus."
        )
    if dim < 1 or skip + dim > len(moment):
        raise InputError(
            f"dim={dim} after skip={skip} axes was asked for.", f"There are {len(moment)} columns.", "Ask for fewer."
        )
    powers, axes = np.linalg.eigh(moment)
    chosen = slice(skip, skip + dim)
    kept, powers = axes[:, ::-1][:, chosen], np.maximum(powers[::-1] / powers[-1], 1e-9)[chosen]
    largest = kept[np.abs(kept).argmax(axis=0), np.arange(kept.shape[1])]
    return np.ascontiguousarray(kept * np.sign(largest) * powers ** (-whiten / 2), dtype=np.float32)


def token_moment(rows: Floats, counts: npt.NDArray[np.uint32] | None) -> npt.NDArray[np.float64]:
    """Second moment of the rows, each as often as its token is counted: (n, d) -> (d, d) float64."""
    shares = np.ones(len(rows)) if counts is None else counts / counts.sum(dtype=np.float64)
    weighted = rows.astype(np.float64) * np.sqrt(shares)[:, None]
    moment: npt.NDArray[np.float64] = weighted.T @ weighted
    return moment


def cut_dims(model: StaticModel, dim: int) -> StaticModel:
    """Keep `dim` columns: a tier of an ordered model, or the main axes of a table that has no order."""
    model = in_order(model, dim)
    return model.with_table(model.table.cut(model.check_dim(dim)))


def in_order(model: StaticModel, dim: int) -> StaticModel:
    """A model that has `dim` among its tiers if it can: a table of one tier is turned, all columns, onto its main axes.

    Turning changes no cosine at full width.
    """
    if len(model.dims) > 1 or not 0 < dim < model.dim:
        return model
    rows = model.table.expanded()
    axes = main_axes(token_moment(rows, model.counts), model.dim)
    tiers = sorted({*tiers_of(model.dim), dim}, reverse=True)
    return model.with_table(Table(FloatRows(rows @ axes)), dims=tuple(tiers))

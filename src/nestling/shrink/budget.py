"""The best model within a number of bytes: schemes, dims and vocabularies are tried, and compared on held-out text.

Product codes leave a choice between many tokens, many dims and many bits. Each trial is a real file; what a scheme
leaves of the budget goes into exact rows for the tokens whose coding error weighs most.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice, product
from pathlib import Path

from tqdm import tqdm

from nestling.errors import InputError
from nestling.model.common import Model
from nestling.model.load import requantize
from nestling.model.rows import Table
from nestling.model.static import StaticModel
from nestling.shrink.codebook import ROUGH_ROUNDS, SPLIT, block_widths, to_centroids, to_products, with_exact
from nestling.shrink.fidelity import Judge
from nestling.shrink.vocabulary import needed_counts, prune_vocabulary

WIDTHS = ((4, 4), (4, 8), (4, 12), (6, 6), (6, 12), (8, 8), (12, 12))
SHARES = (1.0, 0.85, 0.7, 0.55, 0.4, 0.25)
SMALL_SHARES = (0.18, 0.12, 0.08, 0.05, 0.03, 0.02, 0.01)  # tried, with every dim, where nothing else fits
MOST_CENTROIDS = 8192
FINALISTS = 4


@dataclass(frozen=True)
class Scheme:
    """A way to store a table. kind: a scheme of model/rows.py; tokens: how many of the most counted to keep, to which
    come those that the tokenizer needs; dim: columns; widths: columns a product code, up to column 64, after it, and
    from column `edge` on; exact: tokens with exact rows beside product codes; centroids: how many."""

    kind: str
    tokens: int
    dim: int
    widths: tuple[int, ...] = (0, 0)
    exact: int = 0
    centroids: int = 0
    edge: int = 0

    @property
    def blocks(self) -> tuple[int, ...]:
        """Columns of each block of product codes."""
        return block_widths(self.dim, *self.widths, edge=self.edge)

    def __str__(self) -> str:
        detail = {
            "product": f" {' and '.join(map(str, self.widths))} dims a code, {self.exact:,} exact rows",
            "centroids": f" {self.centroids:,}",
        }
        return f"{self.kind}{detail.get(self.kind, '')}, {self.tokens:,} tokens x {self.dim}"


@dataclass(frozen=True)
class Limits:
    """widths: of the product codes that are tried; edge: where the third of them begins. others: whether other kinds of
    schemes are tried too."""

    widths: Sequence[tuple[int, ...]]
    others: bool
    edge: int = 0


@dataclass(frozen=True)
class Row:
    """A line of the shrink table. what: the step or scheme; size: bytes of the file; the rest: to the model given."""

    what: str
    size: int
    cosine: float
    spearman: float


def shrink_to_budget(
    model: StaticModel,
    budget: int,
    texts: Sequence[str],
    *,
    widths: Sequence[int] = (),
    edge: int = 0,
    shares: Sequence[float] = (),
    dim: int | None = None,
    seed: int = 0,
    progress: bool = False,
) -> tuple[StaticModel, list[Row]]:
    """The model with the highest Spearman among those of at most `budget` bytes, and all trials, best first.

    model: a float model with token counts. texts: held out, to judge on. The search fits code books roughly; the four
    schemes that come out best are fitted again with more rounds, and the best of these is the result. A search of a
    large budget takes long, so it can be narrowed: widths, of product codes up to column 64, after it, and, if there is
    a third, from column `edge` on, and then no other kind of scheme; shares, of the vocabulary, and then none but
    these; dim.
    """
    needed_counts(model)
    if len(widths) > (3 if edge else 2):
        raise InputError(
            f"Widths {', '.join(map(str, widths))} were given.",
            f"One up to column {SPLIT} and one after it, and one more of columns that only layers see, were expected.",
            "Leave some out.",
        )
    judge = Judge(model, texts, seed=seed)
    dims = model.dims if dim is None else (model.check_dim(dim),)
    limits = Limits(((widths[0], *(widths[1:] or widths)),) if widths else WIDTHS, not widths, edge)
    trials: list[tuple[Row, Scheme]] = []
    each = [(dim,) for dim in dims]
    for sizes, tiers in ((shares, [dims]),) if shares else ((SHARES, [dims]), (SMALL_SHARES, each)):
        candidates = _candidates(model, budget, sizes, tiers, limits, seed)
        for smaller, scheme in tqdm(candidates, desc="shrink", unit="trial", disable=not progress):
            size = file_size(smaller)
            if size <= budget:
                trials.append((Row(str(scheme), size, *judge(smaller)), scheme))
        if trials:
            break
    if not trials:
        given = f"No scheme fits {model.name} into {budget:,} bytes."
        if shares:
            raise InputError(given, "One of the shares was to.", "Ask for more, or give smaller shares.")
        least = _least_size(model, dims[-1], seed)
        raise InputError(given, f"The smallest file reached has {least:,}.", "Ask for more.")
    trials.sort(key=lambda trial: (-trial[0].spearman, trial[0].size))
    finalists = []
    for row, scheme in trials[:FINALISTS]:
        fitted = apply_scheme(model, scheme, seed=seed)
        finalists.append((Row(f"{row.what}, fitted again", file_size(fitted), *judge(fitted)), fitted))
    finalists = sorted((pair for pair in finalists if pair[0].size <= budget), key=lambda pair: -pair[0].spearman)
    return finalists[0][1], [*(row for row, _ in finalists), *(row for row, _ in trials)]


def apply_scheme(model: StaticModel, scheme: Scheme, *, rounds: int = 25, seed: int = 0) -> StaticModel:
    """Prune, cut and code a float model as the scheme says. The token counts go: they have done their work."""
    smaller = prune_vocabulary(model, scheme.tokens)
    smaller = smaller.with_table(smaller.table.cut(smaller.check_dim(scheme.dim)))
    rows, counts = smaller.table.expanded(), needed_counts(smaller)
    make: dict[str, Callable[[], Table]] = {
        "product": lambda: to_products(rows, counts, scheme.blocks, scheme.exact, rounds=rounds, seed=seed),
        "centroids": lambda: to_centroids(rows, counts, scheme.centroids, rounds=rounds, seed=seed),
    }
    table = make[scheme.kind]() if scheme.kind in make else requantize(smaller.table, scheme.kind)
    return without_counts(smaller.with_table(table))


def without_counts(model: StaticModel) -> StaticModel:
    """The same model without the token counts that only shrinking needs."""
    return StaticModel(replace(model.parts(), counts=None))


def file_size(model: Model) -> int:
    """Bytes of the model's .nest file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trial.nest"
        model.save(path)
        return path.stat().st_size


def _least_size(model: StaticModel, dim: int, seed: int) -> int:
    """Bytes of the smallest file of so many columns that the schemes lead to."""
    tokens = _tokens(model, SMALL_SHARES[-1])
    schemes = (Scheme("int4", tokens, dim), Scheme("product", tokens, dim, WIDTHS[-1]))
    return min(file_size(apply_scheme(model, scheme, rounds=ROUGH_ROUNDS, seed=seed)) for scheme in schemes)


def _tokens(model: StaticModel, share: float) -> int:
    return max(int(share * model.table.size), 1)


def _candidates(
    model: StaticModel,
    budget: int,
    shares: Sequence[float],
    tiers: Sequence[Sequence[int]],
    limits: Limits,
    seed: int,
) -> Iterator[tuple[StaticModel, Scheme]]:
    """Every scheme that may fit, as a model: plain rows and centroids, then product codes filled up with exact rows.

    shares: of the vocabulary. tiers: dims in groups; of each group plain rows take the most that fit.
    """
    pruned = {size: prune_vocabulary(model, size) for size in (_tokens(model, share) for share in shares)}
    for size, group in product(pruned, tiers) if limits.others else ():
        yield from _plain(model, size, group, budget)
    dims = list(chain.from_iterable(tiers))
    for dim in dims if limits.others else ():
        scheme = _centroid_scheme(model.table.size, dim, budget)
        if scheme.centroids > 1:
            yield apply_scheme(model, scheme, rounds=ROUGH_ROUNDS, seed=seed), scheme
    rows, counts = model.table.expanded(), needed_counts(model)
    widest = max(dims)
    most, rows = model.with_table(model.table.cut(widest)), rows[:, :widest]
    for widths in limits.widths:
        blocks = block_widths(widest, *widths, edge=limits.edge)
        coded = most.with_table(to_products(rows, counts, blocks, rounds=ROUGH_ROUNDS, seed=seed))
        for size, smaller in pruned.items():
            fewer = prune_vocabulary(coded, size)
            for dim in dims:
                scheme = Scheme("product", size, dim, widths, edge=limits.edge)
                if smaller.table.size * len(scheme.blocks) < budget:
                    yield from _filled(smaller, fewer, scheme, budget)


def _plain(model: StaticModel, tokens: int, dims: Sequence[int], budget: int) -> Iterator[tuple[StaticModel, Scheme]]:
    """Plain rows of each kind, of the most dims whose file fits."""
    for kind, bits in (("float16", 16), ("int8", 8), ("int4", 4)):
        schemes = (Scheme(kind, tokens, dim) for dim in dims if tokens * dim * bits // 8 < budget)
        files = ((apply_scheme(model, scheme), scheme) for scheme in schemes)
        yield from islice((file for file in files if file_size(file[0]) <= budget), 1)


def _centroid_scheme(tokens: int, dim: int, budget: int) -> Scheme:
    """As many centroids as fit beside two bytes of mapping, one of weight and two of packed tokenizer a token."""
    room = (budget - 5 * tokens) // (dim + 4)
    return Scheme("centroids", tokens, dim, centroids=min(room, tokens // 2, MOST_CENTROIDS))


def _filled(
    smaller: StaticModel, coded: StaticModel, scheme: Scheme, budget: int
) -> Iterator[tuple[StaticModel, Scheme]]:
    """Product codes with as many exact rows as the budget leaves room for, if it leaves any.

    smaller: the float rows of the same tokens as coded.
    """
    rows, counts = smaller.table.cut(scheme.dim).expanded(), needed_counts(smaller)
    bare = with_exact(coded.table.cut(scheme.dim), rows, counts, 0)
    room = budget - file_size(without_counts(coded.with_table(bare)))
    beside = 2 + (2 if len(rows) <= 2**16 else 4)  # bytes of a scale and of an id
    exact = min(room // (scheme.dim + beside - len(scheme.blocks)), len(rows) // 2)
    if exact >= 0:
        table = with_exact(bare, rows, counts, exact)
        yield without_counts(coded.with_table(table)), replace(scheme, exact=exact)

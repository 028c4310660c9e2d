"""`nestling shrink`: step by step (fewer tokens, fewer dims, fewer bits), or whatever is best within a budget."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

from nestling.errors import InputError, whole_number
from nestling.files.texts import read_texts
from nestling.model.load import requantize
from nestling.model.static import StaticModel
from nestling.shrink.budget import Row, file_size, shrink_to_budget, without_counts
from nestling.shrink.codebook import block_widths, to_centroids, to_products
from nestling.shrink.dims import cut_dims, in_order
from nestling.shrink.fidelity import HELD_OUT, Judge, sample_texts
from nestling.shrink.vocabulary import needed_counts, prune_vocabulary
from nestling.text.count import count_tokens


@dataclass(frozen=True)
class Steps:
    """What to do, in this order; None leaves a step out.

    vocabulary: tokens to keep, the most counted. dim: columns to keep. vocabulary_rows: centroids to share between all
    tokens. product: columns a product code, up to column 64 and after it. exact: tokens that keep exact rows beside
    product codes. dtype: of the rows: float32, float16, int8 or int4.
    """

    vocabulary: int | None = None
    dim: int | None = None
    vocabulary_rows: int | None = None
    product: tuple[int, int] | None = None
    exact: int = 0
    dtype: str | None = None

    def __post_init__(self) -> None:
        for name in ("vocabulary", "dim", "vocabulary_rows"):
            if (count := getattr(self, name)) is not None:
                whole_number(name, count, 1)
        for width in self.product or ():
            whole_number("product", width, 1)
        whole_number("exact", self.exact, 0)
        coded = [name for name in ("vocabulary_rows", "product", "dtype") if getattr(self, name) is not None]
        if len(coded) > 1:
            raise InputError(
                f"{' and '.join(coded)} were given.", "They are ways to code rows; one fits.", "Choose one."
            )
        if self.exact and self.product is None:
            raise InputError(
                f"exact={self.exact} came without product.", "Exact rows stand beside product codes.", "Add it."
            )


def take_steps(model: StaticModel, steps: Steps, *, seed: int = 0) -> Iterator[tuple[str, StaticModel]]:
    """The model after each step, with what the step made of it. Token counts stay, for the next step."""
    if steps.vocabulary is not None:
        model = prune_vocabulary(model, steps.vocabulary)
        yield f"{model.table.size:,} tokens", model
    if steps.dim is not None:
        model = cut_dims(model, steps.dim)
        yield f"{steps.dim} dims", model
    if steps.vocabulary_rows is not None:
        table = to_centroids(model.table.expanded(), needed_counts(model), steps.vocabulary_rows, seed=seed)
        model = model.with_table(table)
        yield f"{len(table.tensors()['rows']):,} centroids", model
    if steps.product is not None:
        widths = block_widths(model.dim, *steps.product)
        table = to_products(model.table.expanded(), needed_counts(model), widths, steps.exact, seed=seed)
        model = model.with_table(table)
        yield f"{len(widths)} product codes a token, {len(table.tensors()['exact.ids']):,} exact rows", model
    if steps.dtype is not None:
        model = model.with_table(requantize(model.table, steps.dtype))
        yield steps.dtype, model


def shrink(
    model: StaticModel,
    steps: Steps,
    *,
    budget: int | None = None,
    corpus: Path | None = None,
    column: str | None = None,
    seed: int = 0,
    progress: bool = False,
) -> tuple[StaticModel, list[Row]]:
    """A smaller model, and the table of what each step (or, with a budget in bytes, each trial) leaves of it.

    corpus: a file of texts; its first fifth, of at most 4,000, is to judge with, the others to count tokens on. Without
    it the counts that the model carries and the texts that come with the package are used. Sizes are of files without
    token counts, but for that of the model as given.
    """
    if budget is not None and steps != Steps():
        raise InputError("A budget came with steps.", "A budget chooses the steps itself.", "Give one or the other.")
    if budget is None and steps == Steps():
        raise InputError("Neither a budget nor a step was given.", "One was expected.", "See nestling shrink --help.")
    if column is not None and corpus is None:
        raise InputError(
            f"column={column!r} came without a corpus.", "A column is one of its columns.", "Give a corpus too."
        )
    held_out, given = sample_texts(), file_size(model)
    if corpus is not None:
        held_out, texts = _split(chain.from_iterable(read_texts(corpus, column=column)))
        model = with_counts(model, texts, progress)
    if budget is not None:
        return shrink_to_budget(model, budget, held_out, seed=seed, progress=progress)
    if steps.dim is not None:
        model = in_order(model, steps.dim)  # before judging, which compares columns
    judge, rows = Judge(model, held_out, seed=seed), [Row("as given", given, 1.0, 1.0)]
    for name, step in take_steps(model, steps, seed=seed):
        smaller = without_counts(step)
        rows.append(Row(name, file_size(smaller), *judge(smaller)))
    return smaller, rows


def _split(texts: Iterator[str]) -> tuple[list[str], Iterator[str]]:
    """The texts of a corpus to judge with, and those to count on."""
    first = list(islice(texts, 5 * HELD_OUT))
    judging = max(len(first) // 5, 2)
    return first[:judging], chain(first[judging:], texts)


def with_counts(model: StaticModel, texts: Iterable[str], progress: bool = False) -> StaticModel:
    """The same model with token counts taken from these texts."""
    counts = count_tokens(model.tokenizer, texts, model.table.size, progress)
    if not counts.any():
        raise InputError(
            "The corpus leaves no token to count.",
            "Texts beyond those that judge, with known tokens, were expected.",
            "Give a longer corpus, or none to use the counts that the model carries.",
        )
    return StaticModel(replace(model.parts(), counts=counts))

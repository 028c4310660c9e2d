"""Fewer rows: the tokens that a corpus uses least go, and their text falls back to smaller pieces."""

from dataclasses import replace

import numpy as np

from nestling.errors import InputError
from nestling.files.parts import Parts
from nestling.model.static import StaticModel
from nestling.text.packed import PackedTokenizer
from nestling.text.prune import keep_pieces


def prune_vocabulary(model: StaticModel, rows: int) -> StaticModel:
    """Keep about `rows` tokens, the most counted ones and what the tokenizer needs besides (text/prune.py)."""
    if rows < 1:
        raise InputError(f"A vocabulary of {rows} rows was asked for.", "At least 1 was expected.", "Ask for more.")
    counts = needed_counts(model)
    by_count = np.argsort(-counts.astype(np.int64), kind="stable")
    return keep_tokens(model, by_count[:rows])


def keep_tokens(model: StaticModel, ids: np.ndarray) -> StaticModel:
    """The same model with these tokens only, and what the tokenizer needs besides; ids are given anew."""
    plan, old = keep_pieces(model.tokenizer.json, set(ids.tolist()))
    new = {before: after for after, before in enumerate(old.tolist())}
    drop = tuple(sorted(new[index] for index in model.document.drop if index in new))
    parts = Parts(
        replace(model.document, drop=drop, scores={}),
        model.table.keep(old).tensors(),
        PackedTokenizer.of(plan, model.name),
        None if model.counts is None else model.counts[old],
    )
    return StaticModel(parts)


def needed_counts(model: StaticModel) -> np.ndarray:
    """The model's token counts, or an error that says where to get some."""
    if model.counts is None:
        raise InputError(
            f"{model.name} carries no token counts.",
            "Choosing or weighting tokens needs them.",
            "Pass a text file to count on: --corpus FILE",
        )
    return model.counts

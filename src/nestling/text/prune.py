"""Fewer pieces in a tokenizer, so that what is removed falls back to smaller pieces and never breaks it.

New ids follow the order of the pieces' UTF-8 bytes, which is the order in which they pack best (text/packed.py).
"""

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from nestling.errors import InputError
from nestling.text.plan import merge_pairs


def keep_pieces(plan: dict[str, Any], keep: Collection[int]) -> tuple[dict[str, Any], npt.NDArray[np.int64]]:
    """A plan with these token ids and what they need, and the old id of each new one: (n,) int64.

    Needed are the unknown piece; in WordPiece the ASCII characters, in Unigram and BPE all single characters and bytes
    (so that any text can still be cut up); in BPE the parts that a kept piece is merged from. Added tokens, special
    ones among them, are dropped, and so is the post-processor: a static model wants plain text only.
    """
    model = plan["model"]
    if model["type"] not in EDIT:
        raise InputError(
            f"The tokenizer is of type {model['type']}.", f"Pruned are {', '.join(EDIT)}.", "Keep its vocabulary whole."
        )
    model, old = EDIT[model["type"]](dict(model), set(keep))
    bare: dict[str, Any] = {"added_tokens": [], "post_processor": None, "truncation": None, "padding": None}
    return {**plan, **bare, "model": model}, np.asarray(old, np.int64)


def _by_bytes(pieces: dict[str, int]) -> list[str]:
    return sorted(pieces, key=lambda piece: piece.encode("utf-8", "surrogatepass"))


def _word_piece(model: dict[str, Any], keep: set[int]) -> tuple[dict[str, Any], list[int]]:
    prefix = model.get("continuing_subword_prefix") or ""
    unknown = model.get("unk_token")

    def needed(piece: str) -> bool:
        bare = piece.removeprefix(prefix)
        return piece == unknown or (len(bare) == 1 and bare.isascii())

    kept = {piece: index for piece, index in model["vocab"].items() if index in keep or needed(piece)}
    return _renumber(model, kept)


def _bpe(model: dict[str, Any], keep: set[int]) -> tuple[dict[str, Any], list[int]]:
    vocabulary, prefix = model["vocab"], model.get("continuing_subword_prefix") or ""
    suffix = model.get("end_of_word_suffix") or ""
    pairs = merge_pairs(model, "the BPE model")
    made_from: dict[str, tuple[str, str]] = {}
    for left, right in pairs:
        made_from.setdefault(left + right.removeprefix(prefix), (left, right))
    wanted = [piece for piece, index in vocabulary.items() if index in keep]
    names = {piece for piece in vocabulary if len(piece.removeprefix(prefix).removesuffix(suffix)) == 1}
    names |= {piece for piece in vocabulary if _is_byte(piece)}
    while wanted:
        piece = wanted.pop()
        if piece not in names:
            names.add(piece)
            wanted.extend(made_from.get(piece, ()))
    names |= {model["unk_token"]} if model.get("unk_token") in vocabulary else set()
    model["merges"] = [
        [left, right] for left, right in pairs if {left, right, left + right.removeprefix(prefix)} <= names
    ]
    return _renumber(model, {piece: index for piece, index in vocabulary.items() if piece in names})


def _renumber(model: dict[str, Any], kept: dict[str, int]) -> tuple[dict[str, Any], list[int]]:
    ordered = _by_bytes(kept)
    model["vocab"] = {piece: index for index, piece in enumerate(ordered)}
    return model, [kept[piece] for piece in ordered]


def _unigram(model: dict[str, Any], keep: set[int]) -> tuple[dict[str, Any], list[int]]:
    unknown = model.get("unk_id")
    entries = [
        (piece, score, index)
        for index, (piece, score) in enumerate(model["vocab"])
        if index in keep or index == unknown or len(piece) == 1 or _is_byte(piece)
    ]
    entries.sort(key=lambda entry: (entry[0].encode("utf-8", "surrogatepass"), entry[2]))
    model["vocab"] = [[piece, score] for piece, score, _ in entries]
    old = [index for _, _, index in entries]
    model["unk_id"] = old.index(unknown) if unknown is not None else None
    return model, old


def _is_byte(piece: str) -> bool:
    """SentencePiece's byte fall-back pieces are written <0x00> to <0xFF>."""
    return len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">")


EDIT = {"WordPiece": _word_piece, "BPE": _bpe, "Unigram": _unigram}

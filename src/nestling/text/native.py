"""The C++ core's tokenizers: whether the core is here, and whether it knows a plan exactly.

What it does not know exactly is not approximated: the twin does it, and `model.backend` says so.
"""

import os
from functools import cache
from types import ModuleType
from typing import Any

from nestling.errors import ModelFileError
from nestling.text.packed import PackedTokenizer

CoreTokenizer = Any  # nestling._core.Tokenizer, which may not be there
PURE = "NESTLING_PURE"  # an environment variable that switches the core off


class _NotExactlyError(Exception):
    """Something in a plan that the core does not do exactly."""


@cache
def core_module() -> tuple[ModuleType | None, str]:
    """The extension, or None and why it is not used."""
    if os.environ.get(PURE, "0") not in ("", "0"):
        return None, f"{PURE} is set"
    try:
        from nestling import _core

        return _core, ""
    except ImportError as error:
        return None, f"the C++ core is not installed: {error}"


def compile_tokenizer(packed: PackedTokenizer) -> tuple[CoreTokenizer | None, str]:
    """The core's tokenizer for a plan, or None and why not. Raises ModelFileError for a vocabulary that is damaged."""
    core, why = core_module()
    if core is None:
        return None, why
    try:
        kind = packed.frame["model"]["type"]
        if kind not in COMPILE:
            raise _NotExactlyError(f"{kind} is left to `tokenizers`")
        options = {**COMPILE[kind](packed.frame, packed), "added": _added(packed.frame)}
        return getattr(core.Tokenizer, kind.lower())(packed.vocabulary, packed.order, **options), ""
    except _NotExactlyError as error:
        return None, str(error)
    except (KeyError, TypeError, AttributeError):
        return None, "a plan of unknown form"
    except ValueError as error:
        if str(error).startswith("not exactly: "):
            return None, str(error).removeprefix("not exactly: ")
        raise ModelFileError(
            f"The tokenizer of {packed.name} has {error}.",
            "A well-formed vocabulary was expected.",
            "The file is damaged or hostile: get it again from where it came.",
        ) from error


def _need(right: bool, what: str) -> None:
    if not right:
        raise _NotExactlyError(what)


def _wordpiece(frame: dict[str, Any], packed: PackedTokenizer) -> dict[str, Any]:
    """BERT's: BertNormalizer, BertPreTokenizer, WordPiece."""
    model, normalizer, splitter = frame["model"], frame["normalizer"], frame["pre_tokenizer"]
    _need(splitter == {"type": "BertPreTokenizer"}, "a pre-tokenizer other than BertPreTokenizer")
    _need(normalizer["type"] == "BertNormalizer", "a normalizer other than BertNormalizer")
    _need(
        normalizer["clean_text"] is True and normalizer["handle_chinese_chars"] is True,
        "a normalizer that keeps controls",
    )
    lower = normalizer["lowercase"]
    _need(type(lower) is bool and normalizer["strip_accents"] in (None, lower), "accents stripped without lower case")
    _need(model["continuing_subword_prefix"] == "##", "a prefix other than ##")
    most = model["max_input_chars_per_word"]
    _need(type(most) is int and 0 < most <= 1000, "words of over 1,000 characters")
    _need(isinstance(model["unk_token"], str), "no unknown token")
    return {"unknown": model["unk_token"], "most_chars": most, "cased": not lower}


def _added(frame: dict[str, Any]) -> list[tuple[str, int, bool, bool]]:
    """Added tokens as the core takes them: content, id, lstrip, rstrip."""
    tokens = frame["added_tokens"] or []
    for token in tokens:
        plain = token.get("normalized") is False and token.get("single_word") is False
        _need(plain, f"an added token, {token['content']!r}, that is matched in normalised text or as a whole word")
        _need(type(token["id"]) is int and 0 <= token["id"] < 4_000_000, "an added token without an id")
    return [(token["content"], token["id"], token["lstrip"] is True, token["rstrip"] is True) for token in tokens]


COMPILE = {"WordPiece": _wordpiece}

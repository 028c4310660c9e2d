"""The C++ core's tokenizers: whether the core is here, and whether it knows a plan exactly.

What it does not know exactly is not approximated: the twin does it, and `model.backend` says so.
"""

import os
from base64 import b64decode
from functools import cache
from types import ModuleType
from typing import Any

from nestling.errors import ModelFileError
from nestling.safe import DAMAGED
from nestling.text.packed import PackedTokenizer

CoreTokenizer = Any  # nestling._core.Tokenizer, which may not be there
PURE = "NESTLING_PURE"  # an environment variable that switches the core off


MOST_ADDED = 1000


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
        options = {**COMPILE[kind](packed), "added": _added(packed.frame)}
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
            DAMAGED,
        ) from error


def _need(right: bool, what: str) -> None:
    if not right:
        raise _NotExactlyError(what)


def _wordpiece(packed: PackedTokenizer) -> dict[str, Any]:
    """BERT's: BertNormalizer, BertPreTokenizer, WordPiece."""
    model, normalizer, splitter = (packed.frame[part] for part in ("model", "normalizer", "pre_tokenizer"))
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
    _need(len(tokens) <= MOST_ADDED, f"over {MOST_ADDED} added tokens")
    for token in tokens:
        plain = token.get("normalized") is False and token.get("single_word") is False
        _need(plain, f"an added token, {token['content']!r}, that is matched in normalised text or as a whole word")
        _need(type(token["id"]) is int and 0 <= token["id"] < 4_000_000, "an added token without an id")
    return [(token["content"], token["id"], token["lstrip"] is True, token["rstrip"] is True) for token in tokens]


def _unigram(packed: PackedTokenizer) -> dict[str, Any]:
    """SentencePiece's, as XLM-R, T5 and ALBERT have it: charsmap, Metaspace, Unigram."""
    model = packed.frame["model"]
    _need(type(model.get("unk_id")) is int and model.get("fuse_unk", True) is True, "no unknown piece")
    return {
        "scores": packed.scores,
        "unknown": model["unk_id"],
        "byte_fallback": model.get("byte_fallback") is True,
        **_unigram_normalizer(packed.frame["normalizer"], packed.frame["pre_tokenizer"]["type"] == "Metaspace"),
        **_metaspace(packed.frame["pre_tokenizer"]),
    }


def _unigram_normalizer(normalizer: dict[str, Any] | None, alone: bool) -> dict[str, Any]:
    """The core's options for a normalizer: some of the steps it knows, in order. alone: before Metaspace."""
    found: dict[str, Any] = dict.fromkeys(("trim", "strip"), (False, False))
    found |= {"replace_quotes": False, "fold": False, "charsmap": b"", "collapse_spaces": False}
    steps = _steps(normalizer, "normalizers")
    if steps[:1] and steps[0]["type"] == "Strip":
        found["trim"] = _sides(steps.pop(0))
    if steps[: len(QUOTES)] == QUOTES:
        found["replace_quotes"], steps = True, steps[len(QUOTES) :]
    if [step["type"] for step in steps[: len(FOLD)]] == FOLD:
        found["fold"], steps = True, steps[len(FOLD) :]
    if steps[:1] and steps[0]["type"] == "Precompiled":
        found["charsmap"] = b64decode(steps.pop(0)["precompiled_charsmap"], validate=True)
        _need(bool(found["charsmap"]), "a charsmap of no bytes")
    if steps[:1] and steps[0]["type"] == "Strip":
        found["strip"] = _sides(steps.pop(0))
    if steps[:1] and steps[0] in SPACES[: 1 + alone]:
        found["collapse_spaces"] = bool(steps.pop(0))
    _need(not steps, f"a normalizer with {steps[0]['type'] if steps else 'nothing'} where it stands")
    return found


def _metaspace(splitter: dict[str, Any]) -> dict[str, Any]:
    """The core's options for Metaspace, alone or behind a WhitespaceSplit."""
    steps = _steps(splitter, "pretokenizers")
    alone = len(steps) == 1
    _need(alone or [step["type"] for step in steps[:-1]] == ["WhitespaceSplit"], "an unknown pre-tokenizer")
    last = steps[-1]
    _need(last["type"] == "Metaspace" and last["replacement"] == "\u2581", "no Metaspace with its usual mark")
    _need(last.get("split", True) is True, "a Metaspace that does not split")
    scheme = last.get("prepend_scheme", "always")
    marks = scheme != "never"
    _need(scheme in ("always", "first", "never"), "a Metaspace of unknown form")
    _need(last.get("add_prefix_space", marks) == marks, "a Metaspace that says two things")
    return {"split_whitespace": not alone, "prepend": ("always", "first", "never").index(scheme)}


def _steps(part: dict[str, Any] | None, inner: str) -> list[dict[str, Any]]:
    """The steps of a normalizer or pre-tokenizer, sequences taken apart."""
    if part is None:
        return []
    if part["type"] != "Sequence":
        return [part]
    return [step for each in part[inner] for step in _steps(each, inner)]


def _sides(strip: dict[str, Any]) -> tuple[bool, bool]:
    return strip["strip_left"] is True, strip["strip_right"] is True


QUOTES = [{"type": "Replace", "pattern": {"String": pair}, "content": '"'} for pair in ("``", "''")]
FOLD = ["NFKD", "StripAccents", "Lowercase"]
SPACES = [{"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": mark} for mark in (" ", "\u2581")]
COMPILE = {"WordPiece": _wordpiece, "Unigram": _unigram}

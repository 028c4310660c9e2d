"""The plan of a tokenizer: what its tokenizer.json says, checked before any other code sees it.

`tokenizers` trusts its input, and panics (a BaseException) on some crafted files; so ids, merges and scores are
checked here first.
"""

import json
from collections.abc import Iterable
from typing import Any

from nestling.errors import ModelFileError
from nestling.safe import DAMAGED, parse_json

MAX_VOCABULARY = 4_000_000
DEEPEST = 64  # nesting of a plan; those in use have under ten
KINDS = ("WordPiece", "BPE", "Unigram", "WordLevel")


def check_plan(text: str, name: str) -> dict[str, Any]:
    """Parse and check the text of a tokenizer.json. name: of the model, for errors. Raises ModelFileError.

    What can be written in two ways comes out in one: the type is there, merges are pairs, scores are floats.
    """
    plan = parse_json(text.encode("utf-8", "surrogatepass"), f"The tokenizer of {name}", parse_float=read_float)
    if not isinstance(plan, dict) or not isinstance(plan.get("model"), dict):
        raise _bad(name, "no object `model`")
    check_depth(plan, name)
    model = plan["model"]
    model.setdefault("type", _guess_kind(model))
    if model["type"] not in KINDS:
        raise _bad(name, f"model type {model['type']!r} (read are {', '.join(KINDS)})")
    _check_added(plan, name)
    (_check_unigram if model["type"] == "Unigram" else _check_vocabulary)(model, name)
    if model["type"] == "BPE":
        model["merges"] = [list(pair) for pair in merge_pairs(model, name)]
        if model.get("dropout"):
            raise _bad(name, f"dropout {model['dropout']!r}, which makes ids random")
    return plan


def read_float(text: str) -> float:
    """A number of a tokenizer.json as `tokenizers` reads it, which may be a unit in the last place off: the digits as
    one float, then one multiplication or division by a power of ten. Which of two pieces wins can hang on that.
    """
    mantissa, _, power = text.lower().partition("e")
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    digits, exponent, number = whole + fraction, int(power or 0) - len(fraction), 0
    for place, digit in enumerate(digits):
        if number * 10 + int(digit) >= 2**64:
            exponent += len(digits) - place
            break
        number = number * 10 + int(digit)
    value = float(number)
    if number and exponent > 308:
        value = float("inf")
    elif exponent >= 0 and number:
        value *= float(f"1e{exponent}")
    while exponent < 0 and value:
        value /= float(f"1e{min(-exponent, 308)}")
        exponent += 308
    return -value if mantissa.startswith("-") else value


def check_depth(plan: Any, name: str) -> None:
    """Raise ModelFileError for a plan of endless nesting, which would exhaust the stack of what reads it next."""
    level = [plan]
    for _ in range(DEEPEST):
        level = [inner for value in level if isinstance(value, (dict, list)) for inner in _inside(value)]
        if not level:
            return
    raise _bad(name, f"objects or lists nested over {DEEPEST} deep")


def _inside(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    """What a value holds, as far as it can go on."""
    return (
        inner for inner in (value.values() if isinstance(value, dict) else value) if isinstance(inner, (dict, list))
    )


def _bad(name: str, what: str) -> ModelFileError:
    return ModelFileError(
        f"The tokenizer of {name} has {what}.",
        "A well-formed tokenizer.json was expected.",
        DAMAGED,
    )


def _guess_kind(model: dict[str, Any]) -> str:
    """Older files leave the type out."""
    if "merges" in model:
        return "BPE"
    return "Unigram" if isinstance(model.get("vocab"), list) else "WordPiece"


def _check_vocabulary(model: dict[str, Any], name: str) -> None:
    vocabulary = model.get("vocab")
    if not isinstance(vocabulary, dict) or len(vocabulary) > MAX_VOCABULARY:
        raise _bad(name, "a vocabulary that is no object of at most 4,000,000 pieces")
    ids = list(vocabulary.values())
    if not all(type(index) is int and 0 <= index < MAX_VOCABULARY for index in ids):
        raise _bad(name, "a token id that is no whole number from 0 to 3,999,999")
    if len(set(ids)) != len(ids):
        raise _bad(name, "two pieces with one id")


def _check_unigram(model: dict[str, Any], name: str) -> None:
    vocabulary = model.get("vocab")
    if not isinstance(vocabulary, list) or not 0 < len(vocabulary) <= MAX_VOCABULARY:
        raise _bad(name, "a vocabulary that is no list of 1 to 4,000,000 pieces")
    for entry in vocabulary:
        if not (isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str)):
            raise _bad(name, f"a vocabulary entry {str(entry)[:60]!r} that is no [piece, score]")
        if not isinstance(entry[1], (int, float)) or not abs(entry[1]) < 1e30:
            raise _bad(name, f"piece {entry[0]!r} with a score that is no finite number")
        entry[1] = float(entry[1])
    unknown = model.get("unk_id")
    if unknown is not None and not (type(unknown) is int and 0 <= unknown < len(vocabulary)):
        raise _bad(name, f"unk_id {unknown!r}, out of range")


def _check_added(plan: dict[str, Any], name: str) -> None:
    added = plan.get("added_tokens")
    if not isinstance(added, list) and added is not None:
        raise _bad(name, "added_tokens that is no list")
    for token in added or []:
        if not isinstance(token, dict) or not isinstance(token.get("content"), str) or not token["content"]:
            raise _bad(name, "an added token without content")
        if type(token.get("id")) is not int or not 0 <= token["id"] < MAX_VOCABULARY:
            raise _bad(name, f"added token {token['content']!r} with a bad id")


def merge_pairs(model: dict[str, Any], name: str) -> list[tuple[str, str]]:
    """The merges of a BPE model, in order, both parts and their union checked to be in the vocabulary."""
    merges, vocabulary = model.get("merges"), model["vocab"]
    prefix = model.get("continuing_subword_prefix") or ""
    if not isinstance(merges, list) or not all(isinstance(merge, (str, list, tuple)) for merge in merges):
        raise _bad(name, "merges that is no list of pairs")
    if not isinstance(prefix, str):
        raise _bad(name, f"continuing_subword_prefix {str(prefix)[:60]!r} that is no string")
    pairs = [tuple(merge.split(" ") if isinstance(merge, str) else merge) for merge in merges]
    for pair in pairs:
        if len(pair) != 2 or not all(isinstance(part, str) and part in vocabulary for part in pair):
            raise _bad(name, f"merge {str(pair)[:60]} of pieces that the vocabulary lacks")
        if pair[0] + pair[1].removeprefix(prefix) not in vocabulary:
            raise _bad(name, f"merge {str(pair)[:60]} into a piece that the vocabulary lacks")
    return [(left, right) for left, right in pairs]


def dump_plan(plan: dict[str, Any]) -> str:
    """The text of a plan, compact; the same plan gives the same text."""
    return json.dumps(plan, ensure_ascii=False, separators=(",", ":"))

"""Ask the reference tokenizer what it does to every code point, and write it down for the core.

    python core/derive/codepoints.py            writes core/tables/{uncased,cased,reordered}.inc
    python core/derive/codepoints.py --check    fails if they are not what the installed `tokenizers` does

Unicode versions differ between Rust, Python and JavaScript; so the host's tables are never asked, only
`tokenizers` itself: BertNormalizer and BertPreTokenizer treat one code point at a time (but for the order of
combining marks, see wordpiece.hpp), so what they do to each of them is all there is to know.

The format: a list of ranges, as LEB128 numbers. Each starts where the one before ended and has
    length * 8 + kind,  then for KEEP, PUNCTUATION and ALONE: the zigzag of (target - code point), the same for all;
                        for MANY: how many, then for each a code point * 8 + its kind (of a single code point).
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import tokenizers
from tokenizers import normalizers, pre_tokenizers

KEEP, DROP, SPACE, PUNCTUATION, ALONE, MANY, HANGUL = range(7)
TABLES = Path(__file__).parent.parent / "tables"
LAST = 0x10FFFF
SURROGATES = range(0xD800, 0xE000)
HANGUL_SYLLABLES = range(0xAC00, 0xD7A4)

Item = tuple[int, int]  # kind, code point
Ask = Callable[[str], list[Item]]


def bert(lowercase: bool) -> Ask:
    """What BertNormalizer and BertPreTokenizer make of a character inside a word, as items."""
    normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=lowercase
    )
    splitter = pre_tokenizers.BertPreTokenizer()

    def ask(char: str) -> list[Item]:
        normal = normalizer.normalize_str(f"a{char}b")
        assert (normal[0], normal[-1]) == ("a", "b"), (hex(ord(char)), normal)
        inner = normal[1:-1]
        if inner == " ":
            return [(SPACE, 0)]
        alone = len(inner) > 2 and inner[0] == inner[-1] == " "
        items = []
        for one in inner.strip(" ") if alone else inner:
            words = [word for word, _ in splitter.pre_tokenize_str(f"a{one}b")]
            assert words in ([f"a{one}b"], ["a", one, "b"], ["a", "b"]), (hex(ord(char)), words)
            kind = {1: KEEP, 3: PUNCTUATION, 2: SPACE}[len(words)]
            items.append((ALONE if alone and kind == KEEP else kind, ord(one)))
        return items

    return ask


def entries(ask: Ask) -> Iterator[tuple[int, int, list[Item]]]:
    """For each code point: its kind, the delta to its target, and the items where there are several."""
    for code in range(LAST + 1):
        if code in SURROGATES:
            yield DROP, 0, []
            continue
        items = ask(chr(code))
        if code in HANGUL_SYLLABLES and items == [(KEEP, part) for part in jamo(code)]:
            yield HANGUL, 0, []
        elif not items:
            yield DROP, 0, []
        elif len(items) > 1:
            yield MANY, 0, items
        elif items[0][0] == SPACE:
            yield SPACE, 0, []
        else:
            yield items[0][0], items[0][1] - code, []


def jamo(code: int) -> list[int]:
    """The letters of a Hangul syllable, by Unicode's arithmetic (chapter 3.12)."""
    index = code - 0xAC00
    letters = [0x1100 + index // 588, 0x1161 + index % 588 // 28]
    return [*letters, 0x11A7 + index % 28] if index % 28 else letters


def encode(ask: Ask) -> bytes:
    """The ranges of `entries` as bytes."""
    raw = bytearray()
    before: tuple[int, int, list[Item]] | None = None
    length = 0
    for entry in [*entries(ask), None]:
        if entry == before and entry is not None and entry[0] != MANY:
            length += 1
            continue
        if before is not None:
            kind, delta, items = before
            raw += leb128(length * 8 + kind)
            if kind in (KEEP, PUNCTUATION, ALONE):
                raw += leb128(delta * 2 if delta >= 0 else -delta * 2 - 1)
            elif kind == MANY:
                raw += leb128(len(items))
                for inner, target in items:
                    raw += leb128(target * 8 + inner)
        before, length = entry, 1
    return bytes(raw)


def reordered() -> list[int]:
    """The marks that stay when accents are stripped and that canonical order may move: the one thing for which a code
    point's neighbours matter. U+1D16D belongs behind all the others."""
    last = "\U0001d16d"
    ask = bert(lowercase=True)
    normalizer = normalizers.BertNormalizer(lowercase=True)

    def moves(char: str) -> bool:
        alone = "".join(chr(code) for _, code in ask(char)) if char not in (" ", last) else ""
        return normalizer.normalize_str(f"a{last}{char}b") == f"a{alone}{last}b" and bool(alone)

    others = [code for code in range(LAST + 1) if code not in SURROGATES and moves(chr(code))]
    return [*others, ord(last)]


def leb128(number: int) -> bytes:
    raw = bytearray()
    while number > 127:
        raw.append(number & 127 | 128)
        number >>= 7
    raw.append(number)
    return bytes(raw)


def as_include(raw: Sequence[int], source: str) -> str:
    """A C array's inside, with a line that says where it comes from."""
    lines = [",".join(map(str, raw[start : start + 32])) for start in range(0, len(raw), 32)]
    return f"// Written by core/derive/{source} from tokenizers {tokenizers.__version__}.\n" + ",\n".join(lines) + "\n"


def write_or_check(name: str, raw: Sequence[int], source: str, check: bool) -> None:
    """Write tables/NAME.inc, or exit with a message if it holds other bytes."""
    path = TABLES / f"{name}.inc"
    text = as_include(raw, source)
    if not check:
        path.write_text(text)
        print(f"{path}: {len(raw):,} numbers")
    elif path.read_text().split("\n", 1)[1] != text.split("\n", 1)[1]:
        sys.exit(f"{path} is not what tokenizers {tokenizers.__version__} does; run core/derive/{source}")


if __name__ == "__main__":
    for name, lowercase in (("uncased", True), ("cased", False)):
        write_or_check(name, encode(bert(lowercase)), "codepoints.py", "--check" in sys.argv[1:])
    write_or_check("reordered", reordered(), "codepoints.py", "--check" in sys.argv[1:])

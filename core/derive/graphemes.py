"""Ask the reference tokenizer how each code point joins its neighbours into a grapheme cluster, for the core.

    python core/derive/graphemes.py            writes core/tables/graphemes.inc
    python core/derive/graphemes.py --check    fails if it is not what the installed `tokenizers` does

The Precompiled normalizer tries a cluster of less than 6 bytes as a whole, and otherwise each character. So with a
charsmap that turns whatever begins with any byte into an X, a cluster of less than 6 bytes becomes one X, and a longer
one as many as it has characters: the number of X tells how a text is split. A code point is set among others, each
class predicts these numbers by the rules of UAX #29, and the class whose numbers are all right is its class. What no
number tells cannot change an id either: pairs of regional indicators have 8 bytes, and are no class here.

The format: for each range of code points, as LEB128 numbers: length * 32 + class.
"""

import itertools
import struct
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tokenizers import normalizers

sys.path.insert(0, str(Path(__file__).parent))
from codepoints import LAST, SURROGATES, leb128, write_or_check

# The order is that of graphemes.hpp; where several classes predict the same, the first is taken.
ANY, CR, LF, CONTROL, EXTEND, EXTEND_ALONE, LINKER, ZWJ, SPACING, PREPEND = range(10)
L, V, T, LV, LVT, PICTOGRAPHIC, CONSONANT = range(10, 17)
CLASSES = range(17)
# EXTEND is Extend with Indic_Conjunct_Break=Extend, EXTEND_ALONE without, LINKER with Linker.
MARKS = {EXTEND, EXTEND_ALONE, LINKER}
KNOWN = {
    "a": ANY, "\r": CR, "\n": LF, "\u0300": EXTEND, "\u094d": LINKER, "\u200d": ZWJ, "\u1100": L, "\u1161": V,
    "\u11a8": T, "\u00a9": PICTOGRAPHIC, "\u0915": CONSONANT,
}  # fmt: skip
# "?" is the code point in question.
PROBES = [
    "a?",
    "?a",
    "?̀",
    "?̀̀",
    "\r?",
    "?\n",
    "©\u200d?̀",
    "?\u200d©̀",
    "©?\u200d©̀",
    "ᄀ?̀",
    "ᅡ?̀",
    "ᆨ?̀",
    "?ᅡ̀",
    "?ᆨ̀",
    "क्?̀",
    "?्क̀",
    "क?क̀",
    "क्?क̀",
]


def joined(before: Sequence[int], after: int) -> bool:
    """Whether a character of a class goes on with the cluster of those before it: UAX #29, extended clusters."""
    last = before[-1]
    if (last, after) == (CR, LF):
        return True
    if {last, after} & {CR, LF, CONTROL}:
        return False
    hangul = {L: {L, V, LV, LVT}, LV: {V, T}, V: {V, T}, LVT: {T}, T: {T}}
    if after in hangul.get(last, ()) or after in MARKS | {ZWJ, SPACING} or last == PREPEND:
        return True
    if after == PICTOGRAPHIC and last == ZWJ:
        return next((one for one in reversed(before[:-1]) if one not in MARKS), None) == PICTOGRAPHIC
    if after == CONSONANT:
        between = list(itertools.takewhile({EXTEND, LINKER, ZWJ}.__contains__, reversed(before)))
        return LINKER in between and before[-len(between) - 1 :][:1] == [CONSONANT]
    return False


def predict(kind: int, size: int) -> tuple[int, ...]:
    """How many X each probe gives for a code point of a class, of so many bytes."""
    numbers = []
    for probe in PROBES:
        clusters: list[list[tuple[int, int]]] = []
        for char in probe:
            one = (kind, size) if char == "?" else (KNOWN[char], len(char.encode()))
            if clusters and joined([before for before, _ in itertools.chain(*clusters)], one[0]):
                clusters[-1].append(one)
            else:
                clusters.append([one])
        numbers.append(sum(1 if sum(size for _, size in cluster) < 6 else len(cluster) for cluster in clusters))
    return tuple(numbers)


def marking_charsmap() -> bytes:
    """Keys: all single bytes but NUL, all to be replaced by X. A Darts double array as spm_precompiled reads it."""
    units = [256 << 10] + [0] * 767
    for byte in range(1, 256):
        units[256 + byte] = 768 << 10 | 1 << 8 | byte  # (256 + byte) ^ 768 = 512 + byte, where its value lies
        units[512 + byte] = 1 << 31
    return struct.pack(f"<I{len(units)}I", 4 * len(units), *units) + b"X\0"


def classes() -> Iterator[int]:
    normalizer = normalizers.Precompiled(marking_charsmap())
    predicted = [{predict(kind, size): kind for kind in reversed(CLASSES)} for size in range(1, 5)]
    text = "\0".join(PROBES)  # no key has a NUL, and it is a control, so that it parts the probes
    yield CONTROL
    for code in range(1, LAST + 1):
        if code in SURROGATES:
            yield ANY
            continue
        char = chr(code)
        numbers = tuple(map(len, normalizer.normalize_str(text.replace("?", char)).split("\0")))
        kind = predicted[len(char.encode()) - 1].get(numbers)
        assert kind is not None, f"U+{code:04X} fits no class: {numbers}"
        yield kind


def encode() -> bytes:
    raw = bytearray()
    for kind, run in itertools.groupby(classes()):
        raw += leb128(sum(1 for _ in run) * 32 + kind)
    return bytes(raw)


if __name__ == "__main__":
    write_or_check("graphemes", encode(), "graphemes.py", "--check" in sys.argv[1:])

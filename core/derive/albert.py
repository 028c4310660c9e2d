"""Ask the reference tokenizer what ALBERT's folding does to every code point, and write it down for the core.

    python core/derive/albert.py            writes core/tables/albert.inc, in the format of codepoints.py
    python core/derive/albert.py --check    fails if it is not what the installed `tokenizers` does

NFKD, then no accents, then lower case: what is left has no combining marks, so no order that could depend on a
neighbour, and each code point is folded on its own.
"""

import sys
from pathlib import Path

from tokenizers import normalizers

sys.path.insert(0, str(Path(__file__).parent))
from codepoints import KEEP, Item, encode, write_or_check


def fold(char: str) -> list[Item]:
    """What becomes of a character inside a word."""
    normal = NORMALIZER.normalize_str(f"a{char}b")
    assert normal[0] + normal[-1] == "ab", (hex(ord(char)), normal)
    return [(KEEP, ord(one)) for one in normal[1:-1]]


NORMALIZER = normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()])

if __name__ == "__main__":
    write_or_check("albert", encode(fold), "albert.py", "--check" in sys.argv[1:])

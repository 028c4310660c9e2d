"""One file -> its sections, by the kind that the end of its name tells.

A file is decoded whole or not at all: bytes that are not text give a reason to report, never a guess at the letters.
"""

import codecs
import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from nestling.search.definitions import BY_KEYWORD, BY_KEYWORD_OR_BRACE, definitions
from nestling.search.markup import html
from nestling.search.outline import Section, markdown, rst, sections
from nestling.search.pdf import pdf_text
from nestling.search.table import delimited, json_lines

_HEAD = 8192
_KEYWORD_SUFFIXES = frozenset(".ex .exs .hs .jl .lua .ml .nim .pl .pm .py .pyi .r .rb .vb".split())
_BRACE_SUFFIXES = frozenset(
    ".bash .c .cc .cpp .cs .cu .cxx .d .dart .go .groovy .h .hh .hpp .hxx .java .js .jsx .kt .kts .m .mjs .mm .php .ps1"
    " .rs .scala .sh .swift .ts .tsx .v .zig .zsh".split()
)


class Unreadable(Exception):
    """A file whose text cannot be had; its message is the reason."""


class Binary(Unreadable):
    """A file that is not text at all."""


def read(path: Path, columns: Sequence[str] | None = None) -> list[Section]:
    """The sections of a file. Raises Unreadable with the reason, or Binary; InputError for a missing column."""
    try:
        if path.suffix.lower() == ".pdf":
            return [Section(pdf_text(path), kind="page")]
        return list(_sections(_decode(path.read_bytes()), path, columns))
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from error
    except (csv.Error, ...)

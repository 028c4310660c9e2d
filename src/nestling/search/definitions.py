"""Where the definitions of a source file begin, in most languages, without parsing any.

A line with `def`, `class`, `fn`, `struct` and the like begins a definition; so does, in languages with
braces, a line such as `static int main(int argc) {`. Those inside a large definition count too.
"""

import re
from collections.abc import Iterator

from nestling.search.outline import Heading

_KEYWORD = r"""
    (?:(?:export|default|public|private|protected|internal|static|abstract|final|sealed|async|unsafe|extern|inline
        |open|override|virtual|data|const|declare|partial|local|pub(?:\([^)\n]*\))?)[ \t]+)*+
    (?:def|defp|defmodule|class|function\*?|fn|func|fun|sub|proc|impl(?:<[^>\n]*>)?|struct|enum|trait|interface|type
        |module|namespace|object|protocol|extension|record|macro_rules!|mod|union)[ \t]+
    (?:\([^)\n]*\)[ \t]*)?
    (?P<name>[\w$.]++(?:::[\w$]++)*+)
    (?=[ \t]*(?:[(<{:=\[;!?]|$|(?:extends|implements|for|where|do|struct|interface|is)\b))
"""
_BRACE = r"""
    (?!(?:return|else|if|for|while|switch|catch|do|try|new|throw|case|using|lock|foreach|when|unless)\b)
    (?=[A-Za-z_~])[\w:<>,*&\[\]?.@ \t~]*?(?<![\w$~:])(?P<method>[\w$~]++(?:::[\w$~]++)*+)[ \t]*
    (?=\([^;\n]*?(?:\n[ \t]*)?\{[ \t]*$)
"""
_START = r"^(?=.{1,200}$)(?P<indent>[ \t]*+)"
BY_KEYWORD = re.compile(f"{_START}(?:{_KEYWORD})", re.MULTILINE | re.VERBOSE)
BY_KEYWORD_OR_BRACE = re.compile(f"{_START}(?:{_KEYWORD}|{_BRACE})", re.MULTILINE | re.VERBOSE)

_ABOVE = ("#", "@", "//", "/*", "*", "--", ";;", "[")
_LEAST = 120
_MOST = 1200


def definitions(text: str, pattern: re.Pattern[str] = BY_KEYWORD) -> Iterator[Heading]:
    """The definitions that deserve a section of their own; level: the indent.

    Those inside another count only if that one is longer than 1200 characters. One that begins less than 120
    characters after the last joins it. Comments and decorators right above belong to the definition.
    """
    found = [(match, len(match["indent"].expandtabs(4))) for match in pattern.finditer(text)]
    ends = _ends([(match.start(), indent) for match, indent in found], len(text))
    around: list[tuple[int, bool]] = []  # The indents of the definitions we are in, and whether each is opened.
    last = None
    for (match, indent), end in zip(found, ends, strict=True):
        while around and around[-1][0] >= indent:
            around.pop()
        wanted = not around or around[-1][1]
        around.append((indent, wanted and end - match.start() > _MOST))
        if wanted and (last is None or match.start() - last >= _LEAST):
            start = _with_comments(text, match, last or 0)
            last = start if last is not None or start >= _LEAST else 0
            yield Heading(last, match.end(), indent, match[str(match.lastgroup)])


def _ends(starts: list[tuple[int, int]], length: int) -> list[int]:
    """Where each definition ends: at the next one that is indented no more. starts: (offset, indent)."""
    ends = []
    later: list[tuple[int, int]] = []
    for start, indent in reversed(starts):
        while later and later[-1][1] > indent:
            later.pop()
        ends.append(later[-1][0] if later else length)
        later.append((start, indent))
    return ends[::-1]


def _with_comments(text: str, definition: re.Match[str], floor: int) -> int:
    """The start of a definition, or of the comments and decorators right above it, unless indented further."""
    start = definition.start()
    while start > floor:
        above = text.rfind("\n", floor, start - 1) + 1 or floor
        words = text[above:start].lstrip()
        if not words.startswith(_ABOVE) or start - above - len(words) > len(definition["indent"]) + 1:
            break
        start = above
    return start

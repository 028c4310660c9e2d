"""The rules of .gitignore files: the last pattern that matches wins, the nearest file first.

git asks whether a path itself matches a pattern, one level of folders at a time. pathspec's GitIgnoreSpec judges
whole file paths: it shuts a folder that `*` and then `!*/` leave open, and opens a file in a shut folder. The
walk goes level by level anyway, so it is enough to turn each pattern into a regular expression.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

_TOKEN = re.compile(
    r"""(?P<all>\A\*\*\Z) | (?P<leading>\A(?:\*\*/)+) | (?P<middle>\\?/\*\*(?=/)) | (?P<trailing>\\?/\*\*\Z)
    | (?P<star>\*+) | (?P<one>\?)
    | \[(?P<negated>[!^]?)(?P<members>\]?(?:\\.|[^\]\\])*)\]
    | \\?(?P<literal>.)""",
    re.DOTALL | re.VERBOSE,
)
_WILD = {"all": ".*", "leading": "(?:.*?/)??", "middle": "(?:/.*?)??", "trailing": "/.+", "one": "[^/]"}


@dataclass(frozen=True)
class Pattern:
    """One line of a .gitignore file."""

    matches: re.Pattern[str]
    negated: bool
    folders_only: bool


@dataclass(frozen=True)
class Rules:
    """The patterns of one .gitignore file, last first, and the folder they are relative to."""

    folder: str
    patterns: tuple[Pattern, ...]

    def verdict(self, full: str, is_folder: bool) -> bool | None:
        """True: ignored, False: wanted, None: not mentioned. full: an absolute path below the folder."""
        relative = full.removeprefix(self.folder).lstrip("/")
        for pattern in self.patterns:
            if (is_folder or not pattern.folders_only) and pattern.matches.fullmatch(relative):
                return not pattern.negated
        return None


def read_rules(folder: Path) -> Rules:
    """The rules of `folder`/.gitignore; without such a file, or with one that cannot be read, no rules."""
    file, lines = folder / ".gitignore", list[str]()
    with suppress(OSError):
        if file.is_file():  # a pipe would be waited for
            lines = file.read_text(encoding="utf-8-sig", errors="surrogateescape").split("\n")
    patterns = [pattern for line in reversed(lines) if (pattern := _parse(line))]
    return Rules(folder.as_posix(), tuple(patterns))


def ignored(rules: tuple[Rules, ...], full: str, is_folder: bool) -> bool:
    """Whether a path is ignored. rules: outermost folder first; the innermost with a verdict decides."""
    verdicts = (one.verdict(full, is_folder) for one in reversed(rules))
    return next((verdict for verdict in verdicts if verdict is not None), False)


def rules_above(folder: Path) -> tuple[Rules, ...]:
    """The rules that the folders above `folder` set for it: from its git repository's root down.

    Outside a repository there are none, nor for a folder that is itself ignored: it was named on purpose.
    """
    line = [folder, *folder.parents]
    depth = next((depth for depth, above in enumerate(line) if (above / ".git").exists()), 0)
    rules: tuple[Rules, ...] = ()
    for above, below in pairwise(reversed(line[: depth + 1])):
        rules = (*rules, read_rules(above))
        if ignored(rules, below.as_posix(), is_folder=True):
            return ()
    return rules


def _parse(line: str) -> Pattern | None:
    """One line as a pattern; None for blank lines, comments and globs that match nothing."""
    line = re.sub(r"(?<!\\) +\Z", "", line)
    if not line or line.startswith("#"):
        return None
    negated = line.startswith("!")
    glob = line[negated:]
    folders_only = glob.endswith("/")
    glob = glob.removesuffix("/")
    if "/" not in glob:
        glob = "**/" + glob
    try:
        return Pattern(re.compile(_regex(glob.removeprefix("/")), re.DOTALL), negated, folders_only)
    except re.error:  # A range such as [z-a]: git matches nothing with it either.
        return None


def _regex(glob: str) -> str:
    """A glob relative to its folder as a regular expression.

    What a wildcard and the letters up to the next one have found is not tried again (atomic groups): the nearest place
    leaves the most room for what follows. So the time grows with a path, however many wildcards there are.
    """
    parts: list[list[re.Match[str]]] = [[]]
    for token in _TOKEN.finditer(glob):
        if token.lastgroup == "middle":
            parts.append([])
        parts[-1].append(token)
    *firsts, last = map(_between_folders, parts)
    return "".join(f"(?>{first}(?=/))" for first in firsts) + last


def _between_folders(tokens: Sequence[re.Match[str]]) -> str:
    """The tokens from one `**` to the next."""
    done = letters = ""
    star = False  # before the letters, in this level of folders
    for token in tokens:
        if token.lastgroup == "star":
            done += f"(?>[^/]*?{letters})" if star else letters
            letters, star = "", True
        elif token["literal"] == "/" or token.lastgroup == "trailing":
            done += "[^/]*" * star + letters + _piece(token)
            letters, star = "", False
        else:
            letters += _piece(token)
    return done + "[^/]*" * star + letters


def _piece(token: re.Match[str]) -> str:
    if token["members"] is not None:
        members = re.sub(r"\\(.)|([\[&|~^])", lambda member: re.escape(member[1] or member[2]), token["members"])
        return f"(?!/)[{'^' if token['negated'] else ''}{members.replace(']', chr(92) + ']')}]"
    return re.escape(token["literal"]) if token["literal"] else _WILD[str(token.lastgroup)]

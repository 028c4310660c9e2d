"""Which files a search reads: those named, and those found in named folders, in one fixed order.

Found files obey .gitignore; hidden names, virtual environments and the like are passed over. Links to files
are followed, links to folders are not, so no loop can arise; a file reached by two ways is read once.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from nestling.errors import InputError
from nestling.search.ignore import Rules, ignored, read_rules, rules_above
from nestling.search.results import Problem

_SKIPPED = frozenset({"CVS", "_darcs", "node_modules", "__pycache__", "venv"})


def walk(paths: Sequence[Path]) -> Iterator[Path | Problem]:
    """Every file under the paths: the paths in their order, sorted by name within. A shut folder is a Problem.

    A file that is named is always there. A path that leads nowhere is an InputError, raised at once.
    """
    for path in paths:
        try:
            path.stat()
        except (OSError, ValueError) as error:  # ValueError: of a NUL in the name.
            raise InputError(
                f"The path {str(path)!r} cannot be searched: {getattr(error, 'strerror', error)}.",
                "Each path is a file or a folder.",
                "Check the spelling, and that it is relative to the folder you are in.",
            ) from error
    return _once(found for path in paths for found in (_below(path) if path.is_dir() else [path]))


def _once(found: Iterator[Path | Problem]) -> Iterator[Path | Problem]:
    """Drop files that came before by another name."""
    seen = set()
    for item in found:
        key = os.path.realpath(item) if isinstance(item, Path) else item
        if key not in seen:
            seen.add(key)
            yield item


def _below(top: Path) -> Iterator[Path | Problem]:
    """The files below a folder, depth first, each level sorted by name."""
    full = top.resolve()
    pending: list[tuple[Path, bool, tuple[Rules, ...]]] = [(top, True, rules_above(full))]
    while pending:
        path, is_folder, rules = pending.pop()
        if not is_folder:
            yield path
            continue
        below = full / path.relative_to(top)
        rules = (*rules, read_rules(below))
        try:
            entries = _entries(path)
        except OSError as error:
            yield Problem(str(path), f"the folder cannot be listed: {error.strerror}")
            continue
        for name, is_folder in reversed(entries):
            if not ignored(rules, (below / name).as_posix(), is_folder):
                pending.append((path / name, is_folder, rules))


def _entries(folder: Path) -> list[tuple[str, bool]]:
    """Name and whether it is a folder, of everything worth a look in a folder, sorted by name."""
    with os.scandir(folder) as entries:
        return sorted(
            (entry.name, entry.is_dir(follow_symlinks=False))
            for entry in entries
            if not entry.name.startswith(".") and entry.name not in _SKIPPED and _is_of_use(entry)
        )


def _is_of_use(entry: os.DirEntry[str]) -> bool:
    """No pipe or device, no link to one or to a folder; but a link to nothing, which reading will report."""
    if entry.is_symlink():
        path = Path(entry.path)
        return path.is_file() or not path.exists()
    return entry.is_dir() or entry.is_file()

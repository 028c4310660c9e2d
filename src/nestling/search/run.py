"""A search from end to end: files -> passages -> ranks -> snippets, with an account of what was met."""

import time
from collections.abc import Iterable, Iterator, Sequence
from os import PathLike
from pathlib import Path

from nestling.errors import InputError
from nestling.search.ask import check_columns, check_limits, check_paths, check_query, open_model
from nestling.search.chunk import passages
from nestling.search.decode import Binary, Unreadable
from nestling.search.model import Embedder
from nestling.search.rank import Ranked, rank
from nestling.search.read import read
from nestling.search.results import Passage, Problem, Report
from nestling.search.snippet import hit
from nestling.search.table import TABLES, WrongColumns
from nestling.search.walk import walk


def search(
    query: str,
    paths: str | PathLike[str] | Sequence[str | PathLike[str]],
    model: Embedder | str | Path,
    *,
    top: int = 10,
    min_score: float | None = None,
    columns: str | Sequence[str] | None = None,
    progress: bool = False,
) -> Report:
    """Rank the passages of files by their nearness to a query, in meaning and wording.

    paths: files, and folders to look through. model: what nestling.load gives, or a name for it. top: how many hits at
    most. min_score: the least score of a hit; none is above 1. columns: what to read of CSV, TSV and JSON Lines files.
    progress: a bar on stderr, after one second.

    >>> report = search("how to install", ["docs"], model)
    >>> report.hits[0].passage.path
    """
    began = time.perf_counter()
    wording = check_query(query)
    check_limits(top, min_score)
    reading = _Reading(paths, columns, progress)
    model = open_model(model)
    vector = model.encode_query(query)
    ranked = rank(reading.passages(), vector, wording, model, top=top, min_score=min_score)
    found = reading.again(ranked)
    return Report(
        query,
        tuple(hit(place, passage, vector, wording, model) for place, passage in found),
        reading.files,
        reading.found,
        reading.binaries,
        tuple(reading.problems),
        time.perf_counter() - began,
    )


class _Reading:
    """The passages of all files, one after another, and counts of what was read so far."""

    def __init__(
        self,
        paths: str | PathLike[str] | Sequence[str | PathLike[str]],
        columns: str | Sequence[str] | None,
        progress: bool,
    ) -> None:
        self.columns = check_columns(columns)
        self.found_files = walk(check_paths(paths))
        self.progress = progress
        self.files = self.found = self.binaries = self.tables = 0
        self.wrong_tables: list[Problem] = []
        self.problems: list[Problem] = []
        self.streams: dict[str, list[Passage]] = {}

    def passages(self) -> Iterator[Passage]:
        """Every passage. Raises InputError at the end if no table that was met has the columns."""
        from tqdm import tqdm

        hidden = None if self.progress else True  # None: where there is no terminal
        bar = tqdm(self.found_files, "searching", unit=" files", delay=1, leave=False, disable=hidden)
        for item in bar:
            if isinstance(item, Problem):
                self.problems.append(item)
                continue
            for passage in self._of_file(item):
                self.found += 1
                yield passage
        if self.wrong_tables and not self.tables:
            first = self.wrong_tables[0]
            raise InputError(
                f"No table can be searched by {', '.join(map(repr, self.columns or []))}.",
                f"{first.path} has {first.reason}.",
                "Name columns that are there, or leave them out to search all that hold words.",
            )

    def again(self, ranked: Sequence[Ranked]) -> list[tuple[Ranked, Passage]]:
        """Read the ranked passages once more, as texts are not kept. One that is gone is a problem of its file."""
        wanted: dict[str, dict[int, Ranked]] = {}
        for place in ranked:
            wanted.setdefault(place.path, {})[place.number] = place
        texts: dict[Ranked, Passage] = {}
        for path, places in wanted.items():
            for number, passage in enumerate(self._once_more(path)):
                if number in places and passage.line == places[number].line:
                    texts[places[number]] = passage
            if any(place not in texts for place in places.values()):
                self.problems.append(Problem(path, "changed while it was searched"))
        return [(place, texts[place]) for place in ranked if place in texts]

    def _of_file(self, path: Path) -> Iterable[Passage]:
        """The passages of one file, those of a stream kept; what hinders is counted or noted."""
        try:
            found = passages(str(path), read(path, self.columns))
        except Binary:
            self.binaries += 1
            return []
        except Unreadable as reason:
            problem = Problem(str(path), str(reason))
            self.problems.append(problem)
            if isinstance(reason, WrongColumns):
                self.wrong_tables.append(problem)
            return []
        self.files += 1
        self.tables += path.suffix.lower() in TABLES
        if path.is_file():
            return found
        self.streams[str(path)] = list(found)
        return self.streams[str(path)]

    def _once_more(self, path: str) -> Iterable[Passage]:
        """The passages of a file that has been read before; of a stream, which cannot be read twice, those kept."""
        if path in self.streams:
            return self.streams[path]
        try:
            return passages(path, read(Path(path), self.columns))
        except Unreadable:
            return []

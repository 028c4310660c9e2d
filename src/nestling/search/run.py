"""A search from end to end: files -> passages -> ranks -> snippets, with an account of what was met."""

import time
from collections.abc import Iterator, Sequence
from os import PathLike, fspath
from pathlib import Path

from nestling.errors import InputError
from nestling.search.chunk import passages
from nestling.search.decode import Binary, Unreadable
from nestling.search.model import Embedder
from nestling.search.rank import Ranked, rank
from nestling.search.read import read
from nestling.search.results import Passage, Problem, Report
from nestling.search.snippet import hit
from nestling.search.walk import walk
from nestling.search.words import Wording


def search(
    query: str,
    paths: Sequence[str | PathLike[str]],
    model: Embedder,
    *,
    top: int = 10,
    min_score: float | None = None,
    columns: Sequence[str] | None = None,
    progress: bool = False,
) -> Report:
    """Rank the passages of files by their nearness to a query, in meaning and wording.

    paths: files, and folders to look through. top: how many hits at most. min_score: the least score of a
    hit. columns: what to read of CSV, TSV and JSON Lines files. progress: a bar on stderr, after one second.

    >>> report = search("how to install", ["docs"], model)
    >>> report.hits[0].passage.path
    """
    began = time.perf_counter()
    if top < 1:
        raise InputError(f"top={top} asks for no hits.", "It is 1 or more.", "Leave it out for 10 hits.")
    wording = Wording(query)
    if not wording.terms:
        raise InputError(
            f"The query {query!r} has no word.", "A word, a question or a sentence was expected.", "Say more."
        )
    vector = model.encode_query(query)
    reading = _Reading(paths, columns, progress)
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

    def __init__(self, paths: Sequence[str | PathLike[str]], columns: Sequence[str] | None, progress: bool) -> None:
        named = [paths] if isinstance(paths, str | PathLike) else paths
        self.found_files = walk([Path(fspath(path)) for path in named])
        self.columns = columns
        self.progress = progress
        self.files = self.found = self.binaries = 0
        self.problems: list[Problem] = []

    def passages(self) -> Iterator[Passage]:
        from tqdm import tqdm

        bar = tqdm(self.found_files, "searching", unit=" files", delay=1, leave=False, disable=not self.progress)
        for item in bar:
            if isinstance(item, Problem):
                self.problems.append(item)
                continue
            for passage in self._of_file(item):
                self.found += 1
                yield passage

    def again(self, ranked: Sequence[Ranked]) -> list[tuple[Ranked, Passage]]:
        """Read the ranked passages once more, as texts are not kept. A file that has changed is a problem."""
        wanted: dict[str, dict[int, Ranked]] = {}
        for place in ranked:
            wanted.setdefault(place.path, {})[place.number] = place
        texts: dict[Ranked, Passage] = {}
        for path, places in wanted.items():
            try:
                for number, passage in enumerate(passages(path, read(Path(path), self.columns))):
                    if number in places and passage.line == places[number].line:
                        texts[places[number]] = passage
            except (Binary, Unreadable):
                pass
            if any(place not in texts for place in places.values()):
                self.problems.append(Problem(path, "changed while it was searched"))
        return [(place, texts[place]) for place in ranked if place in texts]

    def _of_file(self, path: Path) -> Iterator[Passage]:
        """The passages of one file; what hinders is counted or noted."""
        try:
            sections = read(path, self.columns)
        except Binary:
            self.binaries += 1
        except Unreadable as reason:
            self.problems.append(Problem(str(path), str(reason)))
        else:
            self.files += 1
            yield from passages(str(path), sections)

"""Text to count and to learn from: one file of texts or of pairs, streamed, without the sources a recipe leaves out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from nestling.errors import InputError, MissingExtraError
from nestling.files.texts import read_texts


@dataclass(frozen=True)
class Corpus:
    """path: a file that `read_texts` reads, or a Parquet file of pairs. column: of the texts. leave_out: values of the
    column `source` to skip (Parquet only). most: texts, or pairs, to take at most, counted after leaving out."""

    path: Path
    column: str | None = None
    leave_out: Sequence[str] = ()
    most: int | None = None

    def texts(self, first: int = 0, last: int | None = None) -> Iterator[str]:
        """The texts from number `first` up to `last`, in file order; last None for all."""
        end = self.most if last is None else last if self.most is None else min(last, self.most)
        return islice(self._texts(), first, end)

    def pairs(self, names: tuple[str, str] = ("anchor", "positive")) -> list[tuple[str, str]]:
        """The pairs of texts that belong together, in file order, from two columns of a Parquet file."""
        rows = islice(self._rows(names), self.most)
        return [(row[names[0]], row[names[1]]) for row in rows]

    def _texts(self) -> Iterator[str]:
        if not self.leave_out:
            return (text for batch in read_texts(self.path, column=self.column) for text in batch)
        column = self.column or "text"
        return (row[column] for row in self._rows((column,)))

    def _rows(self, columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
        try:
            import pyarrow.parquet
        except ImportError as error:
            raise MissingExtraError("pyarrow", "parquet", f"The corpus {self.path}") from error
        file = pyarrow.parquet.ParquetFile(self.path)
        wanted = {*columns, "source"} if self.leave_out else {*columns}
        if missing := wanted - set(file.schema_arrow.names):
            raise InputError(
                f"{self.path} has no column {', '.join(sorted(missing))}.",
                f"It has {', '.join(file.schema_arrow.names)}.",
                "Name the column of texts, or drop leave_out from the recipe.",
            )
        left_out = set(self.leave_out)
        for batch in file.iter_batches(batch_size=8192, columns=sorted(wanted)):
            yield from (row for row in batch.to_pylist() if row.get("source") not in left_out)

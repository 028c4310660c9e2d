"""Text to count and to learn from: one file of texts, streamed, without the sources a recipe leaves out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from nestling.errors import InputError, MissingExtraError
from nestling.files.texts import read_texts


@dataclass(frozen=True)
class Corpus:
    """path: a file that `read_texts` reads. column: of the texts. leave_out: values of the column `source` to skip
    (Parquet only). first, last: the span of texts to use, counted after leaving out; last None for all."""

    path: Path
    column: str | None = None
    leave_out: Sequence[str] = ()

    def texts(self, first: int = 0, last: int | None = None) -> Iterator[str]:
        """The texts from number `first` up to `last`, in file order."""
        batches = self._filtered() if self.leave_out else read_texts(self.path, column=self.column)
        return islice((text for batch in batches for text in batch), first, last)

    def _filtered(self) -> Iterator[list[str]]:
        try:
            import pyarrow.parquet
        except ImportError as error:
            raise MissingExtraError("pyarrow", "parquet", f"The corpus {self.path}") from error
        file = pyarrow.parquet.ParquetFile(self.path)
        column = self.column or "text"
        missing = {column, "source"} - set(file.schema_arrow.names)
        if missing:
            raise InputError(
                f"{self.path} has no column {', '.join(sorted(missing))}.",
                f"It has {', '.join(file.schema_arrow.names)}.",
                "Name the column of texts, or drop leave_out from the recipe.",
            )
        left_out = set(self.leave_out)
        for batch in file.iter_batches(batch_size=8192, columns=[column, "source"]):
            rows = zip(batch.column(column).to_pylist(), batch.column("source").to_pylist(), strict=True)
            yield [text for text, source in rows if source not in left_out]

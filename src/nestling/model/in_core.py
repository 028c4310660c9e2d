"""A model whose texts the C++ core takes all the way, from str to vector, where it is installed and knows the tokenizer
exactly; else the same is done in Python, with the same bits."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from nestling.errors import InputError, ModelFileError
from nestling.model.common import Array, How, Model, Overflow, as_is
from nestling.model.native import usable_cores, with_bar
from nestling.model.output import DTYPES
from nestling.safe import DAMAGED
from nestling.text.check import check_texts

CODES = {name: code for code, name in enumerate(DTYPES)}  # of core/output.hpp
MOST_COUNTED = 2**62  # of a text, which the core counts in 64 bits


class CoreModel(Model):
    """What `StaticModel` and `TransformerModel` share."""

    _encode: Callable[..., int] | None = None  # the core's, where it takes texts: how many it cut, or -1 - a place
    _texts_a_step = 65_536  # of a progress bar

    def _reads_in_core(self, encode: Callable[..., int] | None) -> None:
        self._encode, self.takes_any_text = encode, encode is not None
        task = self.document.routes.get("text")
        self._usual = self.document.dim, self._core_limit(self.usual_overflow), False, True, CODES["float32"]
        self._usual_task = None if task in self.document.prompts else self._task_id(task)

    @abstractmethod
    def _in_python(self, texts: Sequence[str], vectors: Array, dim: int, how: How) -> int:
        """`_fill` without the core."""

    @abstractmethod
    def _length(self, text: str) -> int:
        """How many tokens of a text count towards the limit, without that of a task."""

    def _task_id(self, task: str | None) -> tuple[int, ...]:
        """What else the core is told: of a model with tokens for tasks the id of this one, or -1."""
        return ()

    def _fill(self, texts: Sequence[str] | str, vectors: Array, dim: int, how: How) -> int:
        if self._encode is None:
            assert not isinstance(texts, str), "one str goes to the core alone"
            return self._in_python(texts, vectors, dim, how)
        return self._in_core(texts, vectors, dim, how)

    def _plainly(self, texts: str | Iterable[str]) -> tuple[Array, int] | None:
        """In microseconds a call, where the core takes the texts as they are."""
        if self._encode is None or self._usual_task is None or not as_is(texts):
            return None
        dim = self._usual[0]
        vectors = np.empty(dim if isinstance(texts, str) else (len(texts), dim), np.float32)
        cut = self._encode(texts, vectors, *self._usual, usable_cores(), *self._usual_task)
        if cut < 0:
            how = How(task=self.document.routes.get("text"), overflow=self.usual_overflow)
            cut = self._in_core_again(texts, vectors.reshape(-1, dim), dim, how, -1 - cut)
        return vectors, cut

    def _core_limit(self, overflow: Overflow | None) -> int:
        """The most tokens of a text as the core takes it: -1 for no limit."""
        limit = self.document.max_tokens
        return -1 if limit is None or overflow == "split" else min(limit, MOST_COUNTED)

    def _in_core(self, texts: Sequence[str] | str, vectors: Array, dim: int, how: How) -> int:
        """Fill `vectors`, (n, width), in slices where a bar is wanted. Returns how many texts were cut."""
        assert self._encode is not None, "asked only where the core takes texts"
        options: tuple[Any, ...] = dim, self._core_limit(how.overflow), how.overflow == "error", how.normalize
        options = *options, CODES[how.dtype], how.threads or usable_cores(), *self._task_id(how.task)
        sliced, step, all_cut = how.progress and not isinstance(texts, str), self._texts_a_step, 0
        spans = [(start, min(start + step, len(texts))) for start in range(0, len(texts), step)]
        for start, stop in with_bar(spans, len(texts)) if sliced else [(0, len(texts))]:
            part = (texts[start:stop], vectors[start:stop]) if sliced else (texts, vectors)
            cut = self._encode(*part, *options)
            if cut < 0:
                return self._in_core_again(texts, vectors, dim, how, start - 1 - cut)
            all_cut += cut
        return all_cut

    def _in_core_again(self, texts: Sequence[str] | str, vectors: Array, dim: int, how: How, bad: int) -> int:
        """The core stopped at texts[bad]: say why; or put U+FFFD for half characters, and do it again."""
        checked = check_texts(texts, how.errors)[0]  # raises for what is no text
        if how.errors == "replace" and checked != texts:
            return self._in_core(checked, vectors, dim, replace(how, errors="strict"))
        if len(checked) <= bad:
            raise InputError("The list of texts changed while it was read;", "it was to stay.", "Pass a copy of it.")
        task = how.task in self.document.task_tokens
        length = self._length(checked[bad]) + task
        if how.overflow == "error" and length > (self.max_tokens or length):
            raise self._too_long(bad, length, task)
        raise self._not_finite()

    def _not_finite(self) -> ModelFileError:
        return ModelFileError(
            f"{self.name} gives a vector with values that are not finite.", "Finite ones were expected.", DAMAGED
        )

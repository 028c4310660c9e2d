"""Text -> token ids by Hugging Face `tokenizers`: the plain twin of the core, which defines the meaning.

Where a tokenizer treats the words between spaces one by one (BERT's WordPiece does), the ids of a word are
remembered: most words of a text have been seen before, and a dict is many times faster than tokenizing again.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import tokenizers

from nestling.errors import InputError, ModelFileError
from nestling.text.plan import dump_plan
from nestling.text.tokens import Tokens

REMEMBERED_WORDS = 131_072
LONGEST_REMEMBERED = 64


def parse_tokenizer(text: str, name: str) -> tokenizers.Tokenizer:
    """Build a `tokenizers.Tokenizer` from the text of a tokenizer.json that `check_plan` accepts."""
    try:
        return tokenizers.Tokenizer.from_str(text)
    except BaseException as error:
        _reraise_unless_tokenizer_failed(error)
        raise ModelFileError(
            f"The tokenizer of {name} cannot be built: {error}.",
            "A tokenizer.json that Hugging Face tokenizers reads was expected.",
            "The file is damaged, hostile or newer than the installed tokenizers package.",
        ) from error


def _reraise_unless_tokenizer_failed(error: BaseException) -> None:
    """`tokenizers` raises bare Exception, and on a panic a BaseException that cannot be imported."""
    if type(error).__name__ != "PanicException" and type(error) not in (Exception, ValueError, TypeError):
        raise error


class Twin:
    """The tokenizer of a checked plan. name: of the model, for errors."""

    def __init__(self, plan: dict[str, Any], name: str) -> None:
        self.name = name
        self._backend = parse_tokenizer(dump_plan(plan), name)
        if plan["model"]["type"] == "Unigram":  # scores as they are: read from JSON again they would differ a little
            scored = [(piece, score) for piece, score in plan["model"]["vocab"]]
            byte_fallback = plan["model"].get("byte_fallback") is True
            self._backend.model = tokenizers.models.Unigram(scored, plan["model"].get("unk_id"), byte_fallback)
        self._backend.no_padding()
        self._backend.no_truncation()
        self._memo = _WordMemo(self._backend, name) if _splits_at_spaces(plan) else None
        vocabulary = self._backend.get_vocab(with_added_tokens=True)
        self.size = 1 + max(vocabulary.values(), default=-1)
        self.pieces: list[str] = [""] * self.size
        for piece, index in vocabulary.items():
            self.pieces[index] = piece

    def id_of(self, piece: str) -> int | None:
        """The id of a piece, if there is one."""
        found: int | None = self._backend.token_to_id(piece)
        return found

    def encode(self, texts: Sequence[str]) -> Tokens:
        """Tokenize without special tokens."""
        if self._memo is not None:
            return self._memo.encode(texts)
        pieces = [encoding.ids for encoding in encode_batch(self._backend, texts, self.name)]
        return _end_to_end(pieces, np.fromiter(map(len, pieces), np.int64, len(pieces)))


def encode_batch(backend: tokenizers.Tokenizer, texts: Sequence[str], name: str) -> list[tokenizers.Encoding]:
    """`encode_batch_fast` without special tokens, its failures turned into a NestlingError."""
    try:
        return backend.encode_batch_fast(list(texts), add_special_tokens=False)
    except BaseException as error:
        _reraise_unless_tokenizer_failed(error)
        raise InputError(
            f"The tokenizer of {name} failed on one of {len(texts)} texts: {error}.",
            "A tokenizer that covers any text was expected.",
            "Find the text by halving the list, or get another copy of the model.",
        ) from error


def _end_to_end(pieces: Sequence[Sequence[int]], lengths: npt.NDArray[np.int64]) -> Tokens:
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    ids = np.fromiter(chain.from_iterable(pieces), np.int32, int(offsets[-1]))
    return Tokens(ids, offsets)


def _splits_at_spaces(plan: dict[str, Any]) -> bool:
    """Whether tokenizing the pieces between spaces, tab and line ends one by one gives the ids of the whole.

    True of BERT: its normalizer turns each of them into a space, looks at one character at a time otherwise (no
    canonical reordering passes a space), and its pre-tokenizer splits there. Added tokens must not reach over a space.
    """
    normalizer, splitter = plan.get("normalizer") or {}, plan.get("pre_tokenizer") or {}
    added = plan.get("added_tokens") or []
    return (
        plan["model"].get("type") == "WordPiece"
        and isinstance(normalizer, dict)
        and isinstance(splitter, dict)
        and normalizer.get("type") == "BertNormalizer"
        and normalizer.get("clean_text") is True
        and splitter.get("type") == "BertPreTokenizer"
        and not any(
            token.get("lstrip") or token.get("rstrip") or token["content"].split() != [token["content"]]
            for token in added
        )
    )


class _WordMemo(dict[str, tuple[int, ...]]):
    """word -> token ids, filled when a word is first met.

    When it holds REMEMBERED_WORDS it becomes the old generation and starts anew: words that are met again come over
    from there, the rest is forgotten with the next change, so that memory stays bounded whatever the texts hold.
    """

    def __init__(self, backend: tokenizers.Tokenizer, name: str) -> None:
        super().__init__()
        self._backend, self._name = backend, name
        self._old: dict[str, tuple[int, ...]] = {}

    def __missing__(self, word: str) -> tuple[int, ...]:
        ids = self._old.get(word)
        if ids is None:
            ids = tuple(encode_batch(self._backend, [word], self._name)[0].ids)
        if len(word) <= LONGEST_REMEMBERED:
            if len(self) >= REMEMBERED_WORDS:
                self._old = dict(self)
                self.clear()
            self[word] = ids
        return ids

    def encode(self, texts: Sequence[str]) -> Tokens:
        """Ids of the texts: all words looked up in one pass, then counted back into texts."""
        spaced = " ".join(texts).replace("\n", " ").replace("\t", " ").replace("\r", " ")
        words = spaced.split(" ") if texts else []
        pieces = list(map(self.__getitem__, words))
        counts = [1 + text.count(" ") + text.count("\n") + text.count("\t") + text.count("\r") for text in texts]
        upto = np.zeros(len(words) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, pieces), np.int64, len(pieces)), out=upto[1:])
        text_ends = upto[np.cumsum(np.asarray(counts, np.int64))] if texts else np.zeros(0, np.int64)
        return _end_to_end(pieces, np.diff(text_ends, prepend=0))

"""The tokenizer of a model: text -> token ids, by the C++ core where it knows the plan exactly, else by the twin."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from nestling.text.native import CoreTokenizer, compile_tokenizer
from nestling.text.packed import PackedTokenizer
from nestling.text.plan import check_plan
from nestling.text.tokens import Tokens

if TYPE_CHECKING:
    from nestling.text.twin import Twin


class TextTokenizer:
    """source: the text of a tokenizer.json, or a tokenizer as a .nest file packs it; name: of the model, for errors.

    core: the compiled tokenizer, or None; why_not: says then why not.
    """

    def __init__(self, source: str | PackedTokenizer, name: str) -> None:
        self.name = name
        self.packed = PackedTokenizer.of(check_plan(source, name), name) if isinstance(source, str) else source
        self.core: CoreTokenizer | None
        self.core, self.why_not = compile_tokenizer(self.packed)
        if self.core is None:
            self.size = self.twin.size
        else:
            self.size = self.core.size

    @property
    def json(self) -> dict[str, Any]:
        """The whole tokenizer.json, checked."""
        return self.packed.plan

    @cached_property
    def twin(self) -> "Twin":
        """The same by Hugging Face `tokenizers`, which defines the meaning; built when first asked for."""
        from nestling.text.twin import Twin

        return Twin(self.json, self.name)

    @property
    def pieces(self) -> list[str]:
        """By id; empty where there is none."""
        return self.twin.pieces

    @property
    def unknown(self) -> int | None:
        """The id that stands for what the vocabulary lacks, if there is one."""
        model = self.json["model"]
        if model.get("unk_id") is not None:
            return int(model["unk_id"])
        return self.twin.id_of(model["unk_token"]) if model.get("unk_token") else None

    def encode(self, texts: Sequence[str]) -> Tokens:
        """Tokenize without special tokens. The texts hold no lone surrogates (see check_texts)."""
        if self.core is None:
            return self.twin.encode(texts)
        return Tokens(*self.core.encode(list(texts)))

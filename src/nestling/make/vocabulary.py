"""A vocabulary that suits a corpus: words that are worth a row get one, pieces that hardly occur lose theirs."""

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from nestling.make.settings import Vocabulary
from nestling.teacher import Teacher
from nestling.text.count import count_tokens
from nestling.text.grow import Word, add_words, count_words
from nestling.text.plan import check_plan, dump_plan
from nestling.text.prune import keep_pieces
from nestling.text.tokenizer import TextTokenizer

Floats = npt.NDArray[np.float32]
UNKNOWN = "<unk>"
UNUSED = re.compile(r"\[unused\d+\]")
TRAINING_TEXTS = 200_000  # that a tokenizer is trained on


def train_pieces(texts: Iterable[str], pieces: int) -> dict[str, Any]:
    """The plan of a Unigram tokenizer of so many pieces, trained on texts as ALBERT's was (arXiv:1808.06226): lower
    case, no accents, "▁" before each word. Fewer pieces where the texts give no more."""
    from tokenizers import Regex, Tokenizer, models, trainers
    from tokenizers import normalizers as norm
    from tokenizers import pre_tokenizers as split

    tokenizer = Tokenizer(models.Unigram())
    quotes = [norm.Replace("``", '"'), norm.Replace("''", '"')]
    fold = [norm.NFKD(), norm.StripAccents(), norm.Lowercase(), norm.Replace(Regex(" {2,}"), " ")]
    tokenizer.normalizer = norm.Sequence([*quotes, *fold])
    tokenizer.pre_tokenizer = split.Sequence([split.WhitespaceSplit(), split.Metaspace(prepend_scheme="always")])
    trainer = trainers.UnigramTrainer(
        vocab_size=pieces, special_tokens=[UNKNOWN], unk_token=UNKNOWN, show_progress=False
    )
    tokenizer.train_from_iterator(islice(texts, TRAINING_TEXTS), trainer)
    return check_plan(tokenizer.to_str(), "the corpus")


def spell_pieces(plan: dict[str, Any], teacher: Teacher) -> list[Word]:
    """The teacher's ids of the text of each piece of a plan, as `token_vectors` takes them."""
    pieces = TextTokenizer(dump_plan(plan), "the corpus").pieces
    texts = ["" if piece == UNKNOWN else piece.replace("▁", " ").strip() for piece in pieces]
    return [tuple(one.ids) for one in teacher.bare_tokenizer.encode_batch(texts, add_special_tokens=False)]


def own_pieces(plan: dict[str, Any]) -> list[tuple[str, int]]:
    """The pieces of a plan's vocabulary, a list for Unigram, with their ids; not those of tokens that were added."""
    names = plan["model"]["vocab"]
    pieces = names.items() if isinstance(names, dict) else ((piece, index) for index, (piece, _) in enumerate(names))
    added = {token["id"] for token in plan.get("added_tokens") or []}
    return [(piece, index) for piece, index in pieces if index not in added]


def general_counts(plan: dict[str, Any], tokens: Sequence[Word], total: int) -> npt.NDArray[np.uint32]:
    """How often each token would occur in so many of general text: (n,) uint32.

    By Zipf's law over the ids of a vocabulary whose order is that of frequency, as those of published models are, but
    for single characters, which come first whatever they are; these, and words of several ids, count 0. A corpus of
    one's own says little of words that its sources do not use, and others do.

    plan: the teacher's. tokens: the teacher's ids of each.
    """
    ranked = sorted(index for piece, index in own_pieces(plan) if _is_word(piece))
    shares = 1 / np.arange(2, len(ranked) + 2)
    expected = dict(zip(ranked, total * shares / max(shares.sum(), 1e-9), strict=True))
    return np.array([expected.get(word[0], 0) if len(word) == 1 else 0 for word in tokens]).astype(np.uint32)


def _is_word(piece: str) -> bool:
    """Whether a piece of a vocabulary is more than a character, and not one of its unused places."""
    return len(piece.removeprefix("##").removeprefix("▁")) > 1 and not UNUSED.fullmatch(piece)


def choose_words(
    plan: dict[str, Any],
    tokens: Sequence[Word],
    texts: Callable[[], Iterable[str]],
    vectors: Callable[[Sequence[Word]], Floats],
    how: Vocabulary,
    usual: Callable[[Sequence[Word]], npt.NDArray[np.uint32]] = lambda tokens: np.zeros(len(tokens), np.uint32),
    progress: bool = False,
) -> tuple[dict[str, Any], list[Word]]:
    """A plan with the words whose rows gain most, and of each of its tokens the teacher's ids that it stands for.

    tokens: the teacher's ids of each token of `plan`. vectors: the teacher's vector of each of some tokens. usual: what
    is added to the count of each. A word gains count * (1 - cosine of its own vector and the sum of its pieces') *
    log(all tokens / count).
    """
    tokenizer = TextTokenizer(dump_plan(plan), "the teacher")
    found = count_words(tokenizer, texts(), progress)
    frequent = [word for word, count in found.items() if count >= how.least]
    words = sorted(frequent, key=lambda word: (-found[word], word))
    spelt = [_spell(tokens, word) for word in words]
    counts = np.array([found[word] for word in words], np.float64)
    own, pieces = vectors(spelt), vectors(tokens)
    mean = pieces.mean(axis=0)
    sums = np.stack([(pieces[list(word)] - mean).sum(axis=0) for word in words]) if words else own
    gains = counts * (1 - _cosines(own - mean, sums)) * np.log(counts.sum() / np.maximum(counts, 1) + 1)
    best = np.sort(np.argsort(-gains, kind="stable")[: how.words])
    grown, made_of = add_words(plan, [words[k] for k in best], (counts[best] / max(counts.sum(), 1)).tolist())
    stands_for = [*tokens, *(_spell(tokens, word) for word in made_of)]
    uses = np.full(len(stands_for), how.prune, np.uint32)
    if how.prune:
        tokenizer = TextTokenizer(dump_plan(grown), "the teacher")
        uses = count_tokens(tokenizer, texts(), len(stands_for), progress) + usual(stands_for)
    kept, old = keep_pieces(grown, set(np.flatnonzero(uses >= how.prune).tolist()))  # in the order that packs best
    return kept, [stands_for[index] for index in old]


def _spell(tokens: Sequence[Word], word: Word) -> Word:
    return tuple(index for piece in word for index in tokens[piece])


def _cosines(left: Floats, right: Floats) -> npt.NDArray[np.float64]:
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    cosines: npt.NDArray[np.float64] = np.einsum("ij,ij->i", left, right) / np.maximum(lengths, 1e-12)
    return cosines

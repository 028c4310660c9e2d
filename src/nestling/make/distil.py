"""Distillation without training: a teacher's token vectors -> a static model.

1. Each piece of the teacher's vocabulary goes through the teacher alone, [bos piece eos]; its vector is the mean of
   the outputs.
2. The vectors are centred: what all tokens share says nothing.
3. Token t is weighted a / (a + p(t)), with p counted on a corpus (or Zipf's law over the ids): frequent words say less.
4. The table is rotated by a PCA of *sentence* vectors (arXiv:2506.04624), so that each prefix of the dims holds as
   much as it can, and softly whitened, so that the few axes of style and topic do not drown the rest.
"""

import hashlib
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from nestling.errors import one_of
from nestling.files.parts import POOLINGS, Document, Parts
from nestling.make.corpus import Corpus
from nestling.make.settings import Distillation, Vocabulary
from nestling.make.targets import save_array, through_all
from nestling.make.vocabulary import UNUSED, choose_words, general_counts, own_pieces, spell_pieces, train_pieces
from nestling.model.rows import FloatRows, Table
from nestling.model.static import StaticModel
from nestling.shrink.dims import main_axes, tiers_of, token_moment
from nestling.teacher import Teacher
from nestling.text.count import batches, count_tokens
from nestling.text.grow import Word
from nestling.text.plan import check_plan, dump_plan
from nestling.text.prune import keep_pieces
from nestling.text.tokenizer import TextTokenizer

Floats = npt.NDArray[np.float32]
TOKENS_A_SHARD = 4096


def token_vectors(teacher: Teacher, tokens: Sequence[Sequence[int]], cache: Path, progress: bool = False) -> Floats:
    """Step 1: the mean teacher output over [bos, ids, eos] of each token, given as the teacher's ids: (n, dim) float32.

    Finished shards of 4,096 tokens are kept under `cache` and found again. The batches are the same whichever shards
    are made now, since an int8 teacher's outputs depend on their batch mates.
    """
    before, after = teacher.ends()
    folder = cache / "tokens" / teacher.fingerprint[:16]
    folder.mkdir(parents=True, exist_ok=True)
    shards = []
    for start in tqdm(
        range(0, len(tokens), TOKENS_A_SHARD), desc="token vectors", unit="shard", disable=not progress, delay=1
    ):
        rows = [[*before, *ids, *after] for ids in tokens[start : start + TOKENS_A_SHARD]]
        path = folder / f"{hashlib.sha256(repr(rows).encode()).hexdigest()[:16]}.npy"
        if not path.exists():
            save_array(path, _through_teacher(teacher, rows))
        shards.append(np.load(path, allow_pickle=False))
    return np.concatenate([np.zeros((0, teacher.dim), np.float32), *shards])


def _through_teacher(teacher: Teacher, rows: Sequence[Sequence[int]]) -> Floats:
    means = np.empty((len(rows), teacher.dim), np.float32)

    def work(batch: list[int]) -> None:
        means[batch] = teacher.forward(np.array([rows[place] for place in batch], np.int64)).mean(axis=1)

    through_all(work, [len(row) for row in rows], teacher)
    return means


def zipf_counts(old_ids: npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
    """Counts by Zipf's law, the rank of a token being its id in the teacher's vocabulary: (n,) uint32."""
    ranks = np.argsort(np.argsort(old_ids, kind="stable"), kind="stable")
    return (1e9 / (ranks + 2)).astype(np.uint32)


def frequency_weights(counts: npt.NDArray[np.uint32], a: float) -> Floats:
    """Step 3: a / (a + p), p the share of a token with half a count added. (n,) -> (n,) float32."""
    shares = (counts + 0.5) / (counts.sum(dtype=np.float64) + 0.5 * len(counts))
    weights: Floats = (a / (a + shares)).astype(np.float32)
    return weights


def sentence_moment(model: StaticModel, texts: Iterable[str], progress: bool = False) -> npt.NDArray[np.float64]:
    """Second moment of the texts' unit vectors, not centred: (dim, dim) float64."""
    moment = np.zeros((model.dim, model.dim))
    with tqdm(desc="sentence axes", unit="text", disable=not progress, delay=1) as bar:
        for batch in batches(texts):
            vectors = model.encode(batch, overflow="split").astype(np.float64)
            moment += vectors.T @ vectors
            bar.update(len(batch))
    return moment


def distil(
    teacher: Teacher,
    corpus: Corpus | None,
    how: Distillation,
    cache: Path,
    progress: bool = False,
    words: Vocabulary | None = None,
) -> StaticModel:
    """A static float model, with token counts, from a teacher and, better, a corpus. Resumable through `cache`.

    words: a tokenizer of the corpus's own, whole words to add, rare pieces to leave out.
    """
    one_of("pooling", how.pooling, POOLINGS)
    asked = check_plan(teacher.tokenizer_json, teacher.name)
    if corpus and words and words.pieces:
        whole = train_pieces(corpus.texts(how.held_out), words.pieces)
        spelt = spell_pieces(whole, teacher)
    else:
        whole, spelt = asked, [(index,) for index in range(len(asked["model"]["vocab"]))]
    plan, old_ids = keep_pieces(whole, _plain_pieces(whole))
    tokens: list[Word] = [spelt[index] for index in old_ids]
    rows_of = partial(token_vectors, teacher, cache=cache, progress=progress)
    usual = partial(general_counts, asked, total=words.general if words else 0)
    if corpus and words:
        plan, tokens = choose_words(plan, tokens, partial(corpus.texts, how.held_out), rows_of, words, usual, progress)
    rows = rows_of(tokens)
    rows -= rows.mean(axis=0)
    tokenizer = TextTokenizer(dump_plan(plan), teacher.name)
    texts = corpus.texts(how.held_out) if corpus else ()
    counts = (
        count_tokens(tokenizer, texts, tokenizer.size, progress) + usual(tokens) if corpus else zipf_counts(old_ids)
    )
    rows *= frequency_weights(counts, how.a)[:, None]
    drop = () if tokenizer.unknown is None else (tokenizer.unknown,)
    document = Document("float", teacher.dim, (teacher.dim,), name=teacher.name, pooling=how.pooling, drop=drop)
    model = StaticModel(Parts(document, {"rows": rows}, tokenizer.packed, counts))
    sentences = corpus.texts(how.held_out, how.held_out + how.sentences) if corpus else ()
    moment = sentence_moment(model, sentences, progress) if corpus else token_moment(rows, counts)
    axes = main_axes(moment, how.dim, skip=how.skip, whiten=how.whiten)
    return model.with_table(Table(FloatRows(rows @ axes)), dims=tiers_of(how.dim))


def _plain_pieces(plan: dict[str, Any]) -> set[int]:
    """Ids of the pieces that stand for text: neither special nor unused."""
    return {index for piece, index in own_pieces(plan) if not UNUSED.fullmatch(piece)}

"""Distillation without training: a teacher's token vectors -> a static model.

1. Each piece of the teacher's vocabulary goes through the teacher alone, [bos piece eos]; its vector is the mean of
   the outputs.
2. The vectors are centred: what all tokens share says nothing.
3. Token t is weighted a / (a + p(t)), with p counted on a corpus (or Zipf's law over the ids): frequent words say less.
4. The table is rotated by a PCA of *sentence* vectors (arXiv:2506.04624), so that each prefix of the dims holds as
   much as it can, and softly whitened, so that the few axes of style and topic do not drown the rest.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from nestling.files.parts import Document, Parts
from nestling.make.corpus import Corpus
from nestling.model.rows import FloatRows, Table
from nestling.model.static import StaticModel
from nestling.safe import atomic_write
from nestling.shrink.dims import main_axes, tiers_of, token_moment
from nestling.teacher import Teacher
from nestling.text.count import batches, count_tokens
from nestling.text.plan import check_plan, dump_plan
from nestling.text.prune import keep_pieces
from nestling.text.tokenizer import TextTokenizer

Floats = npt.NDArray[np.float32]
UNUSED = re.compile(r"\[unused\d+\]")
PIECES_A_SHARD = 4096
PIECES_A_BATCH = 512


@dataclass(frozen=True)
class Distillation:
    """dim: columns of the result. a: of the frequency weights. whiten: each sentence axis is scaled by its variance
    to the power -whiten / 2 (0 leaves it, 1 makes all equal). skip: leading sentence axes to leave out.
    sentences: texts for the axes. held_out: first texts of the corpus, kept away from counts and axes."""

    dim: int = 256
    a: float = 3e-4
    whiten: float = 0.5
    skip: int = 0
    sentences: int = 200_000
    held_out: int = 4_000


def token_vectors(teacher: Teacher, ids: npt.NDArray[np.int64], cache: Path, progress: bool = False) -> Floats:
    """Step 1: the mean teacher output over [bos, id, eos] of each token id. (n,) -> (n, dim) float32.

    Finished shards of 4,096 pieces are kept under `cache` and found again. The batches are the same whichever shards
    are made now, since an int8 teacher's outputs depend on their batch mates.
    """
    before, after = teacher.ends()
    key = hashlib.sha256(teacher.fingerprint.encode() + ids.tobytes() + repr((before, after)).encode()).hexdigest()
    folder = cache / "tokens" / key[:16]
    folder.mkdir(parents=True, exist_ok=True)
    shards = []
    for start in tqdm(
        range(0, len(ids), PIECES_A_SHARD), desc="token vectors", unit="shard", disable=not progress, delay=1
    ):
        path = folder / f"{start // PIECES_A_SHARD:05d}.npy"
        if not path.exists():
            _save_array(path, _through_teacher(teacher, ids[start : start + PIECES_A_SHARD], before, after))
        shards.append(np.load(path, allow_pickle=False))
    return np.concatenate(shards)


def _through_teacher(teacher: Teacher, ids: npt.NDArray[np.int64], before: list[int], after: list[int]) -> Floats:
    means = []
    for start in range(0, len(ids), PIECES_A_BATCH):
        batch = ids[start : start + PIECES_A_BATCH]
        rows = (
            [np.full(len(batch), index) for index in before] + [batch] + [np.full(len(batch), index) for index in after]
        )
        means.append(teacher.forward(np.stack(rows, axis=1).astype(np.int64)).mean(axis=1))
    return np.concatenate(means).astype(np.float32)


def _save_array(path: Path, array: Floats) -> None:
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)


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
    teacher: Teacher, corpus: Corpus | None, how: Distillation, cache: Path, progress: bool = False
) -> StaticModel:
    """A static float model, with token counts, from a teacher and, better, a corpus. Resumable through `cache`."""
    whole = check_plan(teacher.tokenizer_json, teacher.name)
    plan, old_ids = keep_pieces(whole, _plain_pieces(whole))
    rows = token_vectors(teacher, old_ids, cache, progress)
    rows -= rows.mean(axis=0)
    tokenizer = TextTokenizer(dump_plan(plan), teacher.name)
    texts = corpus.texts(how.held_out) if corpus else ()
    counts = count_tokens(tokenizer, texts, tokenizer.size, progress) if corpus else zipf_counts(old_ids)
    rows *= frequency_weights(counts, how.a)[:, None]
    drop = () if tokenizer.unknown is None else (tokenizer.unknown,)
    document = Document("float", teacher.dim, (teacher.dim,), name=teacher.name, drop=drop)
    model = StaticModel(Parts(document, {"rows": rows}, tokenizer.packed, counts))
    sentences = corpus.texts(how.held_out, how.held_out + how.sentences) if corpus else ()
    moment = sentence_moment(model, sentences, progress) if corpus else token_moment(rows, counts)
    axes = main_axes(moment, how.dim, skip=how.skip, whiten=how.whiten)
    return model.with_table(Table(FloatRows(rows @ axes)), dims=tiers_of(how.dim))


def _plain_pieces(plan: dict[str, Any]) -> set[int]:
    """Ids of the pieces that stand for text: neither special nor unused."""
    vocabulary = plan["model"]["vocab"]
    named = (
        vocabulary.items() if isinstance(vocabulary, dict) else ((piece, k) for k, (piece, _) in enumerate(vocabulary))
    )
    added = {token["id"] for token in plan.get("added_tokens") or []}
    return {index for piece, index in named if index not in added and not UNUSED.fullmatch(piece)}

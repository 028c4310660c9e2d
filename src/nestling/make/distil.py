"""Distillation without training: a teacher's token vectors -> a static model.

1. Each piece of the teacher's vocabulary goes through the teacher alone, [bos piece eos]; its vector is the mean of
   the outputs.
2. The vectors are centred: what all tokens share says nothing.
3. Token t is weighted a / (a + p(t)), with p counted on a corpus (or Zipf's law over the ids): frequent words say less.
4. The table is rotated by a PCA of *sentence* vectors, so that each prefix of the dims holds as much as it can, and
   the first components, which are style and length rather than meaning, are left out (arXiv:2506.04624).
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from nestling.errors import InputError
from nestling.files.parts import Document, Parts, Source
from nestling.make.corpus import Corpus
from nestling.make.teacher import Teacher
from nestling.model.rows import FloatRows, Table
from nestling.model.static import StaticModel
from nestling.safe import atomic_write
from nestling.text.plan import check_plan, dump_plan
from nestling.text.prune import keep_pieces
from nestling.text.tokenizer import TextTokenizer

Floats = npt.NDArray[np.float32]
UNUSED = re.compile(r"\[unused\d+\]")
PIECES_A_SHARD = 4096
PIECES_A_BATCH = 512
TIERS = (1024, 768, 512, 384, 256, 192, 128, 96, 64, 32)


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
    for start in tqdm(range(0, len(ids), PIECES_A_SHARD), desc="token vectors", unit="shard", disable=not progress):
        path = folder / f"{start // PIECES_A_SHARD:05d}.npy"
        if not path.exists():
            _save_array(path, _through_teacher(teacher, ids[start : start + PIECES_A_SHARD], before, after))
        shards.append(np.load(path, allow_pickle=False))
    return np.concatenate(shards)


def _through_teacher(teacher: Teacher, ids: npt.NDArray[np.int64], before: list[int], after: list[int]) -> Floats:
    means = []
    for start in range(0, len(ids), PIECES_A_BATCH):
        batch = ids[start : start + PIECES_A_BATCH]
        rows = [np.full(len(batch), index) for index in before] + [batch] + [np.full(len(batch), index) for index in after]
        means.append(teacher.forward(np.stack(rows, axis=1).astype(np.int64)).mean(axis=1))
    return np.concatenate(means).astype(np.float32)


def _save_array(path: Path, array: Floats) -> None:
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def count_pieces(tokenizer: TextTokenizer, texts: Iterable[str], progress: bool = False) -> npt.NDArray[np.uint32]:
    """How often each token occurs in the texts: (size,) uint32."""
    counts = np.zeros(tokenizer.size, np.int64)
    with tqdm(desc="count tokens", unit="text", disable=not progress) as bar:
        for batch in _batches(texts, 8192):
            counts += np.bincount(tokenizer.encode(batch).ids, minlength=tokenizer.size)
            bar.update(len(batch))
    return np.minimum(counts, 2**32 - 1).astype(np.uint32)


def _batches(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    rest = iter(texts)
    while batch := list(islice(rest, size)):
        yield batch


def zipf_counts(old_ids: npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
    """Counts by Zipf's law, the rank of a token being its id in the teacher's vocabulary: (n,) uint32."""
    ranks = np.argsort(np.argsort(old_ids, kind="stable"), kind="stable")
    return (1e9 / (ranks + 2)).astype(np.uint32)


def frequency_weights(counts: npt.NDArray[np.uint32], a: float) -> Floats:
    """Step 3: a / (a + p), p the share of a token with half a count added. (n,) -> (n,) float32."""
    shares = (counts + 0.5) / (counts.sum(dtype=np.float64) + 0.5 * len(counts))
    return (a / (a + shares)).astype(np.float32)


def sentence_axes(model: StaticModel, texts: Iterable[str], skip: int, dim: int, progress: bool = False) -> Floats:
    """Step 4: principal axes number skip to skip + dim of the texts' unit vectors, not centred: (table dim, dim) float32."""
    moment = np.zeros((model.dim, model.dim))
    with tqdm(desc="sentence axes", unit="text", disable=not progress) as bar:
        for batch in _batches(texts, 8192):
            vectors = model.encode(batch, overflow="split").astype(np.float64)
            moment += vectors.T @ vectors
            bar.update(len(batch))
    return _main_axes(moment, skip, dim)


def token_axes(rows: Floats, counts: npt.NDArray[np.uint32], skip: int, dim: int) -> Floats:
    """Step 4 without a corpus: the axes of the rows, each as often as its token is expected."""
    weighted = rows.astype(np.float64) * np.sqrt(counts / counts.sum(dtype=np.float64))[:, None]
    return _main_axes(weighted.T @ weighted, skip, dim)


def _main_axes(moment: npt.NDArray[np.float64], skip: int, dim: int) -> Floats:
    """Each axis is turned so that its largest entry is positive, which makes the result one of a kind."""
    if not moment.any():
        raise InputError("No text of the corpus has a known token.", "Text in the teacher's language was expected.", "Check it.")
    if skip + dim > len(moment):
        raise InputError(
            f"dim={dim} after skip={skip} axes was asked for.", f"The teacher has {len(moment)} columns.", "Ask for fewer."
        )
    _, axes = np.linalg.eigh(moment)
    kept = axes[:, ::-1][:, skip : skip + dim]
    largest = kept[np.abs(kept).argmax(axis=0), np.arange(kept.shape[1])]
    return np.ascontiguousarray(kept * np.sign(largest), dtype=np.float32)


@dataclass(frozen=True)
class Distillation:
    """dim: columns of the result. a: of the frequency weights. skip: leading sentence axes to leave out.
    sentences: texts for the axes. held_out: first texts of the corpus, kept away from counts and axes."""

    dim: int = 256
    a: float = 1e-3
    skip: int = 7
    sentences: int = 200_000
    held_out: int = 4_000


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
    counts = count_pieces(tokenizer, texts, progress) if corpus else zipf_counts(old_ids)
    rows *= frequency_weights(counts, how.a)[:, None]
    drop = () if tokenizer.unknown is None else (tokenizer.unknown,)
    document = Document("float", teacher.dim, (teacher.dim,), name=teacher.name, drop=drop)
    model = StaticModel(Parts(document, {"rows": rows}, plan, counts))
    if corpus:
        axes = sentence_axes(model, corpus.texts(how.held_out, how.held_out + how.sentences), how.skip, how.dim, progress)
    else:
        axes = token_axes(rows, counts, how.skip, how.dim)
    tiers = (how.dim, *(tier for tier in TIERS if tier < how.dim))
    return model.with_table(Table(FloatRows(rows @ axes)), dims=tiers, lineage=_lineage(teacher, corpus))


def _plain_pieces(plan: dict[str, Any]) -> set[int]:
    """Ids of the pieces that stand for text: neither special nor unused."""
    vocabulary = plan["model"]["vocab"]
    named = vocabulary.items() if isinstance(vocabulary, dict) else ((piece, k) for k, (piece, _) in enumerate(vocabulary))
    added = {token["id"] for token in plan.get("added_tokens") or []}
    return {index for piece, index in named if index not in added and not UNUSED.fullmatch(piece)}


def _lineage(teacher: Teacher, corpus: Corpus | None) -> tuple[Source, ...]:
    data = (Source("data", corpus.path.name, "see its own documents"),) if corpus else ()
    return (Source("teacher", teacher.name, teacher.licence), *data)

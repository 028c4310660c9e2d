"""The stages that make a transformer: a trained static model -> a student that starts as it -> one that has learnt from
targets, and from pairs with their tasks -> a model that runs."""

import json
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from nestling.errors import InputError
from nestling.files.parts import Parts
from nestling.files.texts import read_table
from nestling.make.encoder import EncoderSize, PrunedEncoder, narrowed, prune_encoder, size_of
from nestling.make.export import export
from nestling.make.known import known_by
from nestling.make.lessons import bags
from nestling.make.moments import input_moments
from nestling.make.settings import TASKS, Body
from nestling.make.student import Size, Student
from nestling.make.train import pool
from nestling.model.output import unit
from nestling.model.rows import FloatRows, Table
from nestling.model.static import StaticModel
from nestling.model.transformer import BODY, GRAPH, TransformerModel, beside_table
from nestling.safe import read_header, read_tensors, write_tensors
from nestling.score.sts import spearman
from nestling.shrink.dims import tiers_of
from nestling.teacher import Teacher

Floats = npt.NDArray[np.float32]
TEXTS_AT_ONCE = 1024


def new_student(
    model: StaticModel,
    body: Body,
    seed: int,
    encoder: Teacher | TransformerModel | None = None,
    texts: Sequence[str] = (),
) -> Student:
    """A student with a row for each token of the model and each task; it starts as the model if `body` says so.

    encoder: whose layers it has, those that `body` names. texts: by which the columns of feed-forward parts are chosen.
    """
    rows, counts = model.table.expanded(), np.ones(model.table.size) if model.counts is None else model.counts
    first = model.table.size + len(TASKS)
    if encoder is not None:
        known, pieces = known_by(encoder), model.tokenizer.pieces
        size = size_of(known, first, model.dim, body)
        student = prune_encoder(known, rows, pieces, np.asarray(counts, np.float64), size, body.keep, seed)
        return narrowed(student, body.feed, moments_of(student, model, body, texts)) if body.feed else student
    own = Student(Size(first, body.inner or model.dim, body.dim, body.layers, body.head, body.static), seed)
    if body.warm:
        own.start_from(rows, counts)
    return own


def moments_of(student: Student, model: StaticModel, body: Body, texts: Sequence[str]) -> dict[str, Tensor]:
    """Moments of what goes into the maps of a student (moments.py) while it reads the first 1,024 of the texts, all
    of one length at a time, as padding is not to count. model: whose tokenizer it has."""
    tokens, most = bags(model, texts[:TEXTS_AT_ONCE]), body.tokens - 1
    lengths = np.minimum(tokens.lengths, most)
    alike = [np.flatnonzero(lengths == length) for length in np.unique(lengths[lengths > 0])]
    return input_moments(student, lambda: [pool(student, tokens, places, most) for places in alike])


def with_rows(student: Student, rows: Floats) -> Student:
    """The same student behind other rows, those of its tasks last: (rows, columns) float32."""
    other = type(student)(replace(student.size, rows=len(rows)))
    kept = {name: each for name, each in student.state_dict().items() if name not in ("directions", "lengths")}
    other.load_state_dict(kept, strict=False)
    other.take_rows(rows)
    return other


def blended(student: Student, adds: float) -> Student:
    """The same student, of whose own vectors, beside the rows that it weighs, this share counts: between the static
    model that it started as, which is better on texts unlike those it learnt from, and what it learnt
    (arXiv:2109.01903). Raises InputError for one that adds none."""
    if student.back is None:
        raise InputError(
            "[blend] stands behind blocks that only weigh.", "Layers of an encoder that add.", "Leave [blend] out."
        )
    other = deepcopy(student)
    with torch.no_grad():
        other.get_parameter("back.weight").mul_(adds)
    return other


def stirred(student: Student) -> Student:
    """The same student with a little noise on all that is to learn: of parameters that are alike, zeros say, a graph
    would keep one, and its file would seem smaller than that of a student that has learnt."""
    other, random = deepcopy(student), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for each in other.body():
            each.add_(torch.randn(each.shape, generator=random), alpha=1e-5)
    return other


def with_body_of(model: TransformerModel, trained: TransformerModel, routes: dict[str, str]) -> TransformerModel:
    """The model with what stands behind the table of another, and with routes."""
    parts, beside = model.parts(), beside_table(trained.parts().tensors)
    tensors, document = {**model.table.tensors(), **beside}, replace(model.document, routes=routes)
    return TransformerModel(replace(parts, tensors=tensors, document=document))


def save_student(student: Student, path: Path) -> None:
    """As a safetensors file, its size among the metadata."""
    tensors = {name: tensor.detach().cpu().numpy() for name, tensor in student.state_dict().items()}
    write_tensors(path, tensors, {"size": json.dumps(asdict(student.size))})


def load_student(path: Path) -> Student:
    """What `save_student` wrote."""
    size = json.loads(read_header(path)["__metadata__"]["size"])
    student = PrunedEncoder(EncoderSize(**size)) if "places" in size else Student(Size(**size))
    student.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in read_tensors(path).items()})
    return student


def to_model(student: Student, model: StaticModel, body: Body) -> TransformerModel:
    """The student as a model that runs, with the tokenizer of the static model that it started as."""
    graph, matrices = export(student, body.tokens)
    first = model.table.size
    tokens = {task.lower(): first + place for place, task in enumerate(TASKS)}
    dim = student.size.vector
    document = replace(
        model.document,
        architecture="transformer",
        scheme="float",
        dim=dim,
        dims=tiers_of(dim),
        inner=student.size.columns,
        head=student.size.head,
        max_tokens=body.tokens,
        task_tokens=tokens,
        scores={},
    )
    tensors = {**Table(FloatRows(student.table())).tensors(), GRAPH: np.frombuffer(graph, np.uint8)}
    tensors |= {BODY + name: matrix for name, matrix in matrices.items()}
    return TransformerModel(Parts(document, tensors, model.tokenizer.packed, model.counts))


def dev_scores(model: StaticModel, path: Path, longest: int) -> Callable[[nn.Module], dict[str, float]]:
    """What scores a student on an STS file while it learns: {"dev": Spearman}. model: whose tokenizer it has."""
    pairs = read_table(path, ("sentence1", "sentence2", "score"), "scored sentence pairs")
    tokens, gold = bags(model, [*pairs["sentence1"], *pairs["sentence2"]]), np.asarray(pairs["score"], np.float64)

    @torch.no_grad()
    def score(student: nn.Module) -> dict[str, float]:
        places = np.array_split(np.arange(2 * len(gold)), -(-2 * len(gold) // TEXTS_AT_ONCE))
        vectors = unit(np.concatenate([pool(student, tokens, part, longest).cpu().numpy() for part in places]))
        return {"dev": spearman(np.einsum("ij,ij->i", vectors[: len(gold)], vectors[len(gold) :]), gold)}

    return score

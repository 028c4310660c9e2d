"""The stages that make a transformer: a trained static model -> a student that starts as it -> one that has learnt from
targets, and from pairs with their tasks -> a model that onnxruntime runs."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from nestling.files.parts import Parts
from nestling.files.texts import read_table
from nestling.make.export import export, in_int8
from nestling.make.lessons import bags
from nestling.make.settings import Body
from nestling.make.student import TASKS, Size, Student
from nestling.make.train import pool
from nestling.model.output import unit
from nestling.model.rows import FloatRows, Table
from nestling.model.static import StaticModel
from nestling.model.transformer import BODY, FAST, GRAPH, TransformerModel
from nestling.safe import read_header, read_tensors, write_tensors
from nestling.score.sts import spearman
from nestling.shrink.dims import tiers_of

TEXTS_AT_ONCE = 1024


def new_student(model: StaticModel, body: Body, seed: int) -> Student:
    """A student with a row for each token of the model and each task; it starts as the model if `body` says so."""
    size = Size(model.table.size + len(TASKS), body.inner or model.dim, body.dim, body.layers, body.head, body.static)
    student = Student(size, seed)
    if body.warm:
        counts = np.ones(model.table.size) if model.counts is None else model.counts
        student.start_from(model.table.expanded(), counts)
    return student


def save_student(student: Student, path: Path) -> None:
    """As a safetensors file, its size among the metadata."""
    tensors = {name: tensor.detach().cpu().numpy() for name, tensor in student.state_dict().items()}
    write_tensors(path, tensors, {"size": json.dumps(asdict(student.size))})


def load_student(path: Path) -> Student:
    """What `save_student` wrote."""
    student = Student(Size(**json.loads(read_header(path)["__metadata__"]["size"])))
    student.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in read_tensors(path).items()})
    return student


def to_model(student: Student, model: StaticModel, body: Body) -> TransformerModel:
    """The student as a model that runs, with the tokenizer of the static model that it started as."""
    graph, matrices = export(student, body.tokens)
    first = model.table.size
    tokens = {task.lower(): first + place for place, task in enumerate(TASKS)}
    dim = student.size.inner if student.size.static else student.size.out or student.size.dim
    document = replace(
        model.document,
        architecture="transformer",
        scheme="float",
        dim=dim,
        dims=tiers_of(dim),
        inner=student.size.inner,
        max_tokens=body.tokens,
        task_tokens=tokens,
        routes=dict(zip(("query", "document", "text"), body.routes, strict=False)),
        scores={},
    )
    tensors = {**Table(FloatRows(student.table())).tensors(), GRAPH: np.frombuffer(graph, np.uint8)}
    tensors[FAST] = np.frombuffer(in_int8(graph), np.uint8)
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

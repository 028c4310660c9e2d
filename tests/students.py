"""Small transformers for tests: students whose every part adds something, and models over a test tokenizer."""

from dataclasses import replace

import numpy as np
import torch

from nestling.files.parts import Parts
from nestling.make.export import export
from nestling.make.student import Size, Student
from nestling.model.rows import FloatRows, Table
from nestling.model.transformer import BODY, GRAPH
from tests.conftest import model_of

LONGEST = 256


def woken(size: Size, seed: int = 0, std: float = 0.3) -> Student:
    """A student whose blocks all add something."""
    student = Student(size)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for parameter in student.parameters():
            torch.nn.init.normal_(parameter, std=std)
    return student


def student_of(kind: str) -> Student:
    """With a row for each token of a test tokenizer and each task."""
    return woken(Size(model_of(kind).table.size + 3, 32, 48, layers=2, head=16))


def parts_of(student: Student, kind: str) -> Parts:
    """A transformer with the tokenizer of a static model."""
    static = model_of(kind).parts()
    graph, weights = export(student, LONGEST)
    inner, first = student.size.inner, student.size.rows - 3
    document = replace(
        static.document,
        architecture="transformer",
        scheme="float",
        dim=inner,
        dims=(inner, 16, 8),
        inner=inner,
        head=student.size.head,
        max_tokens=LONGEST,
        task_tokens={"qry": first, "doc": first + 1, "sym": first + 2},
        routes={"query": "qry", "document": "doc"},
    )
    body = {BODY + name: each for name, each in weights.items()}
    tensors = {**Table(FloatRows(student.table())).tensors(), **body, GRAPH: np.frombuffer(graph, np.uint8)}
    return Parts(document, tensors, static.tokenizer)

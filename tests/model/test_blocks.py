"""Blocks in whole numbers are nearly what torch computes. The core has their bits: tests/core/test_blocks.py."""

import numpy as np
import pytest
import torch

from nestling.make.encoder import EncoderSize, PrunedEncoder
from nestling.make.export import export
from nestling.make.student import Size, Student
from nestling.model import twin as module
from nestling.model.blocks import Batch, Blocks, read_blocks, rotary_positions
from nestling.model.layout import lay_out
from nestling.model.rows import FloatRows, Table
from nestling.model.twin import Twin

LONGEST = 200
TOKENS = 90
LENGTHS = [1, 2, 3, 5, 16, 17, 31, 32, 33, 64, 100, LONGEST, 7, 7, 8, 25, 25, 25]
SIZES = {
    "blocks": Size(TOKENS, 32, 48, layers=2, head=16),
    "wide heads": Size(TOKENS, 48, 96, layers=1, head=48),
    "a vector of their own": Size(TOKENS, 32, 64, layers=1, head=32, static=False),
    "a matrix behind it": Size(TOKENS, 16, 32, layers=1, head=32, static=False, out=48),
    "layers": EncoderSize(TOKENS, 32, 16, dim=48, layers=2, head=16, feed=80, places=LONGEST),
    "layers that weigh": EncoderSize(TOKENS, 32, 16, dim=48, layers=1, head=48, feed=64, places=LONGEST, adds=False),
    "layers that see all": EncoderSize(TOKENS, 32, 16, dim=48, layers=1, head=16, feed=64, places=LONGEST, whole=True),
}


def woken(size: Size | EncoderSize) -> Student:
    student = PrunedEncoder(size) if isinstance(size, EncoderSize) else Student(size)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for parameter in student.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return student


@pytest.fixture(scope="module", params=SIZES)
def student(request: pytest.FixtureRequest) -> Student:
    return woken(SIZES[request.param])


@pytest.fixture(scope="module")
def blocks(student: Student) -> Blocks:
    size = student.size
    return read_blocks(export(student, LONGEST)[1], size.columns, size.head, LONGEST)


def test_it_is_nearly_what_torch_computes(student: Student, blocks: Blocks) -> None:
    random, starts = np.random.default_rng(0), np.concatenate([[0], np.cumsum(LENGTHS)])
    weights = random.uniform(0.1, 1, starts[-1]).astype(np.float32)
    batch = Batch(random.integers(0, TOKENS, starts[-1]).astype(np.uint32), weights, starts)
    sums = Twin(blocks, lay_out(Table(FloatRows(student.table())))).sums(batch)
    with torch.no_grad():
        wanted = student(*(torch.from_numpy(np.asarray(each, kind)) for each, kind in (
            (batch.ids, np.int64), (batch.starts[:-1], np.int64), (batch.weights, np.float32),
        ))).numpy()  # fmt: skip
    cosines = (sums * wanted).sum(axis=1) / np.linalg.norm(sums, axis=1) / np.linalg.norm(wanted, axis=1)
    assert 0.998 < cosines.min() < 1
    np.testing.assert_allclose(np.linalg.norm(sums, axis=1), np.linalg.norm(wanted, axis=1), rtol=0.05)


def test_functions_are_what_they_are_called() -> None:
    x = np.linspace(-12, 12, 200_001, dtype=np.float32)
    gelu = torch.nn.functional.gelu(torch.from_numpy(x).double()).numpy()
    np.testing.assert_allclose(module._gelu(x), gelu, atol=2e-6)
    low = np.linspace(-87, 0, 100_001, dtype=np.float32)
    np.testing.assert_allclose(module._exponential(low), np.exp(low.astype(np.float64)), rtol=3e-7)
    assert module._exponential(np.float32([-1000]))[0] < 1e-37
    cosines, sines = rotary_positions(1024, 64)
    angle = 1000 * 10_000.0 ** (-2 * 5 / 64)
    assert cosines[1000, 5] == np.float32(np.cos(angle))
    assert sines[1000, 5] == np.float32(np.sin(angle))

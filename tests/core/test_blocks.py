"""The core reads texts through blocks with the bits of its twin, by every kernel, and refuses what does not fit."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from nestling.model.blocks import Batch, Blocks, read_blocks
from nestling.model.layout import lay_out
from nestling.model.native import CoreReader
from nestling.model.pack import to_int8
from nestling.model.rows import CentroidRows, FloatRows, Int8Rows, ProductRows, Table
from nestling.model.twin import Twin, gather
from nestling.text.native import core_module

LONGEST = 200
TOKENS = 90
LENGTHS = [1, 2, 3, 5, 16, 17, 31, 32, 33, 64, 100, 0, LONGEST, 7, 7, 8, 25, 25, 25]
# Columns of a row, of these weighed, of them within, of a head, of the feed-forward part, behind the sum; layers.
SIZES = {
    "blocks": (32, 32, 48, 16, 192, 0, 2),
    "wide": (256, 256, 128, 64, 512, 0, 2),
    "a vector of their own": (32, 0, 64, 32, 256, 0, 1),
    "a matrix behind it": (16, 0, 32, 32, 128, 48, 1),
    "layers": (48, 32, 48, 16, 80, 32, 2),
    "layers that weigh": (48, 32, 48, 48, 64, 0, 1),
    "layers that see all": (48, 32, 48, 16, 64, 32, 1),
}
core = core_module()[0]
pytestmark = pytest.mark.skipif(core is None, reason="without the core")


def tensors_of(kind: str) -> dict[str, npt.NDArray[Any]]:
    """What a file may hold, without "body."; of layers all has a bias, and matrices are in int8."""
    stride, inner, dim, _, feed, behind, layers = SIZES[kind]
    random, encoder = np.random.default_rng(0), kind.startswith("layers")
    tensors: dict[str, npt.NDArray[Any]] = {}

    def matrix(name: str, rows: int, columns: int) -> None:
        values = random.normal(0, 0.3, (rows, columns)).astype(np.float32)
        tensors[f"{name}.weight"] = values
        if encoder:
            own, scales = to_int8(np.ascontiguousarray(values.T))
            tensors.update({f"{name}.weight": np.ascontiguousarray(own.T), f"{name}.weight.scales": scales})
            vector(f"{name}.bias", columns)

    def vector(name: str, columns: int) -> None:
        tensors[name] = random.normal(0, 0.3, columns).astype(np.float32)

    def norm(name: str) -> None:
        vector(f"{name}.weight", dim)
        if encoder:
            vector(f"{name}.bias", dim)

    matrix("up", stride - inner if encoder and kind != "layers that see all" else stride, dim)
    norm("first" if encoder else "last")
    for layer in range(layers):
        own = f"blocks.{layer}."
        matrix(own + "queries_keys_values", dim, 3 * dim), matrix(own + "attended", dim, dim)
        matrix(own + "wide", dim, feed), matrix(own + "narrow", feed, dim)
        for part in ("attention", "feed"):
            norm(own + ("after_" if encoder else "before_") + part)
    if encoder:
        tensors["places"] = random.normal(0, 0.3, (LONGEST, dim)).astype(np.float32)
    if inner:
        tensors["weigh.weight"] = random.normal(0, 0.3, (dim, 1)).astype(np.float32)
    if behind:
        name = "back.weight" if inner else "out.weight"
        tensors[name] = random.normal(0, 0.3, (behind, dim)).astype(np.float32)
    return tensors


@pytest.fixture(scope="module", params=SIZES)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def blocks(kind: str) -> Blocks:
    return read_blocks(tensors_of(kind), SIZES[kind][0], SIZES[kind][3], LONGEST)


@pytest.fixture(scope="module")
def rows(kind: str) -> npt.NDArray[np.float32]:
    return np.random.default_rng(1).normal(0, 0.3, (TOKENS, SIZES[kind][0])).astype(np.float32)


def batch_of(lengths: list[int], seed: int = 0) -> Batch:
    random = np.random.default_rng(seed)
    total = sum(lengths)
    own = random.uniform(0.1, 1, total)
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Batch(random.integers(0, TOKENS, total).astype(np.uint32), own.astype(np.float32), starts)


def forms(rows: npt.NDArray[np.float32]) -> list[Table]:
    """The same rows, nearly, in each form."""
    values, scales = to_int8(rows)
    plain, few = Int8Rows(values, scales), Int8Rows(values[:70], scales[:70])
    words = np.random.default_rng(3).integers(-127, 128, (200, rows.shape[1])).astype(np.int8)
    widths = (2,) * (rows.shape[1] // 2)
    codes = np.random.default_rng(4).integers(0, 200, (len(rows) - 20, len(widths))).astype(np.uint8)
    exact = Int8Rows(values[:20], scales[:20])
    product = ProductRows(codes, words, np.full(len(widths), 0.01, np.float32), widths, exact, np.arange(20) * 3)
    weights = np.random.default_rng(5).uniform(0.5, 2, len(rows)).astype(np.float32)
    mapped = CentroidRows(few, (np.arange(len(rows)) % 70).astype(np.uint16))
    return [Table(FloatRows(rows)), Table(plain), Table(mapped, weights), Table(product, weights), Table(product)]


def test_every_kernel_gives_the_bits_of_the_twin(blocks: Blocks, rows: npt.NDArray[np.float32]) -> None:
    batch = batch_of(LENGTHS)
    assert core is not None
    assert core.kernels()[-1] == "plain"
    for table in forms(rows):
        layout = lay_out(table)
        wanted = Twin(blocks, layout).sums(batch)
        assert not wanted[LENGTHS.index(0)].any()
        for isa in core.kernels():
            reader = CoreReader(blocks, layout, TOKENS, isa=isa)
            assert reader.backend == f"core ({isa})"
            assert np.array_equal(reader.sums(batch, 1), wanted), isa
            assert np.array_equal(reader.sums(batch, 3), wanted), isa


def test_a_piece_has_the_same_bits_in_any_batch(blocks: Blocks, rows: npt.NDArray[np.float32]) -> None:
    batch = batch_of(LENGTHS)
    layout = lay_out(Table(FloatRows(rows)))
    for reader in (CoreReader(blocks, layout, TOKENS), Twin(blocks, layout)):
        whole = reader.sums(batch, 2)
        for place, length in enumerate(LENGTHS):
            span = slice(int(batch.starts[place]), int(batch.starts[place + 1]))
            one = Batch(batch.ids[span], batch.weights[span], np.array([0, length]))
            assert np.array_equal(reader.sums(one, 1)[0], whole[place])


def test_the_core_refuses_what_does_not_fit(blocks: Blocks, rows: npt.NDArray[np.float32]) -> None:
    layout = lay_out(Table(FloatRows(rows)))
    reader = CoreReader(blocks, layout, TOKENS)
    good = batch_of([5, 6])
    for wrong, reason in (
        (good._replace(ids=good.ids + np.uint32(TOKENS)), "an id that the table lacks"),
        (good._replace(weights=good.weights[:-1]), "pieces of another size"),
        (good._replace(starts=np.array([0, 5, 12])), "pieces of another size"),
        (good._replace(starts=np.array([1, 5, 11])), "pieces of another size"),
        (good._replace(starts=np.array([0, 20, 11])), "a piece that is too long"),
        (batch_of([LONGEST + 1]), "a piece that is too long"),
    ):
        with pytest.raises(ValueError, match=reason):
            reader.sums(wrong, 1)
    block = blocks.blocks[0]
    for broken in (
        replace(blocks, up=replace(blocks.up, values=blocks.up.values[:, :16], scales=blocks.up.scales[:16])),
        replace(blocks, blocks=(replace(block, wide=block.narrow), *blocks.blocks[1:])),
        replace(blocks, blocks=(replace(block, feed=replace(block.feed, weights=None)), *blocks.blocks[1:])),
        replace(blocks, dim=blocks.dim + 8),
        replace(blocks, head=0),
    ):
        with pytest.raises(ValueError, match=r".+"):
            CoreReader(broken, layout, TOKENS)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # squares that float32 cannot hold, of which nothing is left
def test_the_largest_weights_that_are_let_in_give_finite_vectors(kind: str, rows: npt.NDArray[np.float32]) -> None:
    tensors = tensors_of(kind)
    for name, each in tensors.items():
        if each.dtype == np.float32:
            tensors[name] = np.where(each < 0, -1000, 1000).astype(np.float32)
    blocks = read_blocks(tensors, SIZES[kind][0], SIZES[kind][3], LONGEST)
    layout, batch = lay_out(Table(FloatRows(rows * np.float32(1e12)))), batch_of(LENGTHS)
    wanted = Twin(blocks, layout).sums(batch)
    assert np.isfinite(wanted).all()
    assert core is not None
    for isa in core.kernels():
        assert np.array_equal(CoreReader(blocks, layout, TOKENS, isa=isa).sums(batch, 1), wanted), isa


def test_rows_are_those_of_the_table(rows: npt.NDArray[np.float32]) -> None:
    ids = np.arange(TOKENS).reshape(9, 10)
    for table in forms(rows):
        wanted = table.gather(ids.ravel()).reshape(*ids.shape, -1)
        np.testing.assert_allclose(gather(lay_out(table), ids), wanted, rtol=1e-6)

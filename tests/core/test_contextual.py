"""From str to vector through a transformer: the core gives the bits that Python gives, whatever is asked of it."""

import signal
import subprocess
import sys
import warnings
from contextlib import suppress
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nestling
from nestling.errors import InputError, InputTypeError, ModelFileError
from nestling.files.parts import Parts
from nestling.model.layout import lay_out
from nestling.model.rows import FloatRows, Int8Rows, Table
from nestling.model.transformer import BODY, TransformerModel
from nestling.model.twin import Twin
from nestling.text.native import core_module
from tests.conftest import model_of
from tests.core.test_blocks import LONGEST, SIZES, tensors_of

pytestmark = pytest.mark.skipif(core_module()[0] is None, reason="without the core")
ODD = ["", " ", "\u2603", "\u2603 a \u2603 cat", "again and again and again", "é" * 40, "東京 🙂 [UNK] ##ing", "\x00"]


def in_python(parts: Parts) -> TransformerModel:
    """The same model without anything of the core."""
    model = TransformerModel(parts)
    model._reads_in_core(None)
    model._reader = Twin(model._blocks(), lay_out(model.table))
    return model


def parts_of(kind: str, pooling: str, blocks: str = "blocks") -> Parts:
    """A transformer with the tokenizer of a test model, and weights from nowhere."""
    static, stride, head = model_of(kind), SIZES[blocks][0], SIZES[blocks][3]
    first, random = static.table.size, np.random.default_rng(1)
    document = replace(
        static.document,
        architecture="transformer",
        scheme="float",
        dim=32,
        dims=(32, 16, 8),
        inner=stride,
        head=head,
        max_tokens=LONGEST,
        pooling=pooling,
        task_tokens={"qry": first, "doc": first + 1, "sym": first + 2},
        routes={"text": "sym"},
    )
    table = Table(FloatRows(random.normal(0, 0.3, (first + 3, stride)).astype(np.float32)))
    tensors = {**table.tensors(), **{BODY + name: each for name, each in tensors_of(blocks).items()}}
    return Parts(document, tensors, static.parts().tokenizer)


@pytest.fixture(scope="module", params=list(product(["wordpiece", "unigram"], ["mean", "sublinear"])), ids="-".join)
def pair(request: pytest.FixtureRequest) -> tuple[TransformerModel, TransformerModel]:
    parts = parts_of(*request.param)
    return TransformerModel(parts), in_python(parts)


def test_the_same_bits_with_every_option(pair: tuple[TransformerModel, TransformerModel], sentences: list[str]) -> None:
    model, plain = pair
    assert model.backend.startswith("core")
    assert plain.backend.startswith("python")
    whole = " ".join(sentences[:12])
    texts = [*sentences[:6], *ODD, whole]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", nestling.CutWarning)
        tasks = [{"task": task, "overflow": overflow} for task, overflow in product(("", "qry"), ("split", "cut"))]
        for given in (*tasks, {"dim": 8}, {"normalize": False}, {"dtype": "float16"}, {"dtype": "int8"}):
            assert np.array_equal(model.encode(texts, **given), plain.encode(texts, **given)), given
        counted = model.encode_counting(texts, overflow="cut")[1]
        assert counted == plain.encode_counting(texts, overflow="cut")[1] > 0
    assert np.array_equal(model.encode(texts), plain.encode(texts))
    for text in ODD:
        assert np.array_equal(model.encode(text), plain.encode(text))


def test_the_same_bits_in_any_number_of_threads(
    pair: tuple[TransformerModel, TransformerModel], sentences: list[str]
) -> None:
    model, _ = pair
    texts = [*sentences[:60], *ODD, " ".join(sentences[:60])]
    whole = model.encode(texts, threads=1)
    for threads in (2, 3, 7):
        assert np.array_equal(model.encode(texts, threads=threads), whole)
    assert np.array_equal(model.encode(texts, progress=True), whole)


def test_what_is_no_text_is_refused(pair: tuple[TransformerModel, TransformerModel]) -> None:
    model, plain = pair
    for wrong in (["a", None], ["a", 3], [b"a"]):
        with pytest.raises(InputTypeError):
            model.encode(wrong)
    with pytest.raises(InputError, match="surrogate"):
        model.encode(["a cat", "half \ud800"])
    mended = model.encode(["a cat", "half \ud800"], errors="replace")
    assert np.array_equal(mended, plain.encode(["a cat", "half \ufffd"]))
    long = "cat " * (LONGEST + 5)
    for each in pair:
        with pytest.raises(InputError, match=rf"texts\[1\] has {each._length(long) + 1} tokens, one for its task"):
            each.encode(["a", long], overflow="error")


@pytest.mark.parametrize("given", [{}, {"normalize": False}, {"dtype": "int8"}])
def test_vectors_that_are_not_finite_are_refused(given: dict[str, Any]) -> None:
    """The largest values that a file may hold, once for each of 200,000 tokens."""
    parts = parts_of("wordpiece", "mean", "layers that weigh")
    size, columns, most = model_of("wordpiece").table.size + 3, 48, np.float32(1e12)
    rows = Int8Rows(np.full((size, columns), 127, np.int8), np.full(size, most))
    tensors = {name: each for name, each in parts.tensors.items() if name.startswith(BODY)}
    for name in [name for name in tensors if name.endswith(("weigh.weight", "after_feed.bias"))]:
        tensors[name] = np.full_like(tensors[name], 1000)
    tensors |= Table(rows, np.full(size, most)).tensors()
    document = replace(parts.document, scheme="int8")
    model = TransformerModel(replace(parts, document=document, tensors=tensors))
    assert np.isfinite(model.encode("a cat", **given)).all()
    with pytest.raises(ModelFileError, match="not finite"):
        model.encode(["a cat", "a cat " * 100_000], **given)


def child(code: str) -> list[str]:
    """What runs code in a process of its own, which finds what this one finds."""
    return [sys.executable, "-c", f"import sys; sys.path[:] = {[str(Path(__file__).parents[2]), *sys.path]}\n{code}"]


LONG = """
import os, signal, sys, nestling
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have switched it off
model = nestling.load(sys.argv[1])
texts = ["a cat sat on a mat, and a dog did not"] * 400_000
try:
    print("ready", flush=True)
    model.encode(texts, threads=1)
except KeyboardInterrupt:
    os._exit(7)
"""


def test_a_long_call_can_be_interrupted(pair: tuple[TransformerModel, TransformerModel], tmp_path: Path) -> None:
    """In a process of its own, whose clean-up may swallow a signal: so it gets more than one."""
    pair[0].save(tmp_path / "model.nest")
    with subprocess.Popen([*child(LONG), str(tmp_path / "model.nest")], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.3)
    assert process.returncode == 7


HELD = """
import sys, nestling
from tests.core.test_limits import resident_bytes
model = nestling.load(sys.argv[1])
model.encode("a cat " * 1000)
before = resident_bytes()
model.encode_counting("a cat " * 2_000_000, overflow="cut")  # of 4,000,000 tokens, each of which takes eight bytes
print(resident_bytes() - before)
"""


def test_a_very_long_text_does_not_hold_memory(tmp_path: Path) -> None:
    """In a process of its own, where nothing was freed before that the text could lie in."""
    TransformerModel(parts_of("wordpiece", "sublinear")).save(tmp_path / "model.nest")
    command = [*child(HELD), str(tmp_path / "model.nest")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 16 * 2**20

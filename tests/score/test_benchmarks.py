"""What the scripts in benchmarks/ rest on, without what takes them long."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import nestling
from benchmarks import core_speed, order, tables
from nestling.score.encoders import load_encoder
from tests.conftest import plan_of

BENCHMARKS = Path(tables.__file__).parent


def test_they_find_one_another_and_the_data_by_themselves() -> None:
    """Run from anywhere, with an empty NESTLING_DATA, which counts as none."""
    program = (
        "import sys; before = list(sys.path); import bits, blocks, core_speed, kernels, ladder; "
        "print(before == sys.path, core_speed.DATA, kernels.DATA)"
    )
    where = {**os.environ, "NESTLING_DATA": "", "PYTHONPATH": str(BENCHMARKS)}
    done = subprocess.run([sys.executable, "-c", program], env=where, capture_output=True, text=True, check=False)
    assert done.stdout == "True ../shared ../shared\n", done.stderr


def test_every_benchmark_asks_the_recipes_where_the_data_are() -> None:
    assert [path.name for path in BENCHMARKS.glob("*.py") if 'environ.get("NESTLING' in path.read_text()] == []


def test_core_speed_has_real_rows_whatever_the_cache_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = tmp_path / "peers/potion-base-4M-int8/tokenizer.json"
    tokenizer.parent.mkdir(parents=True)
    tokenizer.write_text(json.dumps(plan_of("wordpiece")))
    monkeypatch.setattr(core_speed, "DATA", tmp_path)
    monkeypatch.setenv("NESTLING_CACHE", str(tmp_path / "empty"))
    int8, plain, floats, *others = core_speed.tables(tmp_path)
    rows = nestling.load("static").table.expanded()
    model = nestling.load(floats)
    assert others == ["nano", f"model2vec:{tmp_path}/float32", "model2vec:nano"]
    np.testing.assert_array_equal(model.table.expanded(), rows[: model.table.size, : model.dim])
    assert [nestling.load(path).dim for path in (int8, plain)] == [256, 256]


def test_a_tokenizer_that_was_not_compared_has_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    stages = {name: {"texts": 10} for name in ("english", "multilingual", "code points")}
    compared = {"type": "WordPiece", "texts": 1050, "mismatches": 0, "stages": stages}
    report = {"tokenizers": {"nano": compared, "gone": {"not compared": "it is not there", "mismatches": 0}}}
    monkeypatch.setattr(tables, "results", {"exactness": report}.__getitem__)
    *_, first, second = tables.exactness().split("\n")
    assert first == "| nano | WordPiece | 10 | 10 | 10 | 1,020 | 0 |"
    assert second == "| gone | not compared |  |  |  |  |  |"


def test_the_lists_of_order_are_what_they_say() -> None:
    sides = {name: [tuple(map(str.split, pair)) for pair in pairs] for name, pairs in order.LISTS.items()}
    assert {name: len(pairs) for name, pairs in sides.items()} == {"reordered": 12, "negated": 12, "paraphrased": 12}
    assert all(one != other and sorted(one) == sorted(other) for one, other in sides["reordered"])
    assert all({"not", "no", "never", "nobody", "cannot"} & {*other} for _, other in sides["negated"])
    assert all(len({*one} & {*other}) <= 2 for one, other in sides["paraphrased"])


def test_order_is_told_as_the_results_say() -> None:
    """Of the shipped models; and as the docstring says, hardly."""
    report = json.loads(order.PATH.read_text(encoding="utf-8"))
    lines = {line["model"]: line for line in report["lines"]}
    for name in nestling.shipped():
        expected = pytest.approx({key: lines[name][key] for key in order.LISTS}, abs=1e-3)
        assert {key: order.alike(load_encoder(name), pairs) for key, pairs in order.LISTS.items()} == expected
    for line in lines.values():
        assert line["reordered"] > 0.98 > 0.9 > line["negated"] > line["paraphrased"]
    assert tables.order().count("\n") == len(lines) + 3

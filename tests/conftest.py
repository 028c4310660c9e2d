"""Fixtures that every test may use: three kinds of tokenizer, small models over each, and no network."""

import json
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from nestling.files.parts import Document, Parts
from nestling.model.static import StaticModel
from nestling.text.packed import PackedTokenizer
from nestling.text.plan import check_plan
from nestling.text.tokenizer import TextTokenizer

SAMPLES = Path(__file__).parent / "samples"
KINDS = ("wordpiece", "bpe", "unigram")
DIM = 16

# The same examples each time; pytest --hypothesis-profile=explore looks for new ones.
settings.register_profile("same", deadline=None, derandomize=True, max_examples=100)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile("same")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any connection but to a local socket fails the test."""
    connect = socket.socket.connect

    def refuse(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX:
            raise AssertionError(f"a test tried to reach the network: {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: pytest.fail(f"a test looked up a host: {a[:1]}"))


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Each test over this runs for WordPiece, BPE and Unigram."""
    return str(request.param)


def plan_of(kind: str) -> dict[str, Any]:
    """The parsed tokenizer.json of a kind, fresh each time."""
    return check_plan((SAMPLES / f"{kind}.json").read_text(encoding="utf-8"), kind)


def model_of(kind: str, **changes: Any) -> StaticModel:
    """A small float model: 16 columns, seeded rows, tiers 16, 8 and 4, unknown pieces dropped, falling counts."""
    plan = plan_of(kind)
    tokenizer = TextTokenizer(json.dumps(plan), kind)
    rows = np.random.default_rng(7).standard_normal((tokenizer.size, DIM)).astype(np.float32)
    drop = () if tokenizer.unknown is None else (tokenizer.unknown,)
    canaries = ("The quick brown fox", "naïve café, 東京")
    about = {"name": kind, "drop": drop, "licence": "Apache-2.0", "canaries": canaries, **changes}
    counts = (1e6 / (np.arange(tokenizer.size) + 1)).astype(np.uint32)
    return StaticModel(
        Parts(Document("float", DIM, (DIM, 8, 4), **about), {"rows": rows}, PackedTokenizer.of(plan, kind), counts)
    )


@pytest.fixture
def plan(kind: str) -> dict[str, Any]:
    return plan_of(kind)


@pytest.fixture
def model(kind: str) -> StaticModel:
    return model_of(kind)


@pytest.fixture(scope="session")
def odd_texts() -> list[str]:
    """Twenty texts that break careless code."""
    return (SAMPLES / "odd.txt").read_text(encoding="utf-8").split("\n")[:20]


@pytest.fixture(scope="session")
def sentences() -> list[str]:
    """660 English sentences."""
    from nestling.shrink.fidelity import sample_texts

    return sample_texts()

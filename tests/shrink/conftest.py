"""A small model worth shrinking: distilled from the sample teacher, 64 dims in order, counted on real sentences."""

from importlib.resources import files
from pathlib import Path

import pytest

from nestling.make.corpus import Corpus
from nestling.make.distil import Distillation, distil
from nestling.model.static import StaticModel
from nestling.teacher import load_teacher
from tests.conftest import SAMPLES


@pytest.fixture(scope="session")
def distilled(tmp_path_factory: pytest.TempPathFactory) -> StaticModel:
    """597 tokens of 64 dims, tiers 64 and 32, with counts."""
    corpus = Corpus(Path(str(files("nestling.shrink") / "held_out.txt")))
    cache = tmp_path_factory.mktemp("cache")
    return distil(load_teacher(str(SAMPLES / "teacher")), corpus, Distillation(dim=64, a=1e-2, held_out=60), cache)

"""How much of a model is left after shrinking it: its vectors and similarities beside the full model's."""

from collections.abc import Sequence
from importlib.resources import files

import numpy as np
import numpy.typing as npt

from nestling.errors import InputError
from nestling.model.common import Model
from nestling.score.sts import spearman

Floats = npt.NDArray[np.float32]


HELD_OUT = 4_000


class Judge:
    """Compares models with a reference on held-out texts. The pairs are drawn once, from the seed."""

    def __init__(self, reference: Model, texts: Sequence[str], *, pairs: int = 20_000, seed: int = 0) -> None:
        self.texts = list(texts)
        if len(self.texts) < 2:
            raise InputError(
                f"{len(self.texts)} texts were given to judge with.", "At least 2 were expected.", "Hold out more."
            )
        self.vectors: Floats = reference.encode(self.texts, overflow="split")
        random = np.random.default_rng(seed)
        self.left, self.right = random.integers(0, len(self.texts), (2, pairs))
        apart = self.left != self.right
        self.left, self.right = self.left[apart], self.right[apart]
        self.similarities = self._similarities(self.vectors)

    def __call__(self, model: Model) -> tuple[float, float]:
        """Mean cosine of a text's two vectors, the reference's cut to the model's dims (whose order must be the same),
        and Spearman's correlation of the two models' similarities over the pairs."""
        vectors: Floats = model.encode(self.texts, overflow="split")
        cut = self.vectors[:, : vectors.shape[1]]
        lengths = np.linalg.norm(cut, axis=1)
        cosines = np.einsum("ij,ij->i", vectors, cut) / np.where(lengths > 0, lengths, 1)
        return float(cosines.mean()), spearman(self._similarities(vectors), self.similarities)

    def _similarities(self, vectors: Floats) -> Floats:
        similarities: Floats = np.einsum("ij,ij->i", vectors[self.left], vectors[self.right])
        return similarities


def sample_texts() -> list[str]:
    """The held-out texts that come with the package, for shrinking without a corpus (sources in its first lines)."""
    lines = (files("nestling.shrink") / "held_out.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]

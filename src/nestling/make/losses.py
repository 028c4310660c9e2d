"""What a student is taught: functions of its vectors and its teacher's, each a scalar to make small.

x: (n, d) the student's vectors of n texts, of any length. y: (n, D) the teacher's. All torch. Where x and y are
compared column by column, the first d columns of y count, which is where its main axes are.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy, kl_div, log_softmax, normalize, softmax

Loss = Callable[[Tensor, Tensor], Tensor]


def cosine(x: Tensor, y: Tensor) -> Tensor:
    """One less the mean cosine of a text's two vectors."""
    return 1 - cosine_similarity(x, y[:, : x.shape[1]]).mean()


def mse(x: Tensor, y: Tensor) -> Tensor:
    """Mean squared distance of a text's two vectors, the student's as long as it is."""
    return (x - y[:, : x.shape[1]]).square().sum(dim=1).mean()


def contrastive(x: Tensor, y: Tensor, temperature: float = 0.05, keep: Tensor | None = None) -> Tensor:
    """InfoNCE both ways: of all y, which is x's own, and of all x, which is y's (arXiv:1807.03748).

    keep: (n, n) bool, which y may stand as a negative for which x; a text's own is always kept.
    """
    logits = normalize(x) @ normalize(y[:, : x.shape[1]]).T / temperature
    if keep is not None:
        own = torch.eye(len(x), dtype=torch.bool, device=x.device)
        logits = logits.masked_fill(~(keep | own), float("-inf"))
    own_place = torch.arange(len(x), device=x.device)
    return (cross_entropy(logits, own_place) + cross_entropy(logits.T, own_place)) / 2


def relational(x: Tensor, y: Tensor, temperature: float = 0.05) -> Tensor:
    """KL divergence of each text's similarities to the others, the student's from the teacher's (arXiv:2506.04624).

    The columns of x and y need not agree. A text's similarity to itself is left out.
    """
    student, teacher = (_others(normalize(each) @ normalize(each).T) / temperature for each in (x, y))
    return kl_div(log_softmax(student, dim=1), softmax(teacher, dim=1), reduction="batchmean")


def _others(gram: Tensor) -> Tensor:
    """(n, n) -> (n, n - 1): without the diagonal."""
    n = len(gram)
    return gram.flatten()[1:].view(n - 1, n + 1)[:, :-1].reshape(n, n - 1)


def matryoshka(loss: Loss, dims: Sequence[int], share: float) -> Loss:
    """A loss of all of x's columns, and of prefixes of them, which have this share of the sum (arXiv:2205.13147)."""

    def nested(x: Tensor, y: Tensor) -> Tensor:
        if not dims:
            return loss(x, y)
        prefixes = torch.stack([loss(x[:, :dim], y) for dim in dims])
        return (1 - share) * loss(x, y) + share * prefixes.mean()

    return nested

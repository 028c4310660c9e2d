"""Losses: against plain numpy, and at their extremes."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from torch.nn.functional import normalize

from nestling.make import losses


@pytest.fixture
def vectors() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(12, 8, dtype=torch.float64), normalize(torch.randn(12, 10, dtype=torch.float64))


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_cosine_and_mse(vectors: tuple[torch.Tensor, torch.Tensor]) -> None:
    x, y = vectors
    left, right = x.numpy(), y.numpy()[:, :8]
    assert losses.cosine(x, y).item() == pytest.approx(1 - (unit(left) * unit(right)).sum(1).mean())
    assert losses.mse(x, y).item() == pytest.approx(((left - right) ** 2).sum(1).mean())
    assert losses.cosine(3 * y, y).item() == pytest.approx(0)


def test_relational(vectors: tuple[torch.Tensor, torch.Tensor]) -> None:
    x, y = vectors
    grams = [unit(each.numpy()) @ unit(each.numpy()).T / 0.1 for each in (x, y)]
    student, teacher = (
        log_softmax(np.stack([np.delete(row, place) for place, row in enumerate(gram)]), axis=1) for gram in grams
    )
    expected = (np.exp(teacher) * (teacher - student)).sum(1).mean()
    assert losses.relational(x, y, 0.1).item() == pytest.approx(expected)
    turned = y @ torch.linalg.qr(torch.randn(10, 10, dtype=torch.float64)).Q
    assert losses.relational(turned, y, 0.1).item() == pytest.approx(0, abs=1e-12)


def test_contrastive(vectors: tuple[torch.Tensor, torch.Tensor]) -> None:
    x, y = vectors[0], vectors[1][:, :8]
    logits = unit(x.numpy()) @ unit(y.numpy()).T / 0.1
    expected = -(np.diag(log_softmax(logits, axis=1)) + np.diag(log_softmax(logits, axis=0))).mean() / 2
    assert losses.contrastive(x, y, 0.1).item() == pytest.approx(expected)
    none = torch.zeros(12, 12, dtype=torch.bool)
    assert losses.contrastive(x, y, 0.1, none).item() == pytest.approx(0)
    some = torch.rand(12, 12) > 0.5
    assert 0 < losses.contrastive(x, y, 0.1, some).item() < expected


def test_matryoshka_shares_a_loss_among_prefixes(vectors: tuple[torch.Tensor, torch.Tensor]) -> None:
    x, y = vectors
    nested = losses.matryoshka(losses.cosine, (4, 2), share=0.3)(x, y)
    whole, four, two = (losses.cosine(x[:, :dim], y).item() for dim in (8, 4, 2))
    assert x.shape[1] == 8
    assert nested.item() == pytest.approx(0.7 * whole + 0.15 * (four + two))
    assert losses.matryoshka(losses.cosine, (), share=0.3)(x, y).item() == pytest.approx(whole)


@pytest.mark.parametrize("loss", [losses.cosine, losses.mse, losses.contrastive, losses.relational])
def test_gradients_are_finite_where_vectors_are_zero(
    loss: losses.Loss, vectors: tuple[torch.Tensor, torch.Tensor]
) -> None:
    x = vectors[0].clone()
    x[3] = 0
    x.requires_grad_()
    loss(x, vectors[1][:, :8]).backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()

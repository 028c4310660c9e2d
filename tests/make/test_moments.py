"""Moments of what goes into linear maps: those of the numbers themselves."""

import torch
from torch import nn

from nestling.make.moments import input_moments


def test_they_are_those_of_what_was_seen() -> None:
    torch.manual_seed(0)
    maps = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2, bias=False))
    x = torch.randn(3, 5, 4)

    def read() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            maps(x[:1]), maps(x[1:])

    found = input_moments(maps, read)
    assert {name: each.shape for name, each in found.items()} == {"0": (5, 5), "2": (7, 7)}
    seen = torch.cat([x.flatten(0, 1).double(), torch.ones(15, 1).double()], dim=1)
    torch.testing.assert_close(found["0"], seen.T @ seen)
    assert torch.linalg.eigvalsh(found["2"]).min() > -1e-9
    assert not maps[0]._forward_pre_hooks

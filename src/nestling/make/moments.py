"""What goes into the linear maps of a student while it reads: by it, what can be left out or rounded is left out or
rounded where it says least."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


@torch.no_grad()
def input_moments(student: nn.Module, read: Callable[[], object]) -> dict[str, Tensor]:
    """Second moments of what goes into each linear map, and of a one beside it, over all places that `read` has the
    student see: name -> (in + 1, in + 1) float64."""
    moments: dict[str, Tensor] = {}

    def looking(name: str, size: int) -> Callable[[nn.Module, tuple[Tensor]], None]:
        total = moments[name] = torch.zeros(size, size, dtype=torch.float64)

        def look(_: nn.Module, given: tuple[Tensor]) -> None:
            seen = given[0].double().flatten(0, -2)  # which autocast leaves alone
            seen = torch.cat([seen, seen.new_ones(len(seen), 1)], dim=1)
            total.add_(seen.T @ seen)

        return look

    maps = {name: each for name, each in student.named_modules() if isinstance(each, nn.Linear)}
    hooks = [each.register_forward_pre_hook(looking(name, each.in_features + 1)) for name, each in maps.items()]
    try:
        read()
    finally:
        for hook in hooks:
            hook.remove()
    return moments

"""A training run as it stands: what it has reached, and, on disk, all that it needs to go on there."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nestling.errors import InputError
from nestling.safe import read_header, read_tensors, write_tensors, write_text


class TrainingRun:
    """step: the last one that was checked. log: a line a check. best: the student's state to keep; waited: checks since
    it was better than the one before."""

    def __init__(
        self, student: nn.Module, kept: nn.Module, optimizer: torch.optim.Optimizer, path: Path | None = None
    ) -> None:
        """student: what learns; kept: what is judged, which may be its average. path: where the run is, or will be."""
        self.student, self.kept, self.optimizer, self.path = student, kept, optimizer, path
        self.step, self.waited, self.least = 0, 0, np.inf
        self.log: list[dict[str, float]] = []
        self.best: dict[str, Tensor] = deepcopy(student.state_dict())
        if path is not None and path.exists():
            self._go_on(path)

    def check(self, figures: dict[str, float], *, best_counts: bool) -> None:
        """Note the figures of a step; keep the student as it is where its held-out loss is the least, or does not
        count. Raises InputError for a loss that is no number, with which nothing more can be learnt."""
        if not np.isfinite(figures["held_out"]):
            raise InputError(
                f"The held-out loss is {figures['held_out']} at step {figures['step']}.",
                "A finite number was expected.",
                "Lower the rates of this stage.",
            )
        self.step = int(figures["step"])
        self.log.append(figures)
        self.waited += 1
        if figures["held_out"] < self.least or not best_counts:
            self.least, self.waited = figures["held_out"], 0
            self.best = deepcopy(self.kept.state_dict())
        if self.path is not None:
            self._save(self.path)

    def _save(self, path: Path) -> None:
        parts = {"student": self.student.state_dict(), "kept": self.kept.state_dict(), "best": self.best}
        tensors = {f"{part}/{name}": tensor for part, state in parts.items() for name, tensor in state.items()}
        for place, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam/{place}/{name}": tensor for name, tensor in moments.items()}
        said = {"step": self.step, "waited": self.waited, "least": self.least, "log": self.log}
        arrays = {name: np.atleast_1d(tensor.detach().cpu().numpy()) for name, tensor in tensors.items()}
        write_tensors(path, arrays, {"run": json.dumps(said)})
        write_text(path.with_suffix(".json"), json.dumps(self.log, indent=1))

    def _go_on(self, path: Path) -> None:
        said: dict[str, Any] = json.loads(read_header(path)["__metadata__"]["run"])
        self.step, self.waited, self.least, self.log = said["step"], said["waited"], said["least"], said["log"]
        parts: dict[str, dict[str, Tensor]] = {"student": {}, "kept": {}, "best": {}, "adam": {}}
        for name, array in read_tensors(path).items():
            part, _, rest = name.partition("/")
            parts[part][rest] = torch.from_numpy(array.copy())
        self.student.load_state_dict(parts["student"])
        self.kept.load_state_dict(parts["kept"])
        self.best = parts["best"]
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in parts["adam"].items():
            place, _, moment = name.partition("/")
            moments.setdefault(int(place), {})[moment] = tensor.squeeze() if moment == "step" else tensor
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})

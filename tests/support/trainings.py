"""What a training leaves behind, and one that is killed between two epochs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from config.model import Config
from heads.fit import Training


def outputs(config: Config, experiment: str = "small") -> dict[str, bytes]:
    """Return the bytes of everything that the trainings leave behind."""
    folder = config.paths.heads(experiment)
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def metrics(config: Config, experiment: str = "small") -> list[dict[str, Any]]:
    """Return the lines of `metrics.jsonl`."""
    lines = (config.paths.heads(experiment) / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


class Killed(Exception):
    """Nothing catches it, as nothing catches SIGKILL."""


@contextmanager
def killed(condition: Callable[[Training, int], bool]) -> Iterator[None]:
    """Kill the training within at the first epoch (from 1) where `condition(training, epoch)`; it must get there."""
    whole = Training.epoch

    def epoch(self: Training, number: int) -> dict[str, Any]:
        if condition(self, number):
            raise Killed
        return whole(self, number)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Training, "epoch", epoch)
        yield

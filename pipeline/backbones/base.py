"""What every backbone offers. Reads and writes nothing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np


class Backbone(ABC):
    """A frozen network that turns decoded segments into feature vectors.

    A subclass is built once a job, on the machine and device that the job was given. `weights` is the safetensors
    file that `pipeline.weights` made; `options` are the resolved options of the registry.
    """

    dim: ClassVar[int]

    @abstractmethod
    def __init__(self, weights: Path, options: dict[str, Any], device: str, threads: int) -> None: ...

    @staticmethod
    @abstractmethod
    def fetch(source: str, seed: int, options: dict[str, Any], folder: Path) -> tuple[dict[str, np.ndarray], str]:
        """The weights that `backbones.<name>.weights: source` names, and in words where they come from.

        `pipeline.weights` calls it and writes the arrays to the safetensors file that `__init__` reads. `source` is a
        bare word that the backbone knows (`random`, with `seed`, always) or a local path (`pipeline.weights.local`);
        `folder` is an empty temporary folder for downloads. Raises UserError where they cannot be had or are not
        what they should be; never substitutes others.
        """

    @staticmethod
    @abstractmethod
    def preprocessing(options: dict[str, Any]) -> dict[str, Any]:
        """Everything between file and network that changes the features, as JSON: it enters the cache key."""

    @staticmethod
    @abstractmethod
    def request(options: dict[str, Any]) -> dict[str, Any]:
        """What the decode worker must return for a segment: the keyword arguments of its reader."""

    @abstractmethod
    def features(self, segments: np.ndarray) -> np.ndarray:
        """[n, …] decoded segments → [n, dim] float32, finite. A row depends on its own segment only."""

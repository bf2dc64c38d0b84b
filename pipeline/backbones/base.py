"""What every backbone offers. Reads and writes nothing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from pipeline.readers import AudioRequest, VideoRequest


class Backbone(ABC):
    """A frozen network that turns decoded segments into feature vectors of `dim` numbers.

    Each job builds one instance, on its machine and device. `weights` is the safetensors file that `pipeline.weights`
    made; `options` are the resolved options of the registry. Importing a subclass's module must import neither torch
    nor essentia: the plan and the decoding tasks only need `dim`, `request` and `preprocessing`.
    """

    dim: ClassVar[int]

    @abstractmethod
    def __init__(self, weights: Path, options: dict[str, Any], device: str, threads: int) -> None: ...

    @staticmethod
    @abstractmethod
    def fetch(source: str, seed: int, options: dict[str, Any], folder: Path) -> tuple[dict[str, np.ndarray], str]:
        """Return the weights named by `backbones.<name>.weights: source`, and a text that says where they come from.

        `pipeline.weights` writes the arrays to the safetensors file that `__init__` reads. `source` is a word that the
        backbone knows (`random`, with `seed`, always) or a local path (`pipeline.weights.local`); `folder` is an empty
        temporary folder for downloads. Raises UserError where they cannot be had or are not what they should be; never
        substitutes others.
        """

    @staticmethod
    @abstractmethod
    def preprocessing(options: dict[str, Any]) -> dict[str, Any]:
        """Return everything between file and network that changes the features, as JSON: it enters the cache key."""

    @staticmethod
    @abstractmethod
    def request(options: dict[str, Any]) -> AudioRequest | VideoRequest:
        """Return what the reader must make of a segment."""

    @abstractmethod
    def features(self, segments: np.ndarray) -> np.ndarray:
        """Return [n, dim] float32, finite, of decoded segments [n, …]. A row depends on its own segment only."""

"""What every backbone offers. Reads and writes nothing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.readers import AudioRequest, VideoRequest


@dataclass(frozen=True)
class WeightsSource:
    """What the configuration says about the weights of one backbone.

    `name` is `weights`: a word that the kind knows (`random`, with `seed`, always) or a local path
    (`pipeline.weights.local`); `key` is where it stands, for messages.
    """

    name: str
    seed: int
    options: dict[str, Any]
    key: str


class Kind(ABC):
    """What makes feature vectors of `dim` numbers: a frozen network (`Backbone`), or a source that has them already.

    `options` are the resolved options of the registry. Importing a subclass's module must import neither torch nor
    essentia: the Snakefile and the decoding tasks ask it for `width` and `request`.
    """

    dim: int

    @classmethod
    def width(cls, options: dict[str, Any]) -> int:
        """Return `dim` with these options, without weights. UserError, that begins with `options.`, if no model has
        them."""
        return cls.dim

    @classmethod
    def refusal(cls, options: dict[str, Any], seconds: float) -> str | None:
        """Return why it cannot take segments of this length: text that begins with `options.`; None if it can.

        The plan asks, before any video is opened. What the registry says (`least_seconds`) has been checked.
        """
        return None

    @staticmethod
    def architecture(options: dict[str, Any]) -> dict[str, Any]:
        """Return the options that other weights belong to, such as the model's name."""
        return {}

    @staticmethod
    @abstractmethod
    def fetch(source: WeightsSource, folder: Path) -> tuple[dict[str, np.ndarray], str]:
        """Return the weights that `source` names, and a text that says where they come from.

        `pipeline.weights` writes the arrays to the safetensors file that `__init__` reads; their digest enters the
        cache key. So whatever decides the features must be among them: of features that stay where they are it is their
        own digest, of a model that needs more than weights its configuration, as bytes. `folder` is an empty temporary
        folder for downloads. Raises UserError where they cannot be had or are not what they should be; never
        substitutes others.
        """

    @classmethod
    def description(cls, tensors: dict[str, np.ndarray], source: WeightsSource) -> dict[str, Any] | None:
        """Return what only the weights can tell, and the plan and the readers must know, as JSON; None: nothing.

        `tensors` are those that `fetch` returned. It is kept in the weights' record as `description`, and all other
        methods find it in `options["description"]`.
        """
        return None

    @staticmethod
    @abstractmethod
    def preprocessing(options: dict[str, Any]) -> dict[str, Any]:
        """Return everything between file and network that changes the features, as JSON: it enters the cache key."""


class Backbone(Kind):
    """A frozen network, or formulas, that turn decoded segments into feature vectors.

    Each job builds one instance, on its machine and device. `weights` is the safetensors file that `pipeline.weights`
    made.
    """

    @abstractmethod
    def __init__(self, weights: Path, options: dict[str, Any], device: str, threads: int) -> None: ...

    @staticmethod
    @abstractmethod
    def request(options: dict[str, Any]) -> AudioRequest | VideoRequest:
        """Return what the reader must make of a segment."""

    @abstractmethod
    def features(self, segments: np.ndarray) -> np.ndarray:
        """Return [n, dim] float32, finite, of decoded segments [n, …]. A row depends on its own segment only."""

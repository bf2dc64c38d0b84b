"""The features that the authors' code is trained on: simulated ones, or those of the cache. Writes nothing.

Reads the manifest and the cache, where the cache is asked for. The authors' classes take audio features of 1,506
numbers and video features of 512 and nothing else; their data loader takes segment 0 of each video.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from config.cli import UserError
from config.model import Config
from heads.batches import generator
from heads.features import PairedFeatures
from study.correlation.simulated import draw
from study.paper_code.runs import WIDTHS, Features

SHIFT = 2.0
"""Added to simulated audio features of the single head, so that most are positive, as MusicNN's are."""


@dataclass(frozen=True)
class Run:
    """One training: on `simulated` features at a correlation, or on the `cache`."""

    source: str
    model: str
    correlation: float | None
    seed: int

    @property
    def name(self) -> str:
        """Name of the training and of its files."""
        rho = "" if self.correlation is None else f"-{self.correlation:g}"
        return f"{self.source}-{self.model}{rho}-{self.seed}"


def runs(config: Config) -> list[Run]:
    """List all trainings of a configuration."""
    settings, listed = config.study.paper_code, []
    grid = sorted(set(settings.grid))
    for model in settings.models:
        listed += [Run("simulated", model, rho, seed) for rho in grid for seed in config.study.seeds]
    if settings.cache:
        for model in settings.models:
            listed += [Run("cache", model, None, seed) for seed in config.study.seeds]
    return listed


def simulated(config: Config, run: Run) -> Features:
    """Draw the features of a run (study/correlation/simulated.py), new ones for every seed."""
    assert run.correlation is not None
    settings = config.study.paper_code
    count = settings.videos + settings.galleries * settings.gallery
    drawn = draw(config.study.correlation.simulated, WIDTHS, count, run.correlation, run.seed)
    audio, video = (side[:, 0].astype(np.float32) for side in drawn.features)
    if run.model == "single_head":
        audio += np.float32(SHIFT)
    return _split(audio, video, settings.videos)


def chosen(config: Config, features: PairedFeatures) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows, int64, of the training and the test videos whose segment 0 both modalities have.

    The test videos are what the authors' code calls validation videos: it stops early and ranks by the same. They are
    cut to whole galleries. UserError if there are too few.
    """
    train, test = (split.rows[split.good[:, 0]] for split in (features.splits["train"], features.splits["test"]))
    gallery = max(1, min(config.study.paper_code.gallery, len(test)))
    test = test[: len(test) // gallery * gallery]
    if min(len(train), len(test)) < 2:
        raise UserError(
            f"study.paper_code.cache: {len(train)} training and {len(test)} test videos have their first segment in "
            "both modalities; at least 2 of each are needed. With `cache: false` the question takes simulated ones."
        )
    return train, test


def cached(config: Config, features: PairedFeatures) -> Features:
    """Load segment 0 of the `chosen` videos, in the authors' widths."""
    train, test = chosen(config, features)
    rows = np.concatenate([train, test])
    segments = (array.read(rows)[:, 0].astype(np.float32) for array in features.arrays)
    audio, video = (fitted(values, width) for values, width in zip(segments, WIDTHS, strict=True))
    return _split(audio, video, len(train))


def _split(audio: np.ndarray, video: np.ndarray, train: int) -> Features:
    return Features(audio[:train], video[:train], audio[train:], video[train:])


def fitted(values: np.ndarray, width: int) -> np.ndarray:
    """Return features [videos, dim] as float32 [videos, width], where the dim is another one.

    Narrower features are padded with zeros, which changes no inner product. Wider ones are projected by a fixed random
    orthogonal map, scaled so that squared lengths keep their expectation: this blurs them a little.
    """
    dim = values.shape[1]
    if dim < width:
        return np.pad(values, ((0, 0), (0, width - dim)))
    if dim == width:
        return values
    basis = np.linalg.qr(generator(dim, width).standard_normal((dim, width)))[0]
    return (values @ (basis * np.sqrt(dim / width))).astype(np.float32)


def how_fitted(dim: int, width: int) -> str:
    """Say what `fitted` does to features of this width."""
    if dim == width:
        return f"as they are ({dim})"
    return f"padded with zeros from {dim} to {width}" if dim < width else f"projected at random from {dim} to {width}"

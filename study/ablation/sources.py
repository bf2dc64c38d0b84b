"""The data of the ablation: simulated features, rendered videos paired anew, or the cache as it is.

Reads the cache and the manifest; writes nothing.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from config.heads import Sides
from config.model import Config
from config.paths import Paths
from heads.features import InMemory, PairedFeatures, load_features
from pipeline.features import open_features
from study.correlation.simulated import simulate
from study.correlation.train import Collection, left_out, open_collection, paired
from study.groups import groups_of_rows

EVAL, TRAIN = "eval", "train"
REAL = "real"


@dataclass(frozen=True)
class Source:
    """Where videos come from: `kind` is `simulated`, `rendered` or `real`, which has no known `correlation`."""

    kind: str
    correlation: float | None = None

    @property
    def name(self) -> str:
        """Name in tables and in the names of trainings."""
        return self.kind if self.correlation is None else f"{self.kind}_{self.correlation:g}"


@dataclass(frozen=True)
class Drawn:
    """One source with one seed: features by mode of the backbones (`eval`, and `train` if there are such ones).

    `groups` int64 [test videos] numbers the groups of the test videos; `achieved` by split what the pairing of rendered
    videos reached, else nothing.
    """

    features: dict[str, PairedFeatures]
    groups: np.ndarray
    achieved: dict[str, Any]


def sources(config: Config) -> list[Source]:
    """List the sources that a configuration asks for: rendered videos, or the cache as it is."""
    settings = config.study.ablation
    simulated = [Source("simulated", rho) for rho in sorted(set(settings.simulated))]
    if left_out(config) is None:
        return simulated + [Source("rendered", rho) for rho in sorted(set(settings.rendered))]
    return [*simulated, Source(REAL)]


def train_mode_sides(config: Config) -> Sides | None:
    """Return the sides of the experiments with backbones in training mode where there are such; None: nowhere."""
    mode = config.study.ablation.train_mode
    if mode is None:
        return None
    plain = config.sides()
    return Sides((mode.audio,) if mode.audio else plain.audio, (mode.video,) if mode.video else plain.video)


class Opened:
    """The cache's videos, opened once, and what any source draws from them or simulates."""

    def __init__(self, config: Config) -> None:
        self.config, self.settings = config, config.study.ablation
        self.spec = config.study.correlation.simulated.model_copy(update={"gallery": self.settings.gallery})
        plain, trained = config.sides(), train_mode_sides(config)
        # Both modes side by side: only videos that all backbones could read, in the same pairs.
        joined = (
            plain
            if trained is None
            else Sides(*(_distinct(without + with_mode) for without, with_mode in zip(plain, trained, strict=True)))
        )
        self.collection: Collection | None = None
        if left_out(config) is None:
            self.collection = open_collection(config, joined)
            self.features, self.rows = self.collection.features, self.collection.rows["test"]
        else:
            self.features = load_features(config, joined)
            self.features.check_enough()
            self.rows = self.features.splits["test"].rows
        self.columns = {
            mode: tuple(_columns(config.paths, whole, side) for whole, side in zip(joined, sides, strict=True))
            for mode, sides in ((EVAL, plain), (TRAIN, trained))
            if sides is not None
        }
        self.keys, self.random_weights = self.features.keys, self.features.random_weights

    @property
    def dims(self) -> tuple[int, int]:
        """Widths of simulated features, audio first: as configured, or those of the cache."""
        if self.settings.dims is not None:
            return self.settings.dims
        audio, video = (columns.stop - columns.start for columns in self.columns[EVAL])
        return audio, video

    def draw(self, source: Source, seed: int) -> Drawn:
        """Return a source's videos with one seed: simulated or paired anew; the cache as it is has nothing to draw."""
        reached: dict[str, Any] = {}
        if source.kind == "simulated":
            assert source.correlation is not None
            features = simulate(self.spec, self.dims, self.settings.videos, source.correlation, seed)
            return Drawn({EVAL: features}, np.arange(len(features.splits["test"].rows)), reached)
        features = self.features
        if source.correlation is not None:
            assert self.collection is not None
            features, reached = paired(self.collection, "all", source.correlation, seed)
        by_mode = {mode: _with_columns(features, *columns) for mode, columns in self.columns.items()}
        return Drawn(by_mode, groups_of_rows(self.config.paths, self.rows), reached)

    def test_videos(self, source: Source) -> int:
        """Return the number of a source's test videos."""
        return self.settings.gallery if source.kind == "simulated" else len(self.rows)


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _columns(paths: Paths, joined: tuple[str, ...], wanted: tuple[str, ...]) -> slice:
    """Return where the features of the one backbone `wanted` stand in the concatenation of `joined`."""
    view = open_features(paths)
    widths, number = [view.dim(name) for name in joined], joined.index(wanted[0])
    return slice(sum(widths[:number]), sum(widths[: number + 1]))


def _with_columns(features: PairedFeatures, audio: slice, video: slice) -> PairedFeatures:
    """Return the same videos with some columns of the features; all are read into memory."""
    everything = np.arange(features.arrays[0].shape[0])
    arrays = tuple(
        InMemory(array.values[:, :, columns] if isinstance(array, InMemory) else array.read(everything)[:, :, columns])
        for array, columns in zip(features.arrays, (audio, video), strict=True)
    )
    return dataclasses.replace(features, arrays=(arrays[0], arrays[1]))

"""A vector for every video of the atlas, in each of its spaces: embeddings of experiments, features of backbones.

Reads the plan, the manifest, the done records, the cache and embeddings, a block of videos at a time; writes nothing.
An experiment's vectors are those that the evaluation ranks (eval/retrieval.py). A backbone's are unit vectors, because
features are all nearly parallel: the mean over all segments is subtracted, and a video is the mean of its segments'
unit vectors, as in eval/spaces.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from config.cli import UserError
from config.heads import MODALITIES
from config.model import Config
from data.manifest import active
from eval.retrieval import pool
from heads.embed import BLOCK, embeddings_record, open_embeddings
from heads.features import mark_damaged
from heads.runs import runs
from pipeline.features import Features, good_segments, open_features
from pipeline.shards import Shards


@dataclass(frozen=True)
class Chosen:
    """The videos of the atlas: not retired, with a segment that all backbones of all experiments could read.

    `rows` int64 [videos], ascending; `good` bool [videos, segments]: what all those backbones could read.
    """

    rows: np.ndarray
    good: np.ndarray
    view: Features


class Space(Protocol):
    """One kind of vectors of videos. `name` is the beginning of the names of its columns."""

    name: str

    @property
    def parts(self) -> tuple[str, ...]:
        """What stands in the space together: audio and video of an experiment, or one part without a name."""

    def vectors(self, positions: np.ndarray) -> dict[str, np.ndarray]:
        """Return {part: float [videos, dim]} of videos by their positions in `Chosen.rows`; NaN for none."""


def choose(config: Config) -> Chosen:
    """Return the videos of the atlas, and the open cache. UserError if there are fewer than two."""
    paths = config.paths
    view = open_features(paths)
    table = view.manifest(["row", "split", "status"])
    good = np.ones((view.videos, view.segments), bool)
    for backbone in config.used_backbones:
        mark_damaged(paths, backbone, Shards.open(paths.features / backbone), config.shard_videos, good)
    usable = view.valid(*config.used_backbones) & good.any(axis=1)
    rows = np.flatnonzero(usable & active(table))
    if len(rows) < 2:
        raise UserError(
            f"{paths.features}: {len(rows)} videos have features of {', '.join(config.used_backbones)}; a map needs at "
            "least 2. failures.csv says why the others could not be read."
        )
    return Chosen(rows, good[rows], view)


class Embedded:
    """The embeddings of an experiment's first training, pooled as the evaluation pools them."""

    parts = MODALITIES

    def __init__(self, config: Config, name: str, chosen: Chosen) -> None:
        run, view = runs(config, name)[0], chosen.view
        self.name, self.unit = name, config.experiment(name).unit
        keys = {backbone: view.key(backbone) for backbone in config.sides(name).backbones}
        self.digest: str = embeddings_record(run, keys, view.videos)["digest"]
        self._sources = [open_embeddings(run, modality) for modality in MODALITIES]
        self._chosen = chosen

    def vectors(self, positions: np.ndarray) -> dict[str, np.ndarray]:
        """Return audio and video, float64 [videos, embedding]."""
        audio, video = (source.read(self._chosen.rows[positions]) for source in self._sources)
        # As the evaluation does, for the same ranks: what another backbone could not read is not heard either.
        audio[~self._chosen.good[positions]] = np.nan
        return {
            part: pool(block, unit) for part, block, unit in zip(self.parts, (audio, video), self.unit, strict=True)
        }


class Featured:
    """The features of one backbone: centred, and pooled as unit vectors."""

    parts = ("",)

    def __init__(self, backbone: str, chosen: Chosen, sample: np.ndarray) -> None:
        self.name, self._backbone, self._chosen = f"features_{backbone}", backbone, chosen
        self._valid = chosen.view.valid(backbone)[chosen.rows]
        self._mean = self._mean_of(sample[self._valid[sample]])

    def _mean_of(self, sample: np.ndarray) -> np.ndarray:
        """Return the mean of all segments of the videos at these positions, float32 [dim]."""
        total = np.zeros(self._chosen.view.dim(self._backbone))
        count = 0
        for positions in blocks(sample):
            block = self._chosen.view.numpy(self._backbone, self._chosen.rows[positions])
            good = good_segments(block)
            total += block[good].sum(axis=0, dtype=np.float64)
            count += int(good.sum())
        return (total / max(count, 1)).astype(np.float32)

    def vectors(self, positions: np.ndarray) -> dict[str, np.ndarray]:
        """Return the one part, float32 [videos, dim]; a video whose segments are all the mean is zeros."""
        stored = self._chosen.view.numpy(self._backbone, self._chosen.rows[positions])
        block = torch.from_numpy(stored).float().numpy()  # eight times as fast as numpy's conversion
        good = good_segments(block) & self._valid[positions, None]
        block -= self._mean
        block[~good] = 0
        length = np.sqrt(np.vecdot(block, block))
        weight = np.divide(1, length, out=np.zeros_like(length), where=length > 0)
        # The sum of the unit vectors, which has the direction of their mean.
        vectors = directions(np.einsum("vs,vsd->vd", weight, block))
        vectors[~good.any(axis=1)] = np.nan
        return {"": vectors}


def directions(vectors: np.ndarray) -> np.ndarray:
    """Scale float [..., dim] to length 1; a vector of zeros stays as it is."""
    length = np.sqrt(np.vecdot(vectors, vectors))[..., None]
    scaled: np.ndarray = np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
    return scaled


def blocks(positions: np.ndarray) -> Iterator[np.ndarray]:
    """Yield `BLOCK` of the positions, int64 [n], at a time."""
    for start in range(0, len(positions), BLOCK):
        yield positions[start : start + BLOCK]


def draw(videos: int, most: int, seed: int) -> np.ndarray:
    """Return positions of all videos, or of `most` drawn by `seed`: int64, ascending."""
    if videos <= most:
        return np.arange(videos)
    rng = np.random.default_rng(np.random.SeedSequence([seed, 2]))
    return np.sort(rng.choice(videos, size=most, replace=False))

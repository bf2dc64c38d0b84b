"""Labelled videos with standardised features of both sides: what fusion is trained on. Reads cache and labels.

Writes nothing. Features are standardised over the training split, so that a missing side, the training mean, is 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from config.cli import UserError
from config.model import Config
from config.paths import Paths
from data.labels import read_labels
from heads.features import Features
from heads.study.poolings import mean
from heads.study.segments import load

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Set:
    """Standardised features of one split: `sides` float32 [videos, segments, dim], `good` bool [videos, segments]; and
    its labels, `truth` bool [videos, classes]."""

    rows: np.ndarray
    sides: tuple[Tensor, Tensor]
    good: Tensor
    truth: Tensor

    def pooled(self) -> Set:
        """Each video as one segment, the mean of its good ones: what most fusions look at."""
        sides = [mean(side, self.good)[:, None] for side in self.sides]
        return Set(self.rows, (sides[0], sides[1]), self.good.any(1, keepdim=True), self.truth)

    def with_sides(self, audio: np.ndarray, video: np.ndarray) -> Set:
        """Other features of whole videos, [videos, dim]."""
        sides = [torch.from_numpy(x).float()[:, None] for x in (audio, video)]
        return Set(self.rows, (sides[0], sides[1]), torch.ones(len(audio), 1, dtype=torch.bool), self.truth)


@dataclass(frozen=True)
class Task:
    """One task's splits and its classes, those with a training video; `single`: each video has exactly one."""

    sets: dict[str, Set]
    classes: list[str]
    single: bool


def load_task(config: Config, features: Features, name: str) -> Task:
    """The labelled videos with both sides. UserError where a split has none, or there is nothing to tell apart."""
    labels = read_labels(Paths(Path(config.results)), name)
    settings, single = config.study.fusion, name == "genre"
    most = {"train": settings.videos, "validation": settings.videos, "test": settings.test_videos}
    found = {split: load(features, split, most[split], labels.rows) for split in SPLITS}
    truth = {split: labels.values[np.searchsorted(labels.rows, s.rows)] for split, s in found.items()}
    learned = np.flatnonzero(truth["train"].any(axis=0))
    scales = found["train"].standardise()
    sets = {}
    for split, s in found.items():
        right = truth[split][:, learned]
        # With one class a video, those of a class that nobody could learn are left out.
        kept = np.flatnonzero(right.any(axis=1)) if single else np.arange(len(right))
        good = s.good[kept]
        audio, video = (
            scale(x[kept].flatten(0, 1)).unflatten(0, good.shape)
            for scale, x in zip(scales, (s.audio, s.video), strict=True)
        )
        sets[split] = Set(s.rows[kept], (audio, video), good, torch.from_numpy(right[kept]))
    counts = {split: len(s.rows) for split, s in sets.items()}
    if len(learned) < 2 or not all(counts.values()):
        raise UserError(
            f"labels.{name}: the study's fusion needs two classes in the training split and labelled videos in every "
            f"split; there are {len(learned)} classes and {counts} videos with features of both sides"
        )
    return Task(sets, [labels.classes[i] for i in learned], single)

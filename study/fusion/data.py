"""Labelled videos with standardised features of both modalities: what fusion is trained on.

Reads the cache and the labels; writes nothing. Features are standardised over the training split, so that a missing
modality, replaced by the training mean, is 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from config.cli import UserError
from config.model import Config
from data.labels import read_labels
from data.splits import SPLITS
from heads.features import PairedFeatures
from study.aggregation.poolings import mean
from study.segments import load


@dataclass(frozen=True)
class FusionSplit:
    """Standardised features and labels of one split.

    `features` are audio and video, float32 [videos, segments, dim]; `good` bool [videos, segments]; `rows` int64
    [videos]; `truth` bool [videos, classes].
    """

    rows: np.ndarray
    features: tuple[Tensor, Tensor]
    good: Tensor
    truth: Tensor

    def pooled(self) -> FusionSplit:
        """Return each video as one segment, the mean of its good ones: the input of most fusions."""
        audio, video = (mean(features, self.good)[:, None] for features in self.features)
        return replace(self, features=(audio, video), good=self.good.any(1, keepdim=True))

    def with_features(self, audio: np.ndarray, video: np.ndarray) -> FusionSplit:
        """Return the same videos with other features of whole videos, [videos, dim]."""
        audio_tokens, video_tokens = (torch.from_numpy(features).float()[:, None] for features in (audio, video))
        return replace(self, features=(audio_tokens, video_tokens), good=torch.ones(len(audio), 1, dtype=torch.bool))


@dataclass(frozen=True)
class FusionTask:
    """One task's splits and its classes, those with a training video; `single`: each video has exactly one."""

    splits: dict[str, FusionSplit]
    classes: list[str]
    single: bool


def load_task(config: Config, features: PairedFeatures, name: str) -> FusionTask:
    """Return the labelled videos with both modalities.

    Raises UserError where a split has none, or where there are fewer than two classes.
    """
    labels = read_labels(config.paths, name)
    settings, single = config.study.fusion, name == "genre"
    most = {"train": settings.videos, "validation": settings.videos, "test": settings.test_videos}
    segments = {split: load(features, split, most[split], labels.rows) for split in SPLITS}
    truth = {split: labels.values[np.searchsorted(labels.rows, loaded.rows)] for split, loaded in segments.items()}
    learned = np.flatnonzero(truth["train"].any(axis=0))
    standardisers = segments["train"].standardisers()
    splits: dict[str, FusionSplit] = {}
    for split, loaded in segments.items():
        targets = truth[split][:, learned]
        # With one class a video, videos of a class without training videos are left out.
        kept = np.flatnonzero(targets.any(axis=1)) if single else np.arange(len(targets))
        good = loaded.good[kept]
        audio, video = (
            torch.unflatten(standardise(features[kept].flatten(0, 1)), 0, good.shape)
            for standardise, features in zip(standardisers, (loaded.audio, loaded.video), strict=True)
        )
        splits[split] = FusionSplit(loaded.rows[kept], (audio, video), good, torch.from_numpy(targets[kept]))
    counts = {split: len(kept.rows) for split, kept in splits.items()}
    if len(learned) < 2 or not all(counts.values()):
        raise UserError(
            f"labels.{name}: the study's fusion needs two classes in the training split and labelled videos in every "
            f"split; there are {len(learned)} classes and {counts} videos with features of both modalities"
        )
    return FusionTask(splits, [labels.classes[index] for index in learned], single)

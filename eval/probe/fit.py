"""A probe and how it is fitted: a perceptron or a linear classifier on standardised features. Reads and writes nothing.

One label a video (genre): softmax over the classes and cross-entropy; many (tagging): a sigmoid each and binary
cross-entropy. AdamW; an epoch is one pass over the training *videos*, each giving one of its segments, drawn at random
as for the projection heads; the weights of the epoch with the lowest validation loss are kept.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from config.labels import Probes

BLOCK = 1024
"""Videos worked on at a time where all are."""


@dataclass(frozen=True)
class Side:
    """One split: `features` float [videos, segments, dim]; `good` bool [videos, segments], which segments count, one of
    each video at least; `truth` bool [videos, classes]."""

    features: np.ndarray
    good: np.ndarray
    truth: np.ndarray


class Probe(nn.Module):
    """Standardisation, fitted once, and dense layers: [items, dim] of any float type → logits [items, classes]."""

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, train: Side, hidden: list[int], dropout: float) -> None:
        super().__init__()
        mean, deviation = moments(train)
        self.register_buffer("mean", torch.from_numpy(mean).float())
        # A feature that never changes says nothing: scaled by 1, it is 0 throughout the training split.
        self.register_buffer("scale", torch.from_numpy(np.where(deviation > 0, deviation, 1)).float())
        layers: list[nn.Module] = []
        width = len(mean)
        for each in hidden:
            layers += [nn.Linear(width, each), nn.ReLU(), nn.Dropout(dropout)]
            width = each
        self.layers = nn.Sequential(*layers, nn.Linear(width, train.truth.shape[1]))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.layers((features.float() - self.mean) / self.scale)


def moments(side: Side) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the good segments' features, float64 [dim] each."""
    count, total = int(side.good.sum()), np.zeros(side.features.shape[2])
    blocks = [slice(at, at + BLOCK) for at in range(0, len(side.features), BLOCK)]
    for part in blocks:
        total += side.features[part][side.good[part]].sum(axis=0, dtype=np.float64)
    mean, square = total / count, np.zeros_like(total)
    for part in blocks:
        square += ((side.features[part][side.good[part]] - mean) ** 2).sum(axis=0)
    return mean, np.sqrt(square / count)


@dataclass(frozen=True)
class Fitted:
    """A fitted probe, for one label a video (`single`) or many, and the epoch its weights are of."""

    probe: Probe
    single: bool
    epoch: int
    device: str

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Probabilities float32 [items, classes] of features [items, dim]."""
        self.probe.eval()
        found = []
        with torch.no_grad():
            for at in range(0, len(features), 8 * BLOCK):
                logits = self.probe(torch.from_numpy(features[at : at + 8 * BLOCK]).to(self.device))
                found.append((logits.softmax(1) if self.single else logits.sigmoid()).cpu().numpy())
        return np.concatenate(found)


def fit(train: Side, validation: Side, settings: Probes, hidden: list[int], single: bool, seed: int) -> Fitted:
    """Fit a probe with the `hidden` layers ([] for a linear one). Equal arguments give equal probes on one machine.

    With `single`, every video has exactly one class.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(seed)
    probe = Probe(train, hidden, settings.dropout).to(device)  # made on the CPU: the same on every device
    adam = torch.optim.AdamW(probe.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    rng = np.random.default_rng(np.random.SeedSequence([seed % 2**64, 1]))
    features, goal = torch.from_numpy(train.features), _goal(train.truth, single)
    held = validation.good.nonzero()
    held_features = torch.from_numpy(validation.features[held])
    held_goal = _goal(validation.truth, single)[held[0]].to(device)
    best, kept, kept_epoch = float("inf"), copy.deepcopy(probe.state_dict()), 0
    for epoch in range(1, settings.max_epochs + 1):
        probe.train()
        order, segment = epoch_of(train.good, rng)
        for at in range(0, len(order), settings.batch):
            videos = order[at : at + settings.batch]
            logits = probe(features[videos, segment[at : at + settings.batch]].to(device))
            loss = _loss(logits, goal[videos].to(device), single)
            adam.zero_grad()
            loss.backward()
            adam.step()
        probe.eval()
        with torch.no_grad():
            parts = [probe(part.to(device)) for part in held_features.split(8 * BLOCK)]
            validation_loss = float(_loss(torch.cat(parts), held_goal, single))
        if validation_loss < best:
            best, kept, kept_epoch = validation_loss, copy.deepcopy(probe.state_dict()), epoch
        elif epoch - kept_epoch >= settings.patience:
            break
    probe.load_state_dict(kept)
    return Fitted(probe, single, kept_epoch, device)


def epoch_of(good: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A random order of the videos and a random good segment of each: int64 [videos] each."""
    order = rng.permutation(len(good))
    return order, np.where(good[order], rng.random(good.shape), -1).argmax(axis=1)


def _goal(truth: np.ndarray, single: bool) -> torch.Tensor:
    return torch.from_numpy(truth.argmax(axis=1)) if single else torch.from_numpy(truth.astype(np.float32))


def _loss(logits: torch.Tensor, goal: torch.Tensor, single: bool) -> torch.Tensor:
    if single:
        return nn.functional.cross_entropy(logits, goal)
    return nn.functional.binary_cross_entropy_with_logits(logits, goal)

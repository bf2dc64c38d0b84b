"""A probe and how it is fitted: a perceptron or a linear classifier on standardised features. Reads and writes nothing.

One label a video (genre): softmax over the classes and cross-entropy; many (tagging): a sigmoid each and binary
cross-entropy. AdamW; an epoch is one pass over the training *videos*, each giving one of its segments, drawn at random
as for the projection heads; the weights of the epoch with the lowest validation loss are kept (heads/small.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from config.labels import Probes
from heads import small
from heads.standardise import Standardiser

BLOCK = 1024
"""Videos worked on at a time where all are."""


@dataclass(frozen=True)
class ProbeSplit:
    """One split: `features` float [videos, segments, dim]; `good` bool [videos, segments], which segments count, one of
    each video at least; `truth` bool [videos, classes]."""

    features: np.ndarray
    good: np.ndarray
    truth: np.ndarray


class Probe(nn.Module):
    """Standardisation, fitted once, and dense layers: [items, dim] of any float type → logits [items, classes]."""

    def __init__(self, train: ProbeSplit, hidden: list[int], dropout: float) -> None:
        super().__init__()
        self.standardise = standardiser(train)
        layers: list[nn.Module] = []
        dim = train.features.shape[2]
        for width in hidden:
            layers += [nn.Linear(dim, width), nn.ReLU(), nn.Dropout(dropout)]
            dim = width
        self.layers = nn.Sequential(*layers, nn.Linear(dim, train.truth.shape[1]))

    def forward(self, features: Tensor) -> Tensor:
        """Return logits float32 [items, classes] of features [items, dim]."""
        logits: Tensor = self.layers(self.standardise(features))
        return logits


def standardiser(split: ProbeSplit) -> Standardiser:
    """Return the standardiser of a split's good segments."""
    blocks = (slice(start, start + BLOCK) for start in range(0, len(split.features), BLOCK))
    good = (torch.from_numpy(split.features[block][split.good[block]]) for block in blocks)
    return Standardiser.fit(split.features.shape[2], good)


@dataclass(frozen=True)
class FittedProbe:
    """A fitted probe, for one label a video (`single`) or many, and the epoch its weights are of."""

    probe: Probe
    single: bool
    epoch: int
    device: str

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Return probabilities float32 [items, classes] of features [items, dim]."""
        self.probe.eval()
        scores = []
        with torch.no_grad():
            for start in range(0, len(features), 8 * BLOCK):
                logits = self.probe(torch.from_numpy(features[start : start + 8 * BLOCK]).to(self.device))
                scores.append((logits.softmax(1) if self.single else logits.sigmoid()).cpu().numpy())
        return np.concatenate(scores)


def fit(
    train: ProbeSplit,
    validation: ProbeSplit,
    settings: Probes,
    hidden: list[int],
    single: bool,
    seed: int,
    name: str = "the probe",
) -> FittedProbe:
    """Fit a probe with the `hidden` layers ([] for a linear one). Equal arguments give equal probes on one machine.

    With `single`, every video has exactly one class. Raises UserError, which tells the probe by its `name`, if its loss
    is not finite: it would otherwise be scored as if it had been trained.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(seed)
    probe = Probe(train, hidden, settings.dropout).to(device)  # made on the CPU: the same on every device
    adam = torch.optim.AdamW(probe.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    rng = np.random.default_rng(np.random.SeedSequence([seed, 1]))
    features, target = torch.from_numpy(train.features), _target(train.truth, single)
    good = validation.good.nonzero()
    validation_features = torch.from_numpy(validation.features[good])
    validation_target = _target(validation.truth, single)[good[0]].to(device)

    def losses(epoch: int) -> Iterator[Tensor]:
        order, segment = epoch_of(train.good, rng)
        for start in range(0, len(order), settings.batch):
            videos = order[start : start + settings.batch]
            logits = probe(features[videos, segment[start : start + settings.batch]].to(device))
            yield classification_loss(logits, target[videos].to(device), single)

    def validation_loss() -> float:
        logits = [probe(block.to(device)) for block in torch.split(validation_features, 8 * BLOCK)]
        return float(classification_loss(torch.cat(logits), validation_target, single))

    key = f"probes.learning_rate ({settings.learning_rate:g})"
    fitted = small.fit(probe, adam, losses, validation_loss, settings.max_epochs, settings.patience, name, key)
    return FittedProbe(probe, single, fitted.epoch, device)


def epoch_of(good: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return a random order of the videos and a random good segment of each: int64 [videos] each."""
    order = rng.permutation(len(good))
    return order, np.where(good[order], rng.random(good.shape), -1).argmax(axis=1)


def _target(truth: np.ndarray, single: bool) -> Tensor:
    return torch.from_numpy(truth.argmax(axis=1)) if single else torch.from_numpy(truth.astype(np.float32))


def classification_loss(logits: Tensor, target: Tensor, single: bool) -> Tensor:
    """Return the mean loss of logits [items, classes], a scalar.

    `target` is the class of each item, int [items], with `single`; otherwise float [items, classes].
    """
    if single:
        return nn.functional.cross_entropy(logits, target)
    return nn.functional.binary_cross_entropy_with_logits(logits, target)

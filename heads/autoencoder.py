"""Projection heads initialised as the encoders of autoencoders. Reads and writes nothing.

The paper (arXiv 2309.00347) has an experiment whose heads are initialised so. The details are our reading: a head as it
is, with its sigmoid and without the L2 normalisation, encodes its side's features; a decoder with the widths in the
opposite order and a linear end gives them back; the squared error is taken on features standardised over the training
split, because MusicNN's channels differ in size by orders of magnitude. The decoder is thrown away. No side sees the
other, and nothing sees the validation or test split.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from config.heads import Experiment, Layers
from heads.model import ProjectionHead, TwoHeads

log = logging.getLogger("autoencoder")
Batches = Callable[[int], Iterable[Sequence[Tensor]]]
"""Epoch (from 1) → its batches of training features, [n, audio dim] and [n, video dim], any float type, any device."""


def initialise(heads: TwoHeads, batches: Batches, experiment: Experiment, seed: int) -> list[dict[str, float]]:
    """Train each head as an encoder, in place; returns each epoch's mean error by side, in variances of a feature.

    An error of 1 is no better than the mean of the training split. The same seed and batches give the same weights; the
    state of torch's own generator is left as it was. A side without a head is left out.
    """
    device = next(heads.parameters()).device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        sides = {
            at: Autoencoder(name, head, experiment)
            for at, (name, head) in enumerate((("audio", heads.audio), ("video", heads.video)))
            if isinstance(head, ProjectionHead)
        }
        for batch in batches(1):
            for at, side in sides.items():
                side.standardise.see(batch[at].to(device))
        errors = []
        for epoch in range(1, experiment.autoencoder.epochs + 1):
            for batch in batches(epoch):
                for at, side in sides.items():
                    side.step(batch[at].to(device))
            errors.append({side.name: side.error() for side in sides.values()})
            log.info("epoch %d: %s", epoch, ", ".join(f"{side} {error:.3f}" for side, error in errors[-1].items()))
    return errors


class Standardise:
    """Mean and standard deviation of features that come in batches; a constant feature is divided by 1."""

    def __init__(self) -> None:
        self.count, self.mean, self.squares = 0, torch.zeros(()), torch.zeros(())

    def see(self, features: Tensor) -> None:
        """Add a batch [n, dim] (Chan, Golub & LeVeque 1983: sums of squares about the mean, so that no digits go)."""
        x = features.double()
        n, mean = len(x), x.mean(0)
        total, apart = self.count + n, mean - self.mean.to(x)
        self.squares = self.squares.to(x) + ((x - mean) ** 2).sum(0) + apart**2 * self.count * n / total
        self.mean, self.count = self.mean.to(x) + apart * n / total, total

    def __call__(self, features: Tensor) -> Tensor:
        """[n, dim] → float32 [n, dim] with mean 0 and deviation 1 over what was seen."""
        deviation = (self.squares / self.count).sqrt()
        # Only what was summed needs float64; the features come from float16.
        return (features.float() - self.mean.float()) / torch.where(deviation > 0, deviation, 1).float()


class Autoencoder:
    """One side's head with a decoder behind it, and the optimiser of both."""

    def __init__(self, name: str, head: ProjectionHead, experiment: Experiment) -> None:
        self.name, self.encoder = name, head.layers.train()
        layers = experiment.layers("audio" if name == "audio" else "video")
        assert layers is not None
        mirrored = Layers(**{**layers.model_dump(), "hidden": layers.hidden[::-1], "output": "linear"})
        weight = next(head.parameters())
        self.decoder = ProjectionHead(experiment.embedding, mirrored, head.dim).layers.to(weight.device)
        self.standardise = Standardise()
        parameters = [*self.encoder.parameters(), *self.decoder.parameters()]
        self.adam = torch.optim.Adam(parameters, lr=experiment.autoencoder.learning_rate, fused=True)
        self._sum, self._count = torch.zeros((), dtype=torch.float64, device=weight.device), 0

    def step(self, features: Tensor) -> None:
        """One step on a batch [n, dim]."""
        loss = functional.mse_loss(self.decoder(self.encoder(features.float())), self.standardise(features))
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()
        self._sum += loss.detach() * len(features)
        self._count += len(features)

    def error(self) -> float:
        """Mean squared error over the features since the last call."""
        mean = float(self._sum) / self._count
        self._sum.zero_()
        self._count = 0
        return mean

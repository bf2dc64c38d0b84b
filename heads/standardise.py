"""Standardisation of features, the same for heads, autoencoders, probes and the study's fusions. No files."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class Scaling(nn.Module):
    """Subtract a mean and divide by a scale that a Standardiser has found, and that the checkpoint keeps."""

    mean: Tensor
    scale: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))

    def set(self, standardiser: Standardiser) -> None:
        """Take over what the standardiser has found."""
        self.mean.copy_(standardiser.mean.float())
        self.scale.copy_(standardiser.scale.float())

    def forward(self, features: Tensor) -> Tensor:
        """Return float32 [n, dim]."""
        scaled: Tensor = (features.float() - self.mean) / self.scale
        return scaled


class Standardiser(nn.Module):
    """Subtract each feature's mean and divide by its standard deviation, both over the features seen before.

    Features are [n, dim] of any float type. A constant feature is divided by 1.
    """

    mean: Tensor
    squares: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.count = 0
        self.register_buffer("mean", torch.zeros(dim, dtype=torch.float64))
        self.register_buffer("squares", torch.zeros(dim, dtype=torch.float64))

    @classmethod
    def fit(cls, dim: int, batches: Iterable[Tensor]) -> Standardiser:
        """Return a standardiser that has seen these batches [n, dim]."""
        standardiser = cls(dim)
        for batch in batches:
            standardiser.see(batch)
        return standardiser

    def see(self, features: Tensor) -> None:
        """Add a batch (Chan, Golub & LeVeque 1983: squares are summed about the mean, which loses no digits)."""
        batch = features.double()
        size, mean = len(batch), batch.mean(0)
        total, shift = self.count + size, mean - self.mean
        self.squares += ((batch - mean) ** 2).sum(0) + shift**2 * self.count * size / total
        self.mean += shift * size / total
        self.count = total

    @property
    def scale(self) -> Tensor:
        """Divisor of each feature, float64 [dim]: its standard deviation (ddof 0), or 1 where that is 0."""
        deviation = (self.squares / self.count).sqrt()
        return torch.where(deviation > 0, deviation, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Return float32 [n, dim]. Only the sums need float64: the features come from float16."""
        return (features.float() - self.mean.float()) / self.scale.float()

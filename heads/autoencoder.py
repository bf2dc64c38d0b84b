"""Projection heads initialised as the encoders of autoencoders. Reads and writes nothing.

The paper (arXiv 2309.00347) has an experiment whose heads are initialised so. The details are our reading: a head,
without the L2 normalisation, encodes the features of its modality; a decoder with the widths in the opposite order and
a linear output reconstructs them; the squared error is taken on features standardised over the training split, because
MusicNN's channels differ in size by orders of magnitude. The decoder is thrown away. No head sees the other modality,
and nothing sees the validation or test split.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from config.heads import MODALITIES, Experiment, Layers, Modality
from heads.model import ProjectionHead, TwoHeads
from heads.small import epochs
from heads.standardise import Standardiser
from heads.stopping import check_finite

log = logging.getLogger("autoencoder")
Batches = Callable[[int], Iterable[Sequence[Tensor]]]
"""Epoch (from 1) → its batches of training features, [n, audio dim] and [n, video dim], any float type, any device."""


def initialise(heads: TwoHeads, batches: Batches, experiment: Experiment, seed: int) -> list[dict[str, float]]:
    """Train each head as an encoder, in place; return each epoch's mean error by modality, in variances of a feature.

    An error of 1 is no better than the mean of the training split. The same seed and batches give the same weights; the
    state of torch's own generator is left as it was. A modality without a head is left out. Raises UserError if the
    error is not finite.
    """
    device = next(heads.parameters()).device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        coders = {
            index: Reconstruction(modality, head, experiment)
            for index, modality in enumerate(MODALITIES)
            if isinstance(head := getattr(heads, modality), ProjectionHead)
        }
        for batch in batches(1):
            for index, coder in coders.items():
                coder.standardise.see(batch[index].to(device))
        model = nn.ModuleList(coders.values())
        # Adam treats every weight alone: one optimiser over both modalities does what one for each would.
        adam = torch.optim.Adam(model.parameters(), lr=experiment.autoencoder.learning_rate, fused=True)

        def losses(epoch: int) -> Iterator[Tensor]:
            for batch in batches(epoch):
                yield torch.stack([coder(batch[index].to(device)) for index, coder in coders.items()]).sum()

        errors: list[dict[str, float]] = []
        for _ in epochs(model, adam, losses, experiment.autoencoder.epochs):
            errors.append({coder.modality: coder.error() for coder in coders.values()})
            check_finite(
                f"the autoencoder that initialises the heads in epoch {len(errors)}",
                f"lower autoencoder.learning_rate ({experiment.autoencoder.learning_rate:g})",
                **{f"error of {modality}": error for modality, error in errors[-1].items()},
            )
            log.info(
                "epoch %d: %s", len(errors), ", ".join(f"{name} {error:.3f}" for name, error in errors[-1].items())
            )
    return errors


class Reconstruction(nn.Module):
    """The head of one modality with a decoder behind it."""

    def __init__(self, modality: Modality, head: ProjectionHead, experiment: Experiment) -> None:
        super().__init__()
        self.modality, self.head = modality, head
        layers = experiment.layers(modality)
        assert layers is not None
        mirrored = Layers(**{**layers.model_dump(), "hidden": layers.hidden[::-1], "output": "linear"})
        device = next(head.parameters()).device
        self.decoder = ProjectionHead(experiment.embedding, mirrored, head.dim).layers.to(device)
        self.standardise = Standardiser(head.dim).to(device)
        self._sum, self._count = torch.zeros((), dtype=torch.float64, device=device), 0

    def forward(self, features: Tensor) -> Tensor:
        """Return the mean squared error of the reconstructed features [n, dim], a scalar."""
        reconstructed = self.decoder(self.head.layers(self.head.inputs(features)))
        loss = functional.mse_loss(reconstructed, self.standardise(features))
        self._sum += loss.detach() * len(features)
        self._count += len(features)
        return loss

    def error(self) -> float:
        """Return the mean squared error over the features since the last call."""
        mean = float(self._sum) / self._count
        self._sum.zero_()
        self._count = 0
        return mean

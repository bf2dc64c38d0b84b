"""The training loop of small networks that are not resumed: autoencoders, probes, and the study's fusions and poolings.

Reads and writes nothing. Projection heads are trained by heads/fit.py, which can resume.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from heads.stopping import Patience, check_finite

Losses = Callable[[int], Iterable[Tensor]]
"""Epoch (from 1) → the loss of each of its batches, computed when it is asked for."""


@dataclass(frozen=True)
class Fitted:
    """How a training went: all its steps and epochs, the epoch whose weights are kept, and its validation loss."""

    steps: int
    epoch: int
    epochs: int
    validation_loss: float


def epochs(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    losses: Losses,
    max_epochs: int,
    rate: Callable[[int], float] | None = None,
) -> Iterator[int]:
    """Train the model in place, one optimiser step a batch; yield the number of steps so far after each epoch.

    `rate` maps a step, counted from 0, to its learning rate; by default that of the optimiser is left as it is.
    """
    step = 0
    for epoch in range(1, max_epochs + 1):
        model.train()
        for loss in losses(epoch):
            if rate is not None:
                for group in optimiser.param_groups:
                    group["lr"] = rate(step)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            step += 1
        yield step


def fit(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    losses: Losses,
    validation_loss: Callable[[], float],
    max_epochs: int,
    patience: int,
    name: str,
    key: str,
    rate: Callable[[int], float] | None = None,
) -> Fitted:
    """Train with early stopping; the model gets the weights with the lowest validation loss and is in eval mode.

    `validation_loss` is called after each epoch, in eval mode and without gradients. Raises UserError if it is not
    finite: the message names the training (`name`) and the learning rate to lower (`key` of the configuration).
    """
    best, weights = Patience(patience), copy.deepcopy(model.state_dict())
    fitted = Fitted(0, 0, 0, best.loss)
    for epoch, steps in enumerate(epochs(model, optimiser, losses, max_epochs, rate), 1):
        model.eval()
        with torch.no_grad():
            loss = validation_loss()
        check_finite(f"{name} in epoch {epoch}", f"lower {key}", **{"validation loss": loss})
        if best.better(epoch, loss):
            weights = copy.deepcopy(model.state_dict())
        fitted = Fitted(steps, best.epoch, epoch, best.loss)
        if best.over(epoch):
            break
    model.load_state_dict(weights)
    model.eval()
    return fitted

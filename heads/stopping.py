"""Early stopping, the same for all trainings (heads/fit.py, heads/small.py). Reads and writes nothing."""

from __future__ import annotations

import math

from config.cli import UserError


def check_finite(training: str, advice: str, **losses: float) -> None:
    """Raise UserError if a loss is infinite or NaN: the `training` diverged, and `advice` says what to do.

    A training that diverged must not pass for one that found nothing better than its initial weights.
    """
    if not all(map(math.isfinite, losses.values())):
        values = ", ".join(f"{name} {value:g}" for name, value in losses.items())
        raise UserError(
            f"{training} diverged ({values}): {advice}, or a feature is not finite "
            "(`python -m pipeline.verify` finds that)"
        )


class Patience:
    """The epoch with the lowest validation loss so far: its number (from 1; 0 before any) and its loss."""

    def __init__(self, patience: int, epoch: int = 0, loss: float | None = None) -> None:
        self.patience, self.epoch, self.loss = patience, epoch, math.inf if loss is None else loss

    def better(self, epoch: int, loss: float) -> bool:
        """Record an epoch's validation loss; return whether it is the lowest so far."""
        if not loss < self.loss:
            return False
        self.epoch, self.loss = epoch, loss
        return True

    def over(self, epoch: int) -> bool:
        """Return whether `patience` epochs up to this one have brought no lower loss."""
        return epoch - self.epoch >= self.patience

"""The best epoch of a small training, and when to stop waiting for a better one. Reads and writes nothing."""

from __future__ import annotations

import copy
import math

from torch import nn

from config.cli import UserError


class Best:
    """The epoch with the lowest validation loss so far: its number (from 1; 0 before any), its loss, its weights."""

    def __init__(self, model: nn.Module, patience: int, key: str) -> None:
        """`key`: of the configuration, the learning rate that a loss that is not finite is blamed on."""
        self.model, self.patience, self.key = model, patience, key
        self.epoch, self.loss, self.weights = 0, math.inf, copy.deepcopy(model.state_dict())

    def ends(self, epoch: int, loss: float) -> bool:
        """Take note of an epoch's validation loss; True once `patience` epochs have brought no lower one.

        UserError for a loss that is not finite.
        """
        if not math.isfinite(loss):
            raise UserError(f"the validation loss is not finite in epoch {epoch}; lower {self.key}")
        if loss < self.loss:
            self.epoch, self.loss, self.weights = epoch, loss, copy.deepcopy(self.model.state_dict())
        return epoch - self.epoch >= self.patience

    def restore(self) -> None:
        """Give the model the best epoch's weights, in eval mode."""
        self.model.load_state_dict(self.weights)
        self.model.eval()

"""The optimiser of an experiment and its learning rate at every step. Reads and writes nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from config.heads import Experiment


def make(experiment: Experiment, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Return the optimiser over the heads' and the loss's parameters.

    Weight matrices decay; parameters with fewer than two axes do not (biases, normalisations, temperature). One kernel
    a step (`fused`) does the same arithmetic as the loop over parameters, four times as fast on a CPU.
    """
    trained = list(parameters)
    groups = [
        {"params": [one for one in trained if one.ndim >= 2], "weight_decay": experiment.weight_decay},
        {"params": [one for one in trained if one.ndim < 2], "weight_decay": 0.0},
    ]
    if experiment.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=experiment.learning_rate, momentum=experiment.momentum, fused=True)
    kind = torch.optim.AdamW if experiment.optimiser == "adamw" else torch.optim.Adam
    return kind(groups, lr=experiment.learning_rate, fused=True)


def rate(experiment: Experiment, step: int, steps_an_epoch: float, total_steps: int) -> float:
    """Return the learning rate of `step` (counted from 0, over all epochs) of a training of at most `total_steps`.

    With a warm-up of w steps, step s < w has (s+1)/w of what the schedule says. `exponential` changes between epochs
    only (the paper's); `cosine` is half a period of it over the steps after the warm-up (Loshchilov & Hutter 2017,
    arXiv 1608.03983).
    """
    warmup_steps = experiment.warmup * steps_an_epoch
    highest = experiment.learning_rate * min(1.0, (step + 1) / warmup_steps if warmup_steps else 1.0)
    if experiment.schedule == "exponential":
        return highest * experiment.decay ** (step // steps_an_epoch)
    if experiment.schedule == "cosine":
        angle = math.pi * max(0, step - warmup_steps) / (total_steps - warmup_steps)
        return highest * (1 + math.cos(angle)) / 2
    return highest

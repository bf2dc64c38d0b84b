"""Fit two projection heads: epochs, validation, early stopping, and the state that a killed training goes on from.

Reads batches from heads/memory.py; writes the state into the file that it is given, unless it did so within the last
ten seconds: that can take longer than a small epoch. A training that goes on ends with the same bytes as an undisturbed
one, given that its features fit into memory as before (see `heads.memory_gb`); with another experiment or other data it
starts afresh.
"""

from __future__ import annotations

import copy
import logging
import math
import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch._dynamo  # making the first optimiser imports it; here, features are read meanwhile
from torch import Tensor, nn

from config.cli import UserError
from config.model import Config, Experiment, SegmentPolicy
from heads.autoencoder import initialise
from heads.batches import steps
from heads.checkpoint import About, Progress, load_progress, moments_of, restore_moments, save_progress
from heads.features import Features
from heads.loss import loss_of
from heads.memory import Data
from heads.model import build
from heads.optimiser import make, rate
from heads.runs import Run

log = logging.getLogger("train")
SAVE_SECONDS = 10.0
"""The least time between two savings of the state, but for the first and the last one; a kill costs as much."""


def derived_seed(seed: int, *of: int) -> int:
    """A seed for torch that is a function of the training's seed and of what it is for."""
    return int(np.random.SeedSequence([seed, *of]).generate_state(1, np.uint64)[0])


def deterministic(threads: int | None) -> None:
    """Have PyTorch compute the same each time, with so many threads (None: as many as it does)."""
    if threads is not None:
        torch.set_num_threads(threads)
    # What makes CUDA's sums come out the same every time; on the CPU it changes nothing.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    # That would also fill all new memory with NaN before it is written to, the features' own included.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def seed_everything(seed: int, epoch: int) -> None:
    """Seed torch (initial weights, dropout) from the seed and the epoch alone: resuming is exact."""
    torch.manual_seed(derived_seed(seed, epoch))


class Training:
    """One seed of an experiment: heads, loss, optimiser and data on one device, an epoch at a time."""

    def __init__(self, data: dict[str, Data], experiment: Experiment, seed: int) -> None:
        self.data, self.experiment, self.seed = data, experiment, seed
        features, self.device = data["train"].features, data["train"].device
        seed_everything(seed, 0)
        # Made on the CPU, so that the initial weights do not depend on the device.
        self.heads = build(experiment, *features.dims).to(self.device)
        self.loss = loss_of(experiment).to(self.device)
        # All that is learned, under the names it has in the checkpoint.
        self.learned = nn.ModuleDict({"audio": self.heads.audio, "video": self.heads.video, "loss": self.loss})
        self.optimiser = make(experiment, self.learned.parameters())
        self.steps = steps(features.splits["train"].good, experiment.segment_policy, experiment.batch)

    def initialise(self) -> None:
        """Before the first epoch: what `initialisation` asks for."""
        e = self.experiment
        if e.initialisation == "autoencoder":
            batches = partial(self.data["train"].batches, e.segment_policy, e.batch, self.seed)
            initialise(self.heads, batches, e, derived_seed(self.seed, 0, 1))

    def epoch(self, number: int) -> dict[str, Any]:
        """Train for epoch `number` (from 1), then validate; returns the epoch's line of metrics.jsonl."""
        e = self.experiment
        seed_everything(self.seed, number)
        done = (number - 1) * self.steps
        rates = [rate(e, done + step, self.steps, e.max_epochs * self.steps) for step in range(self.steps)]
        # Streaming may cut a few batches more than there are in memory: they have the last one's rate.
        ahead = chain(rates, repeat(rates[-1]))
        self.heads.train()
        train = self._pass("train", e.segment_policy, number, lambda loss: self._step(loss, next(ahead)))
        self.heads.eval()
        # Every segment, where an epoch of training may see one a video: the loss that stops the training is less noisy.
        policy: SegmentPolicy = "mean" if e.segment_policy == "mean" else "all"
        with torch.no_grad():
            validation = self._pass("validation", policy, 0, lambda loss: None)
        temperature = self.loss.temperature()
        return {"epoch": number, "learning_rate": rates[-1], "temperature": temperature, **train, **validation}

    def _pass(self, split: str, policy: SegmentPolicy, number: int, then: Callable[[Tensor], None]) -> dict[str, float]:
        """Mean loss over an epoch's pairs, what guessing would give, and the lowest value possible."""
        e = self.experiment
        total, sizes, lowest = torch.zeros((), dtype=torch.float64, device=self.device), [], 0.0
        for audio, video in self.data[split].batches(policy, e.batch, self.seed, number):
            size = len(audio)
            loss = self.loss(*self.heads(audio, video))
            lowest += self.loss.lowest(size) * size  # before the step, which may change a learned temperature
            then(loss)
            total += loss.detach() * size
            sizes.append(size)
        pairs = sum(sizes)
        return {
            f"{split}_loss": float(total) / pairs,
            f"{split}_chance": sum(self.loss.chance(n) * n for n in sizes) / pairs,
            f"{split}_lowest": lowest / pairs,
            f"{split}_pairs": pairs,
        }

    def _step(self, loss: Tensor, learning_rate: float) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()


def fit(
    data: dict[str, Data],
    experiment: Experiment,
    same: About,
    state: Path,
    on_epoch: Callable[[dict[str, Any]], object],
) -> Progress:
    """Train until `patience` epochs bring no lower validation loss, or for `max_epochs`; resume if `state` fits.

    `same` says what training this is. `on_epoch` gets each epoch's metrics, also those of the epochs before a resume,
    as soon as they are known. Raises UserError when the loss is no longer a number.
    """
    training = Training(data, experiment, same.seed)
    progress = load_progress(state, same)
    if progress:
        log.info("going on after epoch %d", len(progress.metrics))
        training.learned.load_state_dict(progress.weights)
        restore_moments(training.optimiser, progress.moments)
    else:
        training.initialise()
        progress = Progress({}, {}, copy.deepcopy(training.learned.state_dict()), same, [])
    for line in progress.metrics:
        on_epoch(line)
    saved = -math.inf
    while not finished(progress, experiment):
        line = training.epoch(len(progress.metrics) + 1)
        loss = line["validation_loss"]
        if not (np.isfinite(loss) and np.isfinite(line["train_loss"])):
            raise UserError(
                f"the loss of epoch {line['epoch']} is {line['train_loss']} (validation {loss}): either "
                f"learning_rate ({experiment.learning_rate}) is too high or temperature ({experiment.temperature}) too "
                "low, or a feature is not finite (`python -m pipeline.verify` finds that)"
            )
        progress.metrics.append(line)
        best = progress.about.validation_loss
        if best is None or loss < best:
            progress.best = copy.deepcopy(training.learned.state_dict())
            progress.about = replace(same, epoch=line["epoch"], validation_loss=loss)
        progress.weights, progress.moments = training.learned.state_dict(), moments_of(training.optimiser)
        if time.monotonic() - saved >= SAVE_SECONDS or finished(progress, experiment):
            save_progress(state, progress)
            saved = time.monotonic()
        log.info(
            "epoch %d: loss %.4f, validation %.4f (chance %.4f, lowest %.4f)%s",
            *(line["epoch"], line["train_loss"], loss, line["validation_chance"], line["validation_lowest"]),
            ", best so far" if progress.about.epoch == line["epoch"] else "",
        )
        on_epoch(line)
    return progress


def finished(progress: Progress, experiment: Experiment) -> bool:
    """Whether early stopping or `max_epochs` ends the training here."""
    done = len(progress.metrics)
    return done >= experiment.max_epochs or done - progress.about.epoch >= experiment.patience


def about(config: Config, features: Features, run: Run) -> About:
    """What training this is."""
    return About(
        experiment=config.heads.experiments[run.experiment].model_dump(),
        seed=run.seed,
        audio=config.heads.audio,
        video=config.heads.video,
        audio_dim=features.dims[0],
        video_dim=features.dims[1],
        keys=features.keys,
        random_weights=features.random_weights,
        data=features.digest(),
    )

"""Fit two projection heads: epochs, validation, early stopping, and the state that a killed training goes on from.

Reads batches from heads/dataset.py; writes the state into the file that it is given, unless it did so within the last
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
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch._dynamo  # noqa: F401 - making the first optimiser imports it; here, features are read meanwhile
from torch import Tensor, nn

from config.heads import Experiment, SegmentPolicy
from config.model import Config
from heads.autoencoder import initialise
from heads.batches import steps
from heads.checkpoint import About, Progress, load_progress, moments_of, restore_moments, save_progress
from heads.dataset import Data
from heads.features import PairedFeatures
from heads.loss import loss_of
from heads.model import build
from heads.optimiser import make, rate
from heads.runs import Run
from heads.standardise import Standardiser
from heads.stopping import Patience, check_finite

log = logging.getLogger("train")
SAVE_SECONDS = 10.0
"""The least time between two savings of the state, but for the first and the last one; a kill costs as much."""


def derived_seed(seed: int, *of: int) -> int:
    """Return a seed for torch that depends on the training's seed and on the numbers of its use alone."""
    return int(np.random.SeedSequence([seed, *of]).generate_state(1, np.uint64)[0])


def deterministic(threads: int | None) -> None:
    """Have PyTorch compute the same each time, with `threads` threads (None: as many as it uses now)."""
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
        self._standardise()
        self.loss = loss_of(experiment).to(self.device)
        # All that is learned, under the names it has in the checkpoint.
        self.learned = nn.ModuleDict({"audio": self.heads.audio, "video": self.heads.video, "loss": self.loss})
        self.optimiser = make(experiment, self.learned.parameters())
        self.steps = steps(features.splits["train"].good, experiment.segment_policy, experiment.batch)

    def _standardise(self) -> None:
        """Fit the heads' standardisers, where there are any, to all segments of the training split."""
        scalings = [self.heads.audio.scaling, self.heads.video.scaling]
        fitted = {
            modality: Standardiser(len(scaling.mean))
            for modality, scaling in enumerate(scalings)
            if scaling is not None
        }
        if not fitted:
            return
        for batch in self._batches("train", "all", 0):
            for modality, standardiser in fitted.items():
                standardiser.see(batch[modality].cpu())
        for modality, scaling in enumerate(scalings):
            if scaling is not None:
                scaling.set(fitted[modality])

    def initialise(self) -> None:
        """Initialise the heads as `initialisation` says; called before the first epoch."""
        experiment = self.experiment
        if experiment.initialisation == "autoencoder":
            initialise(
                self.heads,
                lambda epoch: self._batches("train", experiment.segment_policy, self.drawn(epoch)),
                experiment,
                derived_seed(self.seed, 0, 1),
            )

    def drawn(self, epoch: int) -> int:
        """Return the epoch whose segments and batches an epoch of training has."""
        return 1 if self.experiment.shuffle == "once" else epoch

    def epoch(self, number: int) -> dict[str, Any]:
        """Train for epoch `number` (from 1), then validate; return the epoch's line of metrics.jsonl.

        Call `repeat_step` before the next one.
        """
        experiment = self.experiment
        seed_everything(self.seed, number)
        steps_before = (number - 1) * self.steps
        total_steps = experiment.max_epochs * self.steps
        rates = [rate(experiment, steps_before + step, self.steps, total_steps) for step in range(self.steps)]
        # Streaming may cut a few batches more than there are in memory: they have the last one's rate.
        ahead = chain(rates, repeat(rates[-1]))
        self.heads.train()
        train = self._pass(
            "train", experiment.segment_policy, self.drawn(number), lambda loss: self.step(loss, next(ahead))
        )
        validation, temperature = self.validate(), self.loss.temperature()
        return {"epoch": number, "learning_rate": rates[-1], "temperature": temperature, **train, **validation}

    def validate(self) -> dict[str, float]:
        """Return the validation loss, its value at chance, the lowest possible one, and the number of pairs."""
        self.heads.eval()
        # Every segment, where an epoch of training may see one a video: the loss that stops the training is less noisy.
        own = self.experiment.segment_policy
        policy: SegmentPolicy = own if own in ("first", "mean") else "all"
        with torch.no_grad():
            return self._pass("validation", policy, 0, lambda loss: None)

    def _batches(self, split: str, policy: SegmentPolicy, number: int) -> Iterator[list[Tensor]]:
        """Yield the batches of epoch `number` of a split, audio and video float32 [pairs, dim] each."""
        return self.data[split].batches(policy, self.experiment.batch, self.seed, number)

    def _pass(self, split: str, policy: SegmentPolicy, number: int, then: Callable[[Tensor], None]) -> dict[str, float]:
        """Return the mean loss over an epoch's pairs, its value at chance and the lowest possible one."""
        total, sizes, lowest = torch.zeros((), dtype=torch.float64, device=self.device), [], 0.0
        for audio, video in self._batches(split, policy, number):
            size = len(audio)
            loss = self.loss(*self.heads(audio, video))
            lowest += self.loss.lowest(size) * size  # before the step, which may change a learned temperature
            then(loss)
            total += loss.detach() * size
            sizes.append(size)
        pairs = sum(sizes)
        return {
            f"{split}_loss": float(total) / pairs,
            f"{split}_chance": sum(self.loss.chance(size) * size for size in sizes) / pairs,
            f"{split}_lowest": lowest / pairs,
            f"{split}_pairs": pairs,
        }

    def repeat_step(self) -> None:
        """Step again with the last batch's gradient and learning rate, if the experiment says so.

        It belongs to the beginning of the next epoch. Taken before the state is saved, it needs no gradients there.
        """
        if self.experiment.repeat_step:
            self.optimiser.step()

    def step(self, loss: Tensor, learning_rate: float) -> None:
        """Take one optimiser step down the gradient of a batch's loss."""
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()


def fit(
    data: dict[str, Data],
    experiment: Experiment,
    description: About,
    state: Path | None,
    on_epoch: Callable[[dict[str, Any]], object],
) -> Progress:
    """Train until `patience` epochs bring no lower validation loss, or for `max_epochs`; resume if `state` fits.

    `description` says which training this is; without `state` nothing is saved. `on_epoch` gets each epoch's metrics as
    soon as they are known, also those of the epochs before a resume. Raises UserError when the loss is not finite.
    """
    training = Training(data, experiment, description.seed)
    progress = load_progress(state, description) if state else None
    if progress:
        log.info("going on after epoch %d", len(progress.metrics))
        training.learned.load_state_dict(progress.weights)
        restore_moments(training.optimiser, progress.moments)
    else:
        training.initialise()
        progress = Progress({}, {}, copy.deepcopy(training.learned.state_dict()), description, [])
    for line in progress.metrics:
        on_epoch(line)
    saved = -math.inf
    while not finished(progress, experiment):
        line = training.epoch(len(progress.metrics) + 1)
        loss = line["validation_loss"]
        check_finite(
            f"the training of epoch {line['epoch']}",
            f"lower learning_rate ({experiment.learning_rate}) or raise temperature ({experiment.temperature})",
            loss=line["train_loss"],
            validation=loss,
        )
        progress.metrics.append(line)
        if patience(progress, experiment).better(line["epoch"], loss):
            progress.best = copy.deepcopy(training.learned.state_dict())
            progress.about = replace(description, epoch=line["epoch"], validation_loss=loss)
        training.repeat_step()
        progress.weights, progress.moments = training.learned.state_dict(), moments_of(training.optimiser)
        if state and (time.monotonic() - saved >= SAVE_SECONDS or finished(progress, experiment)):
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
    """Return whether early stopping or `max_epochs` ends the training here."""
    epoch = len(progress.metrics)
    return epoch >= experiment.max_epochs or patience(progress, experiment).over(epoch)


def patience(progress: Progress, experiment: Experiment) -> Patience:
    """Return the early stopping at the best epoch so far."""
    return Patience(experiment.patience, progress.about.epoch, progress.about.validation_loss)


def about(config: Config, features: PairedFeatures, run: Run) -> About:
    """Return the description of a training: only one with an equal description may be resumed."""
    audio, video = config.sides(run.experiment).names
    return About(
        experiment=config.heads.experiments[run.experiment].model_dump(),
        seed=run.seed,
        audio=audio,
        video=video,
        audio_dim=features.dims[0],
        video_dim=features.dims[1],
        keys=features.keys,
        random_weights=features.random_weights,
        data=features.digest(),
        matmul=config.heads.matmul,
    )

"""Fit two projection heads on the cached features: the paper's recipe unless the experiment says otherwise.

Reads the manifest and the cache. Writes into heads/EXPERIMENT/ of the results folder:
  checkpoint.safetensors  the weights of the epoch with the lowest validation loss
  metrics.jsonl           one line an epoch, as it goes: losses beside their chance level and lowest possible value
  config.json             the experiment as it was run
After every epoch the state is saved in work/heads/EXPERIMENT/. A killed training goes on from there when it is started
again and ends with the same bytes as an undisturbed one; with another experiment or other data it starts afresh.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from config.cli import UserError, parser, run
from config.files import write_json
from config.model import LEAST_VIDEOS, Config, Experiment, read
from config.paths import Paths
from heads.autoencoder import initialise
from heads.checkpoint import (
    About,
    Progress,
    load_progress,
    moments_of,
    restore_moments,
    save_checkpoint,
    save_progress,
)
from heads.features import Batch, Features, load_features, training_batches, validation_batches
from heads.loss import loss_of
from heads.model import build
from heads.optimiser import make, rate
from heads.runs import experiment_of

log = logging.getLogger("train")
"""Fewer videos than this are no training set: batch norm and the contrast both need company."""


def check_enough(features: Features) -> None:
    """UserError if too few videos could be read to train on."""
    for split, least in LEAST_VIDEOS.items():
        count, total = len(features.rows[split]), features.total[split]
        if count < least:
            raise UserError(
                f"the {split} split has {total} videos, of which {count} have features of both "
                f"{' and '.join(features.keys)}; training needs at least {least}. Add videos to `videos` (or raise "
                "`render.videos`), or look into failures.csv for why they could not be read."
            )


def derived_seed(seed: int, *of: int) -> int:
    """A seed for torch that is a function of the experiment's seed and of what it is for."""
    return int(np.random.SeedSequence([seed % 2**64, *of]).generate_state(1, np.uint64)[0])


def seed_everything(seed: int, epoch: int) -> None:
    """Seed torch (initial weights, dropout) from the experiment's seed and the epoch alone: resuming is exact."""
    torch.manual_seed(derived_seed(seed, epoch))


class Training:
    """One experiment's heads, optimiser and data on one device, an epoch at a time."""

    def __init__(self, features: Features, experiment: Experiment, device: str) -> None:
        self.features, self.experiment, self.device = features, experiment, device
        seed_everything(experiment.seed, 0)
        # Made on the CPU, so that the initial weights do not depend on the device.
        self.heads = build(experiment, features.audio.shape[2], features.video.shape[2]).to(device)
        self.loss = loss_of(experiment).to(device)
        # All that is learned, under the names it has in the checkpoint.
        self.learned = nn.ModuleDict({"audio": self.heads.audio, "video": self.heads.video, "loss": self.loss})
        self.optimiser = make(experiment, self.learned.parameters())

    def initialise(self) -> None:
        """Before the first epoch: what `initialisation` asks for."""
        e, f = self.experiment, self.features

        def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
            for batch in training_batches(f.good[f.rows["train"]], e.batch, e.seed, epoch):
                yield self._features("train", batch)

        if e.initialisation == "autoencoder":
            initialise(self.heads, batches, e, derived_seed(e.seed, 0, 1))

    def _features(self, split: str, batch: Batch) -> tuple[Tensor, Tensor]:
        audio, video = self.features.pairs(split, batch)
        return torch.from_numpy(audio).to(self.device), torch.from_numpy(video).to(self.device)

    def epoch(self, number: int) -> dict[str, Any]:
        """Train for epoch `number` (from 1), then validate; returns the epoch's line of metrics.jsonl."""
        e, f = self.experiment, self.features
        seed_everything(e.seed, number)
        batches = training_batches(f.good[f.rows["train"]], e.batch, e.seed, number)
        done, total = (number - 1) * len(batches), e.max_epochs * len(batches)
        rates = [rate(e, done + step, len(batches), total) for step in range(len(batches))]
        ahead = iter(rates)
        self.heads.train()
        train = self._pass("train", batches, lambda loss: self._step(loss, next(ahead)))
        self.heads.eval()
        batches = validation_batches(f.good[f.rows["validation"]], e.batch, e.seed)
        with torch.no_grad():
            validation = self._pass("validation", batches, lambda loss: None)
        temperature = self.loss.temperature()
        return {"epoch": number, "learning_rate": rates[-1], "temperature": temperature, **train, **validation}

    def _pass(self, split: str, batches: list[Batch], then: Callable[[Tensor], None]) -> dict[str, float]:
        total, sizes = torch.zeros((), dtype=torch.float64, device=self.device), [len(batch[0]) for batch in batches]
        lowest = 0.0
        for batch, size in zip(batches, sizes, strict=True):
            loss = self.loss(*self.heads(*self._features(split, batch)))
            lowest += self.loss.lowest(size) * size  # before the step, which may change a learned temperature
            then(loss)
            total += loss.detach() * size
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
    features: Features, experiment: Experiment, same: About, state: Path, on_epoch: Callable[[dict[str, Any]], object]
) -> Progress:
    """Train until `patience` epochs bring no lower validation loss, or for `max_epochs`; resume if `state` fits.

    `same` says what training this is. `on_epoch` gets each epoch's metrics, also those of the epochs before a resume,
    once that epoch is saved. Raises UserError when the loss is no longer a number.
    """
    training = Training(features, experiment, "cuda" if torch.cuda.is_available() else "cpu")
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
        save_progress(state, progress)
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


def train(config: Config, name: str) -> None:
    """Train one experiment and write its three files."""
    experiment, paths = experiment_of(config, name), Paths(Path(config.results))
    features = load_features(config)
    check_enough(features)
    same = About(
        experiment=experiment.model_dump(),
        audio=config.heads.audio,
        video=config.heads.video,
        audio_dim=features.audio.shape[2],
        video_dim=features.video.shape[2],
        keys=features.keys,
        random_weights=features.random_weights,
        data=features.digest(),
    )
    for backbone, random in features.random_weights.items():
        if random:
            log.warning("%s has RANDOM weights: its features, and all that follows from them, mean little", backbone)
    folder, state = paths.heads(name), paths.training(name)
    folder.mkdir(parents=True, exist_ok=True)
    # Appended a line at a time, so that `tail -f` follows it; a killed training's half line is written anew.
    with open(folder / "metrics.jsonl", "w", buffering=1, encoding="utf-8") as file:
        progress = fit(
            features, experiment, same, state, lambda line: file.write(json.dumps(line, allow_nan=False) + "\n")
        )
    write_json(folder / "config.json", {"experiment": name, **experiment.model_dump()})
    save_checkpoint(folder / "checkpoint.safetensors", progress.best, progress.about)
    shutil.rmtree(state.parent)
    log.info("%s: epoch %d is the best of %d", name, progress.about.epoch, len(progress.metrics))


def main() -> None:
    p = parser(__doc__, "heads.train")
    p.add_argument("--experiment", required=True, metavar="NAME", help="which of heads.experiments to train")
    p.add_argument("--threads", type=int, default=1, metavar="N", help="cores to use (default 1)")
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    # What makes CUDA's sums come out the same every time; on the CPU it changes nothing.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    train(read(args.config), args.experiment)


if __name__ == "__main__":
    run(main)

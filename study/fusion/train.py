"""Train networks that predict genre and tags from audio and video together, beside each modality alone.

Reads the cache, the manifest and the labels. Writes study/fusion/trained.safetensors: for every TASK-FUSION-KIND-SEED
the probabilities float32 [videos, classes] of the validation split, NAME/validation, and of the test split with both
modalities, NAME/both, and with one missing, NAME/no_audio, NAME/no_video; in its metadata, videos, classes and how each
was trained. KIND `plain` has both modalities throughout training, `dropped` loses one of them at random (modality
dropout, Neverova et al. 2016, arXiv 1501.00102). A missing modality is replaced by the training mean.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from config.cli import UserError, parser, run
from config.model import Config, read
from config.study.fusion import Fusion
from data.splits import SPLITS
from eval.probe.fit import classification_loss
from heads import small
from heads.batches import generator
from heads.features import load_features
from heads.fit import seed_everything
from heads.kernels import kernels
from study.fusion import cca
from study.fusion.data import FusionSplit, load_task
from study.fusion.networks import FUSIONS, build
from study.trainings import Outcome, work_off

log = logging.getLogger("fusion")
PART = "fusion"
MISSING: dict[str, tuple[int, ...]] = {"both": (), "no_audio": (0,), "no_video": (1,)}
"""Modalities that each condition of the test lacks: 0 is audio, 1 video."""
SINGLE = ("audio", "video")
BLOCK = 1024


class FusionTrainer:
    """Train the fusion of a name, with the tasks' features and canonical variates kept for all trainings."""

    def __init__(self, config: Config) -> None:
        self.config, self.settings = config, config.study.fusion
        features = load_features(config)
        self.task = cache(partial(load_task, config, features))
        self.variates = cache(self._variates)
        self.pooled = cache(lambda name: {split: loaded.pooled() for split, loaded in self.task(name).splits.items()})

    def _variates(self, name: str) -> tuple[dict[str, FusionSplit], dict[str, Any]]:
        splits = self.pooled(name)
        arrays = {
            split: (loaded.features[0][:, 0].numpy(), loaded.features[1][:, 0].numpy())
            for split, loaded in splits.items()
        }
        model = cca.fit(arrays["train"], arrays["validation"], self.settings.components, self.settings.shrinkages)
        facts = {
            "shrinkage": model.shrinkage,
            "components": len(model.correlations),
            "test_correlation": cca.held_out(model, *arrays["test"]),
        }
        return {split: loaded.with_features(*model.project(*arrays[split])) for split, loaded in splits.items()}, facts

    def __call__(self, name: str) -> Outcome:
        """Return the probabilities and facts of the training of this name."""
        task_name, fusion, kind, seed = name.split("-")
        task, cca_facts = self.task(task_name), dict[str, Any]()
        splits = task.splits if fusion == "cross_attention" else self.pooled(task_name)
        if fusion == "cca":
            splits, cca_facts = self.variates(task_name)
        with kernels(self.config.heads.matmul, "cpu"):
            model, facts = fit(splits, fusion, task.single, self.settings, kind == "dropped", int(seed))
            scores = {"validation": probabilities(model, splits["validation"], task.single, ())}
            for condition, lost in MISSING.items():
                scores[condition] = probabilities(model, splits["test"], task.single, lost)
        return Outcome(scores, facts | cca_facts)


def fit(
    splits: dict[str, FusionSplit], fusion: str, single: bool, settings: Fusion, dropped: bool, seed: int
) -> tuple[nn.Module, dict[str, Any]]:
    """Train one fusion; return it in eval mode, with the weights of the best epoch, and facts about the training.

    With `dropped`, the validation loss is the mean over all three conditions of `MISSING`.
    """
    train, validation = splits["train"], splits["validation"]
    seed_everything(seed, 0)
    dims = train.features[0].shape[2], train.features[1].shape[2]
    model = build(fusion, dims, train.truth.shape[1], settings.hidden, settings.dropout)
    adam = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )
    conditions = MISSING.values() if dropped else [()]

    def losses(epoch: int) -> Iterator[Tensor]:
        seed_everything(seed, epoch)
        rng = generator(seed, epoch)
        order = rng.permutation(len(train.rows))
        draws = rng.random(len(order))
        for videos in np.array_split(order, -(-len(order) // settings.batch)):
            inputs = [features[videos] for features in train.features]
            if dropped:
                for number, features in enumerate(inputs):
                    features[torch.from_numpy(np.floor(draws[videos] * 2 / settings.lost) == number)] = 0
            yield _loss(model(*inputs, train.good[videos]), train.truth[videos], single)

    def validation_loss() -> float:
        values = [_loss(logits(model, validation, lost), validation.truth, single) for lost in conditions]
        return float(torch.stack(values).mean())

    name, key = f"study.fusion: {fusion}, seed {seed}", "study.fusion.learning_rate"
    fitted = small.fit(model, adam, losses, validation_loss, settings.max_epochs, settings.patience, name, key)
    facts = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "epoch": fitted.epoch,
        "epochs": fitted.epochs,
    }
    return model, facts | {"validation_loss": fitted.validation_loss}


def logits(model: nn.Module, data: FusionSplit, lost: tuple[int, ...]) -> Tensor:
    """Return float32 [videos, classes] of a whole split, with the modalities in `lost` missing."""
    blocks = []
    for start in range(0, len(data.rows), BLOCK):
        part = slice(start, start + BLOCK)
        inputs = [
            torch.zeros_like(values[part]) if number in lost else values[part]
            for number, values in enumerate(data.features)
        ]
        blocks.append(model(*inputs, data.good[part]))
    return torch.cat(blocks)


@torch.no_grad()
def probabilities(model: nn.Module, data: FusionSplit, single: bool, lost: tuple[int, ...]) -> Tensor:
    """Return float32 [videos, classes]: a softmax over the classes if `single`, otherwise a sigmoid each."""
    model.eval()
    scores = logits(model, data, lost)
    return scores.softmax(1) if single else scores.sigmoid()


def _loss(logits: Tensor, truth: Tensor, single: bool) -> Tensor:
    return classification_loss(logits, truth.int().argmax(1) if single else truth.float(), single)


def name_of(task: str, fusion: str, kind: str, seed: int) -> str:
    """Return the name of a training."""
    return f"{task}-{fusion}-{kind}-{seed}"


def kinds(fusion: str) -> tuple[str, ...]:
    """Return the kinds of training of a fusion; modality dropout does not apply to a modality alone."""
    return ("plain",) if fusion in SINGLE else ("plain", "dropped")


def train(config: Config, threads: int) -> None:
    """Train every fusion for every task with every seed, and write their predictions."""
    settings, features = config.study.fusion, load_features(config)
    if not all(0 < shrinkage <= 1 for shrinkage in settings.shrinkages):
        raise UserError(f"study.fusion.shrinkages: {settings.shrinkages} must be above 0 and at most 1")
    tasks: dict[str, Any] = {}
    for name in config.labels.tasks:
        task = load_task(config, features, name)
        digest = hashlib.sha256(b"".join(task.splits[split].truth.numpy().tobytes() for split in SPLITS)).hexdigest()
        rows = {split: task.splits[split].rows.tolist() for split in SPLITS}
        tasks[name] = {"classes": task.classes, "rows": rows, "labels": digest}
    names = [
        name_of(task, fusion, kind, seed)
        for task in tasks
        for seed in config.study.seeds
        for fusion in FUSIONS
        for kind in kinds(fusion)
    ]
    same = {
        "version": 1,
        "settings": settings.model_dump(),
        "tasks": tasks,
        "keys": features.keys,
        "features": features.contents,
        "random_weights": features.random_weights,
        **config.heads.rounding(),
    }
    work_off(config.paths.study_work(PART), names, same, FusionTrainer, config, threads)


def main() -> None:
    """Run the command line."""
    arguments = parser(__doc__, "study.fusion.train", "trainings at a time, one core each").parse_args()
    train(read(arguments.config), arguments.threads)


if __name__ == "__main__":
    run(main)

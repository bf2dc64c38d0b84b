"""Train networks that predict genre and tags from sound and pictures together, beside each side alone.

Reads the cache, the manifest and the labels. Writes study/fusion/trained.safetensors: for every TASK-FUSION-KIND-SEED
the probabilities float32 [videos, classes] of the validation split, NAME/validation, and of the test split as it is and
with one side missing, NAME/both, NAME/no_audio, NAME/no_video; in its metadata, videos, classes and how each was
trained. KIND `plain` never misses a side in training, `dropped` loses one of them now and then (modality dropout,
Neverova et al. 2016, arXiv 1501.00102). A missing side is replaced by the training mean.
"""

from __future__ import annotations

import hashlib
import logging
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from config.cli import UserError, parser, run
from config.model import Config, read
from config.paths import Paths
from config.study import Fusion
from heads.batches import generator
from heads.features import load_features
from heads.fit import seed_everything
from heads.kernels import kernels
from heads.study import cca
from heads.study.best import Best
from heads.study.fusions import FUSIONS, build
from heads.study.labelled import SPLITS, Set, load_task
from heads.study.pieces import Piece, work_off

log = logging.getLogger("fusion")
PART = "fusion"
MISSING: dict[str, tuple[int, ...]] = {"both": (), "no_audio": (0,), "no_video": (1,)}
"""What each condition of the test lacks: 0 is sound, 1 pictures."""
SINGLE = ("audio", "video")
BLOCK = 1024


class Trainer:
    """Everything that trainings share: the tasks' features, and their canonical variates."""

    def __init__(self, config: Config) -> None:
        self.config, self.settings = config, config.study.fusion
        features = load_features(config)
        self.task = cache(partial(load_task, config, features))
        self.variates = cache(self._variates)
        self.pooled = cache(lambda name: {split: s.pooled() for split, s in self.task(name).sets.items()})

    def _variates(self, name: str) -> tuple[dict[str, Set], dict[str, Any]]:
        sets = self.pooled(name)
        arrays = {split: (s.sides[0][:, 0].numpy(), s.sides[1][:, 0].numpy()) for split, s in sets.items()}
        found = cca.fit(arrays["train"], arrays["validation"], self.settings.components, self.settings.shrinkages)
        said = {
            "shrinkage": found.shrinkage,
            "components": len(found.correlations),
            "test_correlation": cca.held_out(found, *arrays["test"]),
        }
        return {split: s.with_sides(*found.project(*arrays[split])) for split, s in sets.items()}, said

    def __call__(self, name: str) -> Piece:
        """One training of this name: its scores and facts."""
        task_name, fusion, kind, seed = name.split("-")
        task, facts = self.task(task_name), dict[str, Any]()
        sets = task.sets if fusion == "cross_attention" else self.pooled(task_name)
        if fusion == "cca":
            sets, facts = self.variates(task_name)
        with kernels(self.config.heads.matmul, "cpu"):
            model, said = fit(sets, fusion, task.single, self.settings, kind == "dropped", int(seed))
            wanted = {"validation": ("validation", ())} | {name: ("test", lost) for name, lost in MISSING.items()}
            scores = {
                name: probabilities(model, sets[split], task.single, lost) for name, (split, lost) in wanted.items()
            }
        return scores, said | facts


def fit(
    sets: dict[str, Set], fusion: str, single: bool, settings: Fusion, dropped: bool, seed: int
) -> tuple[nn.Module, dict[str, Any]]:
    """Train one fusion; the epoch with the lowest validation loss, in eval mode, and what is to be said of it.

    With `dropped`, validation looks at all three conditions of `MISSING`, as training does.
    """
    train, held = sets["train"], sets["validation"]
    seed_everything(seed, 0)
    dims = train.sides[0].shape[2], train.sides[1].shape[2]
    model = build(fusion, dims, train.truth.shape[1], settings.hidden, settings.dropout)
    adam = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )
    conditions = MISSING.values() if dropped else [()]
    best = Best(model, settings.patience, "study.fusion.learning_rate")
    for epoch in range(1, settings.max_epochs + 1):
        seed_everything(seed, epoch)
        rng = generator(seed, epoch)
        order = rng.permutation(len(train.rows))
        loses = rng.random(len(order))
        model.train()
        for videos in np.array_split(order, -(-len(order) // settings.batch)):
            sides = [side[videos] for side in train.sides]
            if dropped:
                for number, side in enumerate(sides):
                    side[torch.from_numpy(np.floor(loses[videos] * 2 / settings.lost) == number)] = 0
            loss = _loss(model(*sides, train.good[videos]), train.truth[videos], single)
            adam.zero_grad()
            loss.backward()
            adam.step()
        model.eval()
        with torch.no_grad():
            losses = [_loss(logits(model, held, lost), held.truth, single) for lost in conditions]
        if best.ends(epoch, float(torch.stack(losses).mean())):
            break
    best.restore()
    count = sum(p.numel() for p in model.parameters())
    return model, {"parameters": count, "epoch": best.epoch, "epochs": epoch, "validation_loss": best.loss}


def logits(model: nn.Module, data: Set, lost: tuple[int, ...]) -> Tensor:
    """[videos, classes] of a whole split, with the sides in `lost` missing."""
    found = []
    for at in range(0, len(data.rows), BLOCK):
        part = slice(at, at + BLOCK)
        sides = [torch.zeros_like(x[part]) if number in lost else x[part] for number, x in enumerate(data.sides)]
        found.append(model(*sides, data.good[part]))
    return torch.cat(found)


@torch.no_grad()
def probabilities(model: nn.Module, data: Set, single: bool, lost: tuple[int, ...]) -> Tensor:
    """Float32 [videos, classes]: a softmax over the classes with one label a video, a sigmoid each with many."""
    model.eval()
    found = logits(model, data, lost)
    return found.softmax(1) if single else found.sigmoid()


def _loss(found: Tensor, truth: Tensor, single: bool) -> Tensor:
    if single:
        return functional.cross_entropy(found, truth.int().argmax(1))
    return functional.binary_cross_entropy_with_logits(found, truth.float())


def name_of(task: str, fusion: str, kind: str, seed: int) -> str:
    """What a training is called."""
    return f"{task}-{fusion}-{kind}-{seed}"


def kinds(fusion: str) -> tuple[str, ...]:
    """A side alone has no other one to lose."""
    return ("plain",) if fusion in SINGLE else ("plain", "dropped")


def train(config: Config, threads: int) -> None:
    """Train every fusion for every task with every seed, and write them."""
    settings, features = config.study.fusion, load_features(config)
    if not all(0 < shrinkage <= 1 for shrinkage in settings.shrinkages):
        raise UserError(f"study.fusion.shrinkages: {settings.shrinkages} must be above 0 and at most 1")
    tasks: dict[str, Any] = {}
    for name in config.labels.tasks:
        task = load_task(config, features, name)
        said = hashlib.sha256(b"".join(task.sets[split].truth.numpy().tobytes() for split in SPLITS)).hexdigest()
        rows = {split: task.sets[split].rows.tolist() for split in SPLITS}
        tasks[name] = {"classes": task.classes, "rows": rows, "labels": said}
    names = [name_of(t, f, k, s) for t in tasks for s in config.study.seeds for f in FUSIONS for k in kinds(f)]
    same = {
        "version": 1,
        "settings": settings.model_dump(),
        "tasks": tasks,
        "keys": features.keys,
        "random_weights": features.random_weights,
    }
    work_off(Paths(Path(config.results)).study_work(PART), names, same, Trainer, config, threads)


def main() -> None:
    """Command line."""
    args = parser(__doc__, "heads.study.fusion", "trainings at a time, one core each").parse_args()
    train(read(args.config), args.threads)


if __name__ == "__main__":
    run(main)

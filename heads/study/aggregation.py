"""Train every pooling of segments end to end: segments → head → pooling → one vector a video, contrastive loss.

Reads the cache and the manifest. Writes study/aggregation/trained.safetensors: the test videos' embeddings by every
POOLING-REPLACED-SEED, NAME/audio and NAME/video float16 [test videos, embedding], and in its metadata, for each, how it
was trained. `after` is the paper's way: heads trained on single segments, whose unit vectors are averaged after
training. It sees the same segments in as many epochs, in more batches; `after_one` has as many batches, with one
segment a video. All start from the same heads with the same seed. REPLACED segments of each video's pictures are other
videos', in all splits: within-video inconsistency to a known degree.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from config.cli import UserError, parser, run
from config.model import Config, Experiment, SegmentPolicy, read
from config.paths import Paths
from heads.batches import cut, draw, steps
from heads.features import load_features
from heads.fit import seed_everything
from heads.kernels import kernels
from heads.loss import loss_of
from heads.model import build
from heads.optimiser import make, rate
from heads.study.best import Best
from heads.study.pieces import Piece, work_off
from heads.study.poolings import POOLINGS
from heads.study.segments import Segments, load

log = logging.getLogger("aggregation")
PART = "aggregation"
AFTER: dict[str, SegmentPolicy] = {"after": "all", "after_one": "one"}
"""Trained on segments, pooled by the mean afterwards: which segments of a video an epoch has."""
WAYS = (*AFTER, *POOLINGS)
SPLITS = ("train", "validation", "test")
BLOCK = 512
"""Videos embedded at a time."""


class Pooled(nn.Module):
    """Two heads with a pooling behind each: both sides [videos, segments, dim] → unit vectors [videos, embedding]."""

    def __init__(self, recipe: Experiment, dims: tuple[int, int], segments: int, way: str) -> None:
        super().__init__()
        self.heads = build(recipe, *dims)  # first, so that equal seeds give all poolings equal heads
        self.loss = loss_of(recipe)
        pooling = POOLINGS["mean" if way in AFTER else way]
        self.audio_pooling, self.video_pooling = (pooling(recipe.embedding, segments, recipe.dropout) for _ in range(2))

    def forward(self, audio: Tensor, video: Tensor, good: Tensor) -> tuple[Tensor, Tensor]:
        found = []
        for head, pool, side in (
            (self.heads.audio, self.audio_pooling, audio),
            (self.heads.video, self.video_pooling, video),
        ):
            seen = head(side[good])  # batch norm sees good segments only
            tokens = seen.new_zeros(*good.shape, seen.shape[1])
            tokens[good] = seen
            found.append(nn.functional.normalize(pool(tokens, good), dim=-1))
        return found[0], found[1]


def batches(data: Segments, way: str, recipe: Experiment, seed: int, epoch: int) -> Iterator[list[Tensor]]:
    """An epoch's batches of sound, pictures and which segments are good: whole videos, or (AFTER) single segments."""
    segments = draw(data.good.numpy(), AFTER.get(way, "mean"), seed, epoch)
    for videos, segment in cut(segments, recipe.batch, seed, epoch):
        if way in AFTER:
            yield [x[videos, segment][:, None] for x in (data.audio, data.video, data.good)]
        else:
            yield [x[videos] for x in (data.audio, data.video, data.good)]


def fit(data: dict[str, Segments], recipe: Experiment, way: str, seed: int) -> tuple[Pooled, dict[str, Any]]:
    """Train one pooling; the epoch with the lowest validation loss, in eval mode, and what is to be said of it."""
    train = data["train"]
    seed_everything(seed, 0)
    model = Pooled(recipe, (train.audio.shape[2], train.video.shape[2]), train.good.shape[1], way)
    optimiser = make(recipe, model.parameters())
    each = steps(train.good.numpy(), AFTER.get(way, "mean"), recipe.batch)
    best, done = Best(model, recipe.patience, "study.aggregation.recipe.learning_rate"), 0
    for epoch in range(1, recipe.max_epochs + 1):
        seed_everything(seed, epoch)
        model.train()
        for audio, video, good in batches(train, way, recipe, seed, epoch):
            for group in optimiser.param_groups:
                group["lr"] = rate(recipe, done, each, recipe.max_epochs * each)
            optimiser.zero_grad()
            model.loss(*model(audio, video, good)).backward()
            optimiser.step()
            done += 1
        if best.ends(epoch, validation_loss(model, data["validation"], way, recipe, seed)):
            break
    best.restore()
    counts = [sum(p.numel() for p in part.parameters()) for part in (model, model.audio_pooling, model.video_pooling)]
    facts = {"parameters": counts[0], "pooling_parameters": counts[1] + counts[2], "steps": done}
    return model, facts | {"epoch": best.epoch, "epochs": epoch, "validation_loss": best.loss}


@torch.no_grad()
def validation_loss(model: Pooled, data: Segments, way: str, recipe: Experiment, seed: int) -> float:
    """Mean loss over the validation split, in batches that do not depend on the epoch."""
    model.eval()
    total = count = 0.0
    for audio, video, good in batches(data, "after" if way in AFTER else way, recipe, seed, 0):
        total += float(model.loss(*model(audio, video, good))) * len(good)
        count += len(good)
    return total / count


@torch.no_grad()
def embed(model: Pooled, data: Segments) -> dict[str, Tensor]:
    """Both sides of every video as float16 [videos, embedding]."""
    found: dict[str, list[Tensor]] = {"audio": [], "video": []}
    for at in range(0, len(data.rows), BLOCK):
        part = slice(at, at + BLOCK)
        for side, vectors in zip(found, model(data.audio[part], data.video[part], data.good[part]), strict=True):
            found[side].append(vectors.half())
    return {side: torch.cat(parts) for side, parts in found.items()}


def load_splits(config: Config) -> dict[str, Segments]:
    """The videos of each split that the study looks at. UserError where there are too few."""
    features, settings = load_features(config), config.study.aggregation
    features.check_enough()
    most = {"train": settings.videos, "validation": settings.videos, "test": settings.gallery}
    return {split: load(features, split, most[split]) for split in SPLITS}


def inconsistent(data: dict[str, Segments], split: str, replaced: int) -> Segments:
    """A split with so many of each video's picture segments replaced: the same for every pooling and seed."""
    return data[split].with_strangers(replaced, SPLITS.index(split))


def name_of(way: str, replaced: int, seed: int) -> str:
    """What a training is called."""
    return f"{way}-{replaced}-{seed}"


def prepare(config: Config) -> Any:
    """Load the cache; returns what trains the pooling of a name."""
    return partial(train_one, config, load_splits(config))


def train_one(config: Config, data: dict[str, Segments], name: str) -> Piece:
    """One training: test embeddings and facts."""
    way, replaced, seed = name.rsplit("-", 2)
    changed = {split: inconsistent(data, split, int(replaced)) for split in SPLITS}
    with kernels(config.heads.matmul, "cpu"):
        model, facts = fit(changed, config.study.aggregation.recipe, way, int(seed))
        return embed(model, changed["test"]), facts


def train(config: Config, threads: int) -> None:
    """Train every pooling with every seed at every inconsistency, and write them."""
    settings, features = config.study.aggregation, load_features(config)
    if 0 not in settings.replaced or not all(0 <= count < features.segments for count in settings.replaced):
        raise UserError(
            f"study.aggregation.replaced: {settings.replaced} must hold 0 and be below segments.count "
            f"({features.segments}), so that something of each video is left"
        )
    names = [name_of(w, r, s) for r in settings.replaced for s in config.study.seeds for w in WAYS]
    same = {
        "version": 1,
        "recipe": settings.recipe.model_dump(),
        "videos": [settings.videos, settings.gallery],
        "keys": features.keys,
        "data": features.digest(),
        "random_weights": features.random_weights,
        "rows": load_splits(config)["test"].rows.tolist(),
    }
    work_off(Paths(Path(config.results)).study_work(PART), names, same, prepare, config, threads)


def main() -> None:
    """Command line."""
    args = parser(__doc__, "heads.study.aggregation", "trainings at a time, one core each").parse_args()
    train(read(args.config), args.threads)


if __name__ == "__main__":
    run(main)

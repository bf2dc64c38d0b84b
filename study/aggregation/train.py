"""Train every pooling of segments end to end: segments → head → pooling → one vector a video, contrastive loss.

Reads the cache and the manifest. Writes study/aggregation/trained.safetensors: the test videos' embeddings by every
POOLING-REPLACED-SEED, NAME/audio and NAME/video float16 [test videos, embedding], and in its metadata, for each, how it
was trained. `after` is the paper's way: heads trained on single segments, whose unit vectors are averaged after
training. It sees the same segments in as many epochs, in more batches; `after_one` has as many batches, with one
segment a video. With the same seed all start from the same heads. REPLACED video segments of each video come from other
videos, in all splits: within-video inconsistency of a known degree.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from config.cli import UserError, parser, run
from config.heads import Experiment, SegmentPolicy
from config.model import Config, read
from data.splits import SPLITS
from heads import small
from heads.batches import cut, draw, steps
from heads.features import load_features
from heads.fit import seed_everything
from heads.kernels import kernels
from heads.loss import loss_of
from heads.model import build
from heads.optimiser import make, rate
from study.aggregation.poolings import POOLINGS
from study.segments import PairedSegments, load
from study.trainings import Outcome, work_off

log = logging.getLogger("aggregation")
PART = "aggregation"
AFTER: dict[str, SegmentPolicy] = {"after": "all", "after_one": "one"}
"""Trained on segments, pooled by the mean afterwards: which segments of a video an epoch has."""
WAYS = (*AFTER, *POOLINGS)
BLOCK = 512
"""Videos embedded at a time."""


class Pooled(nn.Module):
    """Map audio and video [videos, segments, dim] to unit vectors [videos, embedding]: a head and a pooling each."""

    def __init__(self, recipe: Experiment, dims: tuple[int, int], segments: int, pooling: str) -> None:
        super().__init__()
        self.heads = build(recipe, *dims)  # first, so that equal seeds give all poolings equal heads
        self.loss = loss_of(recipe)
        kind = POOLINGS["mean" if pooling in AFTER else pooling]
        self.audio_pooling, self.video_pooling = (kind(recipe.embedding, segments, recipe.dropout) for _ in range(2))

    def forward(self, audio: Tensor, video: Tensor, good: Tensor) -> tuple[Tensor, Tensor]:
        pooled = []
        for head, pool, features in (
            (self.heads.audio, self.audio_pooling, audio),
            (self.heads.video, self.video_pooling, video),
        ):
            projected = head(features[good])  # batch norm sees good segments only
            tokens = projected.new_zeros(*good.shape, projected.shape[1])
            tokens[good] = projected
            pooled.append(nn.functional.normalize(pool(tokens, good), dim=-1))
        return pooled[0], pooled[1]


def batches(data: PairedSegments, pooling: str, recipe: Experiment, seed: int, epoch: int) -> Iterator[list[Tensor]]:
    """Yield an epoch's batches of audio, video and good: whole videos or, for AFTER, single segments."""
    segments = draw(data.good.numpy(), AFTER.get(pooling, "mean"), seed, epoch)
    for videos, segment in cut(segments, recipe.batch, seed, epoch):
        if pooling in AFTER:
            yield [values[videos, segment][:, None] for values in (data.audio, data.video, data.good)]
        else:
            yield [values[videos] for values in (data.audio, data.video, data.good)]


def fit(
    splits: dict[str, PairedSegments], recipe: Experiment, pooling: str, seed: int
) -> tuple[Pooled, dict[str, Any]]:
    """Train one pooling; return it in eval mode, with the weights of the best epoch, and facts about the training."""
    train = splits["train"]
    seed_everything(seed, 0)
    model = Pooled(recipe, (train.audio.shape[2], train.video.shape[2]), train.good.shape[1], pooling)
    if recipe.standardise:
        for head, standardiser in zip((model.heads.audio, model.heads.video), train.standardisers(), strict=True):
            assert head.scaling is not None
            head.scaling.set(standardiser)
    per_epoch = steps(train.good.numpy(), AFTER.get(pooling, "mean"), recipe.batch)

    def losses(epoch: int) -> Iterator[Tensor]:
        seed_everything(seed, epoch)
        for audio, video, good in batches(train, pooling, recipe, seed, epoch):
            yield model.loss(*model(audio, video, good))

    fitted = small.fit(
        model,
        make(recipe, model.parameters()),
        losses,
        lambda: validation_loss(model, splits["validation"], pooling, recipe, seed),
        recipe.max_epochs,
        recipe.patience,
        f"study.aggregation: {pooling}, seed {seed}",
        "study.aggregation.recipe.learning_rate",
        lambda step: rate(recipe, step, per_epoch, recipe.max_epochs * per_epoch),
    )
    counts = [
        sum(parameter.numel() for parameter in part.parameters())
        for part in (model, model.audio_pooling, model.video_pooling)
    ]
    facts = {"parameters": counts[0], "pooling_parameters": counts[1] + counts[2]}
    return model, facts | asdict(fitted)


@torch.no_grad()
def validation_loss(model: Pooled, data: PairedSegments, pooling: str, recipe: Experiment, seed: int) -> float:
    """Return the mean loss over the validation split, in batches that do not depend on the epoch."""
    model.eval()
    total = count = 0.0
    for audio, video, good in batches(data, "after" if pooling in AFTER else pooling, recipe, seed, 0):
        total += float(model.loss(*model(audio, video, good))) * len(good)
        count += len(good)
    return total / count


@torch.no_grad()
def embed(model: Pooled, data: PairedSegments) -> dict[str, Tensor]:
    """Return the audio and video embeddings of every video, float16 [videos, embedding]."""
    blocks: dict[str, list[Tensor]] = {"audio": [], "video": []}
    for start in range(0, len(data.rows), BLOCK):
        part = slice(start, start + BLOCK)
        for modality, vectors in zip(blocks, model(data.audio[part], data.video[part], data.good[part]), strict=True):
            blocks[modality].append(vectors.half())
    return {modality: torch.cat(parts) for modality, parts in blocks.items()}


def load_splits(config: Config) -> dict[str, PairedSegments]:
    """Return the videos of each split that the study uses. Raises UserError where there are too few."""
    features, settings = load_features(config), config.study.aggregation
    features.check_enough()
    most = {"train": settings.videos, "validation": settings.videos, "test": settings.gallery}
    return {split: load(features, split, most[split]) for split in SPLITS}


def inconsistent(data: dict[str, PairedSegments], split: str, replaced: int) -> PairedSegments:
    """Return a split with `replaced` video segments of each video replaced, the same for every pooling and seed."""
    return data[split].with_replaced(replaced, SPLITS.index(split))


def name_of(pooling: str, replaced: int, seed: int) -> str:
    """Return the name of a training."""
    return f"{pooling}-{replaced}-{seed}"


def prepare(config: Config) -> Any:
    """Load the cache and return the function that trains the pooling of a name."""
    return partial(train_one, config, load_splits(config))


def train_one(config: Config, data: dict[str, PairedSegments], name: str) -> Outcome:
    """Return the test embeddings and facts of one training."""
    pooling, replaced, seed = name.rsplit("-", 2)
    changed: dict[str, PairedSegments] = {split: inconsistent(data, split, int(replaced)) for split in SPLITS}
    with kernels(config.heads.matmul, "cpu"):
        model, facts = fit(changed, config.study.aggregation.recipe, pooling, int(seed))
        return Outcome(embed(model, changed["test"]), facts)


def train(config: Config, threads: int) -> None:
    """Train every pooling with every seed at every number of replaced segments, and write the embeddings."""
    settings, features = config.study.aggregation, load_features(config)
    if 0 not in settings.replaced or not all(0 <= count < features.segments for count in settings.replaced):
        raise UserError(
            f"study.aggregation.replaced: {settings.replaced} must hold 0 and be below segments.count "
            f"({features.segments}), so that something of each video is left"
        )
    names = [
        name_of(way, replaced, seed) for replaced in settings.replaced for seed in config.study.seeds for way in WAYS
    ]
    same = {
        "version": 1,
        "recipe": settings.recipe.model_dump(),
        "videos": [settings.videos, settings.gallery],
        "keys": features.keys,
        "data": features.digest(),
        "random_weights": features.random_weights,
        "rows": load_splits(config)["test"].rows.tolist(),
        **config.heads.rounding(),
    }
    work_off(config.paths.study_work(PART), names, same, prepare, config, threads)


def main() -> None:
    """Run the command line."""
    arguments = parser(__doc__, "study.aggregation.train", "trainings at a time, one core each").parse_args()
    train(read(arguments.config), arguments.threads)


if __name__ == "__main__":
    run(main)

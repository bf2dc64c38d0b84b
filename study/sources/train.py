"""Train the projection heads of `sources`, for every seed and every fold of whole sources.

    python -m study.sources.train --config RESULTS/config.json [--threads 2]

Reads the cache and the manifest. Writes study/sources/trained.safetensors: for each training SEED-FOLD the held-out
videos' embeddings, NAME/audio and NAME/video float32 [held-out videos, embedding], the mean of a video's segments, and
in its metadata which rows of the manifest these are and the best epoch. Every training is that of heads/fit.py; a fifth
of the training sources are its validation split.
"""

from __future__ import annotations

import dataclasses
import logging
from functools import partial
from typing import Any

import numpy as np
import torch

from config.cli import parser, run
from config.model import Config, read
from heads.features import InMemory, PairedFeatures, Split, load_features
from heads.kernels import kernels
from pipeline.features import segment_mean
from study.correlation.train import train_one
from study.groups import folds
from study.sources.collection import Collection, load
from study.trainings import Outcome, work_off

log = logging.getLogger("sources")
PART = "sources"
VALIDATION = 5
"""One part of so many of the training sources is the validation split."""


def name_of(seed: int, fold: int) -> str:
    """Return the name of a training."""
    return f"{seed}-{fold}"


def splits(sources: np.ndarray, fold: np.ndarray, number: int, seed: int) -> dict[str, np.ndarray]:
    """Return the videos of each split (int64) of the training whose test split is this fold; sources stay whole."""
    rest, test = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
    part = folds(np.unique(sources[rest], return_inverse=True)[1], VALIDATION, seed)
    return {"train": rest[part > 0], "validation": rest[part == 0], "test": test}


def in_memory(config: Config, collection: Collection) -> tuple[PairedFeatures, np.ndarray]:
    """Return the collection's videos as features in memory, in its order, and which of their segments are good."""
    features = load_features(config)
    known = [split for split in features.splits.values()]
    rows, good = (np.concatenate([getattr(split, what) for split in known]) for what in ("rows", "good"))
    order = np.argsort(rows)
    good = good[order][np.searchsorted(rows[order], collection.rows)]
    audio, video = (InMemory(array.read(collection.rows)) for array in features.arrays)
    return dataclasses.replace(features, arrays=(audio, video), shard_videos=len(collection.rows)), good


def prepare(config: Config) -> Any:
    """Load the collection and return the function that runs the training of a name."""
    collection = load(config)
    return partial(train_fold, config, collection, *in_memory(config, collection))


def train_fold(
    config: Config, collection: Collection, features: PairedFeatures, good: np.ndarray, name: str
) -> Outcome:
    """Return the held-out videos' embeddings of one training."""
    seed, number = map(int, name.split("-"))
    fold = folds(collection.sources, config.study.sources.folds, seed)
    parts = splits(collection.sources, fold, number, seed)
    split = {key: Split(videos, good[videos], len(videos)) for key, videos in parts.items()}
    with kernels(config.heads.matmul, "cpu"):
        epoch, embedded = train_one(dataclasses.replace(features, splits=split), config.study.sources.recipe, seed)
    test = parts["test"]
    audio, video = (torch.from_numpy(segment_mean(part.astype(np.float32), good[test])) for part in embedded)
    return Outcome({"audio": audio, "video": video}, {"rows": collection.rows[test].tolist(), "epoch": epoch})


def train(config: Config, threads: int) -> None:
    """Train every fold with every seed, and write the embeddings."""
    settings, collection = config.study.sources, load(config)
    features, _ = in_memory(config, collection)
    numbers = range(settings.folds)
    same = {
        "version": 1,
        "recipe": settings.recipe.model_dump(),
        "folds": settings.folds,
        "keys": features.keys,
        "features": features.contents,
        "rows": collection.rows.tolist(),
        "sources": collection.sources.tolist(),
        **config.heads.rounding(),
    }
    names = [name_of(seed, number) for seed in config.study.seeds for number in numbers]
    work_off(config.paths.study_work(PART), names, same, prepare, config, threads)


def main() -> None:
    """Run the command line."""
    arguments = parser(__doc__, "study.sources.train", "trainings at a time, one core each").parse_args()
    train(read(arguments.config), arguments.threads)


if __name__ == "__main__":
    run(main)

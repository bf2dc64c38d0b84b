"""Train every recipe at every correlation of audio and video: on simulated features, and on rendered videos.

Reads the configuration and, if the collection was rendered at correlation 1, the manifest and the cache: its videos are
re-paired (pairing.py), which takes no new rendering or extraction. Collections without known latents are left out.
Writes into study/correlation/ of the results folder:
  CELL.safetensors  for each cell (study/correlation/cells.py) and seed `audio.SEED`, `video.SEED`: the test videos'
                    embeddings, float16 [videos, segments, embedding]; its metadata say what was trained,
                    the best epochs, and for rendered videos the correlations that the pairing reached
  trained.json      last: the cells, and why rendered videos were left out if they were
A finished cell of the same recipe and data is kept. Cells are trained on the CPU in processes of one thread each,
because heads this small gain nothing from more. Every training is that of heads/fit.py.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from config.cli import parser, progress, run
from config.files import write_json
from config.heads import Experiment, Sides
from config.model import Config, read
from config.processes import parallel
from data.manifest import read_manifest
from data.render import video_id
from heads.checkpoint import About, read_if_whole, trained, write_tensors
from heads.dataset import load
from heads.embed import embed_split
from heads.features import InMemory, PairedFeatures, Split, load_features
from heads.fit import fit
from heads.kernels import kernels
from study.correlation.cells import Cell, cells
from study.correlation.pairing import Known, achieved, known, pair
from study.correlation.simulated import simulate

log = logging.getLogger("correlation")
PART = "correlation"


class Collection(NamedTuple):
    """Rendered videos in memory: their features, and by split their latents and their rows of the manifest."""

    features: PairedFeatures
    known: dict[str, Known]
    rows: dict[str, np.ndarray]


def left_out(config: Config) -> str | None:
    """Say why the videos of this configuration cannot be re-paired; None if they can."""
    if config.render is None:
        return "the videos were not rendered, so nobody knows their latent factors"
    if config.render.correlation != 1:
        return f"the videos were rendered at correlation {config.render.correlation:g}; to re-pair them it must be 1"
    return None


def whole(split: Split) -> np.ndarray:
    """Return the rows of the videos whose segments are all valid in both modalities: int64 [videos]."""
    return split.rows[split.good.all(axis=1)]


def open_collection(config: Config, sides: Sides | None = None) -> Collection:
    """Load the videos whose segments are all valid in both modalities, split by split. UserError if too few.

    `sides` are the backbones of both modalities, by default `heads.audio` and `heads.video`.
    """
    assert config.render is not None
    features, table = load_features(config, sides), read_manifest(config.paths.manifest, ["row", "video_id"])
    numbers = {video_id(index): index for index in range(config.render.videos)}
    index = {row: numbers[name] for row, name in zip(*table.to_pydict().values(), strict=True)}
    rows: list[int] = []
    splits, latents, by_split = {}, {}, {}
    for name, split in features.splits.items():
        kept = whole(split).tolist()
        positions = np.arange(len(rows), len(rows) + len(kept))
        splits[name] = Split(positions, np.ones((len(kept), features.segments), bool), split.total)
        latents[name] = known(config.render.seed, [index[row] for row in kept])
        by_split[name] = np.array(kept)
        rows += kept
    audio, video = (InMemory(array.read(np.array(rows))) for array in features.arrays)
    held = dataclasses.replace(features, arrays=(audio, video), splits=splits, shard_videos=len(rows))
    held.check_enough()
    return Collection(held, latents, by_split)


def paired(
    collection: Collection, kind: str, correlation: float, seed: int, own_frames: bool = False
) -> tuple[PairedFeatures, dict[str, Any]]:
    """Re-pair audio and video in each split; return the features and by split the correlations that were reached."""
    features, order, reached = collection.features, [], {}
    for name, split in features.splits.items():
        permutation = pair(collection.known[name], kind, correlation, seed, own_frames)
        order.append(split.rows[permutation])
        reached[name] = achieved(collection.known[name], permutation)
    moved = InMemory(features.arrays[1].read(np.concatenate(order)))
    return dataclasses.replace(features, arrays=(features.arrays[0], moved)), reached


def capped(experiment: Experiment, most: int) -> Experiment:
    """Limit an experiment to `most` epochs and a shorter warm-up."""
    epochs = min(experiment.max_epochs, most)
    return experiment.model_copy(update={"max_epochs": epochs, "warmup": min(experiment.warmup, epochs - 1)})


def train_one(features: PairedFeatures, experiment: Experiment, seed: int) -> tuple[int, tuple[np.ndarray, np.ndarray]]:
    """Train one seed; return its best epoch and the test videos' embeddings (`heads.embed.embed_split`)."""
    audio, video = features.keys
    keys, random_weights, digest = features.keys, features.random_weights, features.digest()
    same = About(experiment.model_dump(), seed, audio, video, *features.dims, keys, random_weights, digest)
    progress = fit(load(features, ("train", "validation"), "cpu"), experiment, same, None, lambda line: None)
    return progress.about.epoch, embed_split(trained(experiment, features.dims, progress.best), features, "test")


class Trainer:
    """All that a process needs to train any cell: the configuration, and the collection if it can be re-paired."""

    def __init__(self, config: Config) -> None:
        self.config, self.spec = config, config.study.correlation.simulated
        self.collection = None if left_out(config) else open_collection(config)
        self.dims = (self.collection.features if self.collection else load_features(config)).dims

    def experiment(self, cell: Cell) -> Experiment:
        """Return the cell's recipe as it is trained."""
        experiment = self.config.heads.experiments[cell.recipe]
        return capped(experiment, self.spec.max_epochs) if cell.source == "simulated" else experiment

    def about(self, cell: Cell) -> dict[str, Any]:
        """Return all that the cell's embeddings depend on, as JSON values."""
        about: dict[str, Any] = {"cell": dataclasses.asdict(cell), "experiment": self.experiment(cell).model_dump()}
        about |= self.config.heads.rounding()
        if cell.source == "simulated":
            about |= {
                "simulated": self.spec.model_dump(exclude={"videos", "grid", "map_grid", "sizes"}),
                "dims": self.dims,
            }
        else:
            assert self.collection is not None and self.config.render is not None
            features = self.collection.features
            about |= {"keys": features.keys, "data": features.digest(), "render": self.config.render.model_dump()}
            own = self.config.study.correlation.rendered.own_frames
            if cell.kind == "all" and 0 < cell.correlation < 1 and not own:
                about["own_frames"] = False  # earlier versions always allowed them
        return dict(json.loads(json.dumps(about)))

    def train(self, cell: Cell) -> None:
        """Train a cell with all its seeds and write its file, unless it is finished."""
        about, path = self.about(cell), self.config.paths.study_work(PART) / f"{cell.name}.safetensors"
        kept = read_if_whole(path)
        if kept is not None and kept[1].get("about") == about:
            return
        tensors: dict[str, Tensor] = {}
        epochs, reached = [], []
        for seed in cell.seeds:
            if cell.source == "simulated":
                features = simulate(self.spec, self.dims, cell.videos, cell.correlation, seed)
            else:
                assert self.collection is not None
                own = self.config.study.correlation.rendered.own_frames
                features, correlations = paired(self.collection, cell.kind, cell.correlation, seed, own)
                reached.append(correlations)
            epoch, (audio, video) = train_one(features, self.experiment(cell), seed)
            epochs.append(epoch)
            tensors |= {f"audio.{seed}": torch.from_numpy(audio), f"video.{seed}": torch.from_numpy(video)}
        videos = len(features.splits["train"].rows)
        write_tensors(path, tensors, {"about": about, "train_videos": videos, "epochs": epochs, "achieved": reached})


_trainer: Trainer


def _take(config: Config) -> None:
    global _trainer
    torch.set_num_threads(1)
    _trainer = Trainer(config)


def _train(cell: Cell) -> None:
    with kernels(_trainer.config.heads.matmul, "cpu"):
        _trainer.train(cell)


def train(config: Config, threads: int) -> None:
    """Train all cells, `threads` at a time, and write their list."""
    missing = left_out(config)
    if missing:
        log.warning("simulated features only: %s", missing)
    wanted = cells(config, rendered=missing is None)
    for _ in progress(parallel(_train, wanted, threads, _take, config), len(wanted), "correlation", "cells"):
        pass
    listed = [dataclasses.asdict(cell) for cell in wanted]
    write_json(config.paths.study_work(PART) / "trained.json", {"cells": listed, "left_out": missing})


def main() -> None:
    """Run the command line."""
    arguments = parser(__doc__, "study.correlation.train", "processes of one thread each").parse_args()
    train(read(arguments.config), arguments.threads)


if __name__ == "__main__":
    run(main)

"""Run the authors' code on every source, model, correlation and seed.

Reads the clone of the authors' repository and, unless `study.paper_code.cache` is false, the manifest and the cache.
Writes into study/paper_code/ of the results folder:
  trained.safetensors  RUN/last and RUN/best: true ranks of the validation videos, float64 [2, videos], audio → video
                       and video → audio, by the last epoch's model and by that of the lowest validation loss; its
                       metadata hold what the authors' code logged in each epoch, and which code that was
  running/RUN/         the working folder of a run, as long as it runs
A finished run is kept if the rest is interrupted (study/trainings.py).
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from config.cli import parser, run
from config.model import Config, read
from heads.features import load_features
from study.paper_code import data
from study.paper_code.clone import described, words
from study.paper_code.runs import WIDTHS, Features, run_once, true_ranks
from study.trainings import Outcome, work_off

PART = "paper_code"
TRAINED_BY = ("grid", "models", "videos", "gallery", "galleries", "batch", "max_epochs", "cache")
"""Settings on which the runs depend."""


def digest(rows: Iterable[np.ndarray]) -> str:
    """Return the sha256 of the rows of the training and of the test videos."""
    return hashlib.sha256(b"|".join(of_split.tobytes() for of_split in rows)).hexdigest()


def basis(config: Config) -> dict[str, Any]:
    """Return all that the runs depend on but their names, as JSON values."""
    settings = config.study.paper_code
    assert settings.clone is not None
    simulation = config.study.correlation.simulated
    depends: dict[str, Any] = {
        "settings": settings.model_dump(include=set(TRAINED_BY)),
        "simulated": {"factors": simulation.factors, "noise": simulation.noise},
        "code": described(Path(settings.clone)),
        "keys": {},
        "rows": None,
        "fitted": {},
        "random_weights": [],
    }
    if settings.cache:
        features = load_features(config)
        sides = zip(config.sides(), features.dims, WIDTHS, strict=True)
        depends |= {
            "keys": features.keys,
            "features": features.contents,
            "rows": digest(data.chosen(config, features)),
            "fitted": {"+".join(names): data.how_fitted(dim, width) for names, dim, width in sides},
            "random_weights": sorted(name for name, random in features.random_weights.items() if random),
        }
    return dict(json.loads(json.dumps(depends)))


def prepare(config: Config) -> Callable[[str], Outcome]:
    """Return the function that does the run of a name; loads the cache once, where a run needs it."""
    listed = {one.name: one for one in data.runs(config)}
    cached = data.cached(config, load_features(config)) if config.study.paper_code.cache else None
    return partial(_train, config, listed, cached)


def _train(config: Config, listed: dict[str, data.Run], cached: Features | None, name: str) -> Outcome:
    settings, one = config.study.paper_code, listed[name]
    features = data.simulated(config, one) if one.source == "simulated" else cached
    assert features is not None
    batch = min(settings.batch, len(features.audio_train))
    gallery = min(settings.gallery, len(features.audio_validation))
    folder = config.paths.study_work(PART) / "running" / name
    modules = settings.check_clone()
    outcome = run_once(modules, folder, one.model, features, batch, gallery, settings.max_epochs, one.seed)
    ranked = {
        epoch: torch.from_numpy(
            true_ranks(outcome.embeddings[f"audio.{epoch}"], outcome.embeddings[f"video.{epoch}"], gallery)
        )
        for epoch in ("last", "best")
    }
    facts = {
        "run": vars(one),
        "epochs": outcome.epochs,
        "best_epoch": outcome.best_epoch,
        "steps": outcome.steps,
        "train_videos": len(features.audio_train),
        "batch": batch,
        "gallery": gallery,
    }
    return Outcome(ranked, facts)


def train(config: Config, threads: int) -> None:
    """Run the authors' code for everything that is not there yet, `threads` runs at a time."""
    config.study.paper_code.check_clone()
    same = basis(config)
    logging.getLogger(PART).info("the authors' code: %s", words(same["code"]))
    names = [one.name for one in data.runs(config)]
    work_off(config.paths.study_work(PART), names, same, prepare, config, threads)


def main() -> None:
    """Run the command line."""
    arguments = parser(__doc__, "study.paper_code.train", "runs at the same time, of one thread each").parse_args()
    train(read(arguments.config), arguments.threads)


if __name__ == "__main__":
    run(main)

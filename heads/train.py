"""Fit two projection heads on the cached features: the paper's recipe unless the experiment says otherwise.

Reads the manifest and the cache, once for all experiments and seeds on the same backbones. Writes for each seed into
the experiment's folder heads/EXPERIMENT/ (the first of `heads.seeds`) or heads/EXPERIMENT/seeds/SEED/:
  checkpoint.safetensors  the weights of the epoch with the lowest validation loss
  metrics.jsonl           one line an epoch, as it goes: losses beside their chance level and lowest possible value
  config.json             the experiment as it was run
and, while it runs, work/heads/EXPERIMENT/SEED/: from there a killed training goes on when it is started again. Removes
embeddings.json of the training before: its embeddings are of the weights that are replaced.
"""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from config.cli import experiment_parser, run
from config.files import write_json
from config.heads import Experiment, Sides
from config.model import Config, read
from heads.dataset import Data, best_device, open_data
from heads.features import load_features
from heads.runs import Run, runs

if TYPE_CHECKING:
    from heads.checkpoint import About

log = logging.getLogger("train")


def train(config: Config, *names: str, threads: int | None = None) -> None:
    """Train every seed of these experiments and write their files. `threads`: PyTorch's; None leaves them."""
    by_sides: dict[Sides, list[Run]] = {}
    for name, trainings in [(name, runs(config, name)) for name in names]:
        by_sides.setdefault(config.sides(name), []).extend(trainings)
    for sides, trainings in by_sides.items():
        _train(config, sides, trainings, threads)
    # Only now: a sweep that is killed and started again finds also the trainings that were finished.
    for name in names:
        shutil.rmtree(config.paths.results / "work" / "heads" / name)


def _train(config: Config, sides: Sides, trainings: list[Run], threads: int | None) -> None:
    """Train runs of experiments that read the same backbones; their features are read once."""
    features, device = load_features(config, sides), best_device()
    features.check_enough()
    for backbone, random in features.random_weights.items():
        if random:
            log.warning("%s has RANDOM weights: its features, and all that follows from them, mean little", backbone)
    data = open_data(features, device, config.heads.memory_gb, config.paths.manifest)
    # Only now, while the features are being read: PyTorch's import takes seconds.
    from heads.fit import about, deterministic
    from heads.kernels import kernels

    deterministic(threads)
    with kernels(config.heads.matmul, device):
        for training in trainings:
            name, seed = training.experiment, training.seed
            log.info("%s, seed %d", name, seed)
            train_run(training, data, about(config, features, training), config.paths.training(name, seed))


def train_run(run: Run, data: dict[str, Data], description: About, state: Path) -> None:
    """Train one seed of an experiment and write its three files."""
    from heads.checkpoint import save_checkpoint
    from heads.fit import fit

    experiment, folder = Experiment.model_validate(description.experiment), run.folder
    folder.mkdir(parents=True, exist_ok=True)
    # Appended a line at a time, so that `tail -f` follows it; a killed training's half line is written anew.
    with open(folder / "metrics.jsonl", "w", buffering=1, encoding="utf-8") as file:
        progress = fit(
            data, experiment, description, state, lambda line: file.write(json.dumps(line, allow_nan=False) + "\n")
        )
    write_json(folder / "config.json", {"experiment": run.experiment, "seed": run.seed, **description.experiment})
    # Before the new weights: what is embedded by other weights must not be searched or evaluated beside them.
    (folder / "embeddings.json").unlink(missing_ok=True)
    save_checkpoint(folder / "checkpoint.safetensors", progress.best, progress.about)
    log.info("epoch %d is the best of %d", progress.about.epoch, len(progress.metrics))


def main() -> None:
    """Run the command line."""
    arguments = experiment_parser(__doc__, "heads.train", several=True).parse_args()
    config = read(arguments.config)
    train(config, *(arguments.experiment or config.heads.experiments), threads=arguments.threads)


if __name__ == "__main__":
    run(main)

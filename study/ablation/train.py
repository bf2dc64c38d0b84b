"""Train every arm of the ablation on every source with every seed, with equally many optimiser steps.

Reads the configuration, the cache and the manifest. Writes study/ablation/trained.safetensors: for every training
SOURCE-ARM-SEED `ranks` float32 [2, test videos], the true ranks of whole test videos audio → video and video → audio,
and `published` float32 [test videos], what the published formula gives video → audio for the same embeddings, counted
from 0 as everywhere (eval/published.py); in its metadata the best step and the losses of each, and what all depend on.

Every training takes `study.ablation.steps` optimiser steps, whatever its batches: those that `repeat_step` takes count.
At equally spaced steps the validation loss is computed, and the weights with the lowest one are kept. Schedules are
stretched over the same steps: an experiment's epoch is here a share 1 / `max_epochs` of them.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from config.cli import parser, run
from config.heads import Experiment
from config.model import Config, read
from eval.published import published_formula
from eval.ranks import ranks
from eval.retrieval import pool
from heads.checkpoint import trained
from heads.dataset import Data, load
from heads.embed import embed_split
from heads.features import PairedFeatures
from heads.fit import Training, seed_everything
from heads.kernels import kernels
from heads.model import TwoHeads
from heads.optimiser import rate
from heads.stopping import Patience, check_finite
from study.ablation.arms import MODE, Arm, arms
from study.ablation.sources import EVAL, TRAIN, Drawn, Opened, Source, sources, train_mode_sides
from study.trainings import Outcome, work_off

log = logging.getLogger("ablation")
PART = "ablation"


def fit_steps(
    data: dict[str, Data], experiment: Experiment, seed: int, steps: int, checks: int
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Train for `steps` optimiser steps with `checks` validations; return the best weights and facts about them.

    All else is as in heads/fit.py. Raises UserError if a loss is not finite.
    """
    training = Training(data, experiment, seed)
    training.initialise()
    best, weights = Patience(checks), copy.deepcopy(training.learned.state_dict())
    due = {round(steps * (number + 1) / checks) for number in range(checks)}
    losses: list[float] = []
    for step in _steps(training, steps):
        if step not in due:
            continue
        losses.append(training.validate()["validation_loss"])
        check_finite(
            f"the ablation's training at step {step}", f"lower learning_rate ({experiment.learning_rate})",
            **{"validation loss": losses[-1]},
        )  # fmt: skip
        if best.better(step, losses[-1]):
            weights = copy.deepcopy(training.learned.state_dict())
    facts = {"step": best.epoch, "validation_loss": best.loss, "last_validation_loss": losses[-1]}
    return weights, facts


def _steps(training: Training, steps: int) -> Iterator[int]:
    """Take `steps` optimiser steps, epoch after epoch; yield each one's number, from 1."""
    experiment, done, epoch = training.experiment, 0, 0
    per_epoch = steps / experiment.max_epochs
    while done < steps:
        epoch += 1
        if epoch > 1 and experiment.repeat_step:
            training.repeat_step()
            done += 1
            yield done
        seed_everything(training.seed, epoch)
        drawn = training.drawn(epoch)
        batches = training.data["train"].batches(experiment.segment_policy, experiment.batch, training.seed, drawn)
        for batch in batches:
            if done == steps:
                return
            training.heads.train()
            training.step(training.loss(*training.heads(*batch)), rate(experiment, done, per_epoch, steps))
            done += 1
            yield done


def embedded(heads: TwoHeads, features: PairedFeatures, split: str, unit: tuple[bool, bool]) -> list[np.ndarray]:
    """Return audio and video embeddings of a split's whole videos, float64 [videos, embedding]."""
    segments = embed_split(heads, features, split)
    return [pool(vectors, of_unit) for vectors, of_unit in zip(segments, unit, strict=True)]


class AblationTrainer:
    """Train an experiment on a source, with the cache opened once and the last sources kept."""

    def __init__(self, config: Config) -> None:
        self.config, self.settings = config, config.study.ablation
        self.opened = Opened(config)
        self.sources = {source.name: source for source in sources(config)}
        self.arms = {name: {arm.name: arm for arm in _every(config, source)} for name, source in self.sources.items()}
        self.drawn = lru_cache(maxsize=2)(self._drawn)

    def _drawn(self, source: str, seed: int) -> Drawn:
        return self.opened.draw(self.sources[source], seed)

    def __call__(self, name: str) -> Outcome:
        """Return the ranks and facts of the training of this name."""
        source, arm_name, seed = name.split("-")
        arm, drawn = self.arms[source][arm_name], self.drawn(source, int(seed))
        features = drawn.features[TRAIN if TRAIN in drawn.features and MODE not in arm.changes else EVAL]
        heads, facts = fit_heads(self.config, features, arm.experiment, int(seed))
        unit = arm.experiment.unit
        audio, video = embedded(heads, features, "test", unit)
        tensors = {
            "ranks": torch.tensor(np.stack(ranks(audio, video, unit=unit)), dtype=torch.float32),
            "published": torch.tensor(published_formula(video, audio), dtype=torch.float32),
        }
        return Outcome(tensors, facts | {"achieved": drawn.achieved.get("test")})


def fit_heads(
    config: Config, features: PairedFeatures, experiment: Experiment, seed: int, steps: int | None = None
) -> tuple[TwoHeads, dict[str, Any]]:
    """Train an experiment for `steps` (default: as configured); return the heads in eval mode, and facts."""
    settings = config.study.ablation
    with kernels(config.heads.matmul, "cpu"):
        data = load(features, ("train", "validation"), "cpu")
        weights, facts = fit_steps(data, experiment, seed, steps or settings.steps, settings.checks)
    return trained(experiment, features.dims, weights), facts


def compared(config: Config, source: Source) -> tuple[list[Arm], list[Arm]]:
    """Return the chain and the single arms on a source.

    Simulated features have no backbones, so no modes of them, and one segment a video.
    """
    settings, simulated = config.study.ablation, source.kind == "simulated"
    one_segment = simulated or config.segments.count == 1
    train_mode = not simulated and train_mode_sides(config) is not None
    leave_out = ("segments",) if one_segment else ()
    return arms(config.experiment(settings.first), config.experiment(settings.last), train_mode, leave_out)


def _every(config: Config, source: Source) -> list[Arm]:
    chain, single = compared(config, source)
    return list({arm.name: arm for arm in chain + single}.values())


def name_of(source: str, arm: str, seed: int) -> str:
    """Return the name of a training."""
    return f"{source}-{arm}-{seed}"


def train(config: Config, threads: int) -> None:
    """Run all trainings, `threads` at a time, and write their ranks."""
    settings, opened = config.study.ablation, Opened(config)
    used = sources(config)
    # One source and seed after the other, so that a process draws each as rarely as can be.
    names = [
        name_of(source.name, arm.name, seed)
        for source in used
        for seed in settings.seeds
        for arm in _every(config, source)
    ]
    groups = {source.name: opened.draw(source, settings.seeds[0]).groups.tolist() for source in used}
    same: dict[str, Any] = {
        "version": 2,
        "settings": settings.model_dump(mode="json"),
        "simulated": opened.spec.model_dump(include={"factors", "noise", "gallery"}),
        "dims": list(opened.dims),
        "experiments": {name: config.experiment(name).model_dump() for name in (settings.first, settings.last)},
        "render": config.render.model_dump(mode="json") if config.render else None,
        "keys": opened.keys,
        "random_weights": opened.random_weights,
        "data": opened.features.digest(),
        "groups": groups,
        **config.heads.rounding(),
    }
    work_off(config.paths.study_work(PART), names, same, AblationTrainer, config, threads)


def main() -> None:
    """Run the command line."""
    arguments = parser(__doc__, "study.ablation.train", "trainings at a time, one core each").parse_args()
    train(read(arguments.config), arguments.threads)


if __name__ == "__main__":
    run(main)

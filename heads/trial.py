"""Train an experiment of a configuration in memory, maybe with other settings: for notebooks.

    from heads.trial import trial

    tried = trial("results/demo", "recommended", temperature=0.1)
    audio, video = tried.embed("test")  # float16 [videos, segments, embedding] each

Reads config.json, the manifest and the cache; writes nothing. With the same settings and seed the weights are those
that heads/train.py writes; on a GPU they may differ in the last digits, because PyTorch is left as it is set.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from config.heads import Experiment
from config.model import Config, load, read
from data.splits import Split
from heads.checkpoint import trained
from heads.dataset import best_device, open_data
from heads.embed import embed_split
from heads.features import PairedFeatures, load_features
from heads.fit import about, fit
from heads.kernels import kernels
from heads.model import TwoHeads
from heads.runs import Run


@dataclass(frozen=True)
class Trial:
    """A finished training: `heads` have the weights of the best epoch (from 1) and are in eval mode on the CPU.

    `metrics` has one entry an epoch, with the keys of metrics.jsonl; `features` are what was trained on.
    """

    experiment: Experiment
    heads: TwoHeads
    epoch: int
    metrics: list[dict[str, Any]]
    features: PairedFeatures

    def rows(self, split: Split) -> np.ndarray:
        """Return the rows of the split's videos that have features of both modalities: int64 [videos], ascending."""
        return self.features.splits[split].rows

    def embed(self, split: Split) -> tuple[np.ndarray, np.ndarray]:
        """Embed a split: audio and video, float16 [videos, segments, embedding] each, in the order of `rows`.

        A segment that lacks one modality (`decoding.partial`) is NaN in both.
        """
        return embed_split(self.heads, self.features, split)


def trial(results: str | os.PathLike[str] | Config, experiment: str, seed: int | None = None, **changes: Any) -> Trial:
    """Train one of the configuration's experiments, with `changes` to its keys (config/heads.py), and return it.

    `results`: the results folder or its configuration. `seed`: default the first of `heads.seeds`. UserError for an
    unknown experiment or key, for too few videos, and when the loss is not finite.
    """
    config = results if isinstance(results, Config) else read(Path(results) / "config.json")
    plain = config.model_dump(mode="json")
    plain["heads"]["experiments"] = {experiment: config.experiment(experiment).model_dump(mode="json") | changes}
    config = load(plain)
    features, device = load_features(config, config.sides(experiment)), best_device()
    features.check_enough()
    settings = config.experiment(experiment)
    run = Run(experiment, config.heads.seeds[0] if seed is None else seed, config.paths.heads(experiment))
    with kernels(config.heads.matmul, device):
        data = open_data(features, device, config.heads.memory_gb, config.paths.manifest)
        progress = fit(data, settings, about(config, features, run), None, lambda line: None)
    heads = trained(settings, features.dims, progress.best)
    return Trial(settings, heads, progress.about.epoch, progress.metrics, features)

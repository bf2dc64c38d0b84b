"""What is probed: labelled videos with features on both sides, and the six representations of them.

Reads the manifest, the labels, the cache and, for an experiment, its embeddings. Every representation is
[videos, segments, dim] over the same videos, so that differences between them are differences between nothing else:
  audio, video     the backbones' features (MusicNN and R(2+1)D, unless configured otherwise); audio_video both, joined
  cl_audio, cl_video   an experiment's embeddings; cl_aggregated the mean of the two
A video as a whole is the mean of its segments, so that cl_aggregated is there the paper's mean over segments and
modalities.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from config.cli import UserError
from config.model import Config
from config.paths import Paths
from data.labels import LabelTable, read_labels
from data.manifest import read_manifest
from eval.probe.fit import Side
from heads.embed import load_embeddings
from heads.runs import runs
from pipeline.features import open_features

SPLITS = ("train", "validation", "test")
Representation = Callable[[int], np.ndarray]
"""Features float [videos, segments, dim] of the training of the heads with this seed; backbones do not depend on it."""
NAMES = {"musicnn": "MusicNN", "r2plus1d": "R(2+1)D"}


@dataclass(frozen=True)
class Task:
    """The labelled videos of one task that both backbones could read, ascending by row.

    `rows` int64, `split` text and `good` bool [videos, segments] belong to them; `truth` is bool [videos, classes].
    `classes` are those with a positive in the training split, `evaluated` bool [classes] those of them with a positive
    and a negative in the test split; `left_out` says of all others why. Of the evaluated ones, `unvalidated` have no
    positive in the validation split, so there is nothing to choose a threshold by. `single`: one class a video.
    """

    name: str
    single: bool
    rows: np.ndarray
    split: np.ndarray
    good: np.ndarray
    classes: list[str]
    truth: np.ndarray
    evaluated: np.ndarray
    left_out: dict[str, list[str]]
    unvalidated: list[str]
    keys: dict[str, str]
    random_weights: dict[str, bool]

    def digest(self) -> str:
        """sha256 of the videos, their segments, splits and labels: equal digests mean comparable scores."""
        said = "|".join([*self.classes, *self.split.tolist()]).encode("utf-8", "surrogatepass")
        parts = (self.rows.tobytes(), np.packbits(self.good).tobytes(), np.packbits(self.truth).tobytes(), said)
        return hashlib.sha256(b"|".join(parts)).hexdigest()

    def sides(self, features: np.ndarray, level: str) -> dict[str, Side]:
        """The three splits of a representation, by segments or by whole videos."""
        good = self.good
        if level == "video":
            features, good = pooled(features, good)[:, None], np.ones((len(good), 1), dtype=bool)
        found = {}
        for name in SPLITS:
            here = self.split == name
            found[name] = Side(features[here], good[here], self.truth[here])
        return found


def pooled(features: np.ndarray, good: np.ndarray) -> np.ndarray:
    """The mean of each video's good segments: [videos, segments, dim] → float32 [videos, dim]."""
    total = np.zeros((len(features), features.shape[2]), dtype=np.float32)
    for segment in range(features.shape[1]):
        here = good[:, segment]
        total[here] += features[here, segment]
    return total / good.sum(axis=1, keepdims=True).astype(np.float32)


def load_task(config: Config, name: str) -> tuple[Task, dict[str, Representation]]:
    """One task and the three representations without heads. UserError for what is missing."""
    paths = Paths(Path(config.results))
    labels, view, manifest = read_labels(paths, name), open_features(paths), read_manifest(paths.manifest)
    sides = (config.heads.audio, config.heads.video)
    if manifest.num_rows > view.videos:
        raise UserError(f"{paths.manifest} has more videos than the cache; run `snakemake extract …`")
    # The manifest's rows are in order, and its line number is the row.
    known = labels.rows[(view.valid(sides[0]) & view.valid(sides[1]))[labels.rows]]
    audio, video = (view.numpy(side, known) for side in sides)
    good = ~(np.isnan(audio[:, :, 0]) | np.isnan(video[:, :, 0]))  # a damaged segment is NaN throughout
    paired = good.any(axis=1)
    audio, video, good, known = audio[paired], video[paired], good[paired], known[paired]
    split = np.array(manifest["split"].to_pylist(), dtype=object)[known]
    task = _task(
        name,
        labels,
        known,
        split,
        good,
        {side: view.key(side) for side in sides},
        {side: view.random_weights(side) for side in sides},
    )
    kept = np.isin(known, task.rows)
    audio, video = audio[kept], video[kept]
    return task, {
        "audio": lambda seed: audio,
        "video": lambda seed: video,
        "audio_video": lambda seed: np.concatenate([audio, video], axis=2),
    }


def _task(
    name: str,
    labels: LabelTable,
    rows: np.ndarray,
    split: np.ndarray,
    good: np.ndarray,
    keys: dict[str, str],
    random_weights: dict[str, bool],
) -> Task:
    """Choose the classes and, with one label a video, leave out the videos of classes that cannot be learned."""
    single = name == "genre"
    truth = labels.values[np.searchsorted(labels.rows, rows)]
    positives = {s: truth[split == s].sum(axis=0) for s in SPLITS}
    negatives = (split == "test").sum() - positives["test"]
    learned = positives["train"] > 0
    told_apart = learned & (positives["test"] > 0) & (negatives > 0)
    left_out = {
        labels.classes[i]: [f"no positive in {s}" for s in SPLITS if positives[s][i] == 0]
        + (["no negative in test"] if negatives[i] == 0 else [])
        for i in np.flatnonzero(~told_apart)
    }
    kept = truth[:, learned].any(axis=1) if single else np.ones(len(rows), dtype=bool)
    return Task(
        name=name,
        single=single,
        rows=rows[kept],
        split=split[kept],
        good=good[kept],
        classes=[c for c, yes in zip(labels.classes, learned, strict=True) if yes],
        truth=truth[kept][:, learned],
        evaluated=told_apart[learned],
        left_out=left_out,
        unvalidated=[labels.classes[i] for i in np.flatnonzero(told_apart & (positives["validation"] == 0))],
        keys=keys,
        random_weights=random_weights,
    )


def experiment_representations(config: Config, name: str, task: Task) -> dict[str, Representation]:
    """The three representations of an experiment; the embeddings of one seed are in memory at a time."""
    trained = {run.seed: run for run in runs(config, name)}
    latest: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def embeddings(seed: int) -> tuple[np.ndarray, np.ndarray]:
        if seed not in latest:
            found = load_embeddings(trained[seed], task.rows, task.keys)
            latest.clear()
            latest[seed] = found.audio, found.video
        return latest[seed]

    def aggregated(seed: int) -> np.ndarray:
        audio, video = embeddings(seed)
        return (audio.astype(np.float32) + video.astype(np.float32)) / 2

    return {
        "cl_audio": lambda seed: embeddings(seed)[0],
        "cl_video": lambda seed: embeddings(seed)[1],
        "cl_aggregated": aggregated,
    }


def title(config: Config, key: str) -> str:
    """What people call a representation."""
    audio, video = (NAMES.get(side, side) for side in (config.heads.audio, config.heads.video))
    return {
        "audio": audio,
        "video": video,
        "audio_video": f"{audio} + {video}",
        "cl_audio": "CL audio",
        "cl_video": "CL video",
        "cl_aggregated": "CL aggregated",
    }[key]

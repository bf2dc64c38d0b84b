"""What is probed: labelled videos with features of both modalities, and the six representations of them.

Reads the manifest, the labels, the cache and, for an experiment, its embeddings. Every representation is
[videos, segments, dim] over the same videos, so that nothing else makes them differ:
  audio, video     the backbones' features (MusicNN and R(2+1)D, unless configured otherwise); audio_video both, joined
  cl_audio, cl_video   an experiment's embeddings; cl_aggregated the mean of the two
A video as a whole is the mean of its segments, so that cl_aggregated is there the paper's mean over segments and
modalities.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from config.heads import Sides
from config.model import Config
from data.groups import group_numbers, renumbered
from data.labels import LabelTable, read_labels
from data.splits import SPLITS
from eval.probe.fit import ProbeSplit
from heads.embed import load_embeddings
from heads.runs import runs
from pipeline.backbones.musicnn_weights import trained_on_msd
from pipeline.features import good_segments, open_features, segment_mean

Representation = Callable[[int], np.ndarray]
"""Features float [videos, segments, dim] of the training of the heads with this seed; backbones do not depend on it."""
NAMES = {"musicnn": "MusicNN", "r2plus1d": "R(2+1)D"}


@dataclass(frozen=True)
class ProbeTask:
    """The labelled videos of one task that the backbones of all experiments could read, ascending by row.

    `rows` int64, `groups` int64, `split` text and `good` bool [videos, segments] belong to them; `truth` is bool
    [videos, classes].
    `classes` are those with a positive in the training split, `evaluated` bool [classes] those of them with a positive
    and a negative in the test split; `left_out` says of all others why. Of the evaluated ones, `unvalidated` have no
    positive in the validation split, so there is nothing to choose a threshold by. `single`: one class a video.
    """

    name: str
    single: bool
    rows: np.ndarray
    groups: np.ndarray
    split: np.ndarray
    good: np.ndarray
    classes: list[str]
    truth: np.ndarray
    evaluated: np.ndarray
    left_out: dict[str, list[str]]
    unvalidated: list[str]
    keys: dict[str, str]
    random_weights: dict[str, bool]
    notes: list[str] = field(default_factory=list)
    """What a reader of the scores must know of these labels with these features."""

    def digest(self) -> str:
        """Return the sha256 of the videos, their groups, segments, splits and labels: equal digests mean comparable
        scores."""
        text = "|".join([*self.classes, *self.split.tolist()]).encode("utf-8", "surrogatepass")
        parts = (
            self.rows.tobytes(),
            self.groups.tobytes(),
            np.packbits(self.good).tobytes(),
            np.packbits(self.truth).tobytes(),
            text,
        )
        return hashlib.sha256(b"|".join(parts)).hexdigest()

    @property
    def test_groups(self) -> np.ndarray:
        """Groups of the test videos, numbered from 0: int64 [test videos]."""
        return renumbered(self.groups[self.split == "test"])

    def splits(self, features: np.ndarray, level: str) -> dict[str, ProbeSplit]:
        """Return the three splits of features [videos, segments, dim], by name; `level` is `segment` or `video`."""
        good = self.good
        if level == "video":
            features, good = segment_mean(features, good)[:, None], np.ones((len(good), 1), dtype=bool)
        splits: dict[str, ProbeSplit] = {}
        for name in SPLITS:
            in_split = self.split == name
            splits[name] = ProbeSplit(features[in_split], good[in_split], self.truth[in_split])
        return splits


def load_task(config: Config, name: str, sides: Sides) -> tuple[ProbeTask, dict[str, Representation]]:
    """Return one task and the three representations without heads: the features of these sides.

    Raises UserError for what is missing.
    """
    labels, view = read_labels(config.paths, name), open_features(config.paths)
    manifest = view.manifest()
    # The manifest's rows are in order, and its line number is the row.
    rows = labels.rows[view.valid(*config.used_backbones)[labels.rows]]
    audio, video = (view.joined(names, rows) for names in sides)
    good = good_segments(audio, video)
    paired = good.any(axis=1)
    audio, video, good, rows = audio[paired], video[paired], good[paired], rows[paired]
    split = np.array(manifest["split"].to_pylist(), dtype=object)[rows]
    task = _task(
        name,
        labels,
        rows,
        group_numbers(manifest)[rows],
        split,
        good,
        {backbone: view.key(backbone) for backbone in sides.backbones},
        {backbone: view.random_weights(backbone) for backbone in sides.backbones},
    )
    seen = [backbone for backbone in sides.backbones if trained_on_msd(view.weights(backbone))]
    task = replace(task, notes=seen_in_training(task, labels, seen))
    kept = np.isin(rows, task.rows)
    audio, video = audio[kept], video[kept]
    return task, {
        "audio": lambda seed: audio,
        "video": lambda seed: video,
        "audio_video": lambda seed: np.concatenate([audio, video], axis=2),
    }


def seen_in_training(task: ProbeTask, labels: LabelTable, backbones: list[str]) -> list[str]:
    """Return a sentence if labels of the Million Song Dataset are probed on features of `backbones` whose weights were
    trained on its tracks and tags, with the number of these tracks where their list is known; otherwise none."""
    if not backbones or not labels.of_msd:
        return []
    sentence = (
        f"the weights of {' and '.join(backbones)} were trained on tracks of the Million Song Dataset with their tags, "
        "so scores on labels of that dataset are too good"
    )
    if labels.musicnn_trained is None:
        return [sentence + "; labels.musicnn_training_list names the list of these tracks, which are then counted"]
    trained = labels.musicnn_trained[np.searchsorted(labels.rows, task.rows)]
    parts = ", ".join(
        f"{int(trained[task.split == split].sum())} of {int((task.split == split).sum())} in {split}"
        for split in SPLITS
    )
    return [sentence + f": {int(trained.sum())} of {len(trained)} probed tracks are in their training list ({parts})"]


def _task(
    name: str,
    labels: LabelTable,
    rows: np.ndarray,
    groups: np.ndarray,
    split: np.ndarray,
    good: np.ndarray,
    keys: dict[str, str],
    random_weights: dict[str, bool],
) -> ProbeTask:
    """Choose the classes and, with one label a video, leave out the videos of classes that cannot be learned."""
    single = name == "genre"
    truth = labels.values[np.searchsorted(labels.rows, rows)]
    positives = {one: truth[split == one].sum(axis=0) for one in SPLITS}
    negatives = (split == "test").sum() - positives["test"]
    learned = positives["train"] > 0
    scorable = learned & (positives["test"] > 0) & (negatives > 0)
    left_out = {
        labels.classes[i]: [f"no positive in {one}" for one in SPLITS if positives[one][i] == 0]
        + (["no negative in test"] if negatives[i] == 0 else [])
        for i in np.flatnonzero(~scorable)
    }
    kept = truth[:, learned].any(axis=1) if single else np.ones(len(rows), dtype=bool)
    return ProbeTask(
        name=name,
        single=single,
        rows=rows[kept],
        groups=renumbered(groups[kept]),
        split=split[kept],
        good=good[kept],
        classes=[labels.classes[i] for i in np.flatnonzero(learned)],
        truth=truth[kept][:, learned],
        evaluated=scorable[learned],
        left_out=left_out,
        unvalidated=[labels.classes[i] for i in np.flatnonzero(scorable & (positives["validation"] == 0))],
        keys=keys,
        random_weights=random_weights,
    )


def experiment_representations(config: Config, name: str, task: ProbeTask) -> dict[str, Representation]:
    """Return the three representations of an experiment; the embeddings of one seed are in memory at a time."""
    trained = {run.seed: run for run in runs(config, name)}
    latest: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def embeddings(seed: int) -> tuple[np.ndarray, np.ndarray]:
        if seed not in latest:
            loaded = load_embeddings(trained[seed], task.rows, task.keys)
            latest.clear()
            latest[seed] = loaded.audio, loaded.video
        return latest[seed]

    def aggregated(seed: int) -> np.ndarray:
        audio, video = embeddings(seed)
        return (audio.astype(np.float32) + video.astype(np.float32)) / 2

    return {
        "cl_audio": lambda seed: embeddings(seed)[0],
        "cl_video": lambda seed: embeddings(seed)[1],
        "cl_aggregated": aggregated,
    }


def title(sides: Sides, key: str) -> str:
    """Return the name of a representation for reports."""
    audio, video = (" + ".join(NAMES.get(backbone, backbone) for backbone in side) for side in sides)
    return {
        "audio": audio,
        "video": video,
        "audio_video": f"{audio} + {video}",
        "cl_audio": "CL audio",
        "cl_video": "CL video",
        "cl_aggregated": "CL aggregated",
    }[key]

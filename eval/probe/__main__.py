"""Probe representations for genre or tags: a perceptron and a linear classifier on each, by segments and by videos.

Reads the labels, the manifest, the cache and, with --experiment, that experiment's embeddings. Writes
  eval/features/TASK.json           the backbones' features: audio, video, both joined (with --space, those of an
                                    experiment on other backbones)
  eval/EXPERIMENT/TASK.json         the experiment's embeddings: CL audio, CL video, CL aggregated, and how they differ
                                    from the backbones' features on the same videos
and beside each TASK.safetensors: for every LEVEL/REPRESENTATION/PROBE its test `scores` [seeds, items, classes], and
the `auc`, `average_precision` … of every resample; `LEVEL/rows` are the items' rows in the manifest.

LEVEL is `segment` (fitted on segments, each with its video's labels, and scored on segments) or `video` (the mean of a
video's segments). There is one probe for each of `heads.seeds`, on that seed's embeddings; values are means over them,
`seeds_low` and `seeds_high` their 95 % interval, `low` and `high` the one over resampled groups (data/groups.py). As in
the paper, a probe on embeddings is fitted on the training videos, which the heads were trained on as well; it is scored
on test videos, which neither has seen.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from config.cli import UserError, parser, progress, run
from config.files import read_json, replacing, write_json
from config.heads import Sides
from config.labels import FEATURES
from config.model import Config, read
from config.paths import Paths
from data.splits import SPLITS
from eval.bootstrap import few_groups
from eval.paper import PROBE_SCORES
from eval.probe.fit import fit
from eval.probe.measure import MeasuredProbe, Scores, compare, measure
from eval.probe.metrics import best_thresholds, resamples
from eval.probe.sets import ProbeTask, Representation, experiment_representations, load_task, title
from eval.spaces import space_arguments

log = logging.getLogger("probe")
LEVELS = ("segment", "video")
PROBES = ("perceptron", "linear")
COMPARED = ("auc", "average_precision", "f1")
AGAINST = {
    "audio_video": ("audio", "video"),
    "cl_audio": ("audio",),
    "cl_video": ("video",),
    "cl_aggregated": ("cl_audio", "audio", "audio_video"),
}
"""The representations that each is compared with: those it was made from."""

Kind = tuple[str, str, str]
"""Level, representation, probe."""


def score(
    config: Config, sides: Sides, task: ProbeTask, representations: dict[str, Representation]
) -> dict[Kind, Scores]:
    """Fit every probe with every seed and score the test split."""
    fits: dict[Kind, list[tuple[np.ndarray, np.ndarray, int, int]]] = {}
    jobs = [(seed, key, level) for seed in config.heads.seeds for key in representations for level in LEVELS]
    for seed, key, level in progress(jobs, len(jobs), f"probe {task.name}", "representations"):
        splits = task.splits(representations[key](seed), level)
        for probe in PROBES:
            hidden = config.probes.hidden if probe == "perceptron" else []
            name = f"the {probe} probe of {task.name} on {title(sides, key)} ({level}s, seed {seed})"
            fitted = fit(splits["train"], splits["validation"], config.probes, hidden, task.single, seed, name)
            held_out = splits["validation"]
            validation, test = (fitted.scores(split.features[split.good]) for split in (held_out, splits["test"]))
            truth = held_out.truth[np.nonzero(held_out.good)[0]]
            thresholds = best_thresholds(validation[:, task.evaluated], truth[:, task.evaluated])
            dim = splits["test"].features.shape[2]
            fits.setdefault((level, key, probe), []).append((test, thresholds, fitted.epoch, dim))
    return {
        kind: Scores(
            scores=np.stack([scores for scores, *_ in seeds]),
            thresholds=np.stack([thresholds for _, thresholds, *_ in seeds]),
            epochs=[epoch for _, _, epoch, _ in seeds],
            dim=seeds[0][3],
        )
        for kind, seeds in fits.items()
    }


def items(task: ProbeTask, level: str) -> np.ndarray:
    """Return the test video (its number among them) of each test item, int [items]."""
    good = task.good[task.split == "test"]
    return np.nonzero(good)[0] if level == "segment" else np.arange(len(good))


def evaluate(
    config: Config, sides: Sides, task: ProbeTask, representations: dict[str, Representation]
) -> tuple[dict[Kind, MeasuredProbe], dict[str, np.ndarray]]:
    """Measure every probe; return the measurements and the tensors that are stored beside the JSON."""
    scores = score(config, sides, task, representations)
    test, groups = task.split == "test", task.test_groups
    count = int(groups.max()) + 1
    measured, tensors = {}, {}
    for level in LEVELS:
        owner = items(task, level)
        times = resamples(count, groups[owner], config.eval.bootstrap, config.eval.seed)
        tensors[f"{level}/rows"] = task.rows[test][owner]
        for kind, fitted in scores.items():
            if kind[0] == level:
                truth = task.truth[test][owner]
                result = measure(fitted, truth, task.classes, task.evaluated, times, count, task.single)
                measured[kind] = result
                tensors["/".join((*kind, "scores"))] = fitted.scores
                tensors |= {"/".join((*kind, name)): values for name, values in result.resampled.items()}
    return measured, tensors


def comparisons(measured: dict[Kind, MeasuredProbe], baselines: dict[Kind, MeasuredProbe]) -> list[dict[str, Any]]:
    """Compare each representation with those it was made from (here or in `baselines`), on the same videos."""
    rows = []
    for (level, key, probe), result in measured.items():
        for base_key in AGAINST.get(key, ()):
            base = (measured | baselines)[level, base_key, probe]
            for metric in COMPARED:
                rows.append(
                    {"level": level, "probe": probe, "metric": metric, "a": key, "b": base_key}
                    | compare(result, base, metric)
                )
    return rows


def load_measured(paths: Paths, space: str, task: ProbeTask, settings: dict[str, Any]) -> dict[Kind, MeasuredProbe]:
    """Read what was measured on the backbones' features. Raises UserError if missing or of other videos or settings."""
    path = paths.eval(space) / f"{task.name}.json"
    stored = read_json(path)
    if stored is None or any(stored.get(key) != value for key, value in settings.items()):
        raise UserError(f"{path} is missing or of other videos or settings; run `snakemake evaluate …`")
    tensors = load_file(path.with_suffix(".safetensors"))
    measured = {}
    for entry in stored["results"]:
        kind = entry["level"], entry["representation"], entry["probe"]
        values = {name: tensors["/".join((*kind, name))] for name in entry["metrics"]}
        measured[kind] = MeasuredProbe(entry, values, stored["test_groups"])
    return measured


def probe(config: Config, name: str, space: str = FEATURES) -> dict[str, Any]:
    """Probe one task on one experiment's embeddings, or on the features of a space of `config.spaces`.

    Write the JSON and return it.
    """
    paths, experiment = config.paths, None if space in config.spaces else space
    sides = config.spaces.get(space) or config.sides(space)
    task, representations = load_task(config, name, sides)
    settings = {
        "task": name,
        "keys": task.keys,
        "random_weights": task.random_weights,
        "seeds": config.heads.seeds,
        "probes": config.probes.model_dump(),
        "bootstrap": config.eval.bootstrap,
        "seed": config.eval.seed,
        "videos": {split: int((task.split == split).sum()) for split in SPLITS},
        "test_groups": len(np.unique(task.test_groups)),
        "classes": task.classes,
        "left_out": task.left_out,
        "unvalidated": task.unvalidated,
        "digest": task.digest(),
    }
    if experiment is not None:
        representations = experiment_representations(config, experiment, task)
    measured: dict[Kind, MeasuredProbe] = {}
    tensors: dict[str, np.ndarray] = {"rows": task.rows}
    baselines: dict[Kind, MeasuredProbe] = {}
    notes = [*task.notes]
    if task.evaluated.any() and (task.split == "validation").any():
        measured, tensors = evaluate(config, sides, task, representations)
        notes += few_groups(len(np.unique(task.test_groups)), "the test split")
        baselines = load_measured(paths, config.space(sides), task, settings) if experiment else {}
    else:
        notes.append(
            f"nothing was measured: of {len(task.rows)} labelled videos with features, no class has positives in "
            "train and test and negatives in test, or a split is empty"
        )
    report = {
        "experiment": experiment,
        **settings,
        "published": PROBE_SCORES[name] if set(task.keys) == {"musicnn", "r2plus1d"} else None,
        "notes": notes,
        "results": [
            {"level": level, "representation": key, "name": title(sides, key), "probe": kind} | result.entry
            for (level, key, kind), result in measured.items()
        ],
        "comparisons": comparisons(measured, baselines),
    }
    folder = paths.eval(space)
    with replacing(folder / f"{name}.safetensors") as temporary:
        save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, temporary)
    write_json(folder / f"{name}.json", report)
    return report


def main() -> None:
    """Run the command line."""
    command_line = parser(__doc__, "eval.probe", "cores to use")
    command_line.add_argument("--task", required=True, metavar="NAME", help="what to predict: genre or tagging")
    space_arguments(command_line)
    arguments = command_line.parse_args()
    torch.set_num_threads(arguments.threads)
    report = probe(read(arguments.config), arguments.task, arguments.experiment or arguments.space)
    for note in report["notes"]:
        log.warning(note)
    for label, why in report["left_out"].items():
        log.info("left out: %s (%s)", label, ", ".join(why))
    if report["unvalidated"]:
        log.info("not in F1 by validation thresholds, for want of a positive: %s", ", ".join(report["unvalidated"]))
    for result in report["results"]:
        auc = result["metrics"]["auc"]
        log.info(
            "%s %s, %s: macro ROC-AUC %.3f [%.3f, %.3f]",
            *(result["level"], result["name"], result["probe"], auc["value"], auc["low"], auc["high"]),
        )


if __name__ == "__main__":
    run(main)

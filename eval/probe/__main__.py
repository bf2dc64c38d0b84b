"""Probe representations for genre or tags: a perceptron and a linear classifier on each, by segments and by videos.

Reads the labels, the manifest, the cache and, with --experiment, that experiment's embeddings. Writes
  eval/features/TASK.json           the backbones' features: audio, video, both joined
  eval/EXPERIMENT/TASK.json         the experiment's embeddings: CL audio, CL video, CL aggregated, and how they differ
                                    from the backbones' features on the same videos
and beside each TASK.safetensors: for every LEVEL/REPRESENTATION/PROBE its test `scores` [seeds, items, classes], and
the `auc`, `average_precision` … of every resample; `LEVEL/rows` are the items' rows in the manifest.

LEVEL is `segment` (fitted on segments, each with its video's labels, and scored on segments) or `video` (the mean of a
video's segments). There is one probe for each of `heads.seeds`, on that seed's embeddings; values are means over them,
`seeds_low` and `seeds_high` their 95 % interval, `low` and `high` the one over resampled videos.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from config.cli import UserError, parser, progress, run
from config.files import read_json, replacing, write_json
from config.labels import FEATURES
from config.model import Config, read
from config.paths import Paths
from eval.paper import PROBE_SCORES
from eval.probe.fit import fit
from eval.probe.measure import Measured, Scores, compare, measure
from eval.probe.metrics import best_thresholds, resamples
from eval.probe.sets import Representation, Task, experiment_representations, load_task, title

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
"""Which representations each is compared with: what it was made from."""

Kind = tuple[str, str, str]
"""Level, representation, probe."""


def score(config: Config, task: Task, representations: dict[str, Representation]) -> dict[Kind, Scores]:
    """Fit every probe with every seed and score the test split."""
    found: dict[Kind, list[tuple[np.ndarray, np.ndarray, int, int]]] = {}
    jobs = [(s, key, level) for s in config.heads.seeds for key in representations for level in LEVELS]
    for seed, key, level in progress(jobs, len(jobs), f"probe {task.name}", "representations"):
        sides = task.sides(representations[key](seed), level)
        for probe in PROBES:
            hidden = config.probes.hidden if probe == "perceptron" else []
            fitted = fit(sides["train"], sides["validation"], config.probes, hidden, task.single, seed)
            held, test = (fitted.scores(side.features[side.good]) for side in (sides["validation"], sides["test"]))
            truth = sides["validation"].truth[np.nonzero(sides["validation"].good)[0]]
            thresholds = best_thresholds(held[:, task.evaluated], truth[:, task.evaluated])
            dim = sides["test"].features.shape[2]
            found.setdefault((level, key, probe), []).append((test, thresholds, fitted.epoch, dim))
    return {
        kind: Scores(
            np.stack([s for s, *_ in each]), np.stack([t for _, t, *_ in each]), [e[2] for e in each], each[0][3]
        )
        for kind, each in found.items()
    }


def items(task: Task, level: str) -> np.ndarray:
    """Which test video each test item is of, int [items]."""
    good = task.good[task.split == "test"]
    return np.nonzero(good)[0] if level == "segment" else np.arange(len(good))


def evaluate(
    config: Config, task: Task, representations: dict[str, Representation]
) -> tuple[dict[Kind, Measured], dict[str, np.ndarray]]:
    """Everything measured, and the tensors that are stored beside the JSON."""
    scores = score(config, task, representations)
    test = task.split == "test"
    measured, tensors = {}, {}
    for level in LEVELS:
        owner = items(task, level)
        times = resamples(int(test.sum()), owner, config.eval.bootstrap, config.eval.seed)
        tensors[f"{level}/rows"] = task.rows[test][owner]
        for kind, found in scores.items():
            if kind[0] == level:
                done = measure(found, task.truth[test][owner], task.classes, task.evaluated, times, task.single)
                measured[kind] = done
                tensors["/".join((*kind, "scores"))] = found.scores
                tensors |= {"/".join((*kind, name)): values for name, values in done.resampled.items()}
    return measured, tensors


def comparisons(measured: dict[Kind, Measured], known: dict[Kind, Measured]) -> list[dict[str, Any]]:
    """Each representation beside what it was made from (here or in `known`), by the same probe on the same videos."""
    found = []
    for (level, key, probe), one in measured.items():
        for other in AGAINST.get(key, ()):
            base = (measured | known)[level, other, probe]
            for metric in COMPARED:
                found.append(
                    {"level": level, "probe": probe, "metric": metric, "a": key, "b": other}
                    | compare(one, base, metric)
                )
    return found


def load_measured(paths: Paths, task: Task, same: dict[str, Any]) -> dict[Kind, Measured]:
    """What was measured on the backbones' features. UserError where that is missing or of other videos or settings."""
    path = paths.eval(FEATURES) / f"{task.name}.json"
    written = read_json(path)
    if written is None or any(written[key] != value for key, value in same.items()):
        raise UserError(f"{path} is missing or of other videos or settings; run `snakemake evaluate …`")
    tensors = load_file(path.with_suffix(".safetensors"))
    found = {}
    for entry in written["results"]:
        kind = entry["level"], entry["representation"], entry["probe"]
        found[kind] = Measured(entry, {name: tensors["/".join((*kind, name))] for name in entry["metrics"]})
    return found


def probe(config: Config, name: str, experiment: str | None) -> dict[str, Any]:
    """Probe one task on the backbones' features or one experiment's embeddings; write and return the JSON."""
    paths = Paths(Path(config.results))
    task, representations = load_task(config, name)
    same = {
        "task": name,
        "keys": task.keys,
        "random_weights": task.random_weights,
        "seeds": config.heads.seeds,
        "probes": config.probes.model_dump(),
        "bootstrap": config.eval.bootstrap,
        "seed": config.eval.seed,
        "videos": {s: int((task.split == s).sum()) for s in ("train", "validation", "test")},
        "classes": task.classes,
        "left_out": task.left_out,
        "unvalidated": task.unvalidated,
        "digest": task.digest(),
    }
    if experiment is not None:
        representations = experiment_representations(config, experiment, task)
    measured: dict[Kind, Measured] = {}
    tensors: dict[str, np.ndarray] = {"rows": task.rows}
    known: dict[Kind, Measured] = {}
    notes = []
    if task.evaluated.any() and (task.split == "validation").any():
        measured, tensors = evaluate(config, task, representations)
        known = load_measured(paths, task, same) if experiment else {}
    else:
        notes.append(
            f"nothing was measured: of {len(task.rows)} labelled videos with features, no class has positives in "
            "train and test and negatives in test, or a split is empty"
        )
    written = {
        "experiment": experiment,
        **same,
        "published": PROBE_SCORES[name] if set(task.keys) == {"musicnn", "r2plus1d"} else None,
        "notes": notes,
        "results": [
            {"level": level, "representation": key, "name": title(config, key), "probe": kind} | one.entry
            for (level, key, kind), one in measured.items()
        ],
        "comparisons": comparisons(measured, known),
    }
    folder = paths.eval(experiment or FEATURES)
    with replacing(folder / f"{name}.safetensors") as temporary:
        save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, temporary)
    write_json(folder / f"{name}.json", written)
    return written


def main() -> None:
    p = parser(__doc__, "eval.probe", "cores to use")
    p.add_argument("--task", required=True, metavar="NAME", help="what to predict: genre or tagging")
    p.add_argument("--experiment", metavar="NAME", help="probe the embeddings of one of heads.experiments")
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    written = probe(read(args.config), args.task, args.experiment)
    for note in written["notes"]:
        log.warning(note)
    for left, why in written["left_out"].items():
        log.info("left out: %s (%s)", left, ", ".join(why))
    if written["unvalidated"]:
        log.info("not in F1 by validation thresholds, for want of a positive: %s", ", ".join(written["unvalidated"]))
    for r in written["results"]:
        auc = r["metrics"]["auc"]
        log.info(
            "%s %s, %s: macro ROC-AUC %.3f [%.3f, %.3f]",
            *(r["level"], r["name"], r["probe"], auc["value"], auc["low"], auc["high"]),
        )


if __name__ == "__main__":
    run(main)

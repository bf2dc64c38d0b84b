"""Measure the paper's signatures of failure in an experiment's embeddings.

Reads the cache, retrieval.json, the metrics, checkpoint and embeddings of the experiment's first seed, labels/ where
these come from other files, and the probes' genre.json and tagging.json where labels are configured. A large test split
is represented by the videos that eval/spaces.py draws. Writes eval/EXPERIMENT/diagnosis.json, whose `findings` have
  name, severity            as in eval/diagnose/text.py
  verdict                   `found`, `absent` or `unknown` (there is too little to say)
  numbers                   what was measured, {name: number}
  details                   a list of sentences, often empty
  meaning, advice           what it means where it is found, and what to try
"""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from config.cli import UserError, experiment_parser, run
from config.files import read_json, write_json
from config.heads import MODALITIES, Sides
from config.model import Config, read
from config.paths import Paths
from data.groups import group_numbers
from eval.bootstrap import intervals
from eval.diagnose.findings import FEWEST, Finding, below_features, finding, of_losses, of_ranks, of_shape
from eval.diagnose.signs import label_agreement
from eval.ranks import UNIT, ranks, unit_rows
from eval.retrieval import load_test, mean_unit
from eval.similarity import comparable, pair_interval
from eval.spaces import representatives
from eval.video_labels import with_labels
from heads.checkpoint import load_checkpoint
from heads.embed import BLOCK, load_embeddings
from heads.runs import Run, runs
from pipeline.features import Features, good_segments, segment_mean

log = logging.getLogger("diagnose")
MOST = 2000
"""Training videos used, the first: enough for every sign, and cheap at any size."""
SAME = 0.999
"""Mean cosine of embeddings and the same ones embedded again; float16, TF32 and oneDNN leave 0.99999."""


def median_rank(
    audio: np.ndarray, video: np.ndarray, groups: np.ndarray, config: Config, unit: tuple[bool, bool] = UNIT
) -> dict[str, float]:
    """Return the median rank audio → video, its interval over the groups, int [videos], and chance.

    `unit` as of `eval.ranks.ranks`.
    """
    rank = ranks(audio, video, unit=unit)[0]
    low, high = intervals(rank, groups, config.eval.bootstrap, config.eval.seed)["median"]
    measured = {"median": float(np.median(rank)), "low": low, "high": high, "chance": (len(rank) + 1) / 2}
    return measured | {"videos": len(rank), "groups": len(np.unique(groups))}


def linear_ranks(
    config: Config, view: Features, sides: Sides, train: np.ndarray, test: np.ndarray, groups: np.ndarray
) -> dict[str, float]:
    """Return test rows' median rank by ridge regression from audio to video, fitted on cached features of train rows.

    `groups` int [test rows]. It needs no head: what it finds is in the cache's pairs. If the features of one modality
    are constant, all candidates tie, at chance.
    """
    scaled = []
    for backbones in sides:
        blocks = (view.joined(backbones, rows) for rows in (train, test))
        fitted, tested = (segment_mean(block, good_segments(block), np.float64) for block in blocks)
        middle, scale = fitted.mean(axis=0), fitted.std(axis=0) + 1e-6
        scaled.append(((fitted - middle) / scale, (tested - middle) / scale))
    (audio, queries), (video, candidates) = scaled
    if not audio.any() or not video.any():
        same = np.ones((len(test), 1))
        return median_rank(same, same, groups, config)
    kernel = audio @ audio.T
    kernel[np.diag_indices_from(kernel)] += 0.1 * np.trace(kernel) / len(kernel)
    predicted = queries @ audio.T @ np.linalg.solve(kernel, video)
    return median_rank(*comparable(predicted, candidates), groups, config)


def of_features(view: Features, sides: Sides, rows: np.ndarray) -> Finding:
    """Check whether a modality's cached features are the same in all videos `rows` (int64), as of silence or black."""
    spread = {}
    for modality, backbones in (("audio", sides.audio), ("video", sides.video)):
        features = view.joined(backbones, rows).astype(np.float64)
        spread[f"{modality}_varying"] = float(
            (np.nanmax(features, axis=(0, 1)) > np.nanmin(features, axis=(0, 1))).mean()
        )
    return finding("constant_features", min(spread.values()) == 0, spread)


def of_checkpoint(sides: Sides, training: Run, view: Features, keys: dict[str, str]) -> list[Finding]:
    """Check whether stored embeddings are those that the checkpoint gives a segment alone, or those of a batch.

    Uses the first batch that heads/embed.py embeds: batch norm in training mode would have had its statistics.
    """
    heads, _ = load_checkpoint(training.folder / "checkpoint.safetensors")
    rows = np.arange(min(BLOCK, view.videos))
    stored, numbers = load_embeddings(training, rows, keys), {}
    for modality, backbones in (("audio", sides.audio), ("video", sides.video)):
        kept = getattr(stored, modality)
        known = good_segments(kept)
        features, units = torch.from_numpy(view.joined(backbones, rows)[known]), unit_rows(kept[known])
        for name, batchwise in (("alone", False), ("batch", True)):
            again = unit_rows(_embedded(getattr(heads, modality), features, batchwise))
            numbers[f"{modality}_{name}"] = float((units * again).sum(axis=1).mean())
    alone, batch = (min(numbers[f"{modality}_{name}"] for modality in MODALITIES) for name in ("alone", "batch"))
    return [
        finding("train_mode_batch_norm", alone < SAME and batch > alone, numbers),
        finding("other_weights", alone < SAME and batch <= alone, numbers),
    ]


def _embedded(head: nn.Module, features: torch.Tensor, batchwise: bool) -> np.ndarray:
    """Embed features, [n, d]; `batchwise` with batch norm's training mode (the batch's own statistics), no dropout."""
    head.eval()
    for layer in head.modules():
        if isinstance(layer, nn.BatchNorm1d):
            layer.train(batchwise)
    with torch.no_grad():
        embedded: np.ndarray = head(features).numpy()
    return embedded


def of_labels(units: np.ndarray, labels: list[str | None], groups: np.ndarray, config: Config) -> Finding:
    """Check whether neighbours by `units` [n, d] share labels more often than random videos of other groups do."""
    known = np.array([bool(label) for label in labels])
    names, number = np.unique([label for label in labels if label], return_inverse=True)
    if len(names) < 2 or known.sum() < FEWEST:
        return finding("neighbours_without_labels", None, {"labelled": int(known.sum()), "classes": len(names)})
    agreement, chance = label_agreement(units[known], number, groups[known])
    compared = ~np.isnan(agreement)
    if compared.sum() < FEWEST:
        return finding("neighbours_without_labels", None, {"labelled": int(compared.sum()), "classes": len(names)})
    gain, units_of = (agreement - chance)[compared], groups[known][compared]
    low, high = pair_interval(gain, units_of, config.eval.bootstrap, config.eval.seed)
    by_chance = float(chance[compared].mean())
    numbers = {"agreement": float(agreement[compared].mean()), "low": low + by_chance, "high": high + by_chance}
    return finding("neighbours_without_labels", not low > 0, numbers | {"chance": by_chance})


def of_probes(config: Config, paths: Paths, name: str) -> Finding:
    """Check whether probes do worse on the embeddings than on their features; unknown without probes."""
    written = {task: read_json(paths.eval(name) / f"{task}.json") for task in config.labels.tasks}
    return below_features({task: probed for task, probed in written.items() if probed})


def diagnose(config: Config, name: str) -> dict[str, Any]:
    """Diagnose one experiment, write the JSON and return it."""
    paths, training = config.paths, runs(config, name)[0]
    test, view = load_test(config, name, training)
    drawn = representatives(test.table.num_rows, config.eval.seed)
    test = replace(test, table=test.table.take(pa.array(drawn)), audio=test.audio[drawn], video=test.video[drawn])
    metrics, retrieval = training.folder / "metrics.jsonl", paths.eval(name) / "retrieval.json"
    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()] if metrics.exists() else []
    ranked = read_json(retrieval)
    if not lines or ranked is None or "test_groups" not in ranked:
        wrong = f"{retrieval if lines else metrics} does not exist, is empty or of an earlier version"
        raise UserError(f"{wrong}; run `snakemake evaluate …`")
    findings, ways = of_losses(lines)
    sides = config.sides(name)
    rows = view.rows("train", sides.backbones)[:MOST]
    trained = load_embeddings(training, rows, test.record["keys"])
    good = good_segments(trained.audio, trained.video)[:, 0]
    audio, video, _ = test.level("segment")
    shape = of_shape(unit_rows(audio), unit_rows(video))
    medians = {
        "test": next(one for one in ranked["results"] if one["level"] == "segment" and one["gallery"] == "full"),
        "train": median_rank(
            trained.audio[good, 0], trained.video[good, 0], group_numbers(view.labels(rows[good])), config, test.unit
        ),
        "linear": linear_ranks(config, view, sides, rows[good], test.table["row"].to_numpy(), test.groups),
    }
    whole = medians["test"]["metrics"]["median"]
    medians["test"] = {"median": whole["value"]} | {key: whole[key] for key in ("low", "high", "chance")}
    medians["test"] |= {"videos": ranked["test_videos_valid"], "groups": ranked["test_groups"]}
    dead = any(line["verdict"] == "found" for line in shape if line["name"] in ("constant_output", "collapse"))
    findings += [of_features(view, sides, rows)]
    findings += of_ranks(medians, ways, dead) + shape + of_checkpoint(sides, training, view, test.record["keys"])
    both = unit_rows(mean_unit(test.audio) + mean_unit(test.video))
    genres = with_labels(config, test.table)["genre"].to_pylist()
    findings += [of_labels(both, genres, test.groups, config), of_probes(config, paths, name)]
    written = {"experiment": name, "seed": training.seed, "random_weights": test.record["random_weights"]}
    written |= {"findings": findings}
    write_json(paths.eval(name) / "diagnosis.json", written)
    return written


def main() -> None:
    """Run the command line."""
    arguments = experiment_parser(__doc__, "eval.diagnose", several=True).parse_args()
    config = read(arguments.config)
    torch.set_num_threads(arguments.threads)
    for name in arguments.experiment or config.heads.experiments:
        positive = [line for line in diagnose(config, name)["findings"] if line["verdict"] == "found"]
        for line in positive:
            numbers = ", ".join(f"{key} {value:.4g}" for key, value in line["numbers"].items())
            log.info("%s: %s (%s). %s %s", name, line["name"], numbers, line["meaning"], line["advice"])
        if not positive:
            log.info("%s: none of the known signatures of failure", name)


if __name__ == "__main__":
    run(main)

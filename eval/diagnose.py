"""What is wrong with an experiment, if anything: the paper's signatures of failure, recognised by measurement.

Reads an experiment's metrics.jsonl, checkpoint and embeddings (of its first seed), the manifest and the cache, and the
probes' genre.json and tagging.json where they exist. Writes eval/EXPERIMENT/diagnosis.json: for every signature its
name, whether it was found (null: cannot be said here), the measured numbers, what it means and what to try.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch

from config.cli import UserError, parser, run
from config.files import read_json, write_json
from config.model import Config, read
from config.paths import Paths
from data.manifest import read_manifest
from eval.bootstrap import intervals
from eval.ranks import ranks, unit_rows
from eval.retrieval import load_test, pooled
from eval.signs import effective_rank, label_agreement, mean_cosine, modality_gap, spread
from eval.words import WORDS
from heads.checkpoint import load_checkpoint
from heads.embed import load_embeddings
from heads.model import ProjectionHead
from heads.runs import Run, runs
from pipeline.store import open_features, read_array

log = logging.getLogger("diagnose")
MOST = 2000
"""Videos looked at, of each split: enough for every sign, and cheap at any size."""
BATCH = 256
LITTLE, NOT_FALLEN, LEARNT = 0.3, 0.02, 0.1
"""A loss that can fall by less than this share of chance; shares of that fall: next to nothing, and learnt."""
CONSTANT, COLLAPSED, FEW = 2e-3, 0.99, 2.0
"""The spread that float16 alone makes, and some; mean cosine and effective rank of a collapse."""


def finding(name: str, found: bool | None, **measured: Any) -> dict[str, Any]:
    """One finding with its words."""
    meaning, advice = WORDS[name]
    return {"name": name, "found": found, "measured": measured, "meaning": meaning, "try": advice}


def of_losses(lines: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Findings on the learning curves, and how much of the way from chance to the lowest loss each split went."""
    best, last = min(lines, key=lambda line: line["validation_loss"]), lines[-1]
    chance, lowest = best["validation_chance"], best["validation_lowest"]

    def way(line: dict[str, Any], split: str) -> float:
        """How much of the way from chance to the lowest possible loss was gone."""
        return (line[f"{split}_chance"] - line[f"{split}_loss"]) / (line[f"{split}_chance"] - line[f"{split}_lowest"])

    reachable, gone, learnt = (chance - lowest) / chance, way(best, "validation"), way(last, "train")
    measured = {"chance": chance, "lowest": lowest, "reached": best["validation_loss"]}
    return [
        finding("loss_floor", reachable < LITTLE, **measured, possible_fall=reachable, share_of_the_way=gone),
        finding("loss_not_falling", max(gone, learnt) < NOT_FALLEN, **measured, train_way=learnt, validation_way=gone),
    ], {"train": learnt, "validation": gone}


def median_rank(audio: np.ndarray, video: np.ndarray, owner: np.ndarray, config: Config) -> dict[str, float]:
    """Median rank sound → picture with its interval over videos, and chance."""
    rank = ranks(audio, video)[0]
    low, high = intervals(rank, owner, config.eval.bootstrap, config.eval.seed)["median"]
    return {"median": float(np.median(rank)), "low": low, "high": high, "chance": (len(rank) + 1) / 2}


def of_ranks(ranked: dict[str, dict[str, float]], way: dict[str, float], dead: bool) -> list[dict[str, Any]]:
    """Findings on median ranks: of `test` and `train` pairs, and of test pairs by a `linear` map of the features.

    `way` as of `of_losses`; `dead`: the embeddings have collapsed, which explains chance ranks by itself.
    """
    blind = not ranked["test"]["high"] < ranked["test"]["chance"]
    by_heart = way["train"] > LEARNT or ranked["train"]["high"] < ranked["train"]["chance"] / 2
    unlearnt = blind and not dead and way["validation"] < NOT_FALLEN
    aligned = ranked["linear"]["high"] < ranked["linear"]["chance"]
    return [
        finding("chance_ranks", blind, **ranked["test"]),
        finding("memorised_pairs", unlearnt and by_heart and not aligned, ways=way, **ranked),
        finding("shuffled_pairs", unlearnt and aligned, ways=way, **ranked),
    ]


def linear(config: Config, train: np.ndarray, test: np.ndarray) -> dict[str, float]:
    """Median rank of test pairs by ridge regression from sound to picture, on the cached features of some rows.

    Needs no head: what it finds is in the cache's pairs.
    """
    paths, sides = Paths(Path(config.results)), []
    for backbone in (config.heads.audio, config.heads.video):
        array = read_array(paths, backbone)
        fitted, asked = (np.nanmean(array.oindex[rows].astype(np.float64), axis=1) for rows in (train, test))
        middle, scale = fitted.mean(axis=0), fitted.std(axis=0) + 1e-6
        sides.append(((fitted - middle) / scale, (asked - middle) / scale))
    (x, queries), (y, candidates) = sides
    kernel = x @ x.T
    kernel[np.diag_indices_from(kernel)] += 0.1 * np.trace(kernel) / len(kernel)
    predicted = queries @ x.T @ np.linalg.solve(kernel, y)
    return median_rank(predicted, candidates, np.arange(len(test)), config)


def of_shape(audio: np.ndarray, video: np.ndarray) -> list[dict[str, Any]]:
    """Findings on how the unit vectors [n, d] of both sides lie."""
    sides = {"audio": audio, "video": video}
    wide = {f"{name}_spread": spread(units) for name, units in sides.items()}
    constant = min(wide.values()) < CONSTANT
    cosine = {f"{name}_mean_cosine": mean_cosine(units) for name, units in sides.items()}
    used = {f"{name}_effective_rank": effective_rank(units) for name, units in sides.items()}
    collapsed = max(cosine.values()) > COLLAPSED or min(used.values()) < FEW
    gap = modality_gap(audio, video)
    return [
        finding("constant_output", constant, **wide),
        finding("collapse", collapsed and not constant, **cosine, **used, width=audio.shape[1]),
        finding("modality_gap", not constant and gap["distance"] > gap["spread"], **gap),
    ]


def of_checkpoint(config: Config, training: Run, rows: np.ndarray, stored: dict[str, np.ndarray]) -> dict[str, Any]:
    """Whether `stored` embeddings [videos, segments, d] of `rows` are those that the checkpoint gives a video alone."""
    heads, _ = load_checkpoint(training.folder / "checkpoint.safetensors")
    paths, measured = Paths(Path(config.results)), {}
    for side, backbone in (("audio", config.heads.audio), ("video", config.heads.video)):
        known = ~np.isnan(stored[side][:, :, 0])
        features = torch.from_numpy(np.asarray(read_array(paths, backbone).oindex[rows])[known])
        kept = unit_rows(stored[side][known])
        for name, batchwise in (("alone", False), ("batch", True)):
            again = unit_rows(_embedded(getattr(heads, side), features, batchwise))
            measured[f"{side}_{name}"] = float((kept * again).sum(axis=1).mean())
    alone, batch = (min(measured[f"{side}_{name}"] for side in ("audio", "video")) for name in ("alone", "batch"))
    return finding("train_mode_batch_norm", alone < 0.999 and batch > alone, **measured)


def _embedded(head: ProjectionHead, features: torch.Tensor, batchwise: bool) -> np.ndarray:
    """Embeddings [n, d]; `batchwise` with batch norm's training mode (the batch's own statistics), without dropout."""
    head.eval()
    for layer in head.modules():
        if isinstance(layer, torch.nn.BatchNorm1d):
            layer.train(batchwise)
    with torch.no_grad():
        return head(features).numpy()


def of_labels(units: np.ndarray, labels: list[str | None], config: Config) -> dict[str, Any]:
    """Whether neighbours by `units` [n, d] share labels more often than strangers do."""
    known = np.array([bool(label) for label in labels])
    names, number = np.unique([label for label in labels if label], return_inverse=True)
    if len(names) < 2 or known.sum() < 20:
        return finding("neighbours_without_labels", None, labelled=int(known.sum()), classes=len(names))
    agreement, chance = label_agreement(units[known], number)
    low, high = intervals(agreement + 1, np.arange(len(agreement)), config.eval.bootstrap, config.eval.seed)["mean"]
    measured = {"agreement": float(agreement.mean()), "low": low - 1, "high": high - 1, "chance": chance}
    return finding("neighbours_without_labels", not low - 1 > chance, **measured)


def of_probes(paths: Paths, name: str) -> dict[str, Any]:
    """Whether probes on the embeddings do worse than on the features that they came from."""
    worse, compared = [], 0
    for task in ("genre", "tagging"):
        for line in (read_json(paths.eval(name) / f"{task}.json") or {}).get("comparisons", []):
            compared += 1
            if line["differs"] and line["high"] < 0:
                worse.append({"task": task} | line)
    return finding("downstream_below_features", bool(worse) if compared else None, compared=compared, worse=worse)


def diagnose(config: Config, name: str) -> dict[str, Any]:
    """Diagnose one experiment and write its JSON; returns it."""
    paths, training = Paths(Path(config.results)), runs(config, name)[0]
    test, _ = load_test(config, name)
    metrics = training.folder / "metrics.jsonl"
    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()] if metrics.exists() else []
    if not lines:
        raise UserError(f"{metrics} does not exist or is empty; run `snakemake train …`")
    found, way = of_losses(lines)
    some = slice(0, MOST)
    audio, video, owner = (part[: MOST * 3] for part in test.level("segment"))
    rows = _training_rows(config, paths)
    trained = load_embeddings(training, rows, test.record["keys"])
    good = ~(np.isnan(trained.audio[:, 0, 0]) | np.isnan(trained.video[:, 0, 0]))
    first = (trained.audio[good, 0], trained.video[good, 0])
    shape = of_shape(unit_rows(audio), unit_rows(video))
    ranked = {
        "test": median_rank(audio, video, owner, config),
        "train": median_rank(*first, np.arange(int(good.sum())), config),
        "linear": linear(config, rows[good], test.table["row"].to_numpy()[some]),
    }
    dead = any(one["found"] for one in shape if one["name"] in ("constant_output", "collapse"))
    found += of_ranks(ranked, way, dead) + shape
    chosen = test.table["row"].to_numpy()[:BATCH]
    found.append(of_checkpoint(config, training, chosen, {"audio": test.audio[:BATCH], "video": test.video[:BATCH]}))
    both = unit_rows(pooled(test.audio[some]) + pooled(test.video[some]))
    found += [of_labels(both, test.table["genre"].to_pylist()[some], config), of_probes(paths, name)]
    written = {"experiment": name, "seed": training.seed, "random_weights": test.record["random_weights"]}
    written |= {"findings": found}
    write_json(paths.eval(name) / "diagnosis.json", written)
    return written


def _training_rows(config: Config, paths: Paths) -> np.ndarray:
    """Rows of training videos that both backbones could read: at most MOST, the first, ascending."""
    view, table = open_features(paths), read_manifest(paths.manifest)
    valid = view.valid(config.heads.audio) & view.valid(config.heads.video)
    train = np.array([split == "train" for split in table["split"].to_pylist()], dtype=bool)
    row = table["row"].to_numpy()
    return row[train & valid[row]][:MOST]


def main() -> None:
    """Command line."""
    p = parser(__doc__, "eval.diagnose")
    p.add_argument("--experiment", metavar="NAME", help="which of heads.experiments (default: all)")
    args = p.parse_args()
    config = read(args.config)
    for name in [args.experiment] if args.experiment else config.heads.experiments:
        findings = diagnose(config, name)["findings"]
        for one in findings:
            if one["found"]:
                log.info(
                    "%s: %s. %s Try: %s Measured: %s",
                    name,
                    *(one[k] for k in ("name", "meaning", "try")),
                    one["measured"],
                )
        if not any(one["found"] for one in findings):
            log.info("%s: none of the known signatures of failure", name)


if __name__ == "__main__":
    run(main)

"""What measured numbers say of an experiment: the findings of eval/diagnose. Reads and writes nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.special import ndtri

from eval.diagnose.signs import effective_rank, mean_cosine, modality_gap, spread
from eval.diagnose.text import WORDS
from eval.seeds import ROUNDING

LITTLE = 0.4
"""A loss that can fall by less than this share of chance: the paper's recipe by 0.14 with 1,000 pairs a batch and 0.39
with 8; at temperature 0.3 it is 0.48 with 1,000, and more with fewer."""
NOT_FALLEN, LEARNT = 0.02, 0.05
"""Shares of the fall from chance to the lowest loss: next to none, and learnt. Simulated heads whose pairs correlate by
0.3 fall by 0.04 and more in validation, those of unrelated pairs by -0.02 to -0.01."""
BETTER = 0.8
"""Training pairs whose median rank is clearly below this share of chance are memorised."""
FEWEST = 20
"""With fewer videos, findings on their ranks or labels are unknown."""
CONSTANT = 2e-3
"""A spread below which an output is constant: rounding unit vectors to float16 alone makes up to 3e-4."""
COLLAPSED, FEW = 0.99, 2.0
"""Mean cosine and effective rank of a collapse. Simulated heads have at most 0.93 and at least 3, those of unrelated
pairs included."""

FEWEST_PROBED = 50
"""With fewer test videos, a probe's interval is too narrow to be trusted."""
WIDER = float(ndtri(0.01) / ndtri(0.025))
"""From a 97.5 % to a 99 % end of an interval."""
COMPARISON = {"level": "video", "probe": "linear", "metric": "auc", "a": "cl_aggregated", "b": "audio_video"}
"""The one comparison a task that decides whether embeddings lost something, fixed beforehand: both modalities of whole
videos, by the probe that adds nothing of its own. Of all comparisons some are below zero by chance."""
Finding = dict[str, Any]


def finding(name: str, holds: bool | None, numbers: Mapping[str, float], details: tuple[str, ...] = ()) -> Finding:
    """Return one finding with its texts; `holds` is None if there is too little to tell."""
    severity, meaning, advice = WORDS[name]
    verdict = "unknown" if holds is None else "found" if holds else "absent"
    line = {"name": name, "severity": severity, "verdict": verdict, "numbers": dict(numbers), "details": list(details)}
    return line | {"meaning": meaning, "advice": advice}


def of_losses(lines: list[dict[str, Any]]) -> tuple[list[Finding], dict[str, float]]:
    """Return findings on the learning curves, and each split's share of the fall from chance to the lowest loss."""
    best, last = min(lines, key=lambda line: line["validation_loss"]), lines[-1]
    chance, lowest = best["validation_chance"], best["validation_lowest"]

    def way(line: dict[str, float], split: str) -> float:
        """Return the share of the way from chance to the lowest loss that a split's loss has fallen."""
        return (line[f"{split}_chance"] - line[f"{split}_loss"]) / (line[f"{split}_chance"] - line[f"{split}_lowest"])

    ways = {"train_way": way(last, "train"), "validation_way": way(best, "validation")}
    possible = (chance - lowest) / chance
    numbers = {"chance": chance, "lowest": lowest, "reached": best["validation_loss"], "possible_fall": possible}
    return [
        finding("loss_floor", possible < LITTLE, numbers | ways),
        finding("loss_not_falling", max(ways.values()) < NOT_FALLEN, numbers | ways),
    ], ways


def blind(rank: dict[str, float]) -> bool | None:
    """Return whether a median rank is no better than chance; None if videos are few or the interval is wide."""
    if rank["videos"] < FEWEST:
        return None
    if rank["high"] < rank["chance"]:
        return False
    return True if rank["low"] > rank["chance"] / 2 else None


def of_ranks(ranked: dict[str, dict[str, float]], ways: dict[str, float], dead: bool) -> list[Finding]:
    """Return findings on median ranks of `test` and `train` pairs, and of test pairs by a `linear` map of the features.

    `ways` as of `of_losses`; `dead`: the embeddings have collapsed, which explains chance ranks by itself.
    """
    heads, linear = blind(ranked["test"]), blind(ranked["linear"])
    memorised = ways["train_way"] > LEARNT or ranked["train"]["high"] < BETTER * ranked["train"]["chance"]
    # Heads trained on other pairs end at chance on these; a loss above chance means that they were not trained.
    trained = ways["train_way"] > -NOT_FALLEN
    numbers = {f"{name}_{key}": value for name, rank in ranked.items() for key, value in rank.items()}

    def if_blind(also: bool | None) -> bool | None:
        """Return `also` for heads that are at chance without having collapsed; False for others."""
        return False if dead or heads is False or also is False else None if heads is None else also

    return [
        finding("chance_ranks", heads, ranked["test"]),
        finding("memorised_pairs", if_blind(memorised), numbers | ways),
        finding(
            "shuffled_pairs", if_blind(False if not trained else None if linear is None else not linear), numbers | ways
        ),
        finding("shuffled_or_unrelated_pairs", if_blind(linear), numbers | ways),
    ]


def of_shape(audio: np.ndarray, video: np.ndarray) -> list[Finding]:
    """Return findings on the distribution of both modalities' unit vectors [n, d]."""
    modalities = {"audio": audio, "video": video}
    wide = {f"{name}_spread": spread(units) for name, units in modalities.items()}
    constant = min(wide.values()) < CONSTANT
    cosine = {f"{name}_mean_cosine": mean_cosine(units) for name, units in modalities.items()}
    used = {f"{name}_effective_rank": effective_rank(units) for name, units in modalities.items()}
    collapsed = max(cosine.values()) > COLLAPSED or min(used.values()) < FEW
    gap = modality_gap(audio, video)
    return [
        finding("constant_output", constant, wide),
        finding("collapse", collapsed and not constant, cosine | used | {"width": audio.shape[1]}),
        finding("modality_gap", not constant and gap["distance"] > gap["spread"], gap),
    ]


def below_features(probed: Mapping[str, dict[str, Any]]) -> Finding:
    """Check whether a probe does worse on the embeddings than on the features, by `COMPARISON` of each task.

    `probed`: {task: what eval/probe wrote}. The stored interval covers the sampling of test videos alone; that of
    training videos widens it by sqrt(1 + test / train) (Nadeau & Bengio 2003, Machine Learning 52, 239-281). Its ends
    move from the 97.5 to the 99 % quantiles, as percentiles of few videos are too narrow: two tasks together report
    embeddings that are as good in less than 5 % of cases (bench/nulls.py).
    """
    worse, compared, details = 0, 0, []
    for task, written in probed.items():
        videos = written["videos"]
        for line in written["comparisons"]:
            if any(line[key] != value for key, value in COMPARISON.items()) or line["high"] is None:
                continue
            if line["difference"] is None or videos["test"] < FEWEST_PROBED:
                continue
            compared += 1
            wider = WIDER * math.sqrt(1 + videos["test"] / videos["train"])
            low, high = (line["difference"] + wider * (line[end] - line["difference"]) for end in ("low", "high"))
            if high < -ROUNDING:
                worse += 1
                details.append(
                    f"{task}, {line['level']}s, {line['probe']}: {line['metric']} of {line['a']} is "
                    f"{line['difference']:+.3f} [{low:+.3f}, {high:+.3f}] from {line['b']}'s"
                )
    numbers = {"compared": compared, "worse": worse}
    return finding("downstream_below_features", worse > 0 if compared else None, numbers, tuple(details))

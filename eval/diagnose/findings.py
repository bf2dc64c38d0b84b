"""What measured numbers say of an experiment: the findings of eval/diagnose. Reads and writes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from eval.diagnose.signs import effective_rank, mean_cosine, modality_gap, spread
from eval.diagnose.words import WORDS

LITTLE = 0.4
"""A loss that can fall by less than this share of chance: the paper's recipe by 0.14 with 1,000 pairs a batch and 0.39
with 8; at temperature 0.3 it is 0.48 with 1,000, and more with fewer."""
NOT_FALLEN, LEARNT = 0.02, 0.05
"""Shares of the way from chance to the lowest loss: next to nothing, and learnt. Simulated heads whose pairs correlate
by 0.3 go 0.04 and more in validation, those of unrelated pairs -0.02 to -0.01."""
BETTER = 0.8
"""Training pairs whose median rank is surely below this share of chance are known."""
FEWEST = 20
"""Videos without which nothing is said about their ranks or labels."""
CONSTANT = 2e-3
"""A spread below which an output is constant: rounding unit vectors to float16 alone makes up to 3e-4."""
COLLAPSED, FEW = 0.99, 2.0
"""Mean cosine and effective rank of a collapse. Simulated heads have at most 0.93 and at least 3, those of unrelated
pairs included."""

Finding = dict[str, Any]


def finding(name: str, found: bool | None, numbers: Mapping[str, float], details: tuple[str, ...] = ()) -> Finding:
    """One finding with its words; `found` is None where nothing can be said."""
    severity, meaning, advice = WORDS[name]
    verdict = "unknown" if found is None else "found" if found else "absent"
    said = {"name": name, "severity": severity, "verdict": verdict, "numbers": dict(numbers), "details": list(details)}
    return said | {"meaning": meaning, "advice": advice}


def of_losses(lines: list[dict[str, Any]]) -> tuple[list[Finding], dict[str, float]]:
    """Findings on the learning curves, and how much of the way from chance to the lowest loss each split went."""
    best, last = min(lines, key=lambda line: line["validation_loss"]), lines[-1]
    chance, lowest = best["validation_chance"], best["validation_lowest"]

    def way(line: dict[str, Any], split: str) -> float:
        """How much of the way from chance to the lowest possible loss was gone."""
        return (line[f"{split}_chance"] - line[f"{split}_loss"]) / (line[f"{split}_chance"] - line[f"{split}_lowest"])

    ways = {"train_way": way(last, "train"), "validation_way": way(best, "validation")}
    possible = (chance - lowest) / chance
    numbers = {"chance": chance, "lowest": lowest, "reached": best["validation_loss"], "possible_fall": possible}
    return [
        finding("loss_floor", possible < LITTLE, numbers | ways),
        finding("loss_not_falling", max(ways.values()) < NOT_FALLEN, numbers | ways),
    ], ways


def blind(rank: dict[str, float]) -> bool | None:
    """Whether a median rank is no better than chance; None where its interval also holds half of chance, or of few."""
    if rank["videos"] < FEWEST:
        return None
    if rank["high"] < rank["chance"]:
        return False
    return True if rank["low"] > rank["chance"] / 2 else None


def of_ranks(ranked: dict[str, dict[str, float]], ways: dict[str, float], dead: bool) -> list[Finding]:
    """Findings on median ranks: of `test` and `train` pairs, and of test pairs by a `linear` map of the features.

    `ways` as of `of_losses`; `dead`: the embeddings have collapsed, which explains chance ranks by itself.
    """
    heads, linear = blind(ranked["test"]), blind(ranked["linear"])
    by_heart = ways["train_way"] > LEARNT or ranked["train"]["high"] < BETTER * ranked["train"]["chance"]
    # Heads of other pairs end at chance on these; those that have not moved are beyond it.
    trained = ways["train_way"] > -NOT_FALLEN
    numbers = {f"{name}_{key}": value for name, rank in ranked.items() for key, value in rank.items()}

    def if_blind(also: bool | None) -> bool | None:
        """`also`, of heads that are at chance without having collapsed."""
        return False if dead or heads is False or also is False else None if heads is None else also

    return [
        finding("chance_ranks", heads, ranked["test"]),
        finding("memorised_pairs", if_blind(by_heart), numbers | ways),
        finding(
            "shuffled_pairs", if_blind(False if not trained else None if linear is None else not linear), numbers | ways
        ),
        finding("shuffled_or_unrelated_pairs", if_blind(linear), numbers | ways),
    ]


def of_shape(audio: np.ndarray, video: np.ndarray) -> list[Finding]:
    """Findings on how the unit vectors [n, d] of both sides lie."""
    sides = {"audio": audio, "video": video}
    wide = {f"{name}_spread": spread(units) for name, units in sides.items()}
    constant = min(wide.values()) < CONSTANT
    cosine = {f"{name}_mean_cosine": mean_cosine(units) for name, units in sides.items()}
    used = {f"{name}_effective_rank": effective_rank(units) for name, units in sides.items()}
    collapsed = max(cosine.values()) > COLLAPSED or min(used.values()) < FEW
    gap = modality_gap(audio, video)
    return [
        finding("constant_output", constant, wide),
        finding("collapse", collapsed and not constant, cosine | used | {"width": audio.shape[1]}),
        finding("modality_gap", not constant and gap["distance"] > gap["spread"], gap),
    ]

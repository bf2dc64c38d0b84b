"""The tables of the answer about the authors' code, from what its runs left. Reads and writes nothing.

Validation losses are sums of both directions, in nats; the authors' code divides a sum over k galleries by k + 0.0001,
which is undone here. Its "median rank" is shown as it logs it: positions from 0, divided in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.stats import beta
from torch import Tensor

from eval.bootstrap import metric_intervals, resampled_metrics
from eval.paper import GALLERY, MEDIAN_RANKS
from eval.ranks import DIRECTIONS
from eval.seeds import mean_interval
from study.answer import Row
from study.paper_code.checkpoints import BATCH, SMALL, VALIDATION
from study.paper_code.driver import EPOCH

THEIRS = {"v2a": "v2a Validation median rank", "a2v": "a2v Validation median rank"}
"""Names of their values in the log, by direction; both are computed from the same matrix of v2a."""


def run_row(facts: Mapping[str, Any], ranks: Mapping[str, Tensor]) -> Row:
    """Return the row of a run: `ranks` are true ranks [2, videos] of the `last` epoch's model and the `best` one's."""
    run, last = facts["run"], facts["epochs"][-1]
    gallery = facts["gallery"]
    galleries = ranks["last"].shape[1] // gallery
    losses = [epoch[EPOCH] * (galleries + SMALL) / galleries for epoch in facts["epochs"]]
    row: Row = {
        "source": run["source"],
        "model": run["model"],
        "correlation": run["correlation"],
        "seed": run["seed"],
        "train_videos": facts["train_videos"],
        "gallery": gallery,
        "galleries": galleries,
        "epochs": len(losses),
        "best_epoch": facts["best_epoch"],
        "their_median_rank_v2a": last[THEIRS["v2a"]],
        "their_median_rank_a2v": last[THEIRS["a2v"]],
    }
    for epoch, name in (("last", "true_median_rank"), ("best", "true_median_rank_best_epoch")):
        for direction, values in zip(DIRECTIONS, ranks[epoch].numpy(), strict=True):
            medians = [np.median(part) for part in values.reshape(galleries, gallery)]
            row[f"{name}_{direction}"] = float(np.mean(medians))
    return row | {
        "chance_rank": (gallery + 1) / 2,
        "best_validation_loss": min(losses),
        "last_validation_loss": losses[-1],
        "chance_loss": 2 * math.log(gallery),
    }


def epoch_rows(facts: Mapping[str, Any]) -> list[Row]:
    """Return what the authors' code logged in each epoch of a run, as it logged it."""
    run = {name: facts["run"][name] for name in ("source", "model", "correlation", "seed")}
    return [
        run
        | {"epoch": number, "validation_loss": logged[EPOCH]}
        | {f"their_median_rank_{direction}": logged[name] for direction, name in THEIRS.items()}
        for number, logged in enumerate(facts["epochs"], 1)
    ]


def curves(runs: list[Row]) -> list[Row]:
    """Return means over the seeds, a line a source, model and correlation; ranks in percent of the gallery.

    `their_…_least` and `…_most` are the extremes over seeds; intervals (95 %) are Student's t over seeds. On the cache,
    whose videos are the same with every seed, `over_groups` has others.
    """
    lines = []
    for key in dict.fromkeys((row["source"], row["model"], row["correlation"]) for row in runs):
        rows = [row for row in runs if (row["source"], row["model"], row["correlation"]) == key]
        gallery = rows[0]["gallery"]
        line: Row = dict(zip(("source", "model", "correlation"), key, strict=True))
        line |= {"seeds": len(rows), "gallery": gallery, "train_videos": rows[0]["train_videos"]}
        theirs = [row[f"their_median_rank_{direction}"] * 100 / gallery for row in rows for direction in THEIRS]
        line |= {"theirs_percent": float(np.mean(theirs)), "theirs_percent_least": min(theirs)}
        line |= {"theirs_percent_most": max(theirs)}
        for column, name in (
            ("true_percent", "true_median_rank"),
            ("true_percent_best", "true_median_rank_best_epoch"),
        ):
            line |= _mean(
                column,
                [np.mean([row[f"{name}_{direction}"] for direction in DIRECTIONS]) * 100 / gallery for row in rows],
            )
        line |= _mean("best_validation_loss", [row["best_validation_loss"] for row in rows])
        lines.append(
            line | {"chance_percent": rows[0]["chance_rank"] * 100 / gallery, "chance_loss": rows[0]["chance_loss"]}
        )
    return lines


def over_groups(ranks: Mapping[str, list[np.ndarray]], groups: np.ndarray, resamples: int, seed: int) -> Row:
    """Return the 95 % intervals of true median ranks, in percent of the videos, over whole groups of videos.

    `ranks`: for the model of the `last` and of the `best` epoch, [2, videos] of each seed; `groups` int64 [videos]. The
    columns are `true_percent_groups_low`, `true_percent_best_groups_low`, … and `groups`, their number; the medians are
    of all galleries together.
    """
    units, videos = len(np.unique(groups)), len(groups)
    row: Row = {"groups": units}
    for epoch, column in (("last", "true_percent"), ("best", "true_percent_best")):
        drawn = [resampled_metrics(rank, groups, resamples, seed) for of_seed in ranks[epoch] for rank in of_seed]
        low, high = metric_intervals(np.mean(drawn, axis=0), units)["median"]
        row |= {f"{column}_groups_low": low * 100 / videos, f"{column}_groups_high": high * 100 / videos}
    return row


def _mean(column: str, values: list[Any]) -> Row:
    low, high = mean_interval([float(value) for value in values]) or (None, None)
    return {column: float(np.mean(values)), f"{column}_low": low, f"{column}_high": high}


def table1() -> list[Row]:
    """Return the rows of the paper's table 1 beside what the published formula gives for any model.

    If position i of the sorted row is an arbitrary one of n candidates, the formula's values are independent and
    uniform on 0, …, n - 1, and their median is that of a beta distribution times n; its normal approximation has the
    standard deviation n / (2 √n). The mean over the galleries of the configuration's validation videos has less.
    """
    galleries = VALIDATION // BATCH
    half = GALLERY // 2
    one = beta(half, GALLERY + 1 - half)
    middle, spread = (GALLERY - 1) / 2, 1.96 * GALLERY * float(one.std()) / math.sqrt(galleries)
    lines = []
    for experiment, ranks in MEDIAN_RANKS.items():
        inside = [abs(rank - middle) <= spread for rank in ranks.values()]
        lines.append(
            {"experiment": experiment}
            | {f"paper_{direction}": rank for direction, rank in ranks.items()}
            | {
                "equal": len(set(ranks.values())) == 1,
                "formula_any_model": middle,
                "formula_any_model_low": middle - spread,
                "formula_any_model_high": middle + spread,
                "inside": all(inside),
            }
        )
    return lines

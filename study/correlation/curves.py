"""Measure the cells of the study of correlation: the rank of the positive, and whether it beats chance.

Reads study/correlation/CELL.safetensors (study/correlation/train.py); writes nothing. Ranks are taken in galleries of
one item a video, so that the segments of one video do not compete: at level `segment` there is one gallery for each
segment, at level `video` one of whole videos (pooled as in eval/retrieval.py). Both directions are taken together.
Values are means over the seeds, with two 95 % intervals, as in eval/retrieval.py: by bootstrap over the groups
(`…_low`, `…_high`) and by Student's t over the seeds (`…_seeds_low`, `…_seeds_high`). `chance_low` and `chance_high`
enclose 95 % of the median ranks of random pairings.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from config.cli import UserError
from config.heads import Experiment
from data.render.latents import Factors
from eval.bootstrap import metric_intervals, percentile_bounds, resampled_metrics
from eval.published import published_formula
from eval.retrieval import pool
from eval.seeds import mean_interval
from heads.checkpoint import read_tensors
from heads.metrics import chance, summary
from study.answer import Row
from study.correlation.cells import Cell
from study.correlation.pairing import KINDS
from study.correlation.permutation_test import LEVEL, against_chance, false_alarms, threshold, together

MEDIAN, HITS = "median_percent", "recall_at_10"
SERIES = ("source", "kind", "recipe", "level")
"""The columns that are equal along a curve over correlations."""


def measure(path: Path, cell: Cell, resamples: int, seed: int, groups: np.ndarray | None = None) -> list[Row]:
    """Measure a cell, one row for each level: medians and the formula in percent of the gallery, p, `each` seed's p.

    `groups` int [test videos] (data/groups.py) are resampled; by default, as of simulated videos, each is its own.
    """
    tensors, about = read_tensors(path)
    unit = Experiment.model_validate(about["about"]["experiment"]).unit
    embedded = [[tensors[f"{name}.{number}"].numpy() for name in ("audio", "video")] for number in cell.seeds]
    groups = np.arange(len(embedded[0][0])) if groups is None else groups
    if len(groups) != len(embedded[0][0]):
        raise UserError(
            f"{path} is of other test videos than the cache has now; run `python -m study.correlation.train`"
        )
    units = len(np.unique(groups))
    segments = embedded[0][0].shape[1]
    rows = []
    for level in ("segment", "video") if segments > 1 else ("video",):
        tests, values, formula = [], [], []
        for number, (audio, video) in zip(cell.seeds, embedded, strict=True):
            if level == "video":
                galleries = [(pool(audio, unit[0]), pool(video, unit[1]))]
            else:
                galleries = [(audio[:, segment], video[:, segment]) for segment in range(segments)]
            tests.append(against_chance(galleries, number, unit))
            values.append(resampled_metrics(tests[-1].ranks, groups[tests[-1].owner], resamples, seed))
            formula.append([np.median(published_formula(video, audio)) for audio, video in galleries])
        row = {
            "source": cell.source,
            "kind": cell.kind,
            "recipe": cell.recipe,
            "correlation": cell.correlation,
            "train_videos": about["train_videos"],
            "level": level,
            "gallery": (gallery := len(embedded[0][0])),
            "seeds": len(cell.seeds),
        }
        summaries = [summary(test.ranks) for test in tests]
        interval = metric_intervals(np.mean(values, axis=0), units)
        for name, column, scale in (("median", MEDIAN, 100 / gallery), (HITS, HITS, 1.0)):
            seeds = mean_interval([by_metric[name] * scale for by_metric in summaries]) or (None, None)
            row |= {
                column: float(np.mean([by_metric[name] for by_metric in summaries])) * scale,
                f"{column}_low": interval[name][0] * scale,
                f"{column}_high": interval[name][1] * scale,
                f"{column}_seeds_low": seeds[0],
                f"{column}_seeds_high": seeds[1],
            }
        by_chance, p = chance(gallery), together([test.p for test in tests])
        band = percentile_bounds(np.mean([test.by_chance for test in tests], axis=0)) * 100 / gallery
        row |= {
            "chance": by_chance["median"] * 100 / gallery,
            "chance_low": float(band[0]),
            "chance_high": float(band[1]),
        }
        row |= {f"{HITS}_chance": by_chance[HITS], "published_percent": float(np.mean(formula)) * 100 / gallery}
        row |= {"p": p, "significant": p <= LEVEL}
        rows.append(row | {"each": [test.p for test in tests]})
    return rows


def grouped(rows: list[Row], *keys: str) -> dict[tuple[Any, ...], list[Row]]:
    """Group rows by their values of these keys, in order of first appearance."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return groups


def thresholds(curves: list[Row]) -> list[Row]:
    """Find for each curve the lowest correlation from which upwards the recipe beats chance (permutation_test.py)."""
    lines = []
    for key, rows in grouped(curves, *SERIES).items():
        tried = sorted(row["correlation"] for row in rows if row["correlation"] > 0)
        lowest = threshold([row["correlation"] for row in rows], [row["p"] for row in rows])
        series = dict(zip(SERIES, key, strict=True))
        lines.append({**series, "threshold": lowest, "tried": " ".join(f"{rho:g}" for rho in tried)})
    return lines


def needed(sizes: list[Row]) -> list[Row]:
    """Find for each recipe and correlation of the map the fewest training videos from which upwards it beats chance."""
    return [
        {
            "recipe": recipe,
            "correlation": correlation,
            "videos": threshold([row["train_videos"] for row in rows], [row["p"] for row in rows]),
            "most": max(row["train_videos"] for row in rows),
        }
        for (recipe, correlation), rows in grouped(sizes, "recipe", "correlation").items()
    ]


def null(curves: list[Row]) -> list[Row]:
    """Count the significant trainings at correlation 0; their share should be the nominal level."""
    lines = []
    at_zero = [row for row in curves if row["correlation"] == 0 and row["kind"] == "all"]
    for key, rows in grouped(at_zero, *SERIES).items():
        p = [value for row in rows for value in row["each"]]
        count, likely = false_alarms(p)
        series = dict(zip(SERIES, key, strict=True))
        line = {**series, "trainings": len(p), "significant": count, "rate": count / len(p), "nominal": LEVEL}
        lines.append(line | {"p": likely})
    return lines


def achieved(path: Path, cell: Cell) -> list[Row]:
    """List the correlations that the pairing of a rendered cell reached, means over the seeds: one row for each split.

    `linked` is the mean over the factors that the kind uses, `others` over the rest; None where there are none. `own
    frames` is the share of videos that keep their own; cells of earlier versions lack it.
    """
    reached, rows, linked = read_tensors(path)[1]["achieved"], [], KINDS[cell.kind]
    groups = {"linked": linked, "others": [name for name in Factors._fields if name not in linked]}
    for split in reached[0]:
        mean = {
            name: float(np.mean([correlations[split][name] for correlations in reached])) for name in reached[0][split]
        }
        row = {"kind": cell.kind, "correlation": cell.correlation, "split": split, "seeds": len(reached)}
        for name, group in groups.items():
            row[name] = float(np.mean([mean[factor] for factor in group])) if group else None
        rows.append(row | mean)
    return rows

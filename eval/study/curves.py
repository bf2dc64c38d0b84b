"""Measures the cells of the study of correlation: where the partner stands, and whether chance explains it.

Reads study/correlation/CELL.safetensors (heads/study/correlation.py); writes nothing. Ranks are taken in galleries of
one item a video, so that the segments of one video do not compete: at level `segment` there is one gallery for each
segment, at level `video` one of whole videos (eval/retrieval.py says how they are pooled). Both directions are taken
together. Values are means over the seeds, with two 95 % intervals, as in eval/retrieval.py: by bootstrap over the
videos (`…_low`, `…_high`) and by Student's t over the seeds (`…_seeds_low`, `…_seeds_high`). `chance_low` and
`chance_high` hold 95 % of the medians that guesses have.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from data.render.latents import Factors
from eval.bootstrap import ends, resampled
from eval.published import published_formula
from eval.ranks import chance, summary
from eval.retrieval import mean_unit
from eval.seeds import mean_interval
from eval.study.answer import Row
from eval.study.chance import LEVEL, against_chance, false_alarms, threshold, together
from heads.checkpoint import read_tensors
from heads.study.cells import Cell
from heads.study.pairing import KINDS

MEDIAN, HITS = "median_percent", "recall_at_10"
SERIES = ("source", "kind", "recipe", "level")
"""What a curve over correlations has in common."""


def measure(path: Path, cell: Cell, resamples: int, seed: int) -> list[Row]:
    """A cell's rows, one a level: medians and the formula as percentages of the gallery, p-values, `each` seed's p."""
    tensors, about = read_tensors(path)
    sides = [[tensors[f"{side}.{each}"].numpy() for side in ("audio", "video")] for each in cell.seeds]
    segments = sides[0][0].shape[1]
    rows = []
    for level in ("segment", "video") if segments > 1 else ("video",):
        tests, values, formula = [], [], []
        for number, (audio, video) in zip(cell.seeds, sides, strict=True):
            if level == "video":
                galleries = [(mean_unit(audio), mean_unit(video))]
            else:
                galleries = [(audio[:, at], video[:, at]) for at in range(segments)]
            tests.append(against_chance(galleries, number))
            values.append(resampled(tests[-1].ranks, tests[-1].owner, resamples, seed))
            formula.append([np.median([published_formula(a, v), published_formula(v, a)]) for a, v in galleries])
        row = {
            "source": cell.source,
            "kind": cell.kind,
            "recipe": cell.recipe,
            "correlation": cell.correlation,
            "train_videos": about["train_videos"],
            "level": level,
            "gallery": (gallery := len(sides[0][0])),
            "seeds": len(cell.seeds),
        }
        each = [summary(one.ranks) for one in tests]
        interval = ends(np.mean(values, axis=0))
        for name, column, scale in (("median", MEDIAN, 100 / gallery), (HITS, HITS, 1.0)):
            seeds = mean_interval([one[name] * scale for one in each]) or (None, None)
            row |= {
                column: float(np.mean([one[name] for one in each])) * scale,
                f"{column}_low": interval[name][0] * scale,
                f"{column}_high": interval[name][1] * scale,
                f"{column}_seeds_low": seeds[0],
                f"{column}_seeds_high": seeds[1],
            }
        guess, p = chance(gallery), together([one.p for one in tests])
        band = np.percentile(np.mean([one.guessed for one in tests], axis=0), [2.5, 97.5]) * 100 / gallery
        row |= {"chance": guess["median"] * 100 / gallery, "chance_low": float(band[0]), "chance_high": float(band[1])}
        row |= {f"{HITS}_chance": guess[HITS], "published_percent": float(np.mean(formula)) * 100 / gallery}
        row |= {"p": p, "significant": p <= LEVEL}
        rows.append(row | {"each": [one.p for one in tests]})
    return rows


def by(rows: list[Row], *keys: str) -> dict[tuple[Any, ...], list[Row]]:
    """The rows with the same values of these keys, in the order of their first."""
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[key] for key in keys), []).append(row)
    return found


def thresholds(curves: list[Row]) -> list[Row]:
    """For each curve the lowest correlation from which on up the recipe beats chance (eval/study/chance.py)."""
    found = []
    for key, rows in by(curves, *SERIES).items():
        tried = sorted(row["correlation"] for row in rows if row["correlation"] > 0)
        lowest = threshold([row["correlation"] for row in rows], [row["p"] for row in rows])
        said = dict(zip(SERIES, key, strict=True))
        found.append({**said, "threshold": lowest, "tried": " ".join(f"{each:g}" for each in tried)})
    return found


def needed(sizes: list[Row]) -> list[Row]:
    """For each recipe and correlation of the map the fewest training videos from which on up it beats chance."""
    return [
        {
            "recipe": recipe,
            "correlation": correlation,
            "videos": threshold([row["train_videos"] for row in rows], [row["p"] for row in rows]),
            "most": max(row["train_videos"] for row in rows),
        }
        for (recipe, correlation), rows in by(sizes, "recipe", "correlation").items()
    ]


def null(curves: list[Row]) -> list[Row]:
    """At correlation 0: the share of trainings that are significant, which is to be the nominal level."""
    found = []
    for key, rows in by([row for row in curves if row["correlation"] == 0 and row["kind"] == "all"], *SERIES).items():
        p = [each for row in rows for each in row["each"]]
        count, likely = false_alarms(p)
        said = dict(zip(SERIES, key, strict=True))
        found.append({**said, "trainings": len(p), "significant": count, "rate": count / len(p), "nominal": LEVEL})
        found[-1]["p"] = likely
    return found


def achieved(path: Path, cell: Cell) -> list[Row]:
    """What correlations the pairing of a rendered cell reached, means over the seeds: one row a split.

    `linked` is the mean over the factors that the kind counts, `others` over the rest; None where there are none.
    """
    reached, rows, linked = read_tensors(path)[1]["achieved"], [], KINDS[cell.kind]
    groups = {"linked": linked, "others": [name for name in Factors._fields if name not in linked]}
    for split in reached[0]:
        mean = {name: float(np.mean([each[split][name] for each in reached])) for name in reached[0][split]}
        row = {"kind": cell.kind, "correlation": cell.correlation, "split": split, "seeds": len(reached)}
        for name, group in groups.items():
            row[name] = float(np.mean([mean[each] for each in group])) if group else None
        rows.append(row | mean)
    return rows

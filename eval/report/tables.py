"""Every table of the report as rows of plain values: the page prints some of them, tables/*.csv has all."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from config.files import replacing
from config.heads import MODALITIES
from config.labels import FEATURES
from eval.paper import GALLERY, MEDIAN_RANKS
from eval.report.gather import Run, Space
from heads.metrics import METRICS, Metric

Row = dict[str, Any]


def metrics_of(run: Run) -> dict[str, Metric]:
    """Return the retrieval metrics that all experiments have: results from before a metric was added lack it."""
    results = [ranked["metrics"] for experiment in run.experiments for ranked in experiment.retrieval["results"]]
    return {name: metric for name, metric in METRICS.items() if all(name in measured for measured in results)}


def retrieval(run: Run) -> list[Row]:
    """Return one row a measured ranking."""
    rows = []
    for experiment in run.experiments:
        for ranked in experiment.retrieval["results"]:
            row = {"experiment": experiment.name, "level": ranked["level"], "direction": ranked["direction"]}
            row |= {"gallery": ranked["size"], "draws": ranked["draws"], "queries": ranked["queries"]}
            for name in metrics_of(run):
                row |= _flat(name, ranked["metrics"][name])
            rows.append(
                row
                | {"better_than_chance": ranked["better_than_chance"], "published_formula": ranked["published_formula"]}
            )
    return rows


def table_1(run: Run) -> list[Row]:
    """Return the paper's table 1: median rank of the positive, one row an experiment and direction.

    `share`, `share_low`, `share_high` and `formula_share` are in % of the gallery, `paper_share` in % of the paper's.
    `published_formula` is that of video → audio; the paper's code prints it for both directions.
    """
    rows = []
    for experiment in run.experiments:
        for ranked in experiment.headline():
            median, size = ranked["metrics"]["median"], ranked["size"]
            formula, paper = ranked["published_formula"], MEDIAN_RANKS.get(experiment.name, {}).get(ranked["direction"])
            rows.append(
                {
                    "experiment": experiment.name,
                    "direction": ranked["direction"],
                    "gallery": size,
                    "draws": ranked["draws"],
                }
                | _flat("median", median)
                | _flat("recall_at_10", ranked["metrics"]["recall_at_10"])
                | {"better_than_chance": ranked["better_than_chance"], "published_formula": formula, "paper": paper}
                | {"share": median["value"] / size * 100, "share_low": median["low"] / size * 100}
                | {"share_high": median["high"] / size * 100}
                | {"formula_share": None if formula is None else formula / size * 100}
                | {"paper_share": None if paper is None else paper / GALLERY * 100}
            )
    return rows


def diagnosis(run: Run) -> list[Row]:
    """Return one row a finding of an experiment's diagnosis, found or not; `numbers` is JSON."""
    return [
        {
            "experiment": experiment.name,
            "finding": found["name"],
            "severity": found["severity"],
            "verdict": found["verdict"],
        }
        | {"numbers": json.dumps(found["numbers"]), "details": " ".join(found["details"])}
        | {"meaning": found["meaning"], "advice": found["advice"]}
        for experiment in run.experiments
        for found in experiment.diagnosis["findings"]
    ]


def differences(run: Run) -> list[Row]:
    """Return median ranks of every experiment minus those of the first, by segments, with intervals."""
    first = run.experiments[0].name if run.experiments else None
    kept = []
    for line in run.comparison:
        if (line["metric"], line["level"]) == ("median", "segment") and first in (line["a"], line["b"]):
            turn = line["a"] == first
            ends = (-line["high"], -line["low"]) if turn else (line["low"], line["high"])
            better = line["better"] and line[line["better"]]
            row = {"experiment": line["b"] if turn else line["a"], "than": first, "direction": line["direction"]}
            row |= {"difference": line["difference"] * (-1 if turn else 1), "low": ends[0], "high": ends[1]}
            kept.append(row | {"better": better})
    return kept


def probes(run: Run) -> list[Row]:
    """Return one row a probed representation: every metric with its interval over resampled groups, and the paper's."""
    rows = []
    for space in run.spaces:
        for task, written in space.probes.items():
            for result in written["results"]:
                row = {"experiment": space.name, "task": task, "level": result["level"], "probe": result["probe"]}
                row |= {"representation": result["representation"], "name": result["name"], "dim": result["dim"]}
                for name, value in result["metrics"].items():
                    row |= _flat(name, value)
                # The paper's heads are its baseline's.
                known = (written["published"] or {}) if space.name in (FEATURES, "baseline") else {}
                paper = known.get(result["representation"], {})
                rows.append(row | {f"paper_{name}": paper.get(name) for name in ("auc", "f1")})
    return rows


def table_2(run: Run, level: str = "video", probe: str = "perceptron") -> list[Row]:
    """Return the paper's table 2: one row a representation, columns for each task, ours and the paper's.

    `f1` has thresholds from the validation split, `f1_at_half` ½: nobody knows which the paper used.
    """
    rows: dict[tuple[str, str], Row] = {}
    scores = [f"{name}{end}" for name in ("auc", "f1", "f1_at_half") for end in ("", "_low", "_high")]
    columns = (*scores, "auc_chance", "paper_auc", "paper_f1")
    for probed in probes(run):
        if (probed["level"], probed["probe"]) == (level, probe):
            head = {key: probed[key] for key in ("experiment", "representation", "name")}
            row = rows.setdefault((probed["experiment"], probed["representation"]), head)
            row |= {f"{probed['task']}_{column}": probed[column] for column in columns}
    return list(rows.values())


def probe_classes(run: Run) -> list[Row]:
    """Return one row a class of a probed representation."""
    return [head | line for head, result in _probed(run) for line in result["per_class"]]


def confusion(run: Run) -> list[Row]:
    """Return one row a pair of genres: how many items of `genre` were predicted as `taken_for`."""
    rows = []
    for head, result in _probed(run):
        matrix = result["confusion"] or {"classes": [], "counts": []}
        for genre, counts in zip(matrix["classes"], matrix["counts"], strict=True):
            pairs = zip(matrix["classes"], counts, strict=True)
            rows += [head | {"genre": genre, "taken_for": predicted, "items": count} for predicted, count in pairs]
    return rows


def _probed(run: Run) -> Iterator[tuple[Row, Row]]:
    """Yield every probed representation: the columns that name it, and its results."""
    for space in run.spaces:
        for task, written in space.probes.items():
            for result in written["results"]:
                yield (
                    {"experiment": space.name, "task": task} | {key: result[key] for key in ("level", "probe", "name")},
                    result,
                )


def consistency(run: Run) -> list[Row]:
    """Return one row a space and modality: segments of one video beside segments of different videos."""
    rows = []
    for space in run.spaces:
        for measured in space.neighbours["consistency"]:
            row = {"space": space.name, "by": measured["by"], "videos": measured["videos"]}
            for name in ("within", "between", "nearest_same_video"):
                row |= _flat(name, measured[name])
            rows.append(row)
    return rows


def neighbours(space: Space) -> list[Row]:
    """Return one row a neighbour that the space's gallery shows."""
    shown = space.neighbours["items"]
    rows = []
    for gallery in space.neighbours["galleries"]:
        for query in gallery["queries"]:
            asked = shown[query["item"]]
            for way, nearest in query["nearest"].items():
                for position, near in enumerate(nearest, 1):
                    neighbour = shown[near["item"]]
                    row = {"space": space.name, "level": gallery["level"], "query": asked["video_id"]}
                    row |= {"query_segment": asked["segment"], "by": way, "place": position}
                    row |= {"neighbour": neighbour["video_id"]}
                    row |= {"neighbour_segment": neighbour["segment"], "similarity": near["similarity"]}
                    rows.append(row | {"is_partner": near["is_partner"], "rank_of_partner": query["ranks"].get(way)})
    return rows


def maps(space: Space) -> list[Row]:
    """Return one row a point of a map."""
    return [
        {"space": space.name, "method": projected["method"], "side": modality, "genre": genre, "x": x, "y": y}
        for projected in space.neighbours["maps"]
        for modality in MODALITIES
        for genre, (x, y) in zip(space.neighbours["genres"], projected[modality], strict=True)
    ]


def tables(run: Run) -> dict[str, list[Row]]:
    """Return every table by the name of its file."""
    losses = [
        {"experiment": experiment.name, "seed": seed, **line}
        for experiment in run.experiments
        for seed, metrics in zip(experiment.seeds, experiment.metrics, strict=True)
        for line in metrics
    ]
    return {
        "coverage": run.coverage,
        "failures": run.failures,
        "failure_reasons": run.reasons,
        "mono_loss": run.mono_loss,
        "losses": losses,
        "table_1": table_1(run),
        "retrieval": retrieval(run),
        "comparisons": run.comparison,
        "diagnosis": diagnosis(run),
        "table_2": table_2(run),
        "probes": probes(run),
        "probe_classes": probe_classes(run),
        "confusion": confusion(run),
        "label_agreement": [
            {"space": space.name, **line} for space in run.spaces for line in space.neighbours["agreement"]
        ],
        "consistency": consistency(run),
        "duplicates": run.duplicates.rows,
        "neighbours": [row for space in run.spaces for row in neighbours(space)],
        "maps": [row for space in run.spaces for row in maps(space)],
    }


def write_table(folder: Path, name: str, rows: list[Row]) -> None:
    """Write a table as `folder`/NAME.csv, with at least a header; columns are those of all rows."""
    columns = list(dict.fromkeys(column for row in rows for column in row)) or ["empty"]
    with replacing(folder / f"{name}.csv") as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def _flat(name: str, value: dict[str, Any]) -> Row:
    """Return a value as columns, with its intervals over groups and seeds and its chance level where there are any."""
    parts = ("low", "high", "seeds_low", "seeds_high", "chance")
    return {name: value["value"]} | {f"{name}_{part}": value[part] for part in parts if part in value}

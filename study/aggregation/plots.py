"""Plots of the poolings, their differences to the mean, and the effect of replaced segments."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from eval.report.plots.base import CHANCE, COLOURS, Plot, dots, figure, interval, save, styled
from study.answer import Answer, Row

MARKERS = "osD^v<>P*"


def plots(answer: Answer, folder: Path) -> list[Plot]:
    """Draw the three figures of the answer into `folder`."""
    tables = answer.tables
    rows = [
        {"name": row["pooling"], "value": row["mrr"], "low": row["mrr_low"], "high": row["mrr_high"]}
        for row in tables["poolings"]
    ]
    gaps = [
        {"name": row["pooling"], "value": row["difference"], "low": row["low"], "high": row["high"]}
        for row in tables["differences"]
        if row["metric"] == "mrr"
    ]
    return [
        _lines(rows, tables["poolings"][0]["mrr_chance"], "Whole videos", "poolings", COLOURS[0], folder),
        _lines(gaps, 0, "Difference to the mean, same videos", "differences", COLOURS[2], folder),
        _degradation(tables["degradation"], folder),
    ]


def _lines(rows: list[Row], middle: float, title: str, name: str, colour: str, folder: Path) -> Plot:
    """Draw each pooling's value with its interval, and a dashed line at `middle`: chance, or no difference."""
    heights = np.arange(len(rows))[::-1].tolist()
    with styled():
        drawn = figure(1.1 + 0.3 * len(rows))
        axis = drawn.subplots()
        axis.axvline(middle, color=CHANCE, ls="--", lw=1.2)
        dots(axis, heights, rows, color=colour)
        axis.set_yticks(heights, [row["name"] for row in rows])
        axis.set(title=title, xlabel="mean reciprocal rank (right is better)")
        axis.grid(False, axis="y")
        values = "; ".join(f"{row['name']} {row['value']:.3f}{interval(row)}" for row in rows)
        return save(drawn, folder, f"study-aggregation-{name}", f"{title}. Mean reciprocal rank: {values}.")


def _degradation(rows: list[Row], folder: Path) -> Plot:
    """Draw a line for each pooling over the number of replaced segments, shifted so that intervals do not overlap."""
    names = list(dict.fromkeys(row["pooling"] for row in rows))
    with styled():
        drawn = figure(3.9)
        axis = drawn.subplots()
        colours = [*COLOURS, CHANCE]
        for number, name in enumerate(names):
            line = sorted((row for row in rows if row["pooling"] == name), key=lambda row: row["replaced"])
            x = [row["replaced"] + 0.03 * (number - (len(names) - 1) / 2) for row in line]
            for position, row in zip(x, line, strict=True):
                axis.plot([position] * 2, [row["mrr_low"], row["mrr_high"]], color=colours[number], lw=1.2, alpha=0.5)
            axis.plot(x, [row["mrr"] for row in line], marker=MARKERS[number], ms=4, color=colours[number], label=name)
        axis.axhline(rows[0]["mrr_chance"], color="black", ls="--", lw=1, label="chance")
        axis.set_xticks(sorted({row["replaced"] for row in rows}))
        axis.set(title="Inconsistent video", ylabel="mean reciprocal rank", ylim=(0, None))
        axis.set_xlabel("video segments replaced by other videos' segments")
        drawn.legend(loc="outside lower center", ncols=2, fontsize=7.5)
        most = max(row["replaced"] for row in rows)
        values = "; ".join(
            f"{name} from {first['mrr']:.3f} to {last['mrr']:.3f}"
            for name in names
            for first in rows
            for last in rows
            if first["pooling"] == last["pooling"] == name and (first["replaced"], last["replaced"]) == (0, most)
        )
        alt = f"Mean reciprocal rank with none and with {most} video segments of each video replaced: {values}."
        return save(drawn, folder, "study-aggregation-degradation", alt)

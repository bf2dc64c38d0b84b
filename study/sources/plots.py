"""Plot of `sources`: the mean rank of the positive, by analysis, beside what permutations give."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from eval.report.plots.base import AUDIO, CHANCE, OTHER, VIDEO, Plot, dots, figure, interval, save, styled
from study.answer import Answer, Row
from study.sources.text import label


def plots(answer: Answer, folder: Path) -> list[Plot]:
    """Draw every analysis with its interval over sources, and the range of its permutations as a grey bar."""
    rows = answer.tables["analyses"]
    lines = [
        {"value": row["rank_percent"], "low": row["rank_percent_low"], "high": row["rank_percent_high"]} for row in rows
    ]
    heights = np.arange(len(rows))[::-1].tolist()
    with styled():
        canvas = figure(1.3 + 0.34 * len(rows))
        axis = canvas.subplots()
        axis.axvline(50, color=CHANCE, ls="--", lw=1.2, label="chance")
        for height, row in zip(heights, rows, strict=True):
            ends = row["permuted_percent_low"], row["permuted_percent_high"]
            axis.plot(ends, [height, height], color=OTHER, lw=7, solid_capstyle="butt", alpha=0.8)
        for colour, naive in ((AUDIO, False), (VIDEO, True)):
            chosen = [i for i, row in enumerate(rows) if (row["analysis"] == "naive") == naive]
            name = "folds that split sources" if naive else "whole sources held out"
            dots(axis, [heights[i] for i in chosen], [lines[i] for i in chosen], color=colour, label=name)
        axis.plot([], [], color=OTHER, lw=7, label="permuted (95 %)")
        axis.set_yticks(heights, [_words(row) for row in rows])
        axis.set(xlabel="mean rank of the positive, % of the gallery (left is better)")
        axis.grid(False, axis="y")
        canvas.legend(loc="outside upper center", ncols=2, fontsize=7.5)
        values = "; ".join(
            f"{_words(row)} {line['value']:.1f}{interval(line)}" for row, line in zip(rows, lines, strict=True)
        )
        alt = f"Mean rank of the positive, in percent of the gallery: {values}."
        return [save(canvas, folder, "study-sources-ranks", alt)]


def _words(row: Row) -> str:
    return label(row) + (" (primary)" if row["primary"] else "")

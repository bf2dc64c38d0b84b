"""Plots of the ablation: the chain from left to right, and the single changes. From the tables alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.ticker import NullLocator, ScalarFormatter

from eval.report.plots.base import CHANCE, COLOURS, Plot, dots, figure, interval, save, styled
from study.ablation.text import rows_of, source_words
from study.answer import Answer, Row

MARKERS = "osD^v"
TICKS = (1, 2, 5, 10, 20, 30, 50)
GAIN = {"value": "first_mrr", "low": "first_mrr_low", "high": "first_mrr_high"}
"""{end of an interval as plots name it: column of the table `single`}."""


def plots(answer: Answer, folder: Path) -> list[Plot]:
    """Draw the chain with a line for each source, and for each source the gains of the single changes."""
    steps, single = answer.tables["steps"], answer.tables["single"]
    return [_chain(steps, folder), *([_single(single, folder)] if single else [])]


def _chain(rows: list[Row], folder: Path) -> Plot:
    """Draw the median rank in percent of the gallery after each step, with intervals over groups."""
    sources = list(dict.fromkeys(row["source"] for row in rows))
    # Sources have different steps: the longest chain has all of them, in order.
    names = [row["step"] for row in max((rows_of(rows, source) for source in sources), key=len)]
    with styled():
        drawn = figure(4.2)
        axis = drawn.subplots()
        for number, source in enumerate(sources):
            line = rows_of(rows, source)
            x = [names.index(row["step"]) + 0.08 * (number - (len(sources) - 1) / 2) for row in line]
            y = np.array([row["median"] for row in line])
            ends = [y - [row["median_low"] for row in line], [row["median_high"] for row in line] - y]
            axis.errorbar(
                x, y, yerr=np.maximum(ends, 0), color=COLOURS[number % len(COLOURS)], lw=1.3, elinewidth=0.9,
                marker=MARKERS[number % len(MARKERS)], ms=4, label=source_words(source),
            )  # fmt: skip
        axis.axhline(rows[0]["median_chance"], color=CHANCE, ls="--", lw=1.2, label="chance")
        axis.set_yscale("log")
        axis.set_yticks([tick for tick in TICKS if tick >= min(row["median"] for row in rows) / 2])
        axis.yaxis.set_major_formatter(ScalarFormatter())
        axis.yaxis.set_minor_locator(NullLocator())
        axis.set_xticks(range(len(names)), names, rotation=35, ha="right", fontsize=8)
        axis.set(title="One change after the other", ylabel="median rank, % of the gallery (lower is better)")
        drawn.legend(loc="outside upper center", ncols=2, fontsize=7.5)
        values = "; ".join(
            f"{source_words(source)}: "
            + ", ".join(f"{row['step']} {row['median']:.3g} %" for row in rows_of(rows, source))
            for source in sources
        )
        return save(drawn, folder, "study-ablation-steps", f"Median rank after each step. {values}.")


def _single(rows: list[Row], folder: Path) -> Plot:
    """Draw the gain in MRR of each single change, with intervals over groups, a panel for each source."""
    sources = list(dict.fromkeys(row["source"] for row in rows))
    with styled():
        drawn = figure(0.9 + sum(0.5 + 0.24 * len(rows_of(rows, source)) for source in sources))
        panels = np.atleast_1d(
            drawn.subplots(len(sources), 1, height_ratios=[2 + len(rows_of(rows, source)) for source in sources])
        )
        described = []
        for number, (panel, source) in enumerate(zip(panels, sources, strict=True)):
            lines = [
                {"name": row["step"], **{end: row[column] for end, column in GAIN.items()}}
                for row in rows_of(rows, source)
            ]
            heights = np.arange(len(lines))[::-1].tolist()
            panel.axvline(0, color=CHANCE, ls="--", lw=1.2)
            dots(panel, heights, lines, color=COLOURS[number % len(COLOURS)])
            panel.set_yticks(heights, [line["name"] for line in lines], fontsize=8)
            panel.set_title(source_words(source), fontsize=9)
            panel.grid(False, axis="y")
            described.append(
                f"{source_words(source)}: "
                + "; ".join(f"{line['name']} {line['value']:+.3f}{interval(line)}" for line in lines)
            )
        panels[-1].set_xlabel("difference in mean reciprocal rank (right is better)")
        return save(
            drawn, folder, "study-ablation-single", f"Single changes, difference in MRR. {'. '.join(described)}."
        )

"""Plots of retrieval: median ranks of all experiments, one experiment's distribution of ranks. Writes files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from eval.report.plots.base import CHANCE, COLOUR_OF, DIRECTIONS, PAPER, WIDTH, Plot, dots, figure, save, short, styled


def overview(rows: list[dict[str, Any]], folder: Path) -> Plot:
    """Plot every experiment's median rank as share of the gallery, with intervals, beside chance and the paper.

    rows: dicts with `experiment`, `direction`, `value`, `low`, `high` (% of the gallery), `formula` and `published`
    (the same of the published formula and of the paper's table, or None), one a direction of each experiment.
    """
    names = list(dict.fromkeys(row["experiment"] for row in rows))
    height = {name: len(names) - 1 - i for i, name in enumerate(names)}
    with styled():
        drawn = figure(1.35 + 0.5 * len(names), WIDTH * 1.15)
        axis = drawn.subplots()
        axis.axvline(50, color=CHANCE, ls="--", lw=1.2, label="chance")
        labelled: set[str] = set()
        for shift, (direction, title) in zip((0.14, -0.14), DIRECTIONS.items(), strict=True):
            directed = [row for row in rows if row["direction"] == direction]
            heights = [height[row["experiment"]] + shift for row in directed]
            dots(axis, heights, directed, color=COLOUR_OF[direction], label=f"{title}, true median rank", zorder=3)
            for key, marker, label in (("formula", "x", "published formula"), ("published", "D", "the paper's table")):
                known = [(row[key], at) for row, at in zip(directed, heights, strict=True) if row[key] is not None]
                if known:
                    style: dict[str, Any] = {"marker": marker, "ms": 4.5, "ls": "none", "color": PAPER, "mfc": "none"}
                    axis.plot(*zip(*known, strict=True), label=None if label in labelled else label, **style)
                    labelled.add(label)
        axis.set_yticks([height[name] for name in names], [short(name) for name in names])
        axis.set(xlim=(0, 101), ylim=(-0.6, len(names) - 0.4), xlabel="median rank, % of the gallery (left is better)")
        axis.grid(False, axis="y")
        drawn.legend(loc="outside upper center", ncols=2, fontsize=7.5)
        values = "; ".join(
            f"{row['experiment']}, {DIRECTIONS[row['direction']]}: {row['value']:.1f} %, interval {row['low']:.1f} to "
            f"{row['high']:.1f}"
            for row in rows
        )
        return save(
            drawn, folder, "overview", f"Median rank of the positive, chance being 50 % of the gallery. {values}."
        )


def ranks(name: str, level: str, results: list[dict[str, Any]], folder: Path) -> Plot:
    """Plot the distribution of the positive's rank in the gallery, against chance.

    results: entries of retrieval.json, one a direction, with `histogram` counts over equal bins of rank/gallery.
    """
    with styled():
        drawn = figure()
        axis = drawn.subplots()
        edges = np.linspace(0, 100, len(results[0]["histogram"]) + 1)
        for result in results:
            colour, median = COLOUR_OF[result["direction"]], result["metrics"]["median"]
            share = np.array(result["histogram"]) / sum(result["histogram"]) * 100
            axis.stairs(share, edges, color=colour, lw=1.8, label=DIRECTIONS[result["direction"]])
            axis.axvline((median["value"] - 0.5) / result["size"] * 100, color=colour, lw=1, ls="-.")
        chance = np.array(results[0]["histogram_chance"])
        axis.stairs(chance / chance.sum() * 100, edges, color=CHANCE, ls="--", label="chance")
        axis.set(
            title=f"{level}s, gallery of {results[0]['size']:,}",
            xlim=(0, 100),
            ylim=(0, None),
            xlabel="rank of the positive, % of the gallery\n(dash-dot: median)",
            ylabel="queries (%)",
        )
        axis.legend()
        values = "; ".join(
            f"{DIRECTIONS[result['direction']]}: {result['histogram'][0] / sum(result['histogram']):.0%} of queries "
            f"find it in the first {edges[1]:.0f} % of the gallery, "
            f"median rank {result['metrics']['median']['value']:.1f}"
            for result in results
        )
        return save(drawn, folder, f"ranks-{level}-{name}", f"Ranks of {name}, chance being flat. {values}.")

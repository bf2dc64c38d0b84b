"""Where the true partner stands: of all experiments on one plot, and the whole distribution of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from eval.report.plots.base import CHANCE, DIRECTIONS, PAPER, SIDE, WIDTH, Plot, dots, figure, save, short, styled


def overview(rows: list[dict[str, Any]], folder: Path) -> Plot:
    """Median rank of every experiment as share of the gallery, with intervals, beside guessing and the paper.

    rows: dicts with `experiment`, `direction`, `value`, `low`, `high` (% of the gallery), `formula` and `published`
    (the same of the published formula and of the paper's table, or None), one a direction of each experiment.
    """
    names = list(dict.fromkeys(row["experiment"] for row in rows))
    height = {name: len(names) - 1 - i for i, name in enumerate(names)}
    with styled():
        drawn = figure(1.35 + 0.5 * len(names), WIDTH * 1.15)
        axis = drawn.subplots()
        axis.axvline(50, color=CHANCE, ls="--", lw=1.2, label="guessing")
        for shift, (direction, words) in zip((0.14, -0.14), DIRECTIONS.items(), strict=True):
            here = [row for row in rows if row["direction"] == direction]
            at = [height[row["experiment"]] + shift for row in here]
            dots(axis, at, here, color=SIDE[direction], label=f"{words}, true median rank", zorder=3)
            for key, marker, label in (("formula", "x", "published formula"), ("published", "D", "the paper's table")):
                known = [(row[key], y) for row, y in zip(here, at, strict=True) if row[key] is not None]
                if known:
                    x, y = zip(*known, strict=True)
                    style: dict[str, Any] = {"marker": marker, "ms": 4.5, "ls": "none", "color": PAPER, "mfc": "none"}
                    axis.plot(x, y, label=label if shift > 0 else None, **style)
        axis.set_yticks([height[name] for name in names], [short(name) for name in names])
        axis.set(xlim=(0, 101), ylim=(-0.6, len(names) - 0.4), xlabel="median rank, % of the gallery (left is better)")
        axis.grid(False, axis="y")
        drawn.legend(loc="outside upper center", ncols=2, fontsize=7.5)
        said = "; ".join(
            f"{row['experiment']}, {DIRECTIONS[row['direction']]}: {row['value']:.1f} %, interval {row['low']:.1f} to "
            f"{row['high']:.1f}"
            for row in rows
        )
        return save(
            drawn, folder, "overview", f"Median rank of the true partner, guessing being 50 % of the gallery. {said}."
        )


def ranks(name: str, level: str, results: list[dict[str, Any]], folder: Path) -> Plot:
    """Where in the gallery the true partner stands, against what guessing gives.

    results: entries of retrieval.json, one a direction, with `histogram` counts over equal bins of rank/gallery.
    """
    with styled():
        drawn = figure()
        axis = drawn.subplots()
        edges = np.linspace(0, 100, len(results[0]["histogram"]) + 1)
        for result in results:
            colour, median = SIDE[result["direction"]], result["metrics"]["median"]
            share = np.array(result["histogram"]) / sum(result["histogram"]) * 100
            axis.stairs(share, edges, color=colour, lw=1.8, label=DIRECTIONS[result["direction"]])
            axis.axvline((median["value"] - 0.5) / result["size"] * 100, color=colour, lw=1, ls="-.")
        guess = np.array(results[0]["histogram_chance"])
        axis.stairs(guess / guess.sum() * 100, edges, color=CHANCE, ls="--", label="guessing")
        axis.set(
            title=f"{level}s, gallery of {results[0]['size']:,}",
            xlim=(0, 100),
            ylim=(0, None),
            xlabel="rank of the true partner, % of the gallery\n(dash-dot: median)",
            ylabel="queries (%)",
        )
        axis.legend()
        said = "; ".join(
            f"{DIRECTIONS[r['direction']]}: {r['histogram'][0] / sum(r['histogram']):.0%} of queries find it "
            f"in the first {edges[1]:.0f} % of the gallery, median rank {r['metrics']['median']['value']:.1f}"
            for r in results
        )
        return save(drawn, folder, f"ranks-{level}-{name}", f"Ranks of {name}, guessing being flat. {said}.")

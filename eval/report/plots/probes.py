"""Plots of probes: all representations beside the paper's, each class, and confused genres. Writes PNG and SVG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from eval.report.plots.base import CHANCE, COLOURS, PAPER, WIDTH, Plot, dots, figure, interval, save, short, styled

CLASSES = 24
"""The most classes that a plot has room for; the tables have all."""


def representations(task: str, rows: list[dict[str, Any]], folder: Path) -> Plot:
    """Plot the macro ROC-AUC of every representation by the perceptron, beside the paper's figure.

    rows: dicts with `name`, `value`, `low`, `high`, `published` (or None), in the order of the paper's table.
    """
    heights = np.arange(len(rows))[::-1].tolist()
    with styled():
        drawn = figure(1.3 + 0.34 * len(rows))
        axis = drawn.subplots()
        axis.axvline(0.5, color=CHANCE, ls="--", lw=1.2, label="chance")
        dots(axis, heights, rows, color=COLOURS[0], label="here, 95 % interval", zorder=3)
        known = [(row["published"], at) for row, at in zip(rows, heights, strict=True) if row["published"] is not None]
        if known:
            axis.plot(*zip(*known, strict=True), "D", ms=5, ls="none", color=PAPER, mfc="none", label="the paper")
        axis.set_yticks(heights, [short(row["name"], 34) for row in rows])
        axis.set(title=task, xlabel="macro ROC-AUC (right is better)", ylim=(-0.6, len(rows) - 0.4))
        axis.grid(False, axis="y")
        drawn.legend(loc="outside upper right", ncols=3, fontsize=7.5)
        values = "; ".join(f"{row['name']} {row['value']:.3f}{interval(row)}" for row in rows)
        return save(drawn, folder, f"probes-{task}", f"Macro ROC-AUC of {task}, chance being 0.5: {values}.")


def classes(task: str, probed: list[tuple[str, list[dict[str, Any]]]], folder: Path) -> Plot:
    """Plot the ROC-AUC of every class with its interval, by representation: (name, `per_class` lines)."""
    # Where a class is without positives, nothing is defined.
    probed = [(name, [line for line in lines if line["auc"] is not None]) for name, lines in probed]
    support = {line["class"]: line["support"] for line in probed[0][1]}
    names = sorted(support, key=lambda name: -support[name])[:CLASSES]
    with styled():
        drawn = figure(1.3 + 0.42 * len(names))
        axis = drawn.subplots()
        axis.axvline(0.5, color=CHANCE, ls="--", lw=1.2)
        for number, (name, lines) in enumerate(probed):
            by_class = {line["class"]: line for line in lines}
            shown = [by_class[one] for one in names]
            chosen = [{"value": line["auc"], "low": line["auc_low"], "high": line["auc_high"]} for line in shown]
            shift = (len(probed) - 1) / 2 - number
            heights = [len(names) - 1 - i + 0.22 * shift for i in range(len(names))]
            dots(axis, heights, chosen, color=COLOURS[number], label=name, ms=4.5)
        axis.set_yticks(range(len(names))[::-1], [f"{short(one)} ({support[one]})" for one in names])
        axis.set(title=f"{task}, each class", xlabel="ROC-AUC (positives in brackets)", ylim=(-0.6, len(names) - 0.4))
        axis.grid(False, axis="y")
        drawn.legend(loc="outside upper right", ncols=len(probed), fontsize=7.5)
        first = probed[0][1]
        best, worst = (pick(first, key=lambda line: line["auc"]) for pick in (max, min))
        return save(
            drawn,
            folder,
            f"classes-{task}",
            f"ROC-AUC of each class of {task}, chance being 0.5. By {probed[0][0]} {best['class']} is best "
            f"({best['auc']:.2f}) and {worst['class']} worst ({worst['auc']:.2f}).",
        )


def confusion(name: str, key: str, matrix: dict[str, Any], folder: Path) -> Plot:
    """Plot genres (rows) as predicted (columns), in shares of the row. `matrix` has `classes` and `counts`."""
    counts = np.array(matrix["counts"])
    order = np.argsort(-counts.sum(axis=1), kind="stable")[:CLASSES]
    counts = counts[np.ix_(order, order)]
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-9)
    labels = [short(matrix["classes"][i], 14) for i in order]
    with styled():
        drawn = figure(WIDTH * 0.95)
        axis = drawn.subplots()
        image = axis.imshow(share * 100, cmap="Blues", vmin=0, vmax=100)
        axis.set_xticks(range(len(labels)), labels, rotation=60, ha="right", rotation_mode="anchor")
        axis.set_yticks(range(len(labels)), labels)
        axis.set(title=name, xlabel="taken for", ylabel="genre")
        axis.grid(False)
        if len(labels) <= 12:
            for (row, column), value in np.ndenumerate(share):
                if counts[row].sum() > 0:
                    ink = "white" if value > 0.55 else "black"
                    axis.text(column, row, f"{value * 100:.0f}", ha="center", va="center", fontsize=7.5, color=ink)
        drawn.colorbar(image, ax=axis, shrink=0.7, label="% of the genre's items")
        right = float(np.trace(counts) / counts.sum())
        alt = f"Confusion matrix of the genres by {name}: {right:.0%} of the items are on the diagonal."
        return save(drawn, folder, f"confusion-{key}", alt)

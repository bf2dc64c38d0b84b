"""Plots of `correlation`: ranks by correlation of audio and video, by kind of link, and the map of sizes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator, ScalarFormatter

from eval.report.plots.base import CHANCE, COLOURS, PAPER, WIDTH, Plot, figure, save, short, styled
from study.answer import Answer, Row
from study.correlation.curves import HITS, MEDIAN, grouped
from study.correlation.text import SOURCES, of_videos

LABELS = {MEDIAN: "median rank, % of the gallery (lower is better)", HITS: "recall at 10 (higher is better)"}
TICKS = (1, 2, 5, 10, 20, 50)


def plots(answer: Answer, folder: Path) -> list[Plot]:
    """Draw median rank and recall by correlation for each source, the kinds of link, and the map of sizes."""
    curves, drawn = answer.tables["curves"], []
    for source, words in SOURCES.items():
        rows = of_videos(curves, source)
        for measure in (MEDIAN, HITS) if rows else ():
            drawn.append(_curves(rows, measure, f"{source}-{measure}", words, folder))
    kinds = [row for row in curves if row["source"] == "rendered" and row["level"] == "video"]
    if any(row["kind"] != "all" for row in kinds):
        drawn.append(_kinds(kinds, folder))
    for (recipe,), rows in grouped(answer.tables["sizes"], "recipe").items():
        drawn.append(_map(rows, recipe, folder))
    return drawn


def _curves(rows: list[Row], measure: str, name: str, title: str, folder: Path) -> Plot:
    """Draw a line for each recipe, slightly shifted, with intervals over groups, chance and the published formula."""
    with styled():
        drawn = figure(3.7)
        axis = drawn.subplots()
        groups = grouped(rows, "recipe")
        for number, ((recipe,), line) in enumerate(groups.items()):
            line = sorted(line, key=lambda row: row["correlation"])
            x = [row["correlation"] + 0.012 * (number - (len(groups) - 1) / 2) for row in line]
            _line(axis, x, line, measure, COLOURS[number % len(COLOURS)], short(recipe))
        line = sorted(next(iter(groups.values())), key=lambda row: row["correlation"])
        x = [row["correlation"] for row in line]
        if measure == MEDIAN:
            low, high = [row["chance_low"] for row in line], [row["chance_high"] for row in line]
            axis.fill_between(x, low, high, color=CHANCE, alpha=0.2, lw=0, label="chance, 95 %")
            published = [np.mean([row["published_percent"] for row in rows if row["correlation"] == rho]) for rho in x]
            axis.plot(x, published, color=PAPER, marker="x", ls=":", lw=1.2, label="published formula")
            _percent(axis, rows)
        else:
            axis.axhline(line[0][f"{HITS}_chance"], color=CHANCE, ls="--", lw=1.2, label="chance")
        axis.set(xlabel="correlation ρ of the latent factors", ylabel=LABELS[measure], title=title)
        drawn.legend(loc="outside upper center", ncols=3, fontsize=7.5)
        return save(
            drawn, folder, f"study-correlation-{name}", f"{title}: {LABELS[measure]}. {_values(rows, measure)}."
        )


def _kinds(rows: list[Row], folder: Path) -> Plot:
    """Draw a panel for each recipe with a line for each kind of link."""
    recipes = list(dict.fromkeys(row["recipe"] for row in rows if row["kind"] != "all"))
    with styled():
        drawn = figure(0.6 + 2.5 * len(recipes))
        axes = np.atleast_1d(drawn.subplots(len(recipes), 1, sharex=True, sharey=True))
        for axis, recipe in zip(axes, recipes, strict=True):
            groups = grouped([row for row in rows if row["recipe"] == recipe], "kind")
            for number, ((kind,), line) in enumerate(groups.items()):
                line = sorted(line, key=lambda row: row["correlation"])
                x = [row["correlation"] + 0.012 * (number - (len(groups) - 1) / 2) for row in line]
                label = None if axis is not axes[0] else kind
                _line(axis, x, line, MEDIAN, COLOURS[number % len(COLOURS)], label)
            axis.axhline(50, color=CHANCE, ls="--", lw=1.2, label=None if axis is not axes[0] else "chance")
            _percent(axis, rows)
            axis.set(title=short(recipe), ylabel="median rank, %")
        axes[-1].set_xlabel("correlation ρ of the linked factors")
        drawn.legend(loc="outside upper center", ncols=5, fontsize=7.5)
        listed = "; ".join(
            f"{row['recipe']}, {row['kind']}, ρ {row['correlation']:g}: {row[MEDIAN]:.3g} %"
            for row in rows
            if row["recipe"] in recipes
        )
        return save(drawn, folder, "study-correlation-kinds", f"Median rank by kind of link. {listed}.")


def _map(rows: list[Row], recipe: str, folder: Path) -> Plot:
    """Draw median ranks by correlation and number of training videos; those not shown to beat chance in brackets."""
    sizes, grid = (sorted({row[key] for row in rows}) for key in ("train_videos", "correlation"))
    values = np.full((len(grid), len(sizes)), math.nan)
    with styled():
        drawn = figure(1.4 + 0.33 * len(grid), WIDTH)
        axis = drawn.subplots()
        for row in rows:
            line, column = grid.index(row["correlation"]), sizes.index(row["train_videos"])
            values[line, column] = row[MEDIAN]
            text = f"{row[MEDIAN]:.2g}" if row["significant"] else f"({row[MEDIAN]:.2g})"
            ink = "white" if row[MEDIAN] < 15 else "black"
            axis.text(column, line, text, ha="center", va="center", fontsize=8, color=ink)
        image = axis.imshow(values, aspect="auto", origin="lower", cmap="viridis", vmin=0, vmax=50)
        drawn.colorbar(image, label="median rank, % of the gallery")
        axis.set_xticks(range(len(sizes)), [f"{size:,}" for size in sizes])
        axis.set_yticks(range(len(grid)), [f"{rho:g}" for rho in grid])
        axis.grid(False)
        axis.set(
            xlabel="training videos (in brackets: not better than chance at 5 %)",
            ylabel="correlation ρ",
            title=short(recipe),
        )
        listed = "; ".join(
            f"ρ {row['correlation']:g}, {row['train_videos']} videos: {row[MEDIAN]:.3g} %" for row in rows
        )
        name = f"study-correlation-map-{recipe}"
        return save(drawn, folder, name, f"Simulated features, {recipe}: median rank by size. {listed}.")


def _line(axis: Axes, x: list[float], line: list[Row], measure: str, colour: str, label: str | None) -> None:
    y = np.array([row[measure] for row in line])
    ends = [y - [row[f"{measure}_low"] for row in line], [row[f"{measure}_high"] for row in line] - y]
    # A mean over seeds of medians may lie outside the interval of a small gallery by rounding alone.
    axis.errorbar(x, y, yerr=np.maximum(ends, 0), color=colour, marker="o", ms=4, lw=1.3, elinewidth=0.9, label=label)


def _percent(axis: Axes, rows: list[Row]) -> None:
    """Scale the axis by logarithm: low ranks matter most."""
    axis.set_yscale("log")
    axis.set_yticks([tick for tick in TICKS if tick >= min(row[MEDIAN] for row in rows) / 2])
    axis.yaxis.set_major_formatter(ScalarFormatter())
    axis.yaxis.set_minor_locator(NullLocator())


def _values(rows: list[Row], measure: str) -> str:
    return "; ".join(f"{row['recipe']}, ρ {row['correlation']:g}: {row[measure]:.3g}" for row in rows)

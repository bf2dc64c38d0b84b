"""Plots of neighbours: maps coloured by genre, and labels that neighbours share. Writes PNG and SVG."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from eval.report.plots.base import CHANCE, COLOURS, DIRECTIONS, OTHER, Plot, dots, figure, save, short, styled

WAYS = {"audio": "audio", "video": "video", "both": "both"} | DIRECTIONS


def map_of(name: str, projected: dict[str, Any], modality: str, genres: list[str | None], folder: Path) -> Plot:
    """Plot one modality of a map of neighbours.json, coloured by genre: the eight most frequent, others grey.

    Both modalities of a shared space are drawn with the same axes.
    """
    points = np.array(projected[modality])
    count = Counter(genre for genre in genres if genre).most_common()
    shown = [genre for genre, _ in count[: len(COLOURS)]]
    with styled():
        drawn = figure(4.3)
        axis = drawn.subplots()
        rest = np.array([genre not in shown for genre in genres])
        size = 26 if len(points) < 300 else 9
        if rest.any():
            axis.scatter(
                points[rest, 0], points[rest, 1], s=size, c=OTHER, lw=0, label="other" if count else "no genre known"
            )
        for genre, colour in zip(shown, COLOURS, strict=False):
            same = np.array([one == genre for one in genres])
            axis.scatter(
                points[same, 0], points[same, 1], s=size, color=colour, alpha=0.8, lw=0, label=short(genre, 16)
            )
        if projected["shared"]:
            every = np.concatenate([projected["audio"], projected["video"]])
            low, high = every.min(axis=0), every.max(axis=0)
            pad = 0.05 * (high - low) + 1e-6
            axis.set(xlim=(low[0] - pad[0], high[0] + pad[0]), ylim=(low[1] - pad[1], high[1] + pad[1]))
        method, share = projected["method"], projected["explained"][modality]
        axes = [f"{method} {i + 1}" + (f" ({share[i]:.0%} of the variance)" if share else "") for i in (0, 1)]
        axis.set(title=modality, xlabel=axes[0], ylabel=axes[1])
        drawn.legend(loc="outside lower center", ncols=3, fontsize=7.5, markerscale=1.2)
        alt = f"{method} map of the {modality} of {len(points)} test videos in the space of {name}, coloured by genre"
        alt += ": " + ", ".join(f"{genre} ({videos})" for genre, videos in count[: len(COLOURS)]) if count else ""
        return save(drawn, folder, f"map-{method.lower()}-{modality}-{name}", alt + ".")


def agreement(label: str, level: str, spaces: list[tuple[str, list[dict[str, Any]]]], folder: Path) -> Plot:
    """Plot how much of a label neighbours share, beside chance, for each (name of the space, `agreement`)."""
    lines = [(space, line) for space, measured in spaces for line in measured]
    heights = np.arange(len(lines))[::-1].tolist()
    order = {name: i for i, name in enumerate(dict.fromkeys(space for space, _ in lines))}
    with styled():
        drawn = figure(1.2 + 0.26 * len(lines))
        axis = drawn.subplots()
        for name, number in order.items():
            of_space = [(height, line) for height, (space, line) in zip(heights, lines, strict=True) if space == name]
            dots(
                axis,
                [height for height, _ in of_space],
                [line for _, line in of_space],
                color=COLOURS[number % len(COLOURS)],
                zorder=3,
            )
        chance = [line["chance"] for _, line in lines]
        axis.plot(chance, heights, "|", color=CHANCE, ms=10, mew=1.8, label="chance")
        axis.set_yticks(heights, [f"{short(space, 16)}: {WAYS[line['by']]}" for space, line in lines])
        axis.set(
            xlim=(0, None), ylim=(-0.7, len(lines) - 0.3), title=f"{label} of the {lines[0][1]['k']} nearest {level}s"
        )
        axis.set(xlabel="share of labels in common, 95 % intervals")
        axis.grid(False, axis="y")
        drawn.legend(loc="outside upper right")
        better = [f"{space} by {WAYS[line['by']]}" for space, line in lines if line["better_than_chance"]]
        alt = f"Shared {label} of nearest {level}s with intervals; above chance: {', '.join(better) or 'none'}."
        return save(drawn, folder, f"agreement-{label}-{level}", alt)

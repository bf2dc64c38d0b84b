"""Plots of `relations`: associated descriptors, what each space predicts, how alike the spaces are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from eval.report.plots.base import AUDIO, CHANCE, COLOURS, Plot, figure, save, short, styled
from study.answer import Answer, Row
from study.relations.text import predicts, spaced


def plots(answer: Answer, folder: Path) -> list[Plot]:
    """Draw all plots into `folder` as PNG and SVG, from the answer's tables alone."""
    tables = answer.tables
    return [
        matrix(tables["descriptors"], folder),
        spaces(tables["spaces"], tables["neighbours"], folder),
        spectra(tables["canonical"], folder),
        readable(tables["readable"], folder),
    ]


def matrix(rows: list[Row], folder: Path) -> Plot:
    """Draw the associations of every audio with every video descriptor, of all videos and within genres."""
    audio, video = (list(dict.fromkeys(row[key] for row in rows)) for key in ("sound", "picture"))
    with styled():
        drawn = figure(1.7 + 0.27 * len(audio), 7.6)
        axes = drawn.subplots(1, 2, sharey=True)
        for axis, prefix, title in zip(axes, ("", "genre_"), ("all videos", "within genres"), strict=True):
            values = np.array([row[f"{prefix}strength"] for row in rows]).reshape(len(audio), len(video))
            image = axis.imshow(values, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
            for position, row in enumerate(rows):
                if row[f"{prefix}significant"]:
                    number = f"{row[f'{prefix}strength']:.2f}".replace("0.", ".").replace("-", "−")
                    colour = "white" if abs(row[f"{prefix}strength"]) > 0.6 else "black"
                    line, column = divmod(position, len(video))
                    axis.text(column, line, number, ha="center", va="center", fontsize=7, color=colour)
            axis.set_xticks(range(len(video)), [spaced(name) for name in video], rotation=45, ha="right", fontsize=8)
            axis.set_yticks(range(len(audio)), [spaced(name) for name in audio], fontsize=8)
            axis.set_title(title, fontsize=9)
            axis.grid(False)
        drawn.colorbar(
            image,
            ax=axes,
            shrink=0.8,
            label="rank correlation (numbers: significant;\nof a direction, as hue, without sign)",
        )
        overall, within = (sum(row[f"{prefix}significant"] for row in rows) for prefix in ("", "genre_"))
        alt = f"Rank correlations of {len(audio)} audio descriptors with {len(video)} video descriptors: "
        alt += f"{overall} of {len(rows)} pairs significant, {within} within genres. Directions have no sign."
        return save(drawn, folder, "study-relations-descriptors", alt)


def spaces(rows: list[Row], neighbours: list[Row], folder: Path) -> Plot:
    """Draw CKA, held-out canonical correlations and mutual neighbours of every two backbones, beside chance."""
    by_pair = {(row["first"], row["second"]): row for row in neighbours}
    none: Row = {"shared": np.nan, "chance_high": np.nan}
    shares = [by_pair.get((row["first"], row["second"]), none) for row in rows]
    labels = [f"{short(row['first'], 17)} – {short(row['second'], 20)}" for row in rows]
    panels = [
        ("linear CKA", [(row["cka"], row["cka_chance_high"]) for row in rows]),
        ("canonical correlations", [(row["cca"], row["cca_chance_high"]) for row in rows]),
        ("mutual neighbours", [(row["shared"], row["chance_high"]) for row in shares]),
    ]
    heights = np.arange(len(rows))[::-1]
    with styled():
        drawn = figure(1.3 + 0.32 * len(rows), 7.6)
        axes = drawn.subplots(1, 3, sharey=True)
        for axis, (title, values) in zip(axes, panels, strict=True):
            axis.plot([value for value, _ in values], heights, "o", color=AUDIO, ms=6, label="this cache")
            axis.plot(
                [by_chance for _, by_chance in values],
                heights,
                "|",
                color=CHANCE,
                ms=11,
                mew=1.8,
                label="highest by chance",
            )
            lowest = min(0, *(min(pair) for pair in values))
            axis.set(title=title, xlim=(lowest - 0.02, None), ylim=(-0.6, len(rows) - 0.4))
            axis.set_yticks(heights, labels, fontsize=8)
        drawn.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
        alt = "How alike feature spaces are. " + "; ".join(
            f"{row['first']} and {row['second']}: CKA {row['cka']:.2f}, canonical {row['cca']:.2f}, "
            f"neighbours {shared:.2f}"
            for row, (shared, _) in zip(rows, panels[2][1], strict=True)
        )
        return save(drawn, folder, "study-relations-spaces", alt + ".")


def spectra(rows: list[Row], folder: Path) -> Plot:
    """Draw the held-out canonical correlations of every two backbones in order, with chance as a band."""
    pairs: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        pairs.setdefault((row["first"], row["second"]), []).append(row)
    with styled():
        drawn = figure(3.4)
        axis = drawn.subplots()
        for (pair, curve), colour in zip(pairs.items(), COLOURS, strict=False):
            label = f"{short(pair[0], 17)} – {short(pair[1], 20)}"
            axis.plot(
                [row["pair"] for row in curve],
                [row["held_out"] for row in curve],
                "o-",
                ms=3,
                color=colour,
                label=label,
            )
        first = next(iter(pairs.values()))
        numbers, low, high = ([row[key] for row in first] for key in ("pair", "chance_low", "chance_high"))
        axis.fill_between(numbers, low, high, color=CHANCE, alpha=0.3, lw=0, label="95 % by chance (first two)")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set(xlabel="canonical pair", ylabel="correlation in the test split", ylim=(None, 1.02))
        drawn.legend(loc="outside lower center", ncols=2, fontsize=7)
        alt = "Canonical correlations on the test split. " + "; ".join(
            f"{first_space} and {second_space}: first {curve[0]['held_out']:.2f}, last {curve[-1]['held_out']:.2f}"
            for (first_space, second_space), curve in pairs.items()
        )
        return save(drawn, folder, "study-relations-canonical", alt + ".")


def readable(rows: list[Row], folder: Path) -> Plot:
    """Draw R² of every descriptor from every space; R² below 0 is drawn as 0."""
    names, spaces = (list(dict.fromkeys(row[key] for row in rows)) for key in ("descriptor", "space"))
    values = np.array([row["r2"] for row in rows]).reshape(len(spaces), len(names)).T
    with styled():
        drawn = figure(1.9 + 0.25 * len(names), max(4.7, 2.6 + 0.5 * len(spaces)))
        axis = drawn.subplots()
        image = axis.imshow(np.clip(values, 0, 1), cmap="viridis", vmin=0, vmax=1, aspect="auto")
        _numbers(axis, values, np.array([predicts(row) for row in rows]).reshape(values.T.shape).T)
        axis.set_xticks(range(len(spaces)), [short(name, 24) for name in spaces], rotation=45, ha="right", fontsize=8)
        axis.set_yticks(range(len(names)), [spaced(name) for name in names], fontsize=8)
        axis.grid(False)
        drawn.colorbar(image, ax=axis, label="R² on held-out artists (numbers: above 0)")
        alt = "Best predicted descriptor of each space: " + "; ".join(
            f"{space}: {spaced(names[int(best)])} {value:.2f}"
            for space, best, value in zip(spaces, values.argmax(0), values.max(0), strict=True)
        )
        return save(drawn, folder, "study-relations-readable", alt + ".")


def _numbers(axis: Axes, values: np.ndarray, shown: np.ndarray) -> None:
    for line, column in zip(*np.nonzero(shown), strict=True):
        value = values[line, column]
        colour = "white" if value < 0.6 else "black"
        axis.text(column, line, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour)

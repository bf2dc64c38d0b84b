"""The plots of `relations`: which descriptors go together, what can be read from where, how alike the spaces are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from eval.report.plots.base import AUDIO, CHANCE, COLOURS, Plot, figure, save, short, styled
from eval.study.answer import Answer, Row


def plots(answer: Answer, folder: Path) -> list[Plot]:
    """All plots, written into `folder` as PNG and SVG."""
    tables = answer.tables
    return [
        matrix(tables["descriptors"], folder),
        spaces(tables["spaces"], tables["neighbours"], folder),
        spectra(tables["canonical"], folder),
        readable(tables["readable"], folder),
    ]


def matrix(rows: list[Row], folder: Path) -> Plot:
    """Every descriptor of the sound with every one of the picture, as a whole and inside genres."""
    sounds, pictures = (list(dict.fromkeys(row[side] for row in rows)) for side in ("sound", "picture"))
    with styled():
        drawn = figure(1.7 + 0.27 * len(sounds), 7.6)
        axes = drawn.subplots(1, 2, sharey=True)
        for axis, prefix, title in zip(axes, ("", "genre_"), ("all videos", "inside genres"), strict=True):
            values = np.array([row[f"{prefix}strength"] for row in rows]).reshape(len(sounds), len(pictures))
            image = axis.imshow(values, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
            for k, row in enumerate(rows):
                if row[f"{prefix}significant"]:
                    strong = abs(row[f"{prefix}strength"]) > 0.6
                    words = f"{row[f'{prefix}strength']:.2f}".replace("0.", ".").replace("-", "−")
                    colour = "white" if strong else "black"
                    axis.text(
                        k % len(pictures), k // len(pictures), words, ha="center", va="center", fontsize=7, color=colour
                    )
            axis.set_xticks(
                range(len(pictures)), [_word(name) for name in pictures], rotation=45, ha="right", fontsize=8
            )
            axis.set_yticks(range(len(sounds)), [_word(name) for name in sounds], fontsize=8)
            axis.set_title(title, fontsize=9)
            axis.grid(False)
        drawn.colorbar(
            image,
            ax=axes,
            shrink=0.8,
            label="rank correlation (numbers: significant;\nof a direction, as hue, without sign)",
        )
        count = [sum(row[f"{prefix}significant"] for row in rows) for prefix in ("", "genre_")]
        alt = f"Rank correlations of {len(sounds)} descriptors of the sound with {len(pictures)} of the picture: "
        alt += f"{count[0]} of {len(rows)} pairs significant, {count[1]} inside genres. Directions have no sign."
        return save(drawn, folder, "study-relations-descriptors", alt)


def spaces(rows: list[Row], near: list[Row], folder: Path) -> Plot:
    """CKA, held-out canonical correlations and mutual neighbours of every two backbones, beside re-paired videos."""
    by_pair = {(row["first"], row["second"]): row for row in near}
    labels = [f"{short(row['first'], 17)} – {short(row['second'], 20)}" for row in rows]
    panels = [
        ("linear CKA", [(r["cka"], r["cka_chance_high"]) for r in rows]),
        ("canonical correlations", [(r["cca"], r["cca_chance_high"]) for r in rows]),
        (
            "mutual neighbours",
            [(n["shared"], n["chance_high"]) for n in (by_pair[r["first"], r["second"]] for r in rows)],
        ),
    ]
    at = np.arange(len(rows))[::-1]
    with styled():
        drawn = figure(1.3 + 0.32 * len(rows), 7.6)
        axes = drawn.subplots(1, 3, sharey=True)
        for axis, (title, values) in zip(axes, panels, strict=True):
            axis.plot([v for v, _ in values], at, "o", color=AUDIO, ms=6, label="this cache")
            axis.plot([c for _, c in values], at, "|", color=CHANCE, ms=11, mew=1.8, label="highest of the re-pairings")
            axis.set(
                title=title, xlim=(min(0, *(min(pair) for pair in values)) - 0.02, None), ylim=(-0.6, len(rows) - 0.4)
            )
            axis.set_yticks(at, labels, fontsize=8)
        drawn.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
        words = [
            f"{row['first']} and {row['second']}: CKA {row['cka']:.2f}, canonical {row['cca']:.2f}, neighbours {n:.2f}"
            for row, (n, _) in zip(rows, panels[2][1], strict=True)
        ]
        return save(drawn, folder, "study-relations-spaces", "How alike feature spaces are. " + "; ".join(words) + ".")


def spectra(rows: list[Row], folder: Path) -> Plot:
    """The held-out canonical correlations one after the other, with those of re-paired videos as a band."""
    pairs: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        pairs.setdefault((row["first"], row["second"]), []).append(row)
    with styled():
        drawn = figure(3.4)
        axis = drawn.subplots()
        for (pair, lines), colour in zip(pairs.items(), COLOURS, strict=False):
            label = f"{short(pair[0], 17)} – {short(pair[1], 20)}"
            axis.plot([r["pair"] for r in lines], [r["held_out"] for r in lines], "o-", ms=3, color=colour, label=label)
        first = next(iter(pairs.values()))
        low, high = ([r[key] for r in first] for key in ("chance_low", "chance_high"))
        at = [r["pair"] for r in first]
        axis.fill_between(at, low, high, color=CHANCE, alpha=0.3, lw=0, label="re-paired (first two)")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set(xlabel="canonical pair", ylabel="correlation in the test split", ylim=(None, 1.02))
        drawn.legend(loc="outside lower center", ncols=2, fontsize=7)
        alt = "Canonical correlations on the test split. " + "; ".join(
            f"{a} and {b}: first {lines[0]['held_out']:.2f}, last {lines[-1]['held_out']:.2f}"
            for (a, b), lines in pairs.items()
        )
        return save(drawn, folder, "study-relations-canonical", alt + ".")


def readable(rows: list[Row], folder: Path) -> Plot:
    """R² of every descriptor from every space; below 0 is drawn as 0."""
    names, places = (list(dict.fromkeys(row[key] for row in rows)) for key in ("descriptor", "space"))
    values = np.array([row["r2"] for row in rows]).reshape(len(places), len(names)).T
    with styled():
        drawn = figure(1.9 + 0.25 * len(names), max(4.7, 2.6 + 0.5 * len(places)))
        axis = drawn.subplots()
        image = axis.imshow(np.clip(values, 0, 1), cmap="viridis", vmin=0, vmax=1, aspect="auto")
        _numbers(axis, values, np.array([row["low"] > 0 for row in rows]).reshape(values.T.shape).T)
        axis.set_xticks(range(len(places)), [short(name, 24) for name in places], rotation=45, ha="right", fontsize=8)
        axis.set_yticks(range(len(names)), [_word(name) for name in names], fontsize=8)
        axis.grid(False)
        drawn.colorbar(image, ax=axis, label="R² on held-out artists (numbers: above 0)")
        best = [
            f"{space}: {_word(names[int(k)])} {v:.2f}"
            for space, k, v in zip(places, values.argmax(0), values.max(0), strict=True)
        ]
        return save(
            drawn, folder, "study-relations-readable", "Best read descriptor of each space: " + "; ".join(best) + "."
        )


def _numbers(axis: Axes, values: np.ndarray, shown: np.ndarray) -> None:
    for i, k in zip(*np.nonzero(shown), strict=True):
        dark = values[i, k] < 0.6
        axis.text(k, i, f"{values[i, k]:.2f}", ha="center", va="center", fontsize=7, color="white" if dark else "black")


def _word(name: str) -> str:
    return name.replace("_", " ")

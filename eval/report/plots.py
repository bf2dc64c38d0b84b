"""The report's plots. Each function draws one, writes it as PNG and returns it as a data URI for the page."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.figure import Figure

from config.files import replacing

AUDIO, VIDEO, CHANCE = "#0072b2", "#d55e00", "#666666"  # told apart by colour-blind readers too (Okabe & Ito)
STYLE = Path(__file__).with_name("report.mplstyle")


def _figure(width: float = 6.4, height: float = 3.4) -> Figure:
    return Figure(figsize=(width, height), dpi=144, layout="constrained")


def _save(figure: Figure, path: Path) -> str:
    buffer = io.BytesIO()
    # Without matplotlib's version in the file, equal data give equal bytes.
    figure.savefig(buffer, format="png", metadata={"Software": None})
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getvalue())
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def loss(metrics: list[dict[str, Any]], path: Path) -> str:
    """Training and validation loss by epoch, between what guessing gives and the lowest that the recipe can reach.

    metrics: lines of metrics.jsonl. The two splits have different batch sizes, hence different bounds, so each split
    has an axis of its own.
    """
    with matplotlib.style.context(STYLE):
        figure = _figure()
        axes = figure.subplots(1, 2)
        epochs = [line["epoch"] for line in metrics]
        for axis, split, colour in zip(axes, ("train", "validation"), (AUDIO, VIDEO), strict=True):
            pairs = metrics[0][f"{split}_pairs"]
            axis.plot(epochs, [m[f"{split}_loss"] for m in metrics], color=colour, marker=".", label="loss")
            axis.plot(epochs, [m[f"{split}_chance"] for m in metrics], color=CHANCE, ls="--", label="guessing")
            axis.plot(epochs, [m[f"{split}_lowest"] for m in metrics], color=CHANCE, ls=":", label="lowest possible")
            axis.set(title=f"{split} ({pairs:,} pairs)", xlabel="epoch", ylabel="InfoNCE loss (nats)")
            axis.legend()
        best = min(metrics, key=lambda m: m["validation_loss"])
        axes[1].plot(best["epoch"], best["validation_loss"], "o", color=VIDEO, mfc="none", ms=10)
        return _save(figure, path)


def ranks(results: list[dict[str, Any]], level: str, path: Path) -> str:
    """Where in the gallery the true partner stands, against what guessing gives.

    results: entries of retrieval.json, one a direction, with `histogram` counts over equal bins of rank/gallery.
    """
    with matplotlib.style.context(STYLE):
        figure = _figure()
        axis = figure.subplots()
        bins = len(results[0]["histogram"])
        edges = np.linspace(0, 100, bins + 1)
        colours = {"audio_to_video": AUDIO, "video_to_audio": VIDEO}
        names = {"audio_to_video": "sound → picture", "video_to_audio": "picture → sound"}
        for result in results:
            share = np.array(result["histogram"]) / result["queries"] * 100
            colour, median = colours[result["direction"]], result["metrics"]["median"]
            axis.stairs(share, edges, color=colour, lw=1.8, label=names[result["direction"]])
            axis.axvline((median["value"] - 0.5) / result["size"] * 100, color=colour, lw=1, ls="-.")
        guess = np.array(results[0]["histogram_chance"]) / results[0]["queries"] * 100
        axis.stairs(guess, edges, color=CHANCE, ls="--", label="guessing")
        axis.set(
            xlim=(0, 100),
            ylim=(0, None),
            xlabel=f"rank of the true partner, % of the gallery of {results[0]['size']:,} {level}s (dash-dot: median)",
            ylabel="queries (%)",
        )
        axis.legend()
        return _save(figure, path)

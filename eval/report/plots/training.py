"""Plots of training: loss by epoch, between chance and the lowest possible loss. Writes PNG and SVG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eval.report.plots.base import AUDIO, CHANCE, VIDEO, Plot, figure, save, styled

Metrics = list[dict[str, Any]]
"""Lines of metrics.jsonl, one an epoch."""


def loss(name: str, seeds: list[Metrics], folder: Path) -> Plot:
    """Plot training and validation loss of one experiment: a line for each seed, the first one thick.

    The two splits have different batch sizes, hence different bounds, so each has an axis of its own.
    """
    first, longest = seeds[0], max(seeds, key=len)
    epochs = [line["epoch"] for line in longest]
    with styled():
        drawn = figure(4.4)
        axes = drawn.subplots(2, 1, sharex=True)
        for axis, split, colour in zip(axes, ("train", "validation"), (AUDIO, VIDEO), strict=True):
            for number, metrics in enumerate(seeds):
                style: dict[str, Any] = {"lw": 0.8, "alpha": 0.6} if number else {"lw": 1.8}
                style["label"] = "loss" if number == 0 else "other seeds" if number == 1 else None
                axis.plot(
                    [line["epoch"] for line in metrics],
                    [line[f"{split}_loss"] for line in metrics],
                    color=colour,
                    **style,
                )
            for bound, dashes, label in (("chance", "--", "chance"), ("lowest", ":", "lowest possible")):
                axis.plot(
                    epochs, [line[f"{split}_{bound}"] for line in longest], color=CHANCE, ls=dashes, lw=1.2, label=label
                )
            axis.set(title=f"{split}, {first[0][f'{split}_pairs']:,} pairs an epoch", ylabel="loss (nats)")
            axis.legend(ncols=2, fontsize=7.5)
        for metrics in seeds:
            best = min(metrics, key=lambda line: line["validation_loss"])
            axes[1].plot(best["epoch"], best["validation_loss"], "o", color=VIDEO, mfc="none", ms=7)
        axes[1].set(xlabel="epoch (circles: the weights that were kept)")
        best = min(first, key=lambda line: line["validation_loss"])
        return save(
            drawn,
            folder,
            f"loss-{name}",
            f"Loss of {name} by epoch. On the validation split it goes from {first[0]['validation_loss']:.3f} to "
            f"{best['validation_loss']:.3f} nats in epoch {best['epoch']}; chance is "
            f"{best['validation_chance']:.3f}, the lowest possible is {best['validation_lowest']:.3f}.",
        )

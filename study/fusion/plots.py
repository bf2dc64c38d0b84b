"""Plots of each fusion's ROC-AUC with both modalities and with one missing, with and without modality dropout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from eval.report.plots.base import AUDIO, CHANCE, COLOURS, VIDEO, Plot, dots, figure, interval, save, styled
from study.answer import Answer, Row

CONDITIONS = {
    "nothing": ("both modalities", COLOURS[2], "o"),
    "video": ("video missing", AUDIO, "s"),
    "audio": ("audio missing", VIDEO, "D"),
}
"""By what is missing: label, colour (that of the modality left) and marker."""
OLDER = {"pictures": "video", "sound": "audio"}
"""What older results call the missing modality."""


def plots(answer: Answer, folder: Path) -> list[Plot]:
    """Draw one figure a task into `folder`."""
    rows = [row | {"missing": OLDER.get(row["missing"], row["missing"])} for row in answer.tables["fusions"]]
    return [
        _task(task, [row for row in rows if row["task"] == task], folder)
        for task in dict.fromkeys(row["task"] for row in rows)
    ]


def _task(task: str, rows: list[Row], folder: Path) -> Plot:
    """Draw two panels, trained plainly and with modality dropout, with a row a fusion and a marker a condition."""
    names = list(dict.fromkeys(row["fusion"] for row in rows))
    with styled():
        drawn = figure(1.7 + 0.75 * len(names))
        axes = drawn.subplots(2, sharex=True)
        for axis, dropped in zip(axes, (False, True), strict=True):
            # Modality dropout does not apply to a modality alone: it is in both panels, as a reference.
            shown = [row for row in rows if row["modality_dropout"] == dropped or row["fusion"].endswith(" alone")]
            _panel(axis, names, shown)
            axis.set_title(f"{task}, trained {'with modality dropout' if dropped else 'plainly'}")
        axes[1].set_xlabel("macro ROC-AUC (right is better)")
        drawn.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=3, fontsize=7.5)
        values = "; ".join(
            f"{row['fusion']}{' with modality dropout' if row['modality_dropout'] else ''}, {row['missing']} missing, "
            f"{row['auc']:.3f}{interval({'low': row['auc_low'], 'high': row['auc_high']})}"
            for row in rows
            if row["auc"] is not None
        )
        return save(drawn, folder, f"study-fusion-{task}", f"Macro ROC-AUC of {task}, chance being 0.5: {values}.")


def _panel(axis: Axes, names: list[str], rows: list[Row]) -> None:
    axis.axvline(0.5, color=CHANCE, ls="--", lw=1.2)
    for number, (missing, (label, colour, marker)) in enumerate(CONDITIONS.items()):
        chosen = [row for row in rows if row["missing"] == missing and row["auc"] is not None]
        heights = [len(names) - 1 - names.index(row["fusion"]) + 0.2 * (1 - number) for row in chosen]
        lines = [{"value": row["auc"], "low": row["auc_low"], "high": row["auc_high"]} for row in chosen]
        dots(axis, heights, lines, color=colour, marker=marker, ms=4.5, label=label)
    axis.set_yticks(np.arange(len(names))[::-1].tolist(), names)
    axis.set_ylim(-0.6, len(names) - 0.4)
    axis.grid(False, axis="y")

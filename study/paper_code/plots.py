"""The plot of `paper_code`: what the authors' code logs beside true ranks and the loss, by correlation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from eval.report.plots.base import CHANCE, COLOURS, PAPER, Plot, figure, save, styled
from study.answer import Answer, Row
from study.paper_code.clone import words
from study.paper_code.text import models, rows_of

TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
SIZE = (3.6, 8.4)
"""Height and width in inches: two panels side by side."""


def plots(answer: Answer, folder: Path) -> list[Plot]:
    """Draw the figure into `folder`; none without simulated features."""
    if not rows_of(answer.tables["curves"], "simulated"):
        return []
    code = words(code_of(answer.tables["code"]))
    return [draw(answer.tables["curves"], code, folder, "study-paper_code")]


def code_of(rows: list[Row]) -> dict[str, Any]:
    """Return the identity of the code (study/paper_code/clone.py) from the table `code`."""
    identity = {name: rows[0][name] for name in ("commit", "changed", "examined")}
    return identity | {"files": {row["file"]: row["sha256"] for row in rows}}


def draw(curves: list[Row], code: str, folder: Path, name: str) -> Plot:
    """Draw ranks (left) and validation losses (right) on simulated features by correlation; `code` says which ran."""
    rows = rows_of(curves, "simulated")
    with styled():
        drawn = figure(*SIZE)
        left, right = drawn.subplots(1, 2)
        for number, model in enumerate(models(rows)):
            line = rows_of(rows, "simulated", model)
            title = model.replace("_", " ")
            x = [row["correlation"] for row in line]
            colour, marker = COLOURS[2 * number], "os"[number % 2]
            theirs = [row["theirs_percent"] for row in line]
            style = {"color": PAPER, "marker": marker, "ms": 4, "ls": ":", "lw": 1.6, "mfc": "none", "zorder": 3}
            left.plot(x, theirs, label=f"{title}: what their code logs", **style)
            _line(left, line, "true_percent", colour, marker, f"{title}: true median rank")
            _line(right, line, "best_validation_loss", colour, marker, None)
        right.axhline(rows[0]["chance_loss"], color=CHANCE, ls="--", lw=1.2, label="chance")
        left.axhline(50, color=CHANCE, ls="--", lw=1.2)
        _percent(left, rows)
        left.set(xlabel="correlation ρ of audio and video", ylabel="median rank, % of the gallery", title="Median rank")
        right.set(
            xlabel="correlation ρ of audio and video", ylabel="nats, both directions", title="Their validation loss"
        )
        drawn.suptitle(f"The authors’ code ({code}) on simulated features", fontsize=10)
        drawn.legend(loc="outside lower center", ncols=3, fontsize=7.5)
        values = "; ".join(
            f"{row['model']}, ρ {row['correlation']:g}: logged {row['theirs_percent']:.0f} %, true "
            f"{row['true_percent']:.2g} %, loss {row['best_validation_loss']:.2f}"
            for row in rows
        )
        alt = f"The authors’ code, {code}: the median rank that it logs beside the true one, and its validation loss"
        return save(drawn, folder, name, f"{alt} (chance {rows[0]['chance_loss']:.2f}). {values}.")


def _line(axis: Axes, line: list[Row], column: str, colour: str, marker: str, label: str | None) -> None:
    """Draw means over seeds, with the interval over seeds where there is one."""
    x, y = [row["correlation"] for row in line], [row[column] for row in line]
    if line[0][f"{column}_low"] is not None:
        # An interval over few seeds can reach below 0, which a logarithmic axis cannot show.
        low = [max(row[f"{column}_low"], row[column] / 10) for row in line]
        axis.fill_between(x, low, [row[f"{column}_high"] for row in line], color=colour, alpha=0.15, lw=0)
    axis.plot(x, y, color=colour, marker=marker, ms=4, lw=1.4, label=label)


def _percent(axis: Axes, rows: list[Row]) -> None:
    """Scale by logarithm: low ranks matter most."""
    lowest = min(row["true_percent"] for row in rows)
    axis.set_yscale("log")
    axis.set_ylim(lowest / 1.5, 100)
    ticks = [tick for tick in TICKS if tick >= lowest / 1.5]
    axis.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.yaxis.set_minor_locator(NullLocator())

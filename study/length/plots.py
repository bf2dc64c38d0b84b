"""Plots of `length`: ranks of the positive and probe scores by length and number of segments."""

from __future__ import annotations

from pathlib import Path

from eval.report.plots.base import CHANCE, COLOURS, Plot, figure, save, styled
from study.answer import Answer, Row
from study.length.tables import EQUAL, STARTS


def plots(answer: Answer, folder: Path) -> list[Plot]:
    """Draw the mean rank, then each probe, against the seconds used of each video."""
    ranks, label = answer.tables["retrieval"], "mean rank (lower is better)"
    drawn = [_lines(ranks, "mean rank", "rank", label, folder)]
    drawn.append(_lines(ranks, "mean rank" + EQUAL, "rank-equal", f"{label}\nequal training", folder))
    names = list(dict.fromkeys(row["measure"] for row in answer.tables.get("reading", [])))
    for number, name in enumerate(names):
        drawn.append(_lines(answer.tables["reading"], name, f"reading-{number}", name, folder))
    return drawn


def _lines(rows: list[Row], measure: str, name: str, label: str, folder: Path) -> Plot:
    """Draw a line for each segment length with intervals over groups, shifted slightly so that none hides another."""
    selected = [row for row in rows if row["measure"] == measure]
    # Answers of before a variant could say where segments start have no such column.
    lengths = sorted({(row["seconds"], row.get("start", "")) for row in selected})
    with styled():
        canvas = figure()
        axis = canvas.subplots()
        for number, (seconds, start) in enumerate(lengths):
            line = [row for row in selected if (row["seconds"], row.get("start", "")) == (seconds, start)]
            x = [row["seconds_a_video"] * 1.03 ** (number - (len(lengths) - 1) / 2) for row in line]
            y = [row["value"] for row in line]
            spread = [[value - row["low"] for value, row in zip(y, line, strict=True)]]
            spread.append([row["high"] - value for value, row in zip(y, line, strict=True)])
            colour = COLOURS[number % len(COLOURS)]
            axis.errorbar(
                x, y, yerr=spread, color=colour, marker="o", ms=5, lw=1.4, label=f"{seconds:g} s{STARTS[start]}"
            )
            for position, row in zip(x, line, strict=True):
                point = position, row["value"]
                axis.annotate(str(row["count"]), point, (4, 4), textcoords="offset points", fontsize=7)
        axis.axhline(selected[0]["chance"], color=CHANCE, ls="--", lw=1.2, label="chance")
        axis.set_xscale("log")
        ticks = sorted({row["seconds_a_video"] for row in selected if row["seconds_a_video"] in (3, 5, 10, 30)})
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.set_xticks([], minor=True)
        axis.set(xlabel="seconds of each video (numbers: segments)", ylabel=label)
        canvas.legend(loc="outside upper center", ncols=len(lengths) + 1, fontsize=7.5)
        values = "; ".join(
            f"{row['count']} of {row['seconds']:g} s{STARTS[row.get('start', '')]}: {row['value']:.3g}"
            for row in selected
        )
        return save(canvas, folder, f"study-length-{name}", f"{label} by segment length and number. {values}.")

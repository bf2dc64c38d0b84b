"""What length and number of segments do: ranks of the true partner, and what is read of each backbone's features."""

from __future__ import annotations

from pathlib import Path

from eval.report.plots.base import CHANCE, COLOURS, Plot, figure, save, styled
from eval.study.answer import Answer, Row
from eval.study.length_measures import EQUAL


def plots(answer: Answer, folder: Path) -> list[Plot]:
    """Mean rank, then each reading, against the seconds that were looked at."""
    ranks, label = answer.tables["retrieval"], "mean rank (lower is better)"
    found = [_lines(ranks, "mean rank", "rank", label, folder)]
    found.append(_lines(ranks, "mean rank" + EQUAL, "rank-equal", f"{label}\nequal training", folder))
    names = list(dict.fromkeys(row["measure"] for row in answer.tables.get("reading", [])))
    for number, name in enumerate(names):
        found.append(_lines(answer.tables["reading"], name, f"reading-{number}", name, folder))
    return found


def _lines(rows: list[Row], measure: str, name: str, label: str, folder: Path) -> Plot:
    """A line a segment length, with intervals over videos, slightly apart where lengths share their seconds."""
    here = [row for row in rows if row["measure"] == measure]
    lengths = sorted({row["seconds"] for row in here})
    with styled():
        drawn = figure()
        axis = drawn.subplots()
        for number, seconds in enumerate(lengths):
            line = [row for row in here if row["seconds"] == seconds]
            x = [row["seconds_a_video"] * 1.03 ** (number - (len(lengths) - 1) / 2) for row in line]
            y = [row["value"] for row in line]
            spread = [[v - row["low"] for v, row in zip(y, line, strict=True)]]
            spread.append([row["high"] - v for v, row in zip(y, line, strict=True)])
            colour = COLOURS[number % len(COLOURS)]
            axis.errorbar(x, y, yerr=spread, color=colour, marker="o", ms=5, lw=1.4, label=f"{seconds:g} s")
            for at, row in zip(x, line, strict=True):
                axis.annotate(str(row["count"]), (at, row["value"]), (4, 4), textcoords="offset points", fontsize=7)
        axis.axhline(here[0]["chance"], color=CHANCE, ls="--", lw=1.2, label="guessing")
        axis.set_xscale("log")
        ticks = sorted({row["seconds_a_video"] for row in here if row["seconds_a_video"] in (3, 5, 10, 30)})
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.set_xticks([], minor=True)
        axis.set(xlabel="seconds looked at (numbers: segments)", ylabel=label)
        drawn.legend(loc="outside upper center", ncols=len(lengths) + 1, fontsize=7.5)
        said = "; ".join(f"{row['count']} of {row['seconds']:g} s: {row['value']:.3g}" for row in here)
        return save(drawn, folder, f"study-length-{name}", f"{label} by segment length and number. {said}.")

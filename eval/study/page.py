"""The study's page as HTML, from the answers alone. Reads plan.json; writes nothing. All text is escaped by Jinja."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config.model import Config
from config.paths import Paths
from eval.report.page import environment, number, style, versions
from eval.report.plots.base import Plot
from eval.study.answer import Answer, Row
from pipeline.plan import read_plan

ROWS = 12
"""Rows of a table that the page itself shows; the CSV file has all."""
ENDS = ("low", "high")


@dataclass(frozen=True)
class Cell:
    """What stands in a table's cell: words, the interval in brackets (or nothing), and whether it is a number."""

    text: str
    interval: str = ""
    numeric: bool = False


@dataclass(frozen=True)
class Shown:
    """A table as the page shows it: the first rows, an interval beside the value that it belongs to."""

    name: str
    file: str
    columns: list[str]
    rows: list[list[Cell]]
    total: int


def file_name(answer: Answer, table: str) -> str:
    """Name of a table's file, without ending."""
    return f"study-{answer.part}-{table}"


def study(config: Config, answers: list[Answer], plots: dict[str, list[Plot]]) -> str:
    """The page. `plots` by part."""
    random = sorted({name for answer in answers for name in answer.random_weights})
    return (
        environment()
        .get_template("study.html")
        .render(
            config=config,
            plan=read_plan(Paths(Path(config.results))),
            answers=answers,
            plots=plots,
            tables={answer.part: [shown(answer, name) for name in answer.tables] for answer in answers},
            random=random,
            style=style(),
            versions=versions(),
            settings=config.study.model_dump_json(indent=1),
            command=f"python -m eval.study {shlex.join(sys.argv[1:])}",
        )
    )


def shown(answer: Answer, name: str) -> Shown:
    """A table of an answer for the page. `x_low` and `x_high` (or `low` and `high`, of `value`) stand beside `x`."""
    rows = answer.tables[name]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    ends = {column: _ends(column, columns) for column in columns}
    taken = {end for pair in ends.values() if pair for end in pair}
    left = [column for column in columns if column not in taken]
    cells = [[_cell(row, column, ends[column]) for column in left] for row in rows[:ROWS]]
    titles = [column.replace("_", " ") for column in left]
    return Shown(name.replace("_", " "), file_name(answer, name), titles, cells, len(rows))


def _ends(column: str, columns: list[str]) -> tuple[str, str] | None:
    """The columns of a value's interval, if it has one."""
    low, high = (end if column == "value" else f"{column}_{end}" for end in ENDS)
    return (low, high) if low in columns and high in columns else None


def _cell(row: Row, column: str, ends: tuple[str, str] | None) -> Cell:
    value = row.get(column)
    bounds = [row.get(end) for end in ends] if ends else []
    interval = f"[{_text(bounds[0])}, {_text(bounds[1])}]" if bounds and None not in bounds else ""
    return Cell(_text(value), interval, isinstance(value, int | float) and not isinstance(value, bool))


def _text(value: Any) -> str:
    """A value in a reader's words. A number that would be rounded to zero is said to be small, not to be zero."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and 0 < abs(value) < 0.0005:
        return "< 0.001" if value > 0 else "> −0.001"
    if value is None or isinstance(value, int | float):
        return number(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

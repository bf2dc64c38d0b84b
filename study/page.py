"""Write the study's page as HTML from the answers. Jinja escapes all text.

Reads plan.json and manifest.json, where a question needs videos; writes nothing.
"""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import dataclass
from typing import Any

from config.files import read_json
from config.model import Config
from eval.report.page import environment, number, style, versions
from eval.report.plots.base import Plot
from pipeline.records import read_plan
from study.answer import Answer, Row

ROWS = 12
"""Rows of a table on the page; the CSV file has all."""
ENDS = ("low", "high")


@dataclass(frozen=True)
class Cell:
    """A cell of a table: its text, the interval in brackets (or nothing), and whether it is a number."""

    text: str
    interval: str = ""
    numeric: bool = False


@dataclass(frozen=True)
class Shown:
    """A table on the page: its first rows, with each interval beside its value."""

    name: str
    file: str
    columns: list[str]
    rows: list[list[Cell]]
    total: int


def file_name(answer: Answer, table: str) -> str:
    """Return the name of a table's file, without suffix."""
    return f"study-{answer.part}-{table}"


def study(config: Config, answers: list[Answer], plots: dict[str, list[Plot]]) -> str:
    """Return the page as HTML; `plots` are by question."""
    paths = config.paths
    plan = read_plan(paths) if config.study.needs_videos else None
    manifest = read_json(paths.manifest_record) or {} if plan else {}
    random = sorted({name for answer in answers for name in answer.random_weights})
    return (
        environment()
        .get_template("study.html")
        .render(
            config=config,
            plan=plan,
            videos=plan.videos - manifest.get("retired", 0) if plan else 0,
            answers=answers,
            plots=plots,
            tables={answer.part: [shown(answer, name) for name in answer.tables] for answer in answers},
            random=random,
            style=style(),
            versions=versions(),
            settings=config.study.model_dump_json(indent=1),
            command=f"python -m study {shlex.join(sys.argv[1:])}",
        )
    )


def shown(answer: Answer, name: str) -> Shown:
    """Lay out a table for the page: `x_low` and `x_high` (or `low` and `high`, of `value`) go beside `x`."""
    rows = answer.tables[name]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    ends = {column: _ends(column, columns) for column in columns}
    bounds = {end for pair in ends.values() if pair for end in pair}
    kept = [column for column in columns if column not in bounds]
    cells = [[_cell(row, column, ends[column]) for column in kept] for row in rows[:ROWS]]
    titles = [column.replace("_", " ") for column in kept]
    return Shown(name.replace("_", " "), file_name(answer, name), titles, cells, len(rows))


def _ends(column: str, columns: list[str]) -> tuple[str, str] | None:
    """Return the columns of a value's interval, if it has one."""
    low, high = (end if column == "value" else f"{column}_{end}" for end in ENDS)
    return (low, high) if low in columns and high in columns else None


def _cell(row: Row, column: str, ends: tuple[str, str] | None) -> Cell:
    value = row.get(column)
    bounds = [row.get(end) for end in ends] if ends else []
    interval = f"[{_text(bounds[0])}, {_text(bounds[1])}]" if bounds and None not in bounds else ""
    return Cell(_text(value), interval, isinstance(value, int | float) and not isinstance(value, bool))


def _text(value: Any) -> str:
    """Format a value. A small number that would be rounded to 0 is shown as `< 0.001`."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and 0 < abs(value) < 0.0005:
        return "< 0.001" if value > 0 else "> −0.001"
    if value is None or isinstance(value, int | float):
        return number(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

"""What every part of the study hands to the page: a question, what came out, how sure that is, and the tables.

Reads and writes study/PART.json. The page, the CSV files and the plots are made from that file alone.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, field
from typing import Any

from config.cli import UserError
from config.files import read_json, write_json
from config.paths import Paths

Row = dict[str, Any]
PARTS = ("correlation", "length", "aggregation", "fusion", "relations")
"""In the page's order."""


@dataclass(frozen=True)
class Finding:
    """One sentence of an answer, and how sure it is: intervals, tests, seeds, in words."""

    claim: str
    sure: str


@dataclass(frozen=True)
class Answer:
    """A part's answer. All texts are plain; words between backticks are code."""

    part: str
    title: str
    question: str
    findings: list[Finding]
    method: str
    """A paragraph: data, models, budget, statistics, with sources."""
    limits: list[str]
    """What it does not show."""
    random_weights: list[str]
    """Backbones whose features come from random weights: the page says so beside every answer."""
    seeds: list[int]
    command: str
    """What makes this part again, for a shell."""
    tables: dict[str, list[Row]] = field(default_factory=dict)
    """Rows of plain values by the table's name; each becomes report/tables/study-PART-NAME.csv."""


def write_answer(paths: Paths, answer: Answer) -> None:
    """Write study/PART.json, and log what was found."""
    write_json(paths.study(answer.part), asdict(answer))
    for finding in answer.findings:
        logging.getLogger(answer.part).info("%s (%s)", finding.claim, finding.sure)


def read_answer(paths: Paths, part: str) -> Answer:
    """Read study/PART.json. UserError if it does not exist."""
    found = read_json(paths.study(part))
    if found is None:
        raise UserError(f"{paths.study(part)} does not exist; run `snakemake study …`")
    return Answer(**{**found, "findings": [Finding(**each) for each in found["findings"]]})

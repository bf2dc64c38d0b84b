"""What every question of the study hands to the page: the findings, how sure they are, the method and the tables.

Reads and writes study/QUESTION.json. The page, the CSV files and the plots are made from that file alone.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, field
from typing import Any

from config.cli import UserError
from config.files import read_json, write_json
from config.paths import Paths

Row = dict[str, Any]


@dataclass(frozen=True)
class Finding:
    """One sentence of an answer, and how sure it is: intervals, tests and seeds, in words."""

    claim: str
    sure: str


@dataclass(frozen=True)
class Answer:
    """A question's answer. All texts are plain; words between backticks are code."""

    part: str
    """Name of the question: one of `study.QUESTIONS`."""
    title: str
    question: str
    findings: list[Finding]
    method: str
    """A paragraph: data, models, budget, statistics, with sources."""
    limits: list[str]
    """What it does not show."""
    random_weights: list[str]
    """Backbones whose features come from random weights; the page says so beside the answer."""
    seeds: list[int]
    command: str
    """Shell command that measures this question again."""
    tables: dict[str, list[Row]] = field(default_factory=dict)
    """{table: rows of JSON values}; each becomes report/tables/study-QUESTION-TABLE.csv."""


def sentences(notes: list[str]) -> list[str]:
    """Return notes as sentences of `limits`: with a capital letter and a full stop."""
    return [f"{note[0].upper()}{note[1:]}." for note in notes]


def write_answer(paths: Paths, answer: Answer) -> None:
    """Write study/QUESTION.json and log the findings."""
    write_json(paths.study(answer.part), asdict(answer))
    for finding in answer.findings:
        logging.getLogger(answer.part).info("%s (%s)", finding.claim, finding.sure)


def read_answer(paths: Paths, question: str) -> Answer:
    """Read study/QUESTION.json. UserError if it does not exist."""
    content = read_json(paths.study(question))
    if content is None:
        raise UserError(f"{paths.study(question)} does not exist; run `snakemake study …`")
    return Answer(**{**content, "findings": [Finding(**finding) for finding in content["findings"]]})

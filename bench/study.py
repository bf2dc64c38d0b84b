"""The study's answers in short, as a table in docs/study.md, and its bars.

    make study
    python -m bench.study results/study

Reads study/QUESTION.json and benchmarks/, whose clocks say when a job ran. Writes bench/results/study.json; `python -m
bench.tables` makes the table.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bench import measure
from config.cli import parser
from config.paths import Paths
from study import QUESTIONS
from study.answer import Answer, read_answer

SHOWN = 2
"""Findings of each part in the table; the page has them all."""


def bars(answers: dict[str, Answer], minutes: float | None) -> list[dict[str, Any]]:
    """Return what the study has to reach at demo size; `minutes` is None where other work ran beside it."""
    curves = [
        row
        for row in answers["correlation"].tables["curves"]
        if (row["source"], row["kind"], row["level"]) == ("rendered", "all", "video")
    ]
    (best,) = (row["median_percent"] for row in curves if (row["recipe"], row["correlation"]) == ("recommended", 1))
    formula: dict[str, list[float]] = {}
    for row in curves:
        formula.setdefault(row["recipe"], []).extend([row["published_percent"]] * row["seeds"])
    far = max(abs(float(np.mean(values)) / 50 - 1) for values in formula.values())
    planted = [row["significant"] for row in answers["relations"].tables["planted"]]
    time = [] if minutes is None else [measure.bar("`make study`, minutes in which its jobs ran", minutes, at_most=30)]
    return time + [
        measure.bar("recommended, ρ = 1, rendered videos: median rank (% of the gallery)", best, at_most=2),
        measure.bar("published formula, mean of each recipe: farthest from half the gallery (%)", 100 * far, at_most=5),
        measure.bar("planted relations that come out, share", sum(planted) / len(planted), at_least=1),
    ]


def wall_minutes(benchmarks: Path) -> float:
    """Return the minutes in which at least one job ran: wall time without the pauses between starts of the workflow."""
    spans = []
    for path in benchmarks.rglob("*.tsv"):
        end = path.stat().st_mtime
        spans.append((end - float(path.read_text(encoding="utf-8").splitlines()[-1].split("\t")[0]), end))
    total = last = 0.0
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, last))
        last = max(last, end)
    return total / 60


def measure_all(results: Path, busy: bool) -> dict[str, Any]:
    """Return everything for the result file; without the time if the machine was `busy` with other work."""
    paths = Paths(results)
    answers = {question: read_answer(paths, question) for question in QUESTIONS if paths.study(question).exists()}
    minutes = None if busy else wall_minutes(paths.results / "benchmarks")
    parts = [
        {"title": answer.title, "random_weights": answer.random_weights, "seeds": answer.seeds}
        | {"findings": [{"claim": finding.claim, "sure": finding.sure} for finding in answer.findings]}
        for answer in answers.values()
    ]
    return {"minutes": minutes, "parts": parts, "bars": bars(answers, minutes)}


def table(result: dict[str, Any]) -> str:
    """Return a part a line, with its first findings and how sure they are."""
    lines = ["| question | what came out | how sure |", "|---|---|---|"]
    for part in result["parts"]:
        shown = part["findings"][:SHOWN]
        claims, sure = (" ".join(finding[key].replace("|", "\\|") for finding in shown) for key in ("claim", "sure"))
        lines.append(f"| {part['title']} | {claims} | {sure[0].upper()}{sure[1:]} |")
    random = sorted({name for part in result["parts"] for name in part["random_weights"]})
    note = f"\n\nWith random weights: {', '.join(random)}." if random else ""
    return "\n".join(lines) + note


def main() -> None:
    """Run the command line."""
    command_line = parser(__doc__, "bench.study", config=False)
    command_line.add_argument("results", type=Path, help="results folder of a finished `make study`, not interrupted")
    command_line.add_argument(
        "--busy", action="store_true", help="other work ran beside it: leave out how long it took"
    )
    arguments = command_line.parse_args()
    command = "make study && python -m bench.study results/study" + (" --busy" if arguments.busy else "")
    measure.save("study", command, measure_all(arguments.results, arguments.busy))


if __name__ == "__main__":
    main()

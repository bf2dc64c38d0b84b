"""The study's answers in short and the ablation's steps, as tables in docs/study.md, a figure, and the study's bars.

    make study
    python -m bench.study results/study

Reads study/QUESTION.json and benchmarks/, whose clocks say when a job ran. Writes bench/results/study.json and
docs/ablation.png; `python -m bench.tables` makes the tables.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from bench import measure
from config.cli import parser
from config.paths import Paths
from study import QUESTIONS
from study.ablation.plots import plots
from study.ablation.text import LEVEL, of, source_words
from study.answer import Answer, Row, read_answer

SHOWN = 2
"""Findings of each question in docs/study.md; the page has them all."""
FIGURE = measure.ROOT / "docs" / "ablation.png"
COLUMNS = ("source", "step", "setting", "median", "before_mrr", "before_mrr_low", "before_mrr_high", "before_holm")
SINGLE = ("source", "step", "first_mrr", "first_mrr_low", "first_mrr_high", "first_holm")


def bars(answers: dict[str, Answer], minutes: float | None) -> list[dict[str, Any]]:
    """What the study has to reach at demo size; `minutes` is None where other work ran beside it."""
    curves = [
        row
        for row in answers["correlation"].tables["curves"]
        if (row["source"], row["kind"], row["level"]) == ("rendered", "all", "video")
    ]
    (best,) = (r["median_percent"] for r in curves if (r["recipe"], r["correlation"]) == ("recommended", 1))
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
    """Minutes in which at least one job ran: the workflow's wall time without pauses between two starts of it."""
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
    """Everything for the result file; without the time if the machine was `busy` with other work."""
    paths = Paths(results)
    answers = {question: read_answer(paths, question) for question in QUESTIONS if paths.study(question).exists()}
    minutes = None if busy else wall_minutes(paths.results / "benchmarks")
    parts = [
        {"title": a.title, "random_weights": a.random_weights, "seeds": a.seeds}
        | {"findings": [{"claim": f.claim, "sure": f.sure} for f in a.findings]}
        for a in answers.values()
    ]
    result: dict[str, Any] = {"minutes": minutes, "parts": parts, "bars": bars(answers, minutes)}
    if "ablation" in answers:
        result["ablation"] = ablation(answers["ablation"])
    return result


def ablation(answer: Answer) -> dict[str, Any]:
    """Return what docs/study.md shows of the ablation; draw docs/ablation.png."""
    with TemporaryDirectory() as folder:
        chain = plots(answer, Path(folder))[0]
        shutil.copyfile(Path(folder) / f"{chain.name}.png", FIGURE)
    shown = (("steps", COLUMNS), ("single", SINGLE))
    return {name: [{key: row.get(key) for key in keys} for row in answer.tables[name]] for name, keys in shown}


def ablation_table(result: dict[str, Any]) -> str:
    """A step a line; for each source the median rank, the gain over the step before, and that of the change alone."""
    steps, single = result["ablation"]["steps"], result["ablation"]["single"]
    sources = list(dict.fromkeys(row["source"] for row in steps))
    lines = ["| step | " + " | ".join(f"{source_words(s)}: median rank, step, alone" for s in sources) + " |"]
    lines.append("|---" * (1 + len(sources)) + "|")
    longest = max((of(steps, source) for source in sources), key=len)
    for step, setting in ((row["step"], row["setting"]) for row in longest):
        cells = []
        for source in sources:
            row = next((row for row in of(steps, source) if row["step"] == step), None)
            alone = next((row for row in of(single, source) if row["step"] == step), None)
            cells.append("" if row is None else f"{row['median']:.1f} %" + _gain(row, "before") + _gain(alone, "first"))
        lines.append(f"| {step}" + (f" ({setting})" if setting else "") + " | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _gain(row: Row | None, prefix: str) -> str:
    """Return a gain in MRR with its interval, bold where it is shown; nothing for rows without one."""
    if row is None or row[f"{prefix}_mrr"] is None:
        return ""
    low, high = row[f"{prefix}_mrr_low"], row[f"{prefix}_mrr_high"]
    words = f"{row[f'{prefix}_mrr']:+.3f} [{low:+.3f}, {high:+.3f}]"
    return f", **{words}**" if row[f"{prefix}_holm"] <= LEVEL else f", {words}"


def table(result: dict[str, Any]) -> str:
    """A part a line, with its first findings."""
    lines = ["| question | what came out |", "|---|---|"]
    for part in result["parts"]:
        claims = " ".join(f["claim"].replace("|", "\\|") for f in part["findings"][:SHOWN])
        lines.append(f"| {part['title']} | {claims} |")
    random = sorted({name for part in result["parts"] for name in part["random_weights"]})
    note = f"\n\nWith random weights: {', '.join(random)}." if random else ""
    return "\n".join(lines) + note


def main() -> None:
    """Command line."""
    p = parser(__doc__, "bench.study", config=False)
    p.add_argument("results", type=Path, help="results folder of a finished `make study`, not interrupted")
    p.add_argument("--busy", action="store_true", help="other work ran beside it: leave out how long it took")
    a = p.parse_args()
    command = "make study && python -m bench.study results/study" + (" --busy" if a.busy else "")
    measure.save("study", command, measure_all(a.results, a.busy))


if __name__ == "__main__":
    main()

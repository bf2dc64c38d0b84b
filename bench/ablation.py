"""The ablation's steps, as a table and a figure in docs/study.md.

    snakemake study --cores 2 --configfile config/study_demo.yaml config/study_ablation.yaml
    snakemake study --cores 2 --configfile config/clips_ablation.yaml
    python -m bench.ablation results/study results/clips_ablation

Reads study/ablation.json of the results folders. Writes bench/results/ablation.json and docs/ablation.png; `python -m
bench.tables` makes the table.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench import measure
from config.cli import parser
from config.paths import Paths
from study.ablation.plots import plots
from study.ablation.text import GAINS, LEVEL, rows_of, source_words
from study.answer import Answer, Row, read_answer

FIGURE = measure.ROOT / "docs" / "ablation.png"
STEPS = ("source", "step", "setting", "median", "before_mrr", "before_mrr_low", "before_mrr_high", "before_holm")
SINGLE = ("source", "step", "first_mrr", "first_mrr_low", "first_mrr_high", "first_holm")


def measure_all(answers: Sequence[Answer]) -> dict[str, Any]:
    """Return everything for the result file; draw the figure. The answers are of different sources."""
    tables = {name: [row for answer in answers for row in answer.tables[name]] for name in ("steps", "single")}
    with TemporaryDirectory() as folder:
        chain = plots(replace(answers[0], tables=tables), Path(folder))[0]
        shutil.copyfile(Path(folder) / f"{chain.name}.png", FIGURE)
    findings = [{"claim": finding.claim, "sure": finding.sure} for answer in answers for finding in answer.findings]
    shown = {
        name: [{key: row.get(key) for key in keys} for row in tables[name]]
        for name, keys in (("steps", STEPS), ("single", SINGLE))
    }
    return {"seeds": [answer.seeds for answer in answers], "findings": findings, **shown}


def table(result: dict[str, Any]) -> str:
    """Return a step a line: for each source the median rank, the gain over the step before, and that of it alone."""
    steps, single = result["steps"], result["single"]
    sources = list(dict.fromkeys(row["source"] for row in steps))
    lines = ["| step | " + " | ".join(f"{source_words(source)}: median rank, gain, alone" for source in sources) + " |"]
    lines.append("|---" * (1 + len(sources)) + "|")
    longest = max((rows_of(steps, source) for source in sources), key=len)
    for step, setting in ((row["step"], row["setting"]) for row in longest):
        cells = []
        for source in sources:
            row = next((row for row in rows_of(steps, source) if row["step"] == step), None)
            alone = next((row for row in rows_of(single, source) if row["step"] == step), None)
            cells.append("" if row is None else f"{row['median']:.1f} %" + _gain(row, "before") + _gain(alone, "first"))
        lines.append(f"| {step}" + (f" ({setting})" if setting else "") + " | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def findings(result: dict[str, Any]) -> str:
    """Return the findings, a line each, with how sure they are; gains of steps and single changes are in the table."""
    lines = []
    for finding in result["findings"]:
        sure = "" if finding["sure"].startswith(GAINS) else f" ({finding['sure'].removesuffix('.')}.)"
        lines.append(f"- {finding['claim']}{sure}")
    return "\n".join(lines)


def _gain(row: Row | None, prefix: str) -> str:
    """Return a gain in MRR with its interval, bold where it is shown; nothing for rows without one."""
    if row is None or row[f"{prefix}_mrr"] is None:
        return ""
    low, high = row[f"{prefix}_mrr_low"], row[f"{prefix}_mrr_high"]
    words = f"{row[f'{prefix}_mrr']:+.3f} [{low:+.3f}, {high:+.3f}]"
    return f", **{words}**" if row[f"{prefix}_holm"] <= LEVEL else f", {words}"


def main() -> None:
    """Run the command line."""
    command_line = parser(__doc__, "bench.ablation", config=False)
    command_line.add_argument(
        "results",
        type=Path,
        nargs="+",
        help="results folder with the answer of the question `ablation`; several: a source each",
    )
    command = __doc__.split("\n\n")[1].strip().replace("\n    ", " && ")
    measure.save(
        "ablation",
        command,
        measure_all([read_answer(Paths(results), "ablation") for results in command_line.parse_args().results]),
    )


if __name__ == "__main__":
    main()

"""What the authors' own code measures: the study's answer as a result file, tables in README and docs, and a figure.

    snakemake study --cores 2 --configfile config/paper_code.yaml --config study='{paper_code: {clone: FOLDER,
        checkpoints: [FOLDER/data/06_models/Single_proj_head.tar]}}'
    python -m bench.paper_code results/paper_code

Reads study/paper_code.json of the results. Writes bench/results/paper_code.json and, from that file alone,
docs/paper_code.png; without an argument only the figure. `python -m bench.tables` makes the tables.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from bench import measure
from config.cli import UserError, parser
from config.files import replacing
from config.paths import Paths
from study.answer import Row, read_answer
from study.paper_code.clone import words
from study.paper_code.plots import code_of, draw
from study.paper_code.text import models, of

FIGURE = measure.ROOT / "docs" / "paper_code.png"
KEPT = ("curves", "runs", "table1", "checkpoints", "alternatives", "code")
"""Tables of the answer in the result file: all but what was logged in each epoch."""
COMMAND = (
    "snakemake study --configfile config/paper_code.yaml --config study='{paper_code: {clone: FOLDER, checkpoints: "
    "[FOLDER/data/06_models/Single_proj_head.tar]}}' && python -m bench.paper_code results/paper_code"
)


def measure_all(results: Path) -> dict[str, Any]:
    """Return everything for the result file."""
    answer = read_answer(Paths(results), "paper_code")
    findings = [{"claim": finding.claim, "sure": finding.sure} for finding in answer.findings]
    tables = {name: [_rounded(row) for row in answer.tables[name]] for name in KEPT}
    return {
        "seeds": answer.seeds,
        "code": words(code_of(answer.tables["code"])),
        "findings": findings,
        "tables": tables,
    }


def _rounded(row: Row) -> Row:
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()}


def figure(result: dict[str, Any]) -> None:
    """Draw docs/paper_code.png from the result file."""
    with tempfile.TemporaryDirectory() as folder:
        draw(result["tables"]["curves"], result["code"], Path(folder), FIGURE.stem)
        data = (Path(folder) / FIGURE.name).read_bytes()
    with replacing(FIGURE) as temporary:
        temporary.write_bytes(data)


def table(result: dict[str, Any]) -> str:
    """Return a line a correlation: the logged "median rank", the true one and the validation loss of each model."""
    curves = of(result["tables"]["curves"], "simulated")
    names = models(curves)
    header = ["ρ"]
    for name in names:
        title = name.replace("_", " ")
        header += [f"{title}: logged “median rank”", f"{title}: true median rank", f"{title}: validation loss"]
    lines = []
    for rho in sorted({row["correlation"] for row in curves}):
        line = [f"{rho:g}"]
        for name in names:
            (row,) = (row for row in of(curves, "simulated", name) if row["correlation"] == rho)
            low, high = (_rank(row, f"theirs_percent_{end}") for end in ("least", "most"))
            line += [f"{low:.0f}–{high:.0f}", _number(_rank(row, "true_percent")), f"{row['best_validation_loss']:.2f}"]
        lines.append(line)
    rank, loss = _rank(curves[0], "chance_percent"), curves[0]["chance_loss"]
    lines.append(["*chance*", *([f"*{rank:g}*", f"*{rank:g}*", f"*{loss:.2f}*"] * len(names))])
    return measure.markdown(header, lines)


def _rank(row: Row, column: str) -> float:
    """Return a rank that a table has in percent of the gallery."""
    return float(row[column] * row["gallery"] / 100)


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def table1(result: dict[str, Any]) -> str:
    """Return the paper's table 1 beside what the published formula gives for any model."""
    lines = [
        [
            row["experiment"],
            f"{row['paper_audio_to_video']} / {row['paper_video_to_audio']}",
            f"{row['formula_any_model_low']:.0f} to {row['formula_any_model_high']:.0f}",
            "yes" if row["equal"] else "no",
        ]
        for row in result["tables"]["table1"]
    ]
    header = ["experiment", "the paper: audio → video / video → audio", "the formula, any model", "one number twice"]
    return measure.markdown(header, lines)


def checkpoint(result: dict[str, Any]) -> str:
    """Return what the published checkpoints say, and what else could explain it."""
    names = [row["file"] for row in result["tables"]["checkpoints"]]
    chosen = [f for f in result["findings"] if any(f"`{name}`" in f["claim"] for name in names)]
    return "\n\n".join(f"{finding['claim']} {finding['sure']}" for finding in chosen)


def lead(result: dict[str, Any]) -> str:
    """Return the README's sentence about the figure."""
    curves = of(result["tables"]["curves"], "simulated")
    logged = [_rank(row, f"theirs_percent_{end}") for row in curves for end in ("least", "most")]
    falls = []
    for model in models(curves):
        line = of(curves, "simulated", model)
        ends = (_number(_rank(line[0], "true_percent")), _number(_rank(line[-1], "true_percent")))
        falls.append(f"{ends[0]} to {ends[1]} ({model.replace('_', ' ')})")
    lines = [
        f"The authors' published code ({result['code']}), run unmodified, logs median ranks of {min(logged):.0f} to "
        f"{max(logged):.0f} of {curves[0]['gallery']:,} at every",
        f"correlation ρ of simulated features, whose true median ranks fall from {' and '.join(falls)}:",
    ]
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    p = parser(__doc__, "bench.paper_code", config=False)
    p.add_argument("results", type=Path, nargs="?", help="results folder of the study")
    results = p.parse_args().results
    if results is not None:
        measure.save("paper_code", COMMAND, measure_all(results))
    result = measure.load("paper_code")
    if result is None:
        raise UserError("bench/results/paper_code.json does not exist; give the results folder of the study")
    figure(result)


if __name__ == "__main__":
    measure.start(main)

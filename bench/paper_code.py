"""What the authors' own code measures: the study's answer as a result file, tables in README and docs, and a figure.

    snakemake study --cores 2 --configfile config/paper_code.yaml --config study='{paper_code: {clone: FOLDER,
        checkpoints: [FOLDER/data/06_models/Single_proj_head.tar]}}'
    snakemake study --cores 2 --configfile config/study_demo.yaml --config study='{questions: [paper_code],
        paper_code: {clone: FOLDER, grid: []}}'
    python -m bench.paper_code results/paper_code results/study

Reads study/paper_code.json of both: the one has simulated features, the other trained networks' features of rendered
videos. Writes bench/results/paper_code.json and, from that file alone, docs/paper_code.png; without an argument only
the figure. `python -m bench.tables` makes the tables.
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
from study.paper_code.text import models, rows_of

FIGURE = measure.ROOT / "docs" / "paper_code.png"
KEPT = ("curves", "runs", "table1", "checkpoints", "alternatives", "code")
"""Tables of the answer in the result file: all but what was logged in each epoch."""
COMMAND = (
    "snakemake study --configfile config/paper_code.yaml --config study='{paper_code: {clone: FOLDER, checkpoints: "
    "[FOLDER/data/06_models/Single_proj_head.tar]}}' && snakemake study --configfile config/study_demo.yaml --config "
    "study='{questions: [paper_code], paper_code: {clone: FOLDER, grid: []}}' && "
    "python -m bench.paper_code results/paper_code results/study"
)


def measure_all(results: Path, on_cache: Path) -> dict[str, Any]:
    """Return everything for the result file: the answer of `results`, with the runs on the cache of `on_cache`.

    Raises UserError if they are of different code.
    """
    answer, other = (read_answer(Paths(folder), "paper_code") for folder in (results, on_cache))
    if answer.tables["code"] != other.tables["code"]:
        raise UserError(f"{results} and {on_cache} were made with different code of the authors")
    for name in ("curves", "runs"):
        answer.tables[name].extend(row for row in other.tables[name] if row["source"] == "cache")
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
    curves = rows_of(result["tables"]["curves"], "simulated")
    names = models(curves)
    header = ["ρ"]
    for name in names:
        title = name.replace("_", " ")
        header += [f"{title}: logged “median rank”", f"{title}: true median rank", f"{title}: validation loss"]
    lines = []
    for rho in sorted({row["correlation"] for row in curves}):
        line = [f"{rho:g}"]
        for name in names:
            (row,) = (row for row in rows_of(curves, "simulated", name) if row["correlation"] == rho)
            low, high = (_rank(row, f"theirs_percent_{end}") for end in ("least", "most"))
            line += [f"{low:.0f}–{high:.0f}", _true(row, "true_percent"), _loss(row)]
        lines.append(line)
    rank, loss = _rank(curves[0], "chance_percent"), curves[0]["chance_loss"]
    lines.append(["*chance*", *([f"*{rank:g}*", f"*{rank:g}*", f"*{loss:.2f}*"] * len(names))])
    return measure.markdown(header, lines)


def cache_table(result: dict[str, Any]) -> str:
    """Return a line a model that was trained on the cache."""
    lines = []
    for row in rows_of(result["tables"]["curves"], "cache"):
        low, high = (_rank(row, f"theirs_percent_{end}") for end in ("least", "most"))
        model, chance = row["model"].replace("_", " "), _rank(row, "chance_percent")
        lines.append(
            [model, f"{low:.0f}–{high:.0f}", _true(row, "true_percent"), _true(row, "true_percent_best")]
            + [f"{chance:g} of {row['gallery']}", _loss(row), f"{row['chance_loss']:.2f}"]
        )
    header = ["model", "logged “median rank”", "true median rank", "of the best epoch", "chance", "validation loss"]
    return measure.markdown([*header, "chance"], lines)


def _rank(row: Row, column: str) -> float:
    """Return a rank that a table has in percent of the gallery."""
    return float(row[column] * row["gallery"] / 100)


def _true(row: Row, column: str) -> str:
    """Return a rank with its 95 % intervals over groups, if any, and over seeds, cut where the gallery ends."""
    low, high = max(_rank(row, f"{column}_low"), 1.0), min(_rank(row, f"{column}_high"), row["gallery"])
    rank, over_seeds = _number(_rank(row, column)), f"[{_number(low)}, {_number(high)}]"
    if "groups" not in row:
        return f"{rank} {over_seeds}"
    low, high = (_rank(row, f"{column}_groups_{end}") for end in ("low", "high"))
    return f"{rank} [{_number(low)}, {_number(high)}], seeds {over_seeds}"


def _loss(row: Row) -> str:
    """Return the validation loss with its 95 % interval over the seeds."""
    low, high = (row[f"best_validation_loss_{end}"] for end in ("low", "high"))
    return f"{row['best_validation_loss']:.2f} [{low:.2f}, {high:.2f}]"


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
    chosen = [finding for finding in result["findings"] if any(f"`{name}`" in finding["claim"] for name in names)]
    return "\n\n".join(f"{finding['claim']} {finding['sure']}" for finding in chosen)


def lead(result: dict[str, Any]) -> str:
    """Return the README's sentence about the figure."""
    curves = rows_of(result["tables"]["curves"], "simulated")
    logged = [_rank(row, f"theirs_percent_{end}") for row in curves for end in ("least", "most")]
    falls = []
    for model in models(curves):
        line = rows_of(curves, "simulated", model)
        ends = (_number(_rank(line[0], "true_percent")), _number(_rank(line[-1], "true_percent")))
        falls.append(f"{ends[0]} to {ends[1]} ({model.replace('_', ' ')})")
    lines = [
        f"The authors' published code ({result['code']}), run unmodified, logs median ranks of {min(logged):.0f} to "
        f"{max(logged):.0f} of {curves[0]['gallery']:,} at every",
        f"correlation ρ of simulated features. The true median ranks of the same models (means of {curves[0]['seeds']} "
        f"seeds) fall with ρ from {' and from '.join(falls)}:",
    ]
    return "\n".join(lines)


def main() -> None:
    """Run the command line."""
    command_line = parser(__doc__, "bench.paper_code", config=False)
    command_line.add_argument(
        "results", type=Path, nargs="*", help="results folders: with simulated features, with a cache"
    )
    results = command_line.parse_args().results
    if len(results) == 2:
        measure.save("paper_code", COMMAND, measure_all(*results))
    elif results:
        raise UserError("give two results folders, or none to draw the figure again")
    result = measure.load("paper_code")
    if result is None:
        raise UserError("bench/results/paper_code.json does not exist; give the results folders")
    figure(result)


if __name__ == "__main__":
    measure.start(main)

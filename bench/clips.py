"""What the question `sources` of the study found on 100 public clips, as a table in docs/study.md and a figure.

    python -m data.clips /data/clips config/clips.csv results/clips.csv
    snakemake study --cores 2 --configfile config/clips.yaml
    python -m bench.clips results/clips

Reads study/sources.json and features.json of the results folder. Writes bench/results/clips.json and docs/clips.png;
`python -m bench.tables` makes the table. No clip and no frame of one is in either.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from bench import measure
from config.cli import parser
from config.paths import Paths
from pipeline.records import read_cache_record
from study.answer import read_answer
from study.sources.plots import plots
from study.sources.text import label

FIGURE = measure.ROOT / "docs" / "clips.png"


def measure_all(results: Path) -> dict[str, Any]:
    """Return everything for the result file; draw the figure."""
    paths = Paths(results)
    answer = read_answer(paths, "sources")
    with tempfile.TemporaryDirectory() as folder:
        (plot,) = plots(answer, Path(folder))
        shutil.copyfile(Path(folder) / f"{plot.name}.png", FIGURE)
    cache = read_cache_record(paths)
    return {
        "videos": cache.videos,
        "valid": {name: cached.valid for name, cached in cache.backbones.items()},
        "segments": cache.segments.model_dump(),
        "findings": [{"claim": finding.claim, "sure": finding.sure} for finding in answer.findings],
        "figure": plot.alt,
        "tables": answer.tables,
    }


def table(result: dict[str, Any]) -> str:
    """Return an analysis a line, and the findings below."""
    header = "| analysis | videos, sources | mean rank of the positive, % of the gallery | permuted | p |"
    lines = [header, "|---|---|---|---|---|"]
    for row in result["tables"]["analyses"]:
        name = f"**{label(row)}** (primary)" if row["primary"] else label(row)
        rank = f"{row['rank_percent']:.1f} % [{row['rank_percent_low']:.1f}, {row['rank_percent_high']:.1f}]"
        permuted = f"{row['permuted']}: {row['permuted_percent']:.1f} %"
        lines.append(f"| {name} | {row['videos']}, {row['sources']} | {rank} | {permuted} | {row['p']:.2g} |")
    return (
        "\n".join(lines)
        + "\n\n"
        + "\n".join(f"- {finding['claim']} ({finding['sure']})" for finding in result["findings"])
    )


def lead(result: dict[str, Any]) -> str:
    """Return the README's sentences on what came out."""
    primary = next(row for row in result["tables"]["analyses"] if row["primary"])
    (identity,) = result["tables"]["identity"]
    low, high = (100 * identity[f"share_of_source_{end}"] for end in ("low", "high"))
    return (
        f"The table is from rendered videos. On {primary['videos']} real clips, with whole sources held out, the "
        f"positive's mean rank is {primary['rank_percent']:.0f} % of the\n"
        f"gallery (95 % interval over sources {primary['rank_percent_low']:.0f} to "
        f"{primary['rank_percent_high']:.0f} %; chance 50 %; p = {primary['p']:.2g}, permutations within sources). For "
        "the clips that share a\n"
        f"source with others, {100 * identity['share_of_source']:.0f} % of a "
        "naive split's gain over chance is due to the source "
        f"(95 % interval {low:.0f} to {high:.0f} %). More, and the paper's open questions: "
        "[docs/study.md](docs/study.md)."
    )


def main() -> None:
    """Run the command line."""
    command_line = parser(__doc__, "bench.clips", config=False)
    command_line.add_argument("results", type=Path, help="results folder of a finished study with config/clips.yaml")
    arguments = command_line.parse_args()
    measure.save(
        "clips",
        "snakemake study --configfile config/clips.yaml && python -m bench.clips",
        measure_all(arguments.results),
    )


if __name__ == "__main__":
    main()

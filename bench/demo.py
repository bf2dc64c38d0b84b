"""The demo's outcome for the table in the README.

    make demo && make demo CORRELATION=0
    python -m bench.demo results/demo results/demo-correlation-0

Reads both runs' config.json and eval/EXPERIMENT/retrieval.json. Writes bench/results/demo.json.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench import measure
from config.cli import UserError, parser
from config.files import read_json

COMMAND = "python -m bench.demo results/demo results/demo-correlation-0"


def rows_of(folders: list[Path]) -> list[dict[str, Any]]:
    """Read the true and published figures of each experiment of each run, over the full gallery of test segments."""
    rows = []
    for folder in folders:
        config = read_json(folder / "config.json")
        for name in (config or {"heads": {"experiments": [""]}})["heads"]["experiments"]:
            retrieval = read_json(folder / "eval" / name / "retrieval.json")
            if config is None or retrieval is None:
                raise UserError(f"{folder} is not a finished demo; run `make demo` and `make demo CORRELATION=0`")
            about = {"correlation": config["render"]["correlation"], "experiment": name}
            for result in retrieval["results"]:
                if (result["level"], result["gallery"]) == ("segment", "full"):
                    rows.append(
                        about
                        | {
                            "direction": result["direction"],
                            "gallery": result["size"],
                            "median_rank": result["metrics"]["median"],
                            "groups": retrieval["test_groups"],
                            "published_formula": result["published_formula"],
                        }
                    )
    return rows


def table(result: dict[str, Any]) -> str:
    """Return the README's table as Markdown: an experiment a line, both directions of each correlation side by side.

    The published formula stands there once a correlation: the paper's code prints its video → audio for both.
    """
    rows = {(row["correlation"], row["experiment"], row["direction"]): row for row in result["rows"]}
    correlations = list(dict.fromkeys(correlation for correlation, _, _ in rows))
    ways = [(correlation, way) for correlation in correlations for way in ("audio_to_video", "video_to_audio")]
    header, lines = ["experiment"], []
    for correlation, way in ways:
        header.append(f"ρ = {correlation:g}: {way.replace('_to_', ' → ')}")
    for name in dict.fromkeys(name for _, name, _ in rows):
        cells = [rows[correlation, name, way] for correlation, way in ways]
        medians = [cell["median_rank"] for cell in cells]
        ranks = [f"{median['value']:.0f} [{median['low']:.0f}, {median['high']:.0f}]" for median in medians]
        formula = [f"{cell['published_formula']:.0f}" for cell in cells if cell["direction"] == "video_to_audio"]
        lines.append([name, *ranks, ", ".join(formula)])
    # Rows without groups were measured when videos were resampled.
    groups = {row.get("groups") for row in result["rows"]}
    counts = " and ".join(f"{count}" for count in groups)
    units = "videos" if None in groups else f"{counts} groups (artists)"
    chances = [rows[correlation, lines[0][0], way] for correlation, way in ways]
    by_chance = [f"*{row['median_rank']['chance']:g} of {row['gallery']}*" for row in chances]
    lines.append(["*chance*", *by_chance, f"*intervals over {units}*"])
    both = ", ".join(f"ρ = {correlation:g}" for correlation in correlations)
    return measure.markdown([*header, f"published formula: {both}"], lines)


def main() -> None:
    """Run the command line."""
    command_line = parser(__doc__, "bench.demo", config=False)
    command_line.add_argument("results", type=Path, nargs="+", help="results folders of finished demos")
    measure.save(
        "demo",
        f"make demo && make demo CORRELATION=0 && {COMMAND}",
        {"rows": rows_of(command_line.parse_args().results)},
    )


if __name__ == "__main__":
    measure.start(main)

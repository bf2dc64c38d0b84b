"""The demo's outcome as a table in the README.

    make demo && make demo CORRELATION=0
    python -m bench.demo results/demo results/demo-correlation-0

Reads both runs' config.json and eval/EXPERIMENT/retrieval.json. Writes bench/results/demo.json and, from it, the lines
between the `demo` marks of README.md; without arguments only the latter.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from config.cli import UserError
from config.files import read_json, write_json

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "bench" / "results" / "demo.json"
MARKS = "<!-- demo: written by python -m bench.demo -->", "<!-- end of demo -->"


def measure(folders: list[Path]) -> dict[str, Any]:
    """The true and published figures of each experiment of each run, over the full gallery of test segments."""
    rows = []
    for folder in folders:
        config = read_json(folder / "config.json")
        for name in (config or {"heads": {"experiments": [""]}})["heads"]["experiments"]:
            found = read_json(folder / "eval" / name / "retrieval.json")
            if config is None or found is None:
                raise UserError(f"{folder} is not a finished demo; run `make demo` and `make demo CORRELATION=0`")
            about = {"correlation": config["render"]["correlation"], "experiment": name}
            for result in found["results"]:
                if (result["level"], result["gallery"]) == ("segment", "full"):
                    rows.append(
                        about
                        | {
                            "direction": result["direction"],
                            "gallery": result["size"],
                            "median_rank": result["metrics"]["median"],
                            "published_formula": result["published_formula"],
                        }
                    )
    versions = {name: version(name) for name in ("torch", "numpy", "av", "zarr")}
    return {"machine": f"{platform.machine()}, {os.cpu_count()} cores", "versions": versions, "rows": rows}


def table(result: dict[str, Any]) -> str:
    """The README's table as Markdown: an experiment a line."""
    lines = [
        "| correlation | heads | sound → picture | picture → sound | guessing | published formula |",
        "|---|---|---|---|---|---|",
    ]
    rows = {(row["correlation"], row["experiment"], row["direction"]): row for row in result["rows"]}
    for correlation, name in dict.fromkeys((row["correlation"], row["experiment"]) for row in result["rows"]):
        there, back = (rows[correlation, name, way] for way in ("audio_to_video", "video_to_audio"))
        ranks = " | ".join(
            f"{m['value']:.0f} [{m['low']:.0f}, {m['high']:.0f}]" for m in (there["median_rank"], back["median_rank"])
        )
        lines.append(
            f"| {correlation:g} | {name} | {ranks} | {there['median_rank']['chance']:g} of {there['gallery']} "
            f"| {there['published_formula']:.0f}, {back['published_formula']:.0f} |"
        )
    return "\n".join(lines)


def with_table(readme: str, result: dict[str, Any]) -> str:
    """The README's text with the table between its marks."""
    before, rest = readme.split(MARKS[0])
    _, after = rest.split(MARKS[1])
    return f"{before}{MARKS[0]}\n{table(result)}\n{MARKS[1]}{after}"


def main() -> None:
    """Command line."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("results", type=Path, nargs="*", help="results folders of finished demos")
    folders = p.parse_args().results
    if folders:
        write_json(RESULT, measure(folders))
    readme = ROOT / "README.md"
    readme.write_text(with_table(readme.read_text(), json.loads(RESULT.read_text())))


if __name__ == "__main__":
    main()

"""Write the report of a run.

Reads the plan, the manifest, the probe's durations, failures.csv, every experiment's metrics.jsonl, retrieval.json and
neighbours.json, and one frame of each video it shows. Writes `report/index.html` (self-contained: pictures are inside,
nothing is loaded from elsewhere, no scripts), `report/plots/*.png` and `report/tables/*.csv`.
"""

from __future__ import annotations

import csv
import logging
import platform
import shlex
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from config.cli import clock, parser, run
from config.files import replacing
from config.model import LEAST_VIDEOS, Config, read
from config.paths import Paths
from eval.report import plots
from eval.report.gather import Run, gather
from eval.report.thumbnails import thumbnails

log = logging.getLogger("report")
PACKAGES = "torch torchvision numpy zarr av decord essentia-tensorflow soxr snakemake".split()


def write_table(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    """Write a table of the report as `tables/NAME.csv`, with at least a header."""
    columns = list(rows[0]) if rows else ["empty"]
    with replacing(folder / f"{name}.csv") as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def draw(run: Run, folder: Path) -> dict[str, str]:
    """Draw every plot into `folder`; {name: PNG as data URI}."""
    drawn = {}
    for e in run.experiments:
        drawn[f"loss-{e.name}"] = plots.loss(e.metrics, folder / f"loss-{e.name}.png")
        for level in e.levels:
            name = f"ranks-{level}-{e.name}"
            drawn[name] = plots.ranks(e.results(level, "full"), level, folder / f"{name}.png")
    return drawn


def render(config: Config, run: Run, pictures: dict[str, str], frames: dict[str, str]) -> str:
    """The page as HTML. Text from data is escaped by Jinja."""
    here = Path(__file__).parent
    environment = Environment(loader=FileSystemLoader(here), autoescape=True, undefined=StrictUndefined)
    environment.filters |= {"number": number, "clock": clock, "percent": lambda share: f"{share:.0%}"}
    return environment.get_template("page.html").render(
        run=run,
        config=config,
        plots=pictures,
        frames=frames,
        style=Markup((here / "style.css").read_text(encoding="utf-8")),
        settings=config.model_dump_json(indent=1),
        versions={name: version(name) for name in PACKAGES} | {"Python": platform.python_version()},
        least=LEAST_VIDEOS,
        command=f"python -m eval.report {shlex.join(sys.argv[1:])}",
    )


def number(value: float) -> str:
    """A number as a reader wants it: three significant digits, no exponent."""
    if value == round(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.3g}"


def report(config: Config) -> Path:
    """Write the whole report; returns the page's path."""
    paths = Paths(Path(config.results))
    found = gather(config)
    for name, rows in found.tables().items():
        write_table(paths.report / "tables", name, rows)
    pictures = draw(found, paths.report / "plots")
    frames = thumbnails(found.shown(), config)
    page = paths.report / "index.html"
    html = render(config, found, pictures, frames)
    with replacing(page) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return page


def main() -> None:
    """Command line."""
    log.info("wrote %s", report(read(parser(__doc__, "eval.report").parse_args().config)))


if __name__ == "__main__":
    run(main)

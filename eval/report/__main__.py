"""Write the report of a run.

Reads the plan, the manifest, the probe's durations, failures.csv, every experiment's metrics.jsonl, what eval/ wrote of
each experiment and of the features, near-duplicates where they were looked for, and a few seconds of each video that
the galleries show. Writes into report/:
  index.html          the report: plots and stills are inside, nothing is loaded from elsewhere, no scripts
  gallery-NAME.html   nearest neighbours in each space, with clips to play from media/
  plots/*.png, *.svg  every plot; tables/*.csv every table
"""

from __future__ import annotations

import logging
from pathlib import Path

from config.cli import parser, run
from config.files import replacing
from config.model import Config, read
from eval.report import page
from eval.report.draw import draw
from eval.report.gather import gather
from eval.report.media import cut
from eval.report.tables import tables, write_table

log = logging.getLogger("report")


def report(config: Config) -> Path:
    """Write the whole report and return the page's path."""
    folder = config.paths.report
    results = gather(config)
    for name, rows in tables(results).items():
        write_table(folder / "tables", name, rows)
    drawn = draw(results, folder / "plots")
    # The leading experiment's clips come first, so that no limit to what is cut leaves them out.
    first = sorted(results.spaces, key=lambda space: space is not results.lead)
    items = results.duplicates.items + [item for space in first for item in space.neighbours["items"]]
    media = cut(items, config, folder)
    for space in results.spaces:
        _write(folder / f"gallery-{space.name}.html", page.gallery(config, results, space, media))
    _write(folder / "index.html", page.index(config, results, drawn, media, folder))
    return folder / "index.html"


def _write(path: Path, html: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(html, encoding="utf-8", errors="replace")


def main() -> None:
    """Run the command line."""
    log.info("wrote %s", report(read(parser(__doc__, "eval.report").parse_args().config)))


if __name__ == "__main__":
    run(main)

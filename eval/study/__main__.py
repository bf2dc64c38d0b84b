"""Write the page of the study: what was asked, what came out, how sure that is.

Reads study/PART.json of every part (eval/study/answer.py) and plan.json. Writes into report/:
  study.html                     self-contained: plots are inside, nothing is loaded from elsewhere, no scripts
  tables/study-PART-NAME.csv     every table of every answer
  plots/study-*.png, *.svg       every plot
"""

from __future__ import annotations

import logging
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from config.cli import parser, run
from config.files import replacing
from config.model import Config, read
from config.paths import Paths
from eval.report.plots.base import Plot
from eval.report.tables import write_table
from eval.study import page
from eval.study.answer import PARTS, Answer, read_answer

log = logging.getLogger("study")


def study(config: Config) -> Path:
    """Write the page with its tables and plots; returns its path. UserError if an answer is missing."""
    paths = Paths(Path(config.results))
    answers = [read_answer(paths, part) for part in PARTS]
    for answer in answers:
        for name, rows in answer.tables.items():
            write_table(paths.report / "tables", page.file_name(answer, name), rows)
    plots = {answer.part: draw(answer, paths.report / "plots") for answer in answers}
    html = page.study(config, answers, plots)
    with replacing(paths.study_page) as temporary:
        temporary.write_text(html, encoding="utf-8", errors="replace")
    return paths.study_page


def draw(answer: Answer, folder: Path) -> list[Plot]:
    """The plots of an answer, by eval/study/plots/PART.py; none of a part that has no such module."""
    module = f"eval.study.plots.{answer.part}"
    return import_module(module).plots(answer, folder) if find_spec(module) else []


def main() -> None:
    """Command line."""
    log.info("wrote %s", study(read(parser(__doc__, "eval.study").parse_args().config)))


if __name__ == "__main__":
    run(main)

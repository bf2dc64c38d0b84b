"""Write the page of the study: for each question the findings, how sure they are, the method and its limits.

Reads study/QUESTION.json of every question in `study.questions` (study/answer.py), and plan.json where one of them
needs videos. Writes into report/:
  study.html                        self-contained: plots are inside, nothing is loaded, no scripts
  tables/study-QUESTION-TABLE.csv   every table of every answer
  plots/study-*.png, *.svg          every plot
"""

from __future__ import annotations

import logging
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from config.cli import parser, run
from config.files import replacing
from config.model import Config, read
from eval.report.plots.base import Plot
from eval.report.tables import write_table
from study import asked, page
from study.answer import Answer, read_answer

log = logging.getLogger("study")


def study(config: Config) -> Path:
    """Write the page with its tables and plots; return its path. UserError if an answer is missing."""
    paths = config.paths
    answers = [read_answer(paths, question) for question in asked(config.study)]
    for answer in answers:
        for name, rows in answer.tables.items():
            write_table(paths.report / "tables", page.file_name(answer, name), rows)
    plots = {answer.part: draw(answer, paths.report / "plots") for answer in answers}
    html = page.study(config, answers, plots)
    with replacing(paths.study_page) as temporary:
        temporary.write_text(html, encoding="utf-8", errors="replace")
    return paths.study_page


def draw(answer: Answer, folder: Path) -> list[Plot]:
    """Draw an answer by study/QUESTION/plots.py; no plots if there is no such module."""
    module = f"study.{answer.part}.plots"
    return list(import_module(module).plots(answer, folder)) if find_spec(module) else []


def main() -> None:
    """Run the command line."""
    log.info("wrote %s", study(read(parser(__doc__, "study").parse_args().config)))


if __name__ == "__main__":
    run(main)

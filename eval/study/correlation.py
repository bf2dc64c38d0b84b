"""At which correlation of sound and picture does each recipe begin to find it, and how many videos does it need?

Reads study/correlation/ (heads/study/correlation.py) and the plan. Writes study/correlation.json, with the tables
  curves      the true median rank, recall at 10, chance and the published formula for each recipe and correlation
  thresholds  the correlation at which each recipe begins to beat chance
  sizes       the same measures for correlations and numbers of training videos; needed: the fewest that suffice
  null        how often trainings at correlation 0 claim to beat chance
  achieved    which correlations the pairing of rendered videos reached, by factor
The columns are explained in eval/study/curves.py.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch

from config.cli import UserError, parser, run
from config.files import read_json
from config.model import Config, read
from config.paths import Paths
from config.processes import each
from eval.study import correlation_words as words
from eval.study.answer import Answer, Row, write_answer
from eval.study.curves import achieved, measure, needed, null, thresholds
from heads.study.cells import Cell, few
from pipeline.features import open_features

PART = "correlation"


def load_cells(paths: Paths) -> tuple[list[Cell], str | None]:
    """The trained cells, and why rendered videos were left out, if they were. UserError if they are not trained yet."""
    path = paths.study_work(PART) / "trained.json"
    found = read_json(path)
    if found is None:
        raise UserError(f"{path} does not exist; run `python -m heads.study.correlation --config …`")
    return [Cell(**{**cell, "seeds": tuple(cell["seeds"])}) for cell in found["cells"]], found["left_out"]


def answer(config: Config, threads: int) -> Answer:
    """Measure every cell and put the answer together."""
    paths, c = Paths(Path(config.results)), config.study.correlation
    cells, left_out = load_cells(paths)
    folder = paths.study_work(PART)
    one = partial(_measure, folder, config.eval.bootstrap, config.eval.seed)
    measured = dict(each(one, cells, threads, torch.set_num_threads, 1))
    rows = [row for cell in cells for row in measured[cell]]
    drawn = [row for row in rows if row["source"] == "rendered" or row["train_videos"] == c.simulated.videos]
    mapped = [row for row in rows if _on_map(row, config)]
    tables: dict[str, list[Row]] = {
        "curves": plain(drawn),
        "thresholds": thresholds(drawn),
        "sizes": plain(mapped),
        "needed": needed(mapped),
        "null": null(drawn),
        "achieved": [
            row
            for cell in {(cell.kind, cell.correlation): cell for cell in cells if cell.source == "rendered"}.values()
            for row in achieved(folder / f"{cell.name}.safetensors", cell)
        ],
    }
    view = open_features(paths)
    sides = [] if left_out else [config.heads.audio, config.heads.video]
    return Answer(
        part=PART,
        title="Controlled correlation",
        question="At which correlation of sound and picture does each recipe begin to find it, how many videos does it "
        "need, and which kinds of link can the frozen backbones carry at all?",
        findings=words.findings(tables),
        method=words.method(config, left_out),
        limits=words.limits(config, left_out),
        random_weights=[name for name in sides if view.random_weights(name)],
        seeds=config.study.seeds,
        command="snakemake study --cores N --configfile FILE --forcerun study_correlation_train",
        tables=tables,
    )


def plain(rows: list[Row]) -> list[Row]:
    """The rows without what is only needed to make other tables."""
    return [{key: value for key, value in row.items() if key != "each"} for row in rows]


def _on_map(row: dict[str, Any], config: Config) -> bool:
    """Whether a simulated row belongs to the map of sizes; a curve may lend it some."""
    s = config.study.correlation.simulated
    return (
        row["source"] == "simulated"
        and row["recipe"] in few(config)
        and row["correlation"] in s.map_grid
        and row["train_videos"] in s.sizes
    )


def _measure(folder: Path, resamples: int, seed: int, cell: Cell) -> list[Row]:
    return measure(folder / f"{cell.name}.safetensors", cell, resamples, seed)


def main() -> None:
    """Command line."""
    args = parser(__doc__, "eval.study.correlation", "processes of one thread each").parse_args()
    config = read(args.config)
    write_answer(Paths(Path(config.results)), answer(config, args.threads))


if __name__ == "__main__":
    run(main)

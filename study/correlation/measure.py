"""At which correlation of audio and video does each recipe begin to beat chance, and how many videos does it need?

Reads study/correlation/ (study/correlation/train.py), the plan and the manifest. Writes study/correlation.json, with
the tables
  curves      the true median rank, recall at 10, chance and the published formula for each recipe and correlation
  thresholds  the correlation at which each recipe begins to beat chance
  sizes       the same measures for correlations and numbers of training videos; needed: the fewest that suffice
  null        how often trainings at correlation 0 seem to beat chance
  achieved    the correlations that the pairing of rendered videos reached, by factor, and the share of the videos
              that keep their own frames
The columns are explained in study/correlation/curves.py.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from config.cli import UserError, parser, run
from config.files import read_json
from config.model import Config, read
from config.paths import Paths
from config.processes import parallel
from eval.bootstrap import few_groups
from heads.features import load_features
from pipeline.features import open_features
from study.answer import Answer, Row, sentences, write_answer
from study.correlation import text as words
from study.correlation.cells import Cell, few
from study.correlation.curves import achieved, measure, needed, null, thresholds
from study.correlation.train import whole
from study.groups import groups_of_rows

PART = "correlation"


def load_cells(paths: Paths) -> tuple[list[Cell], str | None]:
    """Return the trained cells, and why rendered videos were left out, if so. UserError if nothing is trained."""
    path = paths.study_work(PART) / "trained.json"
    trained = read_json(path)
    if trained is None:
        raise UserError(f"{path} does not exist; run `python -m study.correlation.train --config …`")
    return [Cell(**{**cell, "seeds": tuple(cell["seeds"])}) for cell in trained["cells"]], trained["left_out"]


def answer(config: Config, threads: int) -> Answer:
    """Measure every cell and put the answer together."""
    paths, settings = config.paths, config.study.correlation
    cells, left_out = load_cells(paths)
    folder = paths.study_work(PART)
    groups = None if left_out else groups_of_rows(paths, whole(load_features(config).splits["test"]))
    measure_cell = partial(_measure, folder, config.eval.bootstrap, config.eval.seed, groups)
    measured = dict(parallel(measure_cell, cells, threads, torch.set_num_threads, 1))
    rows = [row for cell in cells for row in measured[cell]]
    drawn = [row for row in rows if row["source"] == "rendered" or row["train_videos"] == settings.simulated.videos]
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
    warnings = [] if groups is None else few_groups(len(np.unique(groups)), "the rendered videos' test split")
    view = open_features(paths)
    backbones = [] if left_out else [config.heads.audio, config.heads.video]
    return Answer(
        part=PART,
        title="Controlled correlation",
        question="At which correlation of audio and video does each recipe begin to beat chance, how many videos does "
        "it need, and which kinds of link do the frozen backbones encode at all?",
        findings=words.findings(tables),
        method=words.method(config, left_out),
        limits=words.limits(config, left_out, tables) + sentences(warnings),
        random_weights=[name for name in backbones if view.random_weights(name)],
        seeds=config.study.seeds,
        command="snakemake study --cores N --configfile FILE --forcerun study_correlation_train",
        tables=tables,
    )


def plain(rows: list[Row]) -> list[Row]:
    """Drop what is only needed to make other tables."""
    return [{key: value for key, value in row.items() if key != "each"} for row in rows]


def _on_map(row: dict[str, Any], config: Config) -> bool:
    """Return whether a row belongs to the map of sizes; cells of a curve can be on it too."""
    simulated = config.study.correlation.simulated
    return (
        row["source"] == "simulated"
        and row["recipe"] in few(config)
        and row["correlation"] in simulated.map_grid
        and row["train_videos"] in simulated.sizes
    )


def _measure(folder: Path, resamples: int, seed: int, groups: np.ndarray | None, cell: Cell) -> list[Row]:
    own = groups if cell.source == "rendered" else None
    return measure(folder / f"{cell.name}.safetensors", cell, resamples, seed, own)


def main() -> None:
    """Run the command line."""
    arguments = parser(__doc__, "study.correlation.measure", "processes of one thread each").parse_args()
    config = read(arguments.config)
    write_answer(config.paths, answer(config, arguments.threads))


if __name__ == "__main__":
    run(main)

"""What does the authors' own code measure, and what do its models really do?

Reads study/paper_code/trained.safetensors (study/paper_code/train.py), the published checkpoints of
`study.paper_code.checkpoints`, and, where the runs used the cache, its metadata and the manifest. Writes
study/paper_code.json, with the tables
  runs          every run: the "median rank" that the authors' code logs, true median ranks, validation loss, chance
  curves        means over the seeds by source, model and correlation, in percent of the gallery
  epochs        what the authors' code logged in each epoch
  table1        the paper's table 1 beside what the published formula gives for any model
  checkpoints   what the published checkpoints store; alternatives: other explanations of their loss
  code          which code was run
"""

from __future__ import annotations

from pathlib import Path

from config.cli import UserError, parser, run
from config.model import Config, read
from heads.checkpoint import read_tensors
from heads.features import load_features
from pipeline.features import open_features
from study.answer import Answer, Row, write_answer
from study.groups import groups_of_rows
from study.paper_code import tables as made
from study.paper_code import text
from study.paper_code.checkpoints import alternatives, description
from study.paper_code.data import chosen
from study.paper_code.data import runs as every_run
from study.paper_code.train import PART, digest
from study.trainings import TRAINED, Trained


def read_runs(config: Config) -> Trained:
    """Read what the runs left. Raises UserError if there are none, or they used another cache."""
    path = config.paths.study_work(PART) / TRAINED
    try:
        tensors, metadata = read_tensors(path)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; run `snakemake study …`") from None
    same = metadata["same"]
    if same["keys"]:
        view = open_features(config.paths)
        if same["keys"] != {name: view.key(name) for name in same["keys"]}:
            raise UserError(f"{path} is of other features than the cache has now; run `python -m study.{PART}.train`")
    return Trained(tensors, metadata["facts"], same)


def on_cache(config: Config, trained: Trained, model: str) -> Row:
    """Return what a curve on the cache has besides: intervals over the test videos' groups.

    Raises UserError if the cache has other videos than the runs had.
    """
    rows = chosen(config, load_features(config))
    if digest(rows) != trained.same["rows"]:
        raise UserError(
            f"{config.paths.study_work(PART) / TRAINED} is of other videos than the cache has now; run `python -m "
            f"study.{PART}.train`"
        )
    names = [run.name for run in every_run(config) if (run.source, run.model) == ("cache", model)]
    ranks = {epoch: [trained.tensors[f"{name}/{epoch}"].numpy() for name in names] for epoch in ("last", "best")}
    groups = groups_of_rows(config.paths, rows[1])
    return made.over_groups(ranks, groups, config.eval.bootstrap, config.eval.seed)


def answer(config: Config) -> Answer:
    """Put the answer together."""
    trained = read_runs(config)
    runs: list[Row] = []
    epochs: list[Row] = []
    for name, facts in trained.facts.items():
        runs.append(made.run_row(facts, {epoch: trained.tensors[f"{name}/{epoch}"] for epoch in ("last", "best")}))
        epochs += made.epoch_rows(facts)
    checkpoints = [description(Path(path)) for path in config.study.paper_code.checkpoints]
    code = trained.same["code"]
    curves = made.curves(runs)
    for line in curves:
        if line["source"] == "cache":
            line |= on_cache(config, trained, line["model"])
    tables: dict[str, list[Row]] = {
        "curves": curves,
        "table1": made.table1(),
        "checkpoints": checkpoints,
        "alternatives": [line for row in checkpoints for line in alternatives(row)],
        "runs": runs,
        "epochs": epochs,
        "code": [
            {
                "commit": code["commit"],
                "changed": code["changed"],
                "examined": code["examined"],
                "file": name,
                "sha256": sha,
            }
            for name, sha in code["files"].items()
        ],
    }
    return Answer(
        part=PART,
        title=text.TITLE,
        question=text.QUESTION,
        findings=text.findings(tables, code),
        method=text.method(config, trained.same),
        limits=text.limits(tables, code),
        random_weights=trained.same["random_weights"],
        seeds=config.study.seeds,
        command="snakemake study --cores N --configfile FILE --forcerun study_paper_code_train",
        tables=tables,
    )


def main() -> None:
    """Run the command line."""
    config = read(parser(__doc__, f"study.{PART}.measure").parse_args().config)
    write_answer(config.paths, answer(config))


if __name__ == "__main__":
    run(main)

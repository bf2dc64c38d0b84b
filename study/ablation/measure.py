"""Measure which change, on the way from the published code to the recommended recipe, does how much.

Reads study/ablation/trained.safetensors and the plan. Writes study/ablation.json, with the tables
  steps     the chain for each source: the published formula, the true ranks of the same model, then one change after
            the other; values, and differences to the row before (`before_…`) and to the first model (`first_…`)
  single    each change alone, beside the first experiment
  achieved  the correlations that the pairing of rendered videos reached in the test split
`mrr` and `median` (in percent of the gallery) are of whole test videos, means over both directions and the seeds (the
formula's `median` is video → audio alone, counted from 0, as the published code prints it for both directions), with
95 % intervals by bootstrap over groups of test videos (`…_low`, `…_high`) and by Student's t over the seeds
(`…_seeds_low`, `…_seeds_high`). `…_p` is the p-value of a difference in MRR, `…_holm` the same corrected for the number
of comparisons of its source and column (study/ablation/differences.py).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from config.cli import parser, run
from config.heads import Experiment
from config.model import Config, read
from eval.bootstrap import few_groups
from heads.metrics import chance
from study.ablation import text as words
from study.ablation.arms import CHANGES, MODE, START, Arm
from study.ablation.differences import Measured, difference, holm, measure, value
from study.ablation.sources import Source, sources, train_mode_sides
from study.ablation.train import PART, compared, name_of
from study.answer import Answer, Row, sentences, write_answer
from study.trainings import Trained, read_trained

FORMULA, TRUE = "published formula", "true rank"
METRICS = ("mrr", "median")


def changed_keys(change: str, first: Experiment, last: Experiment) -> str:
    """Return what a change does, as text: `temperature: 0.07, learned_temperature: true`."""
    if change == MODE:
        return "batch norm of the backbone by its own statistics"
    values = [(key, getattr(first, key), getattr(last, key)) for key in CHANGES[change].keys]
    return ", ".join(f"{key}: {_written(new)}" for key, old, new in values if old != new)


def _written(setting: Any) -> str:
    return str(setting).lower() if isinstance(setting, bool) else f"{setting}"


class MeasuredSource:
    """All arms of one source, measured."""

    def __init__(self, config: Config, trained: Trained, source: Source) -> None:
        self.config, self.trained, self.source = config, trained, source
        self.groups = np.array(trained.same["groups"][source.name])
        self.chain, self.single = compared(config, source)
        self.arms = {arm.name: self.measured(self.of_seeds(arm, "ranks")) for arm in [*self.chain, *self.single]}
        self.formula = self.measured_formula(self.chain[0])

    def of_seeds(self, arm: Arm, tensor: str) -> list[np.ndarray]:
        """Return a tensor of an arm for each seed, as float64."""
        names = [name_of(self.source.name, arm.name, seed) for seed in self.config.study.ablation.seeds]
        return [self.trained.tensors[f"{name}/{tensor}"].numpy().astype(np.float64) for name in names]

    def measured(self, numbers: list[np.ndarray]) -> Measured:
        """Measure ranks, float64 [directions, videos] of each seed."""
        return measure(numbers, self.groups, self.config.eval.bootstrap, self.config.eval.seed)

    def measured_formula(self, arm: Arm) -> Measured:
        """Measure the published formula of an arm, of which only the median means anything.

        It counts from 0 and metrics from 1: one is added for them, and taken off the medians.
        """
        measured = self.measured([numbers[None] + 1 for numbers in self.of_seeds(arm, "published")])
        seeds = [{"median": by_metric["median"] - 1} for by_metric in measured.seeds]
        return dataclasses.replace(measured, seeds=seeds, values=measured.values - 1)

    def row(self, arm: Arm, step: str, setting: str) -> Row:
        """Return the values of an arm."""
        names = [name_of(self.source.name, arm.name, seed) for seed in self.config.study.ablation.seeds]
        measured = self.arms[arm.name]
        row: Row = {"source": self.source.name, "step": step, "setting": setting, "gallery": measured.gallery}
        for metric in METRICS:
            row |= value(measured, metric)
        by_chance = chance(measured.gallery)
        row |= {"mrr_chance": by_chance["mrr"], "median_chance": by_chance["median"] * 100 / measured.gallery}
        return row | {"best_step": float(np.mean([self.trained.facts[name]["step"] for name in names]))}

    def against(self, arm: str, base: str, prefix: str) -> Row:
        """Return the differences between two arms, in columns that begin with `prefix`."""
        row: Row = {}
        for metric in METRICS:
            line = difference(self.arms[arm], self.arms[base], metric)
            p = line.pop("p")
            row[f"{prefix}_{metric}"] = line.pop("difference")
            row |= {f"{prefix}_{metric}_{end}": end_value for end, end_value in line.items()}
            if metric == METRICS[0]:
                row[f"{prefix}_p"] = p
        return row

    def formula_row(self) -> Row:
        """Return the first row: what the published formula says of the first model; it has no reciprocal rank."""
        measured = self.formula
        row: Row = {"source": self.source.name, "step": FORMULA, "setting": "", "gallery": measured.gallery}
        return (
            row
            | value(measured, "median")
            | {"median_chance": chance(measured.gallery)["median"] * 100 / measured.gallery}
        )

    def steps(self) -> list[Row]:
        """Return the rows of the chain."""
        ablation = self.config.study.ablation
        first, last = self.config.experiment(ablation.first), self.config.experiment(ablation.last)
        rows = [self.formula_row(), self.row(self.chain[0], TRUE, f"`{ablation.first}`")]
        before = difference(self.arms[START], self.formula, "median")
        rows[1]["before_median"] = before["difference"]
        rows[1] |= {f"before_median_{end}": before[end] for end in ("low", "high", "seeds_low", "seeds_high")}
        for previous, arm in zip(self.chain, self.chain[1:], strict=False):
            change = arm.changes[-1]
            row = self.row(arm, CHANGES[change].title, changed_keys(change, first, last))
            row |= self.against(arm.name, previous.name, "before") | self.against(arm.name, START, "first")
            rows.append(row)
        correct(rows[2:], "before")
        correct(rows[2:], "first")
        return rows

    def singles(self) -> list[Row]:
        """Return the rows of the single changes."""
        ablation = self.config.study.ablation
        first, last = self.config.experiment(ablation.first), self.config.experiment(ablation.last)
        rows = [
            self.row(arm, CHANGES[arm.changes[0]].title, changed_keys(arm.changes[0], first, last))
            | self.against(arm.name, START, "first")
            for arm in self.single
        ]
        correct(rows, "first")
        return rows

    def achieved(self) -> list[Row]:
        """Return the correlations of the latent factors that the pairing reached; nothing for other sources."""
        names = [name_of(self.source.name, START, seed) for seed in self.config.study.ablation.seeds]
        reached = [self.trained.facts[name]["achieved"] for name in names]
        if None in reached:
            return []
        means = {key: float(np.mean([of_seed[key] for of_seed in reached])) for key in reached[0]}
        return [{"source": self.source.name, "seeds": len(names), **means}]


def correct(rows: list[Row], prefix: str) -> None:
    """Add the corrected p-values of a column to its rows."""
    for row, p in zip(rows, holm([row[f"{prefix}_p"] for row in rows]), strict=True):
        row[f"{prefix}_holm"] = p


def answer(config: Config) -> Answer:
    """Return the answer, measured on the trainings."""
    sides = [config.sides(), train_mode_sides(config)]
    trained = read_trained(config, PART, [name for side in sides if side for name in side.backbones])
    measured = [MeasuredSource(config, trained, source) for source in sources(config)]
    tables: dict[str, list[Row]] = {
        "steps": [row for source in measured for row in source.steps()],
        "single": [row for source in measured for row in source.singles()],
        "achieved": [row for source in measured for row in source.achieved()],
    }
    warnings: list[str] = []
    for source in measured:
        warnings += few_groups(
            len(np.unique(source.groups)), f"the test split ({words.source_words(source.source.name)})"
        )
    settings = config.study.ablation
    return Answer(
        part=PART,
        title="From the published code to the recommended recipe",
        question=f"Which change, on the way from `{settings.first}` to `{settings.last}`, makes the positive rank "
        "better?",
        findings=words.findings(config, tables),
        method=words.method(config, trained.same),
        limits=words.limits(config, tables) + sentences(warnings),
        random_weights=[name for name, random in trained.same["random_weights"].items() if random],
        seeds=settings.seeds,
        command="python -m study.ablation.measure --config RESULTS/config.json",
        tables=tables,
    )


def main() -> None:
    """Run the command line."""
    config = read(parser(__doc__, "study.ablation.measure").parse_args().config)
    write_answer(config.paths, answer(config))


if __name__ == "__main__":
    run(main)

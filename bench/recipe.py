"""Search a recipe on validation videos, and compare it with the paper's baseline on test videos.

    python -m bench.recipe --config RESULTS/config.json --work FOLDER [--candidates 30]

Reads the cache of rendered videos (`config/study_demo.yaml`); keeps finished trainings in FOLDER; writes
bench/results/recipe.json. The references are the paper's baseline and the former `recommended`. Data: rendered videos
paired anew at ρ = 0.5, and simulated features at ρ = 0.25 and 0.5 (study/ablation/sources.py).

1. Search: candidates drawn at random from GRID, and both references with each number of steps, seeds 0 and 1. The score
   is the mean over the three kinds of data of log2(rank / gallery) of the true positive among the validation videos.
2. Selection: the best candidates and both references again, with the seeds 2 to 6, on validation videos.
3. Test: the one with the best score of 2, and both references, with the seeds 7 to 11, on test videos, which nothing
   before has looked at.

Beside it, with one seed, the references and the two best of 2 on a larger simulated set, in more steps: a look at where
the search has not been, which decides nothing. `make bench` leaves it out: it needs a finished study and a folder of
its own.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench import measure
from config.cli import parser
from config.heads import Experiment
from config.model import Config, read
from data.manifest import read_manifest
from eval.ranks import ranks
from heads.checkpoint import read_tensors
from study.ablation.differences import MEASURES, difference, holm, value
from study.ablation.differences import measure as measure_arm
from study.ablation.sources import EVAL, Opened, Source
from study.ablation.train import embedded, fit_heads
from study.correlation.simulated import simulate
from study.trainings import TRAINED, Outcome, work_off

BASE: dict[str, Any] = {
    "output": "linear",
    "learned_temperature": True,
    "optimiser": "adamw",
    "schedule": "cosine",
    "warmup": 2,
    "batch": 128,
    "segment_policy": "all",
    "max_epochs": 30,
}
GRID: dict[str, list[Any]] = {
    "standardise": [False, True],
    "temperature": [0.05, 0.07, 0.1, 0.2, 0.4],
    "dropout": [0.1, 0.3, 0.5],
    "hidden": [[256], [512], [1024]],
    "weight_decay": [0.01, 0.1, 1.0],
    "learning_rate": [0.0003, 0.001, 0.003],
    "steps": [100, 200, 400],
}
"""Fields of an experiment, and optimiser steps of a training."""
REFERENCES: dict[str, dict[str, Any]] = {
    "baseline": {"batch": 128, "max_epochs": 40},
    "former": {
        **{"output": "linear", "temperature": 0.07, "learned_temperature": True, "optimiser": "adamw", "batch": 64},
        **{"learning_rate": 0.001, "weight_decay": 0.1, "schedule": "cosine", "warmup": 2, "segment_policy": "all"},
        "max_epochs": 12,
    },
}
"""The paper's baseline and what `recommended` was before this search, both as config/study_demo.yaml had them; each
with every number of steps of GRID, of which the search keeps the best."""
SOURCES = (Source("rendered", 0.5), Source("simulated", 0.25), Source("simulated", 0.5))
SEARCHED, SELECTED, TESTED = range(2), range(2, 7), range(7, 12)
VERSION = 2
"""Of what is trained and of the rule by which videos are paired anew: raised when either changes."""
KEPT = 4
"""Candidates that are trained again after the search."""
VIDEOS, GALLERY, CHECKS = 1000, 500, 20
LARGER = {"videos": 5000, "features": 256, "batch": 500, "steps": 1000}
"""Simulated training videos, features of each modality, batch and steps of the look beyond the search."""


def drawn(count: int) -> list[dict[str, Any]]:
    """Return `count` different combinations of GRID, drawn at random, always the same."""
    every = [dict(zip(GRID, values, strict=True)) for values in itertools.product(*GRID.values())]
    chosen = np.random.default_rng(0).choice(len(every), count, replace=False)
    return [every[number] for number in chosen]


class RecipeTrainer:
    """Train the recipe of a name on a kind of data and return its ranks in a split."""

    def __init__(self, given: tuple[Config, dict[str, tuple[dict[str, Any], int]], str]) -> None:
        self.config, self.recipes, self.split = given
        self.opened = Opened(self.config)
        self.sources = {source.name: source for source in SOURCES}
        self.last: tuple[tuple[str, int], Any] | None = None

    def __call__(self, name: str) -> Outcome:
        """Return the ranks float32 [2, videos] of the training SOURCE-RECIPE-SEED."""
        source, recipe, number = name.split("-")
        seed = int(number)
        if self.last is None or self.last[0] != (source, seed):
            self.last = (source, seed), self.opened.draw(self.sources[source], seed).features[EVAL]
        features = self.last[1]
        keys, steps = self.recipes[recipe]
        experiment = Experiment.model_validate(keys)
        heads, facts = fit_heads(self.config, features, experiment, seed, steps)
        audio, video = embedded(heads, features, self.split, experiment.unit)
        ranked = np.stack(ranks(audio, video, unit=experiment.unit))
        return Outcome({"ranks": torch.tensor(ranked, dtype=torch.float32)}, facts)


def depends_on(
    config: Config, opened: Opened, recipes: dict[str, tuple[dict[str, Any], int]], split: str
) -> dict[str, Any]:
    """Return all that a training's ranks depend on, beside its seed and kind of data: trainings of others are stale."""
    features = opened.features
    names = read_manifest(config.paths.manifest, ["video_id"])["video_id"].to_pylist()
    return {
        "version": VERSION,
        "recipes": recipes,
        "split": split,
        "grid": GRID,
        "base": BASE,
        "settings": config.study.ablation.model_dump(mode="json"),
        "simulated": opened.spec.model_dump(mode="json"),
        "dims": list(opened.dims),
        "render": config.render.model_dump(mode="json") if config.render else None,
        "matmul": config.heads.matmul,
        "keys": opened.keys,
        "data": features.digest(),
        "videos": names,
        "split_videos": {name: len(of_split.rows) for name, of_split in features.splits.items()},
    }


def trained(
    config: Config, work: Path, recipes: dict[str, tuple[dict[str, Any], int]], seeds: range, split: str, threads: int
) -> dict[str, dict[str, list[np.ndarray]]]:
    """Return by recipe and kind of data the ranks float32 [2, videos] of each seed; what FOLDER has is kept where all
    that it depends on is as it was."""
    names = [f"{source.name}-{recipe}-{seed}" for source in SOURCES for seed in seeds for recipe in recipes]
    same = json.loads(json.dumps(depends_on(config, Opened(config), recipes, split)))
    path = work / TRAINED
    if not path.exists() or read_tensors(path)[1]["same"] != same:
        work_off(work, names, same, RecipeTrainer, (config, recipes, split), threads)
    tensors, _ = read_tensors(path)
    return {
        recipe: {
            source.name: [tensors[f"{source.name}-{recipe}-{seed}/ranks"].numpy() for seed in seeds]
            for source in SOURCES
        }
        for recipe in recipes
    }


def score(by_source: dict[str, list[np.ndarray]]) -> float:
    """Return the mean over the kinds of data of log2(rank / gallery); random ranks have -1.44, lower is better."""
    return float(
        np.mean([np.mean([np.log2(rank / rank.shape[1]).mean() for rank in ranked]) for ranked in by_source.values()])
    )


def medians(by_source: dict[str, list[np.ndarray]]) -> dict[str, float]:
    """Return by kind of data the mean over seeds of the median rank, in percent of the gallery."""
    return {
        name: round(float(np.mean([np.median(rank) / rank.shape[1] * 100 for rank in of_seeds])), 2)
        for name, of_seeds in by_source.items()
    }


def search(config: Config, work: Path, count: int, threads: int) -> dict[str, Any]:
    """Run the three stages; return what the result file has."""
    recipes = {
        f"{name}_{steps}": (Experiment.model_validate(keys).model_dump(), steps)
        for name, keys in REFERENCES.items()
        for steps in GRID["steps"]
    }
    references = list(recipes)
    for number, keys in enumerate(drawn(count)):
        experiment = Experiment.model_validate(BASE | {key: setting for key, setting in keys.items() if key != "steps"})
        recipes[f"c{number}"] = experiment.model_dump(), keys["steps"]
    ranked = trained(config, work / "search", recipes, SEARCHED, "validation", threads)
    searched = sorted(recipes, key=lambda name: score(ranked[name]))
    kept = [name for name in searched if name not in references][:KEPT]
    of_reference = {kind: next(name for name in searched if name.startswith(kind)) for kind in REFERENCES}
    again = {name: recipes[name] for name in (*of_reference.values(), *kept)}
    selection = trained(config, work / "selection", again, SELECTED, "validation", threads)
    best = min(kept, key=lambda name: score(selection[name]))
    final = {name: recipes[name] for name in (*of_reference.values(), best)}
    test = trained(config, work / "test", final, TESTED, "test", threads)
    opened = Opened(config)
    baseline, former = of_reference.values()
    rows, comparisons = [], []
    for source in SOURCES:
        groups = opened.draw(source, TESTED[0]).groups
        arms = {
            name: measure_arm(test[name][source.name], groups, config.eval.bootstrap, config.eval.seed)
            for name in final
        }
        for name, arm in arms.items():
            rows.append(
                {"source": source.name, "recipe": name, "gallery": arm.gallery}
                | value(arm, "mrr")
                | value(arm, "median")
            )
        for name, base in ((best, baseline), (best, former), (former, baseline)):
            for metric in MEASURES:
                line = difference(arms[name], arms[base], metric)
                comparisons.append({"source": source.name, "recipe": name, "against": base, "metric": metric} | line)
    keys = dict(zip((f"c{number}" for number in range(count)), drawn(count), strict=True))
    second = sorted(kept, key=lambda name: score(selection[name]))[1]
    beyond = {"baseline": REFERENCES["baseline"], "former": REFERENCES["former"] | {"max_epochs": 30}}
    beyond |= {
        role: BASE | {key: setting for key, setting in keys[name].items() if key != "steps"}
        for role, name in (("best", best), ("second", second))
    }
    add_holm(comparisons)
    return {
        "grid": GRID,
        "base": BASE,
        "references": REFERENCES,
        "videos": {"simulated": VIDEOS, "simulated_gallery": GALLERY, "rendered_test": len(opened.rows)},
        "search": [
            {"recipe": name, **keys.get(name, {}), "score": score(ranked[name]), "median": medians(ranked[name])}
            for name in searched
        ],
        "selection": [
            {"recipe": name, "score": score(selection[name]), "median": medians(selection[name])}
            for name in sorted(again, key=lambda name: score(selection[name]))
        ],
        "best": {"recipe": best, **keys[best]},
        "test": rows,
        "comparisons": comparisons,
        "larger": LARGER | {"rows": larger(config, beyond)},
    }


def add_holm(comparisons: list[dict[str, Any]]) -> None:
    """Add to each comparison `holm`: its p corrected for the kinds of data on which the same two are compared.

    By Holm 1979 (study/ablation/differences.py), each metric by itself.
    """
    compared = ("recipe", "against", "metric")
    for key in dict.fromkeys(tuple(line[part] for part in compared) for line in comparisons):
        lines = [line for line in comparisons if tuple(line[part] for part in compared) == key]
        for line, p in zip(lines, holm([line["p"] for line in lines]), strict=True):
            line["holm"] = p


def better(result: dict[str, Any], recipe: str, against: str) -> dict[str, bool]:
    """Return by kind of data whether a recipe is shown to be better in MRR: both intervals lie above 0, uncorrected."""
    return {
        line["source"]: line["low"] > 0 and line["seeds_low"] > 0
        for line in result["comparisons"]
        if (line["recipe"], line["against"], line["metric"]) == (recipe, against, "mrr")
    }


def table(result: dict[str, Any]) -> str:
    """Return both references and the best candidate on test videos, and their differences in MRR."""
    kinds = [source.name for source in SOURCES]
    names = list(dict.fromkeys(row["recipe"] for row in result["test"]))
    titles = [kind.replace("_", ", ρ = ") for kind in kinds]
    lines = []
    for name in names:
        of_recipe = {row["source"]: row for row in result["test"] if row["recipe"] == name}
        cells = [f"{of_recipe[kind]['median']:.1f} %, {of_recipe[kind]['mrr']:.3f}" for kind in kinds]
        lines.append([_words(result, name), *cells])
    for recipe, against in dict.fromkeys((line["recipe"], line["against"]) for line in result["comparisons"]):
        cells = []
        for kind in kinds:
            (line,) = (
                line
                for line in result["comparisons"]
                if (line["source"], line["recipe"], line["against"], line["metric"]) == (kind, recipe, against, "mrr")
            )
            cells.append(
                f"{line['difference']:+.4f} [{line['low']:+.4f}, {line['high']:+.4f}], "
                f"seeds [{line['seeds_low']:+.4f}, {line['seeds_high']:+.4f}], "
                f"p {line['p']:.2g}, Holm {line['holm']:.2g}"
            )
        lines.append([f"{_words(result, recipe)} − {_words(result, against)}, MRR", *cells])
    return measure.markdown(["test videos: median rank, MRR", *titles], lines)


def _words(result: dict[str, Any], name: str) -> str:
    """Return a recipe's name: a reference with its steps, or the best of the search."""
    reference, _, steps = name.partition("_")
    return "best of the search" if name == result["best"]["recipe"] else f"{reference}, {steps} steps"


def larger(config: Config, recipes: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Train recipes with LARGER's videos, widths, batch and steps, one seed; return their ranks on test videos."""
    spec = config.study.correlation.simulated.model_copy(update={"gallery": GALLERY})
    features = simulate(spec, (LARGER["features"],) * 2, LARGER["videos"], 0.5, 0)
    lines = []
    for name, keys in recipes.items():
        experiment = Experiment.model_validate(keys | {"batch": LARGER["batch"]})
        heads, facts = fit_heads(config, features, experiment, 0, LARGER["steps"])
        audio, video = embedded(heads, features, "test", experiment.unit)
        ranked = np.stack(ranks(audio, video, unit=experiment.unit))
        median = float(np.median(ranked)) / GALLERY * 100
        line = {"recipe": name, "median": round(median, 2), "mrr": round(float((1 / ranked).mean()), 3)}
        lines.append(line | {"best_step": facts["step"]})
    return lines


def main() -> None:
    """Run the command line."""
    command_line = parser(__doc__, "bench.recipe", "trainings at a time, one core each")
    command_line.add_argument("--work", type=Path, required=True, help="folder of finished trainings")
    command_line.add_argument("--candidates", type=int, default=30)
    arguments = command_line.parse_args()
    config = read(arguments.config)
    settings = config.study.ablation.model_copy(
        update={"videos": VIDEOS, "gallery": GALLERY, "checks": CHECKS, "dims": None, "train_mode": None}
    )
    config = config.model_copy(update={"study": config.study.model_copy(update={"ablation": settings})})
    result = search(config, arguments.work, arguments.candidates, arguments.threads)
    command = "python -m bench.recipe --config results/study/config.json --work FOLDER"
    measure.save("recipe", command, result)


if __name__ == "__main__":
    measure.start(main)

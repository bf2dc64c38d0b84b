"""Compare recipes for projection heads on the validation split; the test split is never looked at.

Reads the manifest, the cache and a YAML file with `base` (keys of an experiment) and `grid` (key: list of values).
Every combination is trained on the training split, once for each seed. Writes into search/ of the results folder:
  search.json  the candidates, best first: their keys and what they reached on the validation split
  search.csv   the same as a table
Ranks are those of the positive in a gallery of one segment of each validation video, both directions together, and all
metrics of heads/metrics.py are computed from them. The best has the best `median`; of equal ones, the best `mrr`. The
experiments of the configuration itself are ranked with them, for comparison, with --experiments.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from config.cli import Progress, UserError, parser, run
from config.files import replacing, write_json
from config.heads import Sides
from config.model import Config, load, read
from heads.checkpoint import trained
from heads.dataset import Data, best_device, open_data
from heads.features import PairedFeatures, load_features
from heads.fit import about, fit
from heads.kernels import kernels
from heads.metrics import METRICS, summary
from heads.runs import runs

log = logging.getLogger("search")
GRID = Path(__file__).parents[1] / "config" / "search.yaml"
DECIDING = ("median", "mrr")
"""Names in METRICS of what decides which candidate is better, the most important first."""


@dataclass(frozen=True)
class Candidate:
    """A recipe and what it reached."""

    name: str
    keys: dict[str, Any]
    metrics: dict[str, float]
    """By their names in METRICS: over queries of both directions, of every segment and seed."""
    gallery: int
    """Size of a query's gallery; the median rank at chance is (gallery + 1) / 2."""
    epochs: list[int]
    """The best epoch of each seed."""


def candidates(path: Path) -> dict[str, dict[str, Any]]:
    """Return the grid file's combinations: name → keys of an experiment. Raises UserError if the file is not one."""
    try:
        written = yaml.safe_load(path.read_text(encoding="utf-8"))
        base, grid = written["base"], written["grid"]
        combinations = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
        return {", ".join(f"{key} {value}" for key, value in keys.items()): base | keys for keys in combinations}
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} needs `base` (keys of an experiment) and `grid` (key: list): {error}") from None


def ranks(audio: Tensor, video: Tensor) -> np.ndarray:
    """Return the positives' ranks from 1, by dot product of embeddings [n, d]: float64 [2n]; ties get their mean."""
    similarity = audio @ video.T
    positive = similarity.diagonal()
    by_direction = []
    for axis, positives in ((1, positive[:, None]), (0, positive[None, :])):
        by_direction.append(1 + (similarity > positives).sum(axis) + ((similarity == positives).sum(axis) - 1) / 2)
    return torch.cat(by_direction).double().numpy()


def validate(
    features: PairedFeatures, data: dict[str, Data], config: Config, name: str, state: Path
) -> tuple[dict[str, float], int, list[int]]:
    """Train one experiment with every seed of the configuration.

    Return its metrics on the validation split, the gallery's size and the best epoch of each seed.
    """
    split, ranks_of_segments, epochs, gallery = features.splits["validation"], [], [], 0
    arrays = [array.read(split.rows) for array in features.arrays]
    for training in runs(config, name):
        experiment, description = config.heads.experiments[name], about(config, features, training)
        progress = fit(data, experiment, description, state, lambda line: None)
        state.unlink()
        heads = trained(experiment, features.dims, progress.best)
        epochs.append(progress.about.epoch)
        for segment in range(features.segments):
            pair = (torch.from_numpy(array[split.good[:, segment], segment]) for array in arrays)
            with torch.no_grad():
                ranks_of_segments.append(ranks(*heads(*pair)))
            gallery = max(gallery, int(split.good[:, segment].sum()))
    return summary(np.concatenate(ranks_of_segments)), gallery, epochs


def search(config: Config, grid: Path, experiments: list[str]) -> list[Candidate]:
    """Train and rank every candidate, write the tables and return the candidates, best first."""
    configured = {name: config.experiment(name).model_dump(exclude_defaults=True) for name in experiments}
    folder = config.paths.results / "search"
    device = best_device()
    opened: dict[Sides, tuple[PairedFeatures, dict[str, Data]]] = {}
    results = []
    recipes = {**configured, **candidates(grid)}
    with Progress(len(recipes), "search", "candidates") as shown:
        for number, (name, keys) in enumerate(recipes.items()):
            plain = config.model_dump(mode="json")
            plain["heads"]["experiments"] = {"candidate": keys}
            candidate = load(plain)
            sides = candidate.sides("candidate")
            if sides not in opened:
                features = load_features(config, sides)
                features.check_enough()
                opened[sides] = features, open_data(features, device, config.heads.memory_gb, config.paths.manifest)
            with kernels(config.heads.matmul, device):
                reached = validate(*opened[sides], candidate, "candidate", folder / f"{number}.safetensors")
            results.append(Candidate(name, keys, *reached))
            log.info("%s: %s, gallery of %d", name, deciding(results[-1]), results[-1].gallery)
            results.sort(key=order)
            write_tables(folder, config.heads.seeds, results)  # each time, so that a killed search leaves a table
            shown.step()
    return results


def order(candidate: Candidate) -> list[float]:
    """Return what candidates are sorted by: the best has the lowest."""
    return [candidate.metrics[name] * (1 if METRICS[name].lower_is_better else -1) for name in DECIDING]


def deciding(candidate: Candidate) -> str:
    """Return the metrics that decide, as text."""
    return ", ".join(f"{METRICS[name].title} {candidate.metrics[name]:.4g}" for name in DECIDING)


def write_tables(folder: Path, seeds: list[int], results: list[Candidate]) -> None:
    """Write search.json and search.csv."""
    write_json(folder / "search.json", {"seeds": seeds, "candidates": [asdict(candidate) for candidate in results]})
    text = io.StringIO()
    columns = ["candidate", *METRICS, "gallery", "best_epochs"]
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    for candidate in results:
        row = {"candidate": candidate.name, **candidate.metrics, "gallery": candidate.gallery}
        table.writerow(row | {"best_epochs": json.dumps(candidate.epochs)})
    with replacing(folder / "search.csv") as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def main() -> None:
    """Run the command line."""
    command_line = parser(__doc__, "heads.search", "cores to use")
    command_line.add_argument(
        "--grid", type=Path, default=GRID, metavar="FILE", help="candidates (default config/search.yaml)"
    )
    command_line.add_argument(
        "--experiments", nargs="*", default=[], metavar="NAME", help="of the configuration, to compare with"
    )
    arguments = command_line.parse_args()
    torch.set_num_threads(arguments.threads)
    config = read(arguments.config)
    best = search(config, arguments.grid, arguments.experiments)[0]
    log.info("best: %s, %s, gallery of %d", best.name, deciding(best), best.gallery)
    log.info("all candidates: %s", config.paths.results / "search" / "search.csv")


if __name__ == "__main__":
    run(main)

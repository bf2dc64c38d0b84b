"""Compare recipes for projection heads on the validation split; the test split is never looked at.

Reads the manifest, the cache and a YAML file with `base` (keys of an experiment) and `grid` (key: list of values).
Every combination is trained on the training split, once for each seed. Writes into search/ of the results folder:
  search.json  the candidates, best first: their keys and what they reached on the validation split
  search.csv   the same as a table
The best has the lowest median rank of the true partner among one segment of each validation video, both directions
together; where medians are equal, the highest mean reciprocal rank. The experiments of the configuration itself are
ranked with them, for comparison, with --experiments.
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

from config.cli import UserError, parser, run
from config.files import replacing, write_json
from config.model import Config, load, read
from config.paths import Paths
from heads.checkpoint import trained
from heads.features import Features, load_features
from heads.fit import about, fit
from heads.kernels import kernels
from heads.memory import Data, best_device, open_data
from heads.runs import experiment_of, runs

log = logging.getLogger("search")
GRID = Path(__file__).parents[1] / "config" / "search.yaml"


@dataclass(frozen=True)
class Ranks:
    """How well partners are found: over queries of both directions, of every segment and seed."""

    median_rank: float
    mean_reciprocal_rank: float
    recall_at_10: float
    gallery: int
    """Candidates of a query; guessing has the median rank (gallery + 1) / 2."""


@dataclass(frozen=True)
class Candidate:
    """A recipe and what it reached."""

    name: str
    keys: dict[str, Any]
    ranks: Ranks
    epochs: list[int]
    """The best epoch of each seed."""


def candidates(path: Path) -> dict[str, dict[str, Any]]:
    """The grid file's combinations: name → keys of an experiment. UserError if the file is not one."""
    try:
        read_in = yaml.safe_load(path.read_text(encoding="utf-8"))
        base, grid = read_in["base"], read_in["grid"]
        combinations = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
        return {", ".join(f"{key} {value}" for key, value in c.items()): base | c for c in combinations}
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} needs `base` (keys of an experiment) and `grid` (key: list): {error}") from None


def ranks(audio: Tensor, video: Tensor) -> np.ndarray:
    """True partners' ranks from 1, by cosine, for unit vectors [n, d]: float64 [2n]; ties share the middle place."""
    similarity = audio @ video.T
    partner = similarity.diagonal()
    both = []
    for axis, own in ((1, partner[:, None]), (0, partner[None, :])):
        both.append(1 + (similarity > own).sum(axis) + ((similarity == own).sum(axis) - 1) / 2)
    return torch.cat(both).double().numpy()


def validate(
    features: Features, data: dict[str, Data], config: Config, name: str, state: Path
) -> tuple[Ranks, list[int]]:
    """Train one experiment with every seed of the configuration; its ranks on the validation split."""
    split, found, epochs, gallery = features.splits["validation"], [], [], 0
    sides = [array.read(split.rows) for array in features.arrays]
    for each in runs(config, name):
        experiment, same = config.heads.experiments[name], about(config, features, each)
        progress = fit(data, experiment, same, state, lambda line: None)
        state.unlink()
        heads = trained(experiment, features.dims, progress.best)
        epochs.append(progress.about.epoch)
        for segment in range(features.segments):
            pair = (torch.from_numpy(side[split.good[:, segment], segment]) for side in sides)
            with torch.no_grad():
                found.append(ranks(*heads(*pair)))
            gallery = max(gallery, int(split.good[:, segment].sum()))
    every = np.concatenate(found)
    return Ranks(float(np.median(every)), float((1 / every).mean()), float((every <= 10).mean()), gallery), epochs


def search(config: Config, grid: Path, experiments: list[str]) -> list[Candidate]:
    """Train and rank every candidate, write the tables, return the candidates, best first."""
    own = {name: experiment_of(config, name).model_dump(exclude_defaults=True) for name in experiments}
    folder = Paths(Path(config.results)).results / "search"
    features = load_features(config)
    features.check_enough()
    device = best_device()
    data = open_data(features, device, config.heads.memory_gb)
    results = []
    for number, (name, keys) in enumerate({**own, **candidates(grid)}.items()):
        plain = config.model_dump(mode="json")
        plain["heads"]["experiments"] = {"candidate": keys}
        with kernels(config.heads.matmul, device):
            reached, epochs = validate(features, data, load(plain), "candidate", folder / f"{number}.safetensors")
        results.append(Candidate(name, keys, reached, epochs))
        log.info(
            "%s: median rank %.1f of %d, mean reciprocal rank %.3f",
            *(name, reached.median_rank, reached.gallery, reached.mean_reciprocal_rank),
        )
        results.sort(key=lambda c: (c.ranks.median_rank, -c.ranks.mean_reciprocal_rank))
        write_tables(
            folder, config.heads.seeds, results
        )  # after every one: a search that is killed has shown something
    return results


def write_tables(folder: Path, seeds: list[int], results: list[Candidate]) -> None:
    """Write search.json and search.csv."""
    write_json(folder / "search.json", {"seeds": seeds, "candidates": [asdict(c) for c in results]})
    text = io.StringIO()
    columns = ["candidate", *Ranks.__dataclass_fields__, "best_epochs"]
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    for c in results:
        table.writerow({"candidate": c.name, **asdict(c.ranks), "best_epochs": json.dumps(c.epochs)})
    with replacing(folder / "search.csv") as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def main() -> None:
    p = parser(__doc__, "heads.search", "cores to use")
    p.add_argument("--grid", type=Path, default=GRID, metavar="FILE", help="candidates (default config/search.yaml)")
    p.add_argument("--experiments", nargs="*", default=[], metavar="NAME", help="of the configuration, to compare with")
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    best = search(read(args.config), args.grid, args.experiments)[0]
    log.info("best: %s, median rank %.1f of %d", best.name, best.ranks.median_rank, best.ranks.gallery)


if __name__ == "__main__":
    run(main)

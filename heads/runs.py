"""Where the trainings of an experiment stand: one a seed. Reads and writes nothing.

The first of `heads.seeds` has the experiment's own folder, heads/EXPERIMENT/, whose file names are fixed; the others
have heads/EXPERIMENT/seeds/SEED/ with the same files in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from config.cli import UserError
from config.model import Config, Experiment
from config.paths import Paths


@dataclass(frozen=True)
class Run:
    """One training of one experiment."""

    experiment: str
    seed: int
    folder: Path
    """Holds checkpoint.safetensors, metrics.jsonl, config.json, embeddings.zarr and embeddings.json."""


def experiment_of(config: Config, name: str) -> Experiment:
    """The named experiment; UserError with the names that exist otherwise."""
    try:
        return config.heads.experiments[name]
    except KeyError:
        raise UserError(
            f"heads.experiments.{name}: no such experiment; there are {sorted(config.heads.experiments)}"
        ) from None


def runs(config: Config, name: str) -> list[Run]:
    """The experiment's trainings in the order of `heads.seeds`. UserError if there is no such experiment."""
    experiment_of(config, name)
    return [Run(name, seed, folder) for seed, folder in zip(config.heads.seeds, folders(config, name), strict=True)]


def folders(config: Config, name: str) -> list[Path]:
    """The folders of the experiment's trainings in the order of `heads.seeds`; `name` may be a Snakemake wildcard."""
    folder = Paths(Path(config.results)).heads(name)
    return [folder, *(folder / "seeds" / str(seed) for seed in config.heads.seeds[1:])]

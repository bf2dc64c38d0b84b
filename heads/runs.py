"""The folders of an experiment's trainings, one a seed. Reads and writes nothing.

The first of `heads.seeds` has the experiment's own folder, heads/EXPERIMENT/, whose file names are fixed; the others
have heads/EXPERIMENT/seeds/SEED/ with the same files in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from config.model import Config


@dataclass(frozen=True)
class Run:
    """One training of one experiment."""

    experiment: str
    seed: int
    folder: Path
    """Holds checkpoint.safetensors, metrics.jsonl, config.json, embeddings.zarr and embeddings.json."""


def runs(config: Config, name: str) -> list[Run]:
    """Return the experiment's trainings in the order of `heads.seeds`. Raises UserError for an unknown experiment."""
    config.experiment(name)  # it must exist
    return [Run(name, seed, folder) for seed, folder in zip(config.heads.seeds, folders(config, name), strict=True)]


def folders(config: Config, name: str) -> list[Path]:
    """Return the trainings' folders in the order of `heads.seeds`; `name` may be a Snakemake wildcard."""
    folder = config.paths.heads(name)
    return [folder, *(folder / "seeds" / str(seed) for seed in config.heads.seeds[1:])]

"""The configuration of a second look at some of the videos with other segments (pipeline/variant.py). No files."""

from __future__ import annotations

from pathlib import Path

from config.cli import UserError
from config.model import Config, load
from config.paths import Paths

SHARDS_A_JOB = 1000
"""One job a backbone reads all of a variant, however many shards it has."""


def variant_backbones(config: Config) -> list[str]:
    """The backbones that look at the variants: those of the two sides of the projection heads."""
    return list(dict.fromkeys([config.heads.audio, config.heads.video]))


def variant_config(config: Config, name: str) -> Config:
    """The configuration of a variant's own results folder: other segments of other videos, all else as it was.

    UserError with the names of study.length.variants if there is none of that name.
    """
    known = {variant.name: variant for variant in config.study.length.variants}
    if name not in known:
        raise UserError(f"--variant {name}: study.length.variants has {', '.join(known)}")
    variant, folder = known[name], Paths(Path(config.results)).study_variant(name)
    segments = {"seconds": variant.seconds, "count": variant.count}
    segments["window"] = max(config.segments.window, variant.seconds)
    whole = config.model_dump(mode="json")
    changes = {
        "results": str(folder),
        "videos": str(folder / "videos.parquet"),
        "render": None,
        "segments": whole["segments"] | segments,
        "backbones": {name: whole["backbones"][name] for name in variant_backbones(config)},
        "shards_a_job": SHARDS_A_JOB,
    }
    return load(whole | changes)

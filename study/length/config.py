"""The configuration of a variant: some of the videos with other segments (study/length/variant.py). Opens no file."""

from __future__ import annotations

from config.cli import UserError
from config.model import Config, load

SHARDS_A_JOB = 1000
"""One job of each backbone extracts all shards of a variant."""


def variant_backbones(config: Config) -> list[str]:
    """Return the backbones that extract the variants: those of the projection heads."""
    return list(dict.fromkeys([config.heads.audio, config.heads.video]))


def variant_config(config: Config, name: str) -> Config:
    """Return the configuration of a variant's own results folder: `config` with other segments and fewer videos.

    UserError that lists study.length.variants if there is none of that name.
    """
    known = {variant.name: variant for variant in config.study.length.variants}
    if name not in known:
        raise UserError(f"--variant {name}: study.length.variants has {', '.join(known)}")
    variant, folder = known[name], config.paths.study_variant(name)
    segments = variant.model_dump(mode="json")
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

"""The configuration of a variant: some of the videos with other segments (study/length/variant.py).

Reads the digest of the table of videos. Writes config.json of variants that have one, and work/table_of_variants.sha256
under the results, the digest of the table when the question was first asked.
"""

from __future__ import annotations

import hashlib
import os
from typing import Any

from config.cli import UserError
from config.digests import write_digest
from config.files import write_json
from config.model import Config, load
from config.paths import Paths

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
    whole, backbones = config.model_dump(mode="json"), variant_backbones(config)
    # A variant trains nothing, and has no backbones for experiments that have their own.
    experiments = {
        name: experiment
        for name, experiment in whole["heads"]["experiments"].items()
        if set(config.sides(name).backbones) <= set(backbones)
    }
    changes = {
        "results": str(folder),
        "videos": str(folder / "videos.parquet"),
        "render": None,
        "segments": whole["segments"] | segments,
        "backbones": {name: whole["backbones"][name] for name in backbones},
        "heads": whole["heads"] | {"experiments": experiments},
        "shards_a_job": SHARDS_A_JOB,
    }
    return load(whole | changes)


def videos_of(config: Config) -> int | list[Any]:
    """Return the number of videos and, if the table is another one than when this was first asked, a digest of it.

    A parameter of the rule: manifest.json does not say which files videos are, or where their audio begins, but a
    variant's manifest has to follow. The first table is left out, because earlier versions asked for no digest.
    """
    count, table = config.study.length.videos, config.paths.digest_of("table")
    if config.videos is None or not table.exists():
        return count
    listed = f"{table.read_text(encoding='utf-8')} {os.path.abspath(config.videos)}"
    now, first = hashlib.sha256(os.fsencode(listed)).hexdigest(), config.paths.digest_of("table_of_variants")
    if not first.exists():
        write_digest(first, now)
    return count if first.read_text(encoding="utf-8") == now else [count, now]


def write_config(variant: Config) -> None:
    """Write config.json of a variant, whose configuration this is."""
    write_json(variant.paths.config, variant.model_dump(mode="json"))


def update_configs(config: Config) -> None:
    """Write config.json of all variants that are prepared: their jobs read it, and it is no parameter of their rules.

    How files are decoded may change without anything being computed again. So it reaches jobs that have stopped.
    """
    for listed in config.study.length.variants:
        if Paths(config.paths.study_variant(listed.name)).config.exists():
            write_config(variant_config(config, listed.name))

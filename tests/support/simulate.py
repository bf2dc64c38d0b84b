"""A small simulated cache: features of both backbones that share latent factors to a known degree.

Writes a results folder with config.json, the manifest, the plan and features.zarr, all through `bench.fill` and the
functions that the pipeline itself uses. No media file and no network is involved: heads and eval cannot tell the
difference.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import zarr

from bench.fill import Cache, Planted, video_factors
from config.files import write_json
from config.model import Config, load
from config.paths import Paths
from data.labels import write_labels
from data.manifest import merge, read_manifest, write_manifest
from data.render import video_id
from pipeline import index
from pipeline.backbones.descriptors import WIDTHS


def simulate(
    results: Path,
    correlation: float = 1.0,
    videos: int = 600,
    segments: int = 3,
    dims: tuple[int, int] = (64, 32),
    factors: int = 6,
    seed: int = 0,
    unreadable: Sequence[int] = (),
    damaged: Sequence[tuple[int, int]] = (),
    keys: tuple[str, str] = ("a" * 64, "b" * 64),
    names: tuple[str, str] = ("musicnn", "r2plus1d"),
    artists: Sequence[int] | None = None,
    **settings: Any,
) -> Config:
    """Write the results folder; returns its configuration. `settings` go to Config.

    With `render` the videos bear the names of rendered ones.

    `unreadable` rows have no video features, `damaged` (row, segment) ones have none there, as with `decoding.partial`.

    `artists` are numbers of each video's artist, whose videos are alike; by default videos have none.

    With other `keys` on the same folder the features are replaced as by a new extraction.
    """
    config = load(
        {
            "results": str(results),
            "videos": None if "render" in settings else "videos.csv",
            "shard_videos": 256,
            "segments": {"count": segments},
            **settings,
        }
    )
    paths = Paths(results)
    write_json(paths.config, config.model_dump(mode="json"))
    ids = [video_id(i) if config.render else f"v{i:04d}" for i in range(videos)]
    genres = ["rock" if i % 2 else None for i in range(videos)]
    table = pa.table({"video_id": ids, "path": [f"/media/{name}.mp4" for name in ids], "genre": genres})
    if artists is not None:
        table = table.append_column("artist", pa.array([f"Artist {number:04d}" for number in artists]))
    write_manifest(paths, merge(None, table, config.splits))
    planted = Planted(
        dict(zip(names, dims, strict=True)), dict(zip(names, keys, strict=True)), correlation, factors, seed=seed
    )
    common = video_factors(planted, np.full(videos, -1) if artists is None else np.array(artists))
    failed = ({}, {}, dict.fromkeys(unreadable, "no_video_stream"))
    cache = Cache(config, planted, ids, common, failed, tuple(damaged))
    plan = cache.create()
    for shard in range(plan.shards):
        cache.write_shard(plan, shard)
    return config


def described_cache(folder: Path, correlation: float, permutations: int = 19, **more: Any) -> Config:
    """Write a cache whose arrays have the descriptors' names and widths, and random numbers of a common origin."""
    names = ("sound_descriptors", "picture_descriptors")
    return simulate(
        folder,
        correlation,
        dims=(WIDTHS[names[0]], WIDTHS[names[1]]),
        names=names,
        backbones={name: {"weights": "none"} for name in names},
        heads=dict(zip(("audio", "video"), names, strict=True)),
        eval={"bootstrap": 100},
        study={"relations": {"permutations": permutations, "null_seeds": 5, "videos": 150}},
        **{"videos": 240, "shard_videos": 80, **more},
    )


def index_cache(config: Config) -> None:
    """Write features.json and failures.csv, as the stage `pipeline.index` does."""
    with patch.object(sys, "argv", ["index", "--config", str(config.paths.config)]):
        index.main()


def label_by_audio(config: Config) -> None:
    """Write genres and tags that follow from the first audio features.

    The tag `t3` has no validation video, and the genre `unheard` only one test video.
    """
    paths = config.paths
    audio = zarr.open_group(paths.features, mode="r")["musicnn"][:].astype(float).mean(axis=1)
    table = read_manifest(paths.manifest)
    lines = table.to_pylist()
    for line, values in zip(lines, audio, strict=True):
        line["genre"] = ["rock", "folk", "techno"][int(np.digitize(values[0], [-0.2, 0.2]))]
        line["tags"] = [f"t{i}" for i in range(4) if values[i + 1] > 0.1] or ["other"]
        if line["split"] == "validation":
            line["tags"] = [t for t in line["tags"] if t != "t3"] or None
    lines[0]["genre"], lines[0]["split"] = "unheard", "test"
    write_manifest(paths, type(table).from_pylist(lines, table.schema))
    for task in config.labels.tasks:
        write_labels(config, task)


if __name__ == "__main__":
    p = argparse.ArgumentParser(prog="python -m tests.support.simulate", description=__doc__)
    p.add_argument("results", type=Path, help="the folder to write")
    p.add_argument("--videos", type=int, default=3000)
    p.add_argument("--correlation", type=float, default=0.5)
    p.add_argument("--dims", type=int, nargs=2, default=(400, 200), metavar=("AUDIO", "VIDEO"))
    p.add_argument("--factors", type=int, default=12)
    p.add_argument("--seeds", type=int, nargs="+", default=[0, 1], metavar="SEED", help="heads.seeds")
    args = p.parse_args()
    heads = {"seeds": args.seeds}
    simulate(args.results, args.correlation, args.videos, dims=tuple(args.dims), factors=args.factors, heads=heads)

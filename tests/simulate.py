"""A small simulated cache: features of both backbones that share latent factors to a known degree.

Writes a results folder with config.json, the manifest, the plan and features.zarr, all through the functions that the
pipeline itself uses. No media file and no network is involved: heads and eval cannot tell the difference.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from config.files import write_json
from config.model import Config, load
from config.paths import Paths
from data.manifest import merge, write_manifest
from pipeline.plan import save_plan, shard_rows
from pipeline.records import Record
from pipeline.store import PROBE, finish_shard


def latent_features(
    videos: int, segments: int, dims: tuple[int, int], factors: int, correlation: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Audio and video features, float16 [videos, segments, dim] each.

    Every segment has latent factors on each side, half of whose variance its video's segments share; those of the two
    sides correlate by `correlation`. Each side sees its factors through a random layer and some noise of its own.
    """
    rng = np.random.default_rng(seed)

    def factors_of_segments() -> np.ndarray:
        common, own = rng.normal(size=(videos, 1, factors)), rng.normal(size=(videos, segments, factors))
        return (common + own) / np.sqrt(2)

    sound, other = factors_of_segments(), factors_of_segments()
    picture = correlation * sound + np.sqrt(1 - correlation**2) * other
    sides = []
    for latent, dim in zip((sound, picture), dims, strict=True):
        seen = np.tanh(latent @ rng.normal(size=(factors, dim)) / np.sqrt(factors))
        sides.append((seen + 0.2 * rng.normal(size=seen.shape)).astype(np.float16))
    return sides[0], sides[1]


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
    **settings: Any,
) -> Config:
    """Write the results folder; returns its configuration. `settings` go to Config.

    `unreadable` rows have no pictures, `damaged` (row, segment) ones have none there, as with `decoding.partial`.

    With other `keys` on the same folder the features are replaced as by a new extraction.
    """
    names = ("musicnn", "r2plus1d")
    config = load(
        {
            "results": str(results),
            "videos": "videos.csv",
            "shard_videos": 256,
            "segments": {"count": segments},
            **settings,
        }
    )
    paths = Paths(results)
    write_json(paths.config, config.model_dump(mode="json"))
    table = pa.table(
        {
            "video_id": [f"v{i:04d}" for i in range(videos)],
            "path": [f"/media/v{i:04d}.mp4" for i in range(videos)],
            "genre": ["rock" if i % 2 else None for i in range(videos)],
        }
    )
    write_manifest(paths, merge(None, table, config.splits))
    plan = {
        "videos": videos,
        "shard_videos": config.shard_videos,
        "shards": -(-videos // config.shard_videos),
        "segments": config.segments.model_dump(),
        "segment_key": "s" * 64,
        "backbones": {
            name: {
                "key": key,
                "dim": dim,
                "weights": {"source": "simulated"},
                "random_weights": name == "r2plus1d",
                "preprocessing": {},
            }
            for name, key, dim in zip(names, keys, dims, strict=True)
        },
    }
    save_plan(paths, plan)
    readable = np.ones((2, videos), dtype=bool)
    readable[1, list(unreadable)] = False
    sides = latent_features(videos, segments, dims, factors, correlation, seed)
    for row, segment in damaged:
        sides[1][row, segment] = np.nan
    start = np.tile(np.arange(segments, dtype=np.float32) * 10 + 1, (videos, 1))
    for shard in range(plan["shards"]):
        rows = shard_rows(plan, shard)
        part = slice(rows.start, rows.stop)
        for name, key, side, valid in zip(names, keys, sides, readable, strict=True):
            block = np.where(valid[part, None, None], side[part], np.float16(np.nan))
            blocks = [block.astype(np.float16), valid[part]]
            partial = int((np.isnan(side[part, :, 0]).any(axis=1) & valid[part]).sum())
            record = Record(key, len(rows), int(valid[part].sum()), "", partial=partial)
            finish_shard(paths, name, shard, blocks, record)
        probed = [start[part], np.full(len(rows), 30, np.float32)]
        finish_shard(paths, PROBE, shard, probed, Record(plan["segment_key"], len(rows), len(rows), ""))
    return config


if __name__ == "__main__":
    p = argparse.ArgumentParser(prog="python -m tests.simulate", description=__doc__)
    p.add_argument("results", type=Path, help="the folder to write")
    p.add_argument("--videos", type=int, default=3000)
    p.add_argument("--correlation", type=float, default=0.5)
    p.add_argument("--dims", type=int, nargs=2, default=(400, 200), metavar=("AUDIO", "VIDEO"))
    p.add_argument("--factors", type=int, default=12)
    args = p.parse_args()
    simulate(args.results, args.correlation, args.videos, dims=tuple(args.dims), factors=args.factors)

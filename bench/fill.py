"""A full-size cache without videos: features with planted structure, written through the pipeline's own store.

    python -m bench.fill FOLDER [--videos 550000] [--segments 6] [--shard-videos 1000] [--correlation 0.5] [--seed 0]

Writes a complete results folder: config.json, the manifest, plan.json, features.zarr, the records in done/ and ledger/,
failures.csv and features.json. 550,000 videos are 13.3 GB. What comes after extraction cannot tell the difference, so
it can be tried at full size on any machine. One shard a process is in memory, beside 16 factors for every video.

What is planted: every video has latent factors, of which its artist, its genre and its tags tell something; each of its
segments has factors around them; audio and video see the same ones to a known degree, each through a random layer.
"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bench.measure import BACKBONES, start
from config.cli import UserError, parser, progress
from config.files import write_json
from config.model import Config, load
from data.manifest import merge, write_manifest
from data.segments import segment_starts
from pipeline.backbones.registry import load_class
from pipeline.plan import key_of, save_plan
from pipeline.records import PROBE, Failure, Plan, PlannedBackbone, Record
from pipeline.store import FORMAT, finish_shard

GENRES, TAGS = 20, 50
SHARES = {"missing": 0.005, "no_audio_stream": 0.002, "decode_error": 0.008}
"""Videos that nobody, that MusicNN and that R(2+1)D could not read, as shares of all."""
DIMS = {name: load_class(name).dim for name in BACKBONES}
"""Width of the features, by backbone, audio first."""


@dataclass(frozen=True)
class Planted:
    """What is planted: `correlation` of the two modalities' factors, noise as a standard deviation beside tanh's ±1.

    `dims` and `keys` are {backbone: width of its features} and {backbone: cache key}, audio first.
    """

    dims: dict[str, int]
    keys: dict[str, str]
    correlation: float = 0.5
    factors: int = 16
    noise: float = 0.2
    seed: int = 0

    def draws(self, *stream: int) -> np.random.Generator:
        """Return an independent generator for each stream (numbers): a shard does not depend on who made the others."""
        return np.random.Generator(np.random.SFC64(np.random.SeedSequence((self.seed, *stream))))


def video_factors(planted: Planted, artists: np.ndarray) -> np.ndarray:
    """Draw what a video's segments share, in either modality: float32 [2, videos, factors] of unit variance.

    artists: int64 [videos]; half of the variance is the artist's. Those without one (-1) have factors of their own.
    """
    rng = planted.draws(0)
    individual = rng.standard_normal((2, len(artists), planted.factors), np.float32)
    artists_factors = rng.standard_normal((2, artists.max(initial=-1) + 1, planted.factors), np.float32)
    known = artists >= 0
    individual[:, known] = (individual[:, known] + artists_factors[:, artists[known]]) / np.float32(np.sqrt(2))
    return individual


def segment_features(
    planted: Planted, common: np.ndarray, segments: int, shard: int, dtype: type[np.floating[Any]] = np.float16
) -> list[np.ndarray]:
    """Draw both modalities' features of a shard, [videos, segments, dim] each; `common`: its part of `video_factors`.

    Half of the variance of a segment's factors is its video's. Each modality sees its factors through a random layer.
    """
    rng, layers = planted.draws(1, shard), planted.draws(2)
    individual = rng.standard_normal((2, common.shape[1], segments, planted.factors), np.float32)
    audio, independent = (common[:, :, None] + individual) / np.float32(np.sqrt(2))
    shared = np.float32(planted.correlation)
    video = shared * audio + np.sqrt(1 - shared**2) * independent
    modalities = []
    for latent, dim in zip((audio, video), planted.dims.values(), strict=True):
        layer = layers.standard_normal((planted.factors, dim), np.float32) / np.float32(np.sqrt(planted.factors))
        features = rng.standard_normal((*latent.shape[:2], dim), np.float32)
        features *= np.float32(planted.noise)
        features += np.tanh(latent @ layer)
        modalities.append(features.astype(dtype))
    return modalities


def videos_table(planted: Planted, videos: int) -> tuple[pa.Table, np.ndarray]:
    """Make a table of videos with labels, and their factors (see `video_factors`).

    A fifth has no artist, and about 5.5 videos share each; a fifth has no genre. Genre and tags follow from the
    factors of the audio, the tags with frequencies from a fifth of the videos down to a thousandth.
    """
    rng = planted.draws(3)
    artists = np.where(rng.random(videos) < 0.8, rng.integers(max(videos // 7, 1), size=videos), -1)
    common = video_factors(planted, artists)
    directions = rng.standard_normal((planted.factors, GENRES + TAGS), np.float32)
    scores = common[0] @ (directions / np.linalg.norm(directions, axis=0))
    genre = np.where(rng.random(videos) < 0.8, scores[:, :GENRES].argmax(axis=1), -1)
    # The scores are standard normal; these are the quantiles of 0.2 … 0.001, rounded.
    video, tag = np.nonzero(scores[:, GENRES:] > np.linspace(0.84, 3.1, TAGS, dtype=np.float32))
    offsets = np.searchsorted(video, np.arange(videos + 1))
    names = pa.array([f"tag {i:02d}" for i in range(TAGS)])
    table = pa.table(
        {
            "video_id": [f"v{i:06d}" for i in range(videos)],
            "path": [f"/media/v{i:06d}.mp4" for i in range(videos)],
            "artist": [f"artist {i:06d}" if i >= 0 else None for i in artists.tolist()],
            "genre": [f"genre {i:02d}" if i >= 0 else None for i in genre.tolist()],
            "tags": pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), names.take(pa.array(tag))),
        }
    )
    return table, common


def planned(config: Config, planted: Planted, videos: int) -> Plan:
    """Return the plan of such a cache. R(2+1)D's weights are called random, so that every output says so."""
    return Plan(
        format=FORMAT,
        videos=videos,
        shard_videos=config.shard_videos,
        shards=-(-videos // config.shard_videos),
        segments=config.segments,
        segment_key="s" * 64,
        backbones={
            name: PlannedBackbone(
                key=planted.keys[name],
                dim=dim,
                modality=modality,
                weights={"source": "planted", "sha256": "0" * 64},
                random_weights=name == "r2plus1d",
                preprocessing={},
            )
            for (name, dim), modality in zip(planted.dims.items(), ("audio", "video"), strict=True)
        },
    )


@dataclass(frozen=True)
class Cache:
    """What writing a shard needs: `ids` of the videos, `common` as `video_factors` gives it.

    `failed` has for the probe and the backbones, in this order, {row: reason}, and `damaged` (row, segment) of R(2+1)D.
    """

    config: Config
    planted: Planted
    ids: list[str]
    common: np.ndarray
    failed: tuple[dict[int, str], ...]
    damaged: tuple[tuple[int, int], ...] = ()

    def create(self) -> Plan:
        """Make the store as large as it has to be; return the plan. Its shards are still to be written."""
        plan = planned(self.config, self.planted, len(self.ids))
        save_plan(self.config.paths, plan)
        return plan

    def write_shard(self, plan: Plan, shard: int) -> None:
        """Write one shard of the probe and of both backbones, with its records."""
        paths, rows, spec = self.config.paths, plan.rows(shard), self.config.segments
        rng = self.planted.draws(4, shard)
        durations = rng.uniform(120, 360, len(rows)).astype(np.float32)
        starts = np.array(
            [
                segment_starts(self.ids[row], float(duration), spec)
                for row, duration in zip(rows, durations, strict=True)
            ]
        )
        features = segment_features(self.planted, self.common[:, rows.start : rows.stop], spec.count, shard)
        for row, segment in self.damaged:
            if row in rows:
                features[1][row - rows.start, segment] = np.nan
        parts = {PROBE: [starts.astype(np.float32), durations]} | {
            name: [block, np.ones(len(rows), bool)] for name, block in zip(self.planted.dims, features, strict=True)
        }
        keys = [plan.segment_key, *self.planted.keys.values()]
        for (part, blocks), key, failed in zip(parts.items(), keys, self.failed, strict=True):
            failures = [Failure(row, self.ids[row], failed[row], "planted") for row in rows if row in failed]
            lost = [failure.row - rows.start for failure in failures]
            for block in blocks:
                block[lost] = False if block.dtype == bool else np.nan
            valid = np.isfinite(durations) if part == PROBE else blocks[1]
            partial = int((np.isnan(blocks[0]).reshape(len(rows), -1).any(axis=1) & valid).sum())
            decoders = {} if part == PROBE else {"pyav": int(valid.sum())}
            record = Record(key, len(rows), int(valid.sum()), "", failures, decoders, partial)
            finish_shard(paths, part, shard, blocks, record)


def fill(config: Config, planted: Planted, videos: int, processes: int) -> None:
    """Write the whole results folder. UserError if there is a cache in it already."""
    paths = config.paths
    if paths.plan.exists():
        raise UserError(f"{paths.plan} exists: there is a cache in this folder already; choose another, or delete it")
    table, common = videos_table(planted, videos)
    write_json(paths.config, config.model_dump(mode="json"))
    write_manifest(paths, merge(None, table, config.splits))
    draw = planted.draws(5).random((len(SHARES), videos))
    failed: list[dict[int, str]] = []
    for (reason, share), numbers in zip(SHARES.items(), draw, strict=True):
        known = failed[0] if failed else {}  # what the probe could not open, the backbones cannot either
        failed.append(dict.fromkeys(np.flatnonzero(numbers < share).tolist(), reason) | known)
    cache = Cache(config, planted, table["video_id"].to_pylist(), common, tuple(failed))
    plan = cache.create()
    with ProcessPoolExecutor(processes, initializer=_take, initargs=(cache, plan)) as pool:
        for _ in progress(pool.map(_shard, range(plan.shards)), plan.shards, "fill", "shards"):
            pass
    subprocess.run([sys.executable, "-m", "pipeline.index", "--config", str(paths.config)], check=True)


_mine: tuple[Cache, Plan]


def _take(cache: Cache, plan: Plan) -> None:
    global _mine
    _mine = cache, plan


def _shard(shard: int) -> None:
    cache, plan = _mine
    cache.write_shard(plan, shard)


def main() -> None:
    """Run the command line."""
    command_line = parser(__doc__, "bench.fill", config=False)
    command_line.add_argument("folder", type=Path, help="the results folder to write")
    command_line.add_argument("--videos", type=int, default=550_000)
    command_line.add_argument("--segments", type=int, default=6)
    command_line.add_argument("--shard-videos", type=int, default=1000)
    command_line.add_argument("--correlation", type=float, default=0.5)
    command_line.add_argument("--seed", type=int, default=0)
    command_line.add_argument(
        "--processes", type=int, default=len(os.sched_getaffinity(0)), help="default: the cores there are"
    )
    arguments = command_line.parse_args()
    if not 0 <= arguments.correlation <= 1:
        raise UserError(f"--correlation {arguments.correlation} is not between 0 and 1")
    settings = {"shard_videos": arguments.shard_videos, "segments": {"count": arguments.segments}}
    config = load({"results": str(arguments.folder), "videos": "videos.csv", **settings})
    spec = {"seed": arguments.seed, "correlation": arguments.correlation, "segments": arguments.segments}
    keys = {name: key_of({"backbone": name, **spec}) for name in DIMS}
    fill(config, Planted(DIMS, keys, arguments.correlation, seed=arguments.seed), arguments.videos, arguments.processes)


if __name__ == "__main__":
    start(main)

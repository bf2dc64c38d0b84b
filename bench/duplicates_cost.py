"""What a search for near-duplicates costs at full size, and the bare rate of the products that it is made of.

Called by bench/duplicates.py, each measurement in a process of its own. Reads the cache that it is given, or nothing;
writes into temporary folders alone.
"""

from __future__ import annotations

import resource
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from bench import measure
from bench.duplicates_sets import THREADS
from config.pipeline import Duplicates
from pipeline.duplicates.report import groups_of
from pipeline.duplicates.search import TILE, candidates, search
from pipeline.duplicates.space import COMPONENTS, Stored, fit, unit
from pipeline.features import open_features

BARE_TILES = 200
"""Products of blocks that the bare rate is measured on."""
BLOCK_ROWS = 2
"""Rows of blocks that a search is measured on."""


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
        tiles = sum(row - above for above in range(BLOCK_ROWS))
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
    first, second = space.block(0, TILE), space.block(TILE, 2 * TILE)
    began = time.perf_counter()

    def products(count: int) -> None:
        out = np.empty((TILE, TILE), np.float32)
        for _ in range(count):
            np.matmul(first, second.T, out=out)

    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(products, [BARE_TILES // THREADS] * THREADS))
    return time.perf_counter() - began

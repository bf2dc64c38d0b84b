"""Statistics of the whole cache at full size: time, memory, growth, and the matrix product that they cannot do without.

    python -m bench.fill FOLDER       makes a cache of 550,000 videos, once
    python -m bench.moments FOLDER    writes bench/results/moments.json: 5 minutes

Every size runs `pipeline.statistics.compute` in a process of its own. The floor, in the same process, is the product of
as many float32 features with themselves, block after block of one shard that is in memory already: no reading, no
checksums, no float16. Reads the folder; writes nothing into it.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from bench import measure
from config.paths import Paths
from pipeline.features import open_features
from pipeline.shards import Shards
from pipeline.statistics import compute, segments_of

SIZES = (10_000, 50_000, 200_000, 550_000)
THREADS = 2


def bare(block: np.ndarray, times: int) -> float:
    """Seconds of so many products of a block, float32 [segments, dim], with itself, on THREADS threads."""
    clock = time.perf_counter()
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda _: block.T @ block, range(times)))
    return time.perf_counter() - clock


def one(folder: str, backbone: str, videos: int) -> dict[str, Any]:
    """One backbone and size, in this process."""
    paths = Paths(Path(folder))
    features, shards = open_features(paths), Shards.open(paths.features / backbone)
    rows = features.rows("train", valid=[backbone])
    rows = rows[rows < videos]
    clock = time.perf_counter()
    found = compute(shards, rows, scheduler="threads", num_workers=THREADS)
    seconds = time.perf_counter() - clock
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    block = segments_of(shards, rows[rows < shards.shard_rows])
    floor = bare(block, round(found.count / len(block)))
    size = found.count * shards.shape[2] * 2
    return {"backbone": backbone, "videos": videos, "segments": found.count, "bytes": size} | {
        "seconds": seconds,
        "floor": floor,
        "rss": rss,
    }


def measure_all(folder: str) -> dict[str, Any]:
    """Everything for the result file."""
    cases = [("musicnn", size) for size in SIZES] + [("r2plus1d", SIZES[-1])]
    runs = [measure.child("bench.moments", folder, name, str(size)) for name, size in cases]
    curve = runs[: len(SIZES)]
    rate = measure.exponent([r["videos"] for r in curve], [r["seconds"] for r in curve])
    rss = max(r["rss"] for r in runs) / 1e9
    bars = [
        measure.bar(f"statistics of {SIZES[-1]:,} videos, peak RSS (GB)", rss, at_most=4),
        measure.bar("statistics, growth of time with the videos (exponent)", rate, at_most=1.1),
    ]
    return {"threads": THREADS, "runs": runs, "exponent": rate, "bars": bars}


def table(found: dict[str, Any]) -> str:
    """The runs as Markdown."""
    lines = [
        "| backbone | videos | features | seconds | bare product, s | share | peak RSS |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in found["runs"]:
        lines.append(
            f"| {r['backbone']} | {r['videos']:,} | {r['bytes'] / 1e9:.2f} GB | {r['seconds']:.1f} | {r['floor']:.1f} "
            f"| {r['floor'] / r['seconds']:.2f} | {r['rss'] / 1e9:.2f} GB |"
        )
    return "\n".join(lines) + f"\n\nTime grows as videos^{found['exponent']:.2f}."


def main() -> None:
    """Command line."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder", help="a results folder that bench.fill made")
    p.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    p.add_argument("case", nargs="*", help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.child:
        print(json.dumps(one(args.folder, args.case[0], int(args.case[1]))))
    else:
        measure.save("moments", "python -m bench.moments FOLDER", measure_all(args.folder))


if __name__ == "__main__":
    main()

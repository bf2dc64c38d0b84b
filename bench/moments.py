"""Statistics of the whole cache at full size: time, memory, growth, and the matrix product that they cannot do without.

    python -m bench.fill FOLDER       makes a cache of 550,000 videos, once
    python -m bench.moments FOLDER    writes bench/results/moments.json: 5 minutes

Every size runs `pipeline.statistics.compute` in a process of its own. The floor, in the same process, is the product of
as many float32 features with themselves, block after block of one shard that is in memory already: no reading, no
checksums, no float16. Reads the folder; writes nothing into it.
"""

from __future__ import annotations

import resource
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from bench import measure
from config.cli import parser
from config.paths import Paths
from pipeline.features import open_features
from pipeline.shards import Shards
from pipeline.statistics import compute, segments_of

SIZES = (10_000, 50_000, 200_000, 550_000)
THREADS = 2


def bare(block: np.ndarray, times: int) -> float:
    """Return the seconds of so many products of a block, float32 [segments, dim], with itself, on THREADS threads."""
    clock = time.perf_counter()
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda _: block.T @ block, range(times)))
    return time.perf_counter() - clock


def one_size(folder: str, backbone: str, size: str) -> dict[str, Any]:
    """Measure one backbone and number of videos, in this process."""
    paths, videos = Paths(Path(folder)), int(size)
    features, shards = open_features(paths), Shards.open(paths.features / backbone)
    rows = features.rows("train", valid=[backbone])
    rows = rows[rows < videos]
    moments, seconds = measure.timed(lambda: compute(shards, rows, scheduler="threads", num_workers=THREADS))
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    block = segments_of(shards, rows[rows < shards.shard_rows])
    floor = bare(block, round(moments.count / len(block)))
    about = {"backbone": backbone, "videos": videos, "segments": moments.count}
    return about | {"bytes": moments.count * shards.shape[2] * 2, "seconds": seconds, "floor": floor, "rss": rss}


def measure_all(folder: str) -> dict[str, Any]:
    """Measure all sizes of the first backbone, the largest of the others; return the result file's content."""
    first, *others = measure.BACKBONES
    cases = [(first, size) for size in SIZES] + [(name, SIZES[-1]) for name in others]
    runs = [measure.child("bench.moments", folder, name, str(size)) for name, size in cases]
    curve = runs[: len(SIZES)]
    rate = measure.exponent([run["videos"] for run in curve], [run["seconds"] for run in curve])
    rss = max(run["rss"] for run in runs) / 1e9
    bars = [
        measure.bar(f"statistics of {SIZES[-1]:,} videos, peak RSS (GB)", rss, at_most=4),
        measure.bar("statistics, growth of time with the videos (exponent)", rate, at_most=1.1),
    ]
    return {"threads": THREADS, "runs": runs, "exponent": rate, "bars": bars}


def table(result: dict[str, Any]) -> str:
    """Return the runs as Markdown."""
    rows = [
        [
            run["backbone"],
            f"{run['videos']:,}",
            f"{run['bytes'] / 1e9:.2f} GB",
            f"{run['seconds']:.1f}",
            f"{run['floor']:.1f}",
            f"{run['floor'] / run['seconds']:.2f}",
            f"{run['rss'] / 1e9:.2f} GB",
        ]
        for run in result["runs"]
    ]
    header = ["backbone", "videos", "features", "seconds", "bare product, s", "share", "peak RSS"]
    return f"{measure.markdown(header, rows)}\n\nTime grows as videos^{result['exponent']:.2f}."


def main() -> None:
    """Run the command line."""
    command_line = parser(__doc__, "bench.moments", config=False)
    command_line.add_argument("folder", help="a results folder that bench.fill made")
    measure.save("moments", "python -m bench.moments FOLDER", measure_all(command_line.parse_args().folder))


if __name__ == "__main__":
    measure.start(main, one_size)

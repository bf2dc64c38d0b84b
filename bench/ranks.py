"""Exact ranks against the bare matrix product that they cannot do without.

    python -m bench.ranks                     # 55,000 × 55,000, a curve below it, and a collapsed model: 4 minutes

Reads and writes nothing but bench/results/ranks.json. Every size runs in a process of its own, so that its growth of
memory is its own. The bare product has the same tiles, threads and BLAS, and drops what it computes; the peer is the
same count from float64 products (`eval.ranks.exact_counts`, on the CPU), as it was done before. Last, what it changes
that the cache holds float16: the ranks of 55,000 planted videos by features as they are stored and as they were.
"""

from __future__ import annotations

import resource
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from bench import measure
from bench.fill import DIMS, Planted, segment_features, video_factors
from config.cli import parser
from eval.bootstrap import intervals
from eval.ranks import TILE, exact_counts, on_grid, ranks, similarities

SIZES, LARGEST, WIDTH, SEGMENTS = (5_000, 10_000, 25_000, 55_000), 550_000, 256, 6
PEER = 10_000
"""Size at which the float64 way is measured; it grows as the square, too."""
FITTED, KINDS = 6_000, ("float32", "float16")


def embeddings(n: int, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Draw embeddings of audio and video, float16 [n, 256] each.

    `spread` over the sphere, `sigmoid` (no negative coordinate), or `collapsed`.
    """
    rng = np.random.default_rng(0)
    audio: np.ndarray = rng.normal(size=(n, WIDTH)).astype(np.float32)
    video: np.ndarray = 0.15 * audio + rng.normal(size=(n, WIDTH)).astype(np.float32)
    if kind == "sigmoid":
        audio, video = (1 / (1 + np.exp(-values)) for values in (audio, video))
    if kind == "collapsed":
        audio, video = (1 + 1e-3 * values for values in (audio, video))
    return audio.astype(np.float16), video.astype(np.float16)


def bare(audio: np.ndarray, video: np.ndarray, threads: int) -> None:
    """Compute all similarities in float32, tile after tile, and nothing else."""
    a, v = audio.astype(np.float32), video.astype(np.float32)
    starts = range(0, len(a), TILE)

    def panel(part: range) -> None:
        out = np.empty((TILE, TILE), np.float32)
        for top in part:
            for left in starts:
                rows, columns = a[top : top + TILE], v[left : left + TILE]
                np.matmul(rows, columns.T, out=out[: len(rows), : len(columns)])

    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        list(pool.map(panel, [starts[i::threads] for i in range(threads)]))


def growth() -> Callable[[], int]:
    """Watch this process's memory; return a function that stops it and returns the largest growth since, in bytes."""
    stop, largest = threading.Event(), [0]

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * resource.getpagesize()

    begin = resident()

    def watch() -> None:
        while not stop.wait(0.01):
            largest[0] = max(largest[0], resident())

    thread = threading.Thread(target=watch)
    thread.start()

    def done() -> int:
        stop.set()
        thread.join()
        return largest[0] - begin

    return done


def one_size(n: int, kind: str, threads: int) -> dict[str, Any]:
    """Measure one size and kind of embeddings, in this process."""
    torch.set_num_threads(threads)
    audio, video = embeddings(n, kind)
    ranks(audio[:2000], video[:2000])  # the first product loads its library's kernels
    _, before = measure.timed(lambda: bare(audio, video, threads))
    done = growth()
    exact, seconds = measure.timed(lambda: ranks(audio, video))
    grown = done()
    _, after = measure.timed(lambda: bare(audio, video, threads))
    result = {"n": n, "kind": kind, "seconds": seconds, "bare": min(before, after), "bare_spread": [before, after]}
    result |= {"grown_mb": grown / 1e6, "median": float(np.median(exact[0]))}
    if n == PEER:
        a, v = on_grid(audio), on_grid(video)
        positives = similarities(a, v)
        counted, result["float64"] = measure.timed(lambda: exact_counts(a, v, positives, TILE, "cpu"))
        result["equal"] = all(np.array_equal((count + 1) / 2, rank) for count, rank in zip(counted, exact, strict=True))
    if n == max(SIZES) and kind == "spread":
        result |= _bootstrap(exact[0])
    return result


def _bootstrap(rank: np.ndarray) -> dict[str, Any]:
    """Time a bootstrap of 1,000 resamples: as many videos as ranks, and six times the ranks."""
    n = len(rank)
    _, videos = measure.timed(lambda: intervals(rank, np.arange(n), 1000, 0))
    repeated = np.repeat(rank, SEGMENTS), np.repeat(np.arange(n), SEGMENTS)
    _, segments = measure.timed(lambda: intervals(*repeated, 1000, 0))
    return {"bootstrap": videos, "bootstrap_segments": segments}


def precision(n: int, threads: int) -> dict[str, Any]:
    """Return median ranks of n planted videos with float32 features and with the same rounded to float16.

    One segment each; audio is mapped onto video by least squares, fitted on other videos.
    """
    torch.set_num_threads(threads)
    planted = Planted(DIMS, {}, correlation=0.5)
    factors = video_factors(planted, np.full(n + FITTED, -1))
    audio, video = (features[:, 0] for features in segment_features(planted, factors, 1, 0, np.float32))
    fitted, *_ = np.linalg.lstsq(audio[n:], video[n:], rcond=None)
    medians = {}
    for kind in (np.float32, np.float16):
        a, v = (features[:n].astype(kind).astype(np.float32) for features in (audio, video))
        rank = ranks(a @ fitted, v)[0]
        low, high = intervals(rank, np.arange(n), 1000, 0)["median"]
        medians[kind.__name__] = {"median": float(np.median(rank)), "low": low, "high": high}
    return {"n": n, **medians}


def measure_all(threads: int) -> dict[str, Any]:
    """Measure all sizes and kinds; return the result file's content."""
    cases = [(videos, "spread") for videos in SIZES] + [(PEER, "sigmoid"), (PEER, "collapsed")]
    runs = [measure.child("bench.ranks", str(videos), kind, str(threads)) for videos, kind in cases]
    curve = runs[: len(SIZES)]
    largest = curve[-1]
    rate = measure.exponent([run["n"] for run in curve], [run["seconds"] for run in curve])
    peer = next(run for run in curve if run["n"] == PEER)
    rounded = measure.child("bench.ranks", str(max(SIZES)), "precision", str(threads))
    whole, half = rounded["float32"], rounded["float16"]
    changed = abs(half["median"] - whole["median"]) / (whole["high"] - whole["low"])
    return {
        "threads": threads,
        "width": WIDTH,
        "runs": runs,
        "exponent": rate,
        "times_float64": peer["float64"] / peer["seconds"],
        "precision": rounded,
        "extrapolated": {"n": LARGEST, "seconds": largest["seconds"] * (LARGEST / largest["n"]) ** 2},
        "bars": [
            measure.bar("ranks of 55,000 × 55,000, share of the bare product's rate", _share(largest), at_least=0.5),
            measure.bar("ranks of 55,000 × 55,000, growth of memory (GB)", largest["grown_mb"] / 1000, at_most=1),
            measure.bar("ranks, growth of time with n (exponent)", rate, at_most=2.1),
            measure.bar("median rank, change by float16 features / width of its 95 % interval", changed, at_most=1),
        ],
    }


def _share(run: dict[str, float]) -> float:
    return run["bare"] / run["seconds"]


def table(result: dict[str, Any]) -> str:
    """Return the runs as Markdown, with a sentence on growth, bootstrap and precision."""
    rows = []
    for run in result["runs"]:
        peer = f"{run['float64']:.2f}" if "float64" in run else ""
        seconds = [f"{run['seconds']:.2f}", f"{run['bare']:.2f}", f"{_share(run):.2f}", peer]
        rows.append([f"{run['n']:,}, {run['kind']}", *seconds, f"{run['grown_mb']:.0f}"])
    header = ["n × n, embeddings", "ranks, s", "bare product, s", "share", "float64, s", "memory, MB"]
    far, largest = result["extrapolated"], next(run for run in result["runs"] if "bootstrap" in run)
    text = (
        f"\nTime grows as n^{result['exponent']:.2f}. Extrapolated as n², not measured: {far['n']:,} × {far['n']:,} in "
        f"{far['seconds'] / 60:.0f} minutes on these {result['threads']} cores. A bootstrap of 1,000 resamples of the "
        f"{largest['n']:,} ranks takes {largest['bootstrap']:.1f} s, of the {SEGMENTS * largest['n']:,} of all their "
        f"segments {largest['bootstrap_segments']:.1f} s."
    )
    precise = result["precision"]
    medians = (precise[kind] for kind in KINDS)
    exact, stored = (f"{line['median']:,g} [{line['low']:,g}, {line['high']:,g}]" for line in medians)
    videos = f"{precise['n']:,}"
    text += f" With float32 features the median rank of {videos} planted videos is {exact}, with float16 {stored}."
    return f"{measure.markdown(header, rows)}\n{text}"


def main() -> None:
    """Run the command line."""
    command_line = parser(__doc__, "bench.ranks", config=False)
    command_line.add_argument("--threads", type=int, default=2, metavar="N", help="cores (default 2)")
    threads = command_line.parse_args().threads
    measure.save("ranks", f"python -m bench.ranks --threads {threads}", measure_all(threads))


def _answer(n: str, kind: str, threads: str) -> dict[str, Any]:
    return precision(int(n), int(threads)) if kind == "precision" else one_size(int(n), kind, int(threads))


if __name__ == "__main__":
    measure.start(main, _answer)

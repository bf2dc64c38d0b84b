"""Measuring for the benches: child processes with their own clocks, and what to say about machine and versions.

Reads /proc/self/io; writes nothing but the result files under bench/results that it is given.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from config.files import write_json

T = TypeVar("T")
ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results"
SEGMENTS, SECONDS, RATE = 6, 3.0, 16000
"""The paper's segments, and the sampling rate (Hz) of MusicNN."""


def machine() -> dict[str, Any]:
    """What the numbers depend on: processor, cores, Python and library versions."""
    names = ("torch", "torchvision", "numpy", "zarr", "av", "decord", "soxr", "snakemake")
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "load_before": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in names},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def starts_of(duration: float) -> list[float]:
    """Where the bench's segments of a video begin (s): the paper's six."""
    from config.model import Segments
    from data.segments import segment_starts

    starts = segment_starts("bench", duration, Segments())
    assert starts is not None, f"a video of {duration} s is shorter than a segment"
    return [float(s) for s in starts]


def child(module: str, *arguments: str, env: dict[str, str] | None = None) -> dict[str, Any]:
    """Run `python -m module --child arguments`; its last line of output is JSON. RuntimeError with its words."""
    command = [sys.executable, "-m", module, "--child", *arguments]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **(env or {})}, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measured(work: Callable[[], T]) -> tuple[T, dict[str, float]]:
    """Run `work`; its result, and wall and processor seconds (children that ended included) and bytes read."""
    cpu, read, clock = _cpu(), _bytes_read(), time.perf_counter()
    result = work()
    wall = time.perf_counter() - clock
    return result, {"wall": wall, "cpu": _cpu() - cpu, "read": _bytes_read() - read}


def _cpu() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _bytes_read() -> int:
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("rchar")))


def summary(values: Iterable[float], digits: int = 3) -> dict[str, float]:
    """Median, smallest and largest of repeated measurements: the spread is the noise."""
    found = list(values)
    return {k: round(f(found), digits) for k, f in (("median", statistics.median), ("min", min), ("max", max))}


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """The p of cost ≈ c · size^p, by least squares on logarithms: 1 is linear, 2 quadratic growth."""
    return round(float(np.polyfit(np.log(sizes), np.log(costs), 1)[0]), 3)


def bar(measure: str, value: float, *, at_least: float | None = None, at_most: float | None = None) -> dict[str, Any]:
    """One line of a result's `bars`: what was measured, the bar it has to reach, and whether it did."""
    if (at_least is None) == (at_most is None):
        raise ValueError("a bar is either a least or a greatest value")
    met = value >= at_least if at_least is not None else at_most is not None and value <= at_most
    words = f"≥ {at_least:g}" if at_least is not None else f"≤ {at_most:g}"
    return {"measure": measure, "value": round(value, 4), "bar": words, "met": met}


def save(name: str, command: str, found: dict[str, Any]) -> None:
    """Write bench/results/<name>.json with the machine and the command beside the numbers."""
    write_json(RESULTS / f"{name}.json", {"command": command, **machine(), **found})
    print(f"wrote bench/results/{name}.json")


def load(name: str) -> dict[str, Any] | None:
    """A committed result, or None."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None

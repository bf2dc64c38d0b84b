"""Measuring for the benches: child processes with their own clocks, result files, tables in Markdown.

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

from config.cli import run
from config.files import read_json, write_json
from config.model import Config
from pipeline.backbones.registry import REGISTRY, Entry

T = TypeVar("T")
ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results"
SEGMENTS, SECONDS, RATE = 6, 3.0, 16000
"""The paper's segments, and the sampling rate (Hz) of MusicNN."""
BACKBONES: dict[str, Entry] = {name: REGISTRY[name] for name in Config.model_fields["backbones"].default}
"""The backbones that a configuration has by default, audio first."""


def machine() -> dict[str, Any]:
    """Return what the numbers depend on: processor, cores, Python and library versions."""
    names = ("torch", "torchvision", "timm", "numpy", "zarr", "av", "decord", "soxr", "snakemake")
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "load_before": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in names},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def starts_of(duration: float) -> list[float]:
    """Return where the bench's segments of a video of `duration` seconds begin (s): the paper's six."""
    from config.pipeline import Segments
    from data.segments import segment_starts

    starts = segment_starts("bench", duration, Segments())
    assert starts is not None, f"a video of {duration} s is shorter than a segment"
    return [float(start) for start in starts]


def start(main: Callable[[], None], answer: Callable[..., dict[str, Any]] | None = None) -> None:
    """Run a bench's `main` as a command; as the process of `child`, print the JSON of `answer(*arguments)` instead."""
    if answer is not None and sys.argv[1:2] == ["--child"]:
        print(json.dumps(answer(*sys.argv[2:])))
    else:
        run(main)


def child(module: str, *arguments: str, env: dict[str, str] | None = None) -> dict[str, Any]:
    """Run `python -m module --child arguments`; return the JSON of its last line. RuntimeError with its stderr."""
    command = [sys.executable, "-m", module, "--child", *arguments]
    process = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **(env or {})}, capture_output=True, text=True, encoding="utf-8"
    )
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}:\n{process.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return result


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """Run `work`; return its result and its wall seconds."""
    clock = time.perf_counter()
    result = work()
    return result, time.perf_counter() - clock


def measured(work: Callable[[], T]) -> tuple[T, dict[str, float]]:
    """Run `work`; return its result, its wall and processor seconds (with ended children) and the bytes read."""
    cpu, read = _cpu(), _bytes_read()
    result, wall = timed(work)
    return result, {"wall": wall, "cpu": _cpu() - cpu, "read": _bytes_read() - read}


def _cpu() -> float:
    usages = (resource.getrusage(usage_of) for usage_of in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _bytes_read() -> int:
    lines = Path("/proc/self/io").read_text(encoding="utf-8").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("rchar")))


def summary(values: Iterable[float], digits: int = 3) -> dict[str, float]:
    """Return median, smallest and largest of repeated measurements, rounded: the spread is the noise."""
    measurements = list(values)
    return {
        name: round(function(measurements), digits)
        for name, function in (("median", statistics.median), ("min", min), ("max", max))
    }


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Fit cost ≈ c · size^p by least squares on logarithms; return p (1: linear growth, 2: quadratic)."""
    return round(float(np.polyfit(np.log(sizes), np.log(costs), 1)[0]), 3)


def bar(measure: str, value: float, *, at_least: float | None = None, at_most: float | None = None) -> dict[str, Any]:
    """Return one line of a result's `bars`: what was measured, the bar it has to reach, and whether it did."""
    if (at_least is None) == (at_most is None):
        raise ValueError("a bar is either a least or a greatest value")
    met = value >= at_least if at_least is not None else at_most is not None and value <= at_most
    words = f"≥ {at_least:g}" if at_least is not None else f"≤ {at_most:g}"
    return {"measure": measure, "value": round(value, 4), "bar": words, "met": met}


def save(name: str, command: str, result: dict[str, Any]) -> None:
    """Write bench/results/<name>.json with the machine and the command beside the numbers."""
    write_json(RESULTS / f"{name}.json", {"command": command, **machine(), **result})
    print(f"wrote bench/results/{name}.json")


def load(name: str) -> dict[str, Any] | None:
    """Return a committed result, or None."""
    return read_json(RESULTS / f"{name}.json")


def markdown(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table."""
    first, *lines = (f"| {' | '.join(map(str, cells))} |" for cells in (header, *rows))
    return "\n".join([first, "|---" * len(header) + "|", *lines])

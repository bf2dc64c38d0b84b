"""Time and memory that the rules ask a scheduler for: a rule of thumb, fed by the measured throughput.

Reads bench/results/extract.json; writes nothing. It is parsed by every job, so it imports nothing heavy.

    minutes  10 + 3 × videos × core seconds a video / cores, and as much again at every further attempt
    MB       1500 + 1200 a core, and as much again at every further attempt

The core seconds are those of `bench.extract` (720p H.264), scaled with the seconds that are analysed. On a GPU only
decoding counts. The factor 3 is for slower cores, larger frames and busy disks; a job that runs out of time loses
nothing but its place in the queue.
"""

from __future__ import annotations

import json
import math
from functools import lru_cache
from pathlib import Path

from config.model import Config

RESULT = Path(__file__).parents[1] / "bench" / "results" / "extract.json"
START, MARGIN = 10, 3
MEASURED_SECONDS = 6 * 3.0
"""Seconds of each video that the bench looks at."""
PROBE_SECONDS = 0.5
"""Of a core, to open a container on a slow disk."""


@lru_cache(maxsize=1)
def _measured() -> dict[str, tuple[float, float]]:
    """Return {backbone: (core seconds per video, of which decoding)}.

    Unmeasured backbones are assumed as slow as the slowest measured one.
    """
    rows = [row for row in json.loads(RESULT.read_text(encoding="utf-8"))["rows"] if row["cores"] == "1"]
    measured = {row["backbone"]: (row["core_seconds_a_video"]["median"], row["decode_cpu_a_video"]) for row in rows}
    return measured | {"": max(measured.values())}


def gpus(config: Config, part: str) -> int:
    """Return the number of GPUs to ask for: 1 with `device: cuda`; 0 with `auto`, which uses a GPU if it has one."""
    return int(config.backbones[part].device == "cuda")


def minutes(config: Config, part: str, videos: int, attempt: int = 1) -> int:
    """Return the time limit (minutes) of a job of `videos` videos; `part` is a backbone or `probe`."""
    if part == "probe":
        seconds = PROBE_SECONDS * videos
    else:
        whole, decoding = _measured().get(part, _measured()[""])
        analysed = config.segments.count * config.segments.seconds / MEASURED_SECONDS
        per_video = decoding if gpus(config, part) else whole
        seconds = per_video * analysed * videos / config.backbones[part].threads
    return START + math.ceil(attempt * MARGIN * seconds / 60)


def megabytes(cores: int, attempt: int = 1) -> int:
    """Return the memory (MB) of a job with `cores` cores, Snakemake's own two processes included."""
    return attempt * (1500 + 1200 * cores)


def training_megabytes(cache_bytes: int, attempt: int = 1) -> int:
    """Return the memory (MB) of a job that holds `cache_bytes` bytes of features."""
    return attempt * (2000 + math.ceil(1.5 * cache_bytes / 1e6))

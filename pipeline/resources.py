"""Time and memory that the rules ask a scheduler for: a rule of thumb, fed by the measured throughput.

Reads bench/results/extract.json; writes nothing. It is parsed by every job, so it imports nothing heavy.

    minutes  10 + 3 × videos × core seconds a video / cores, and as much again at every further attempt
    MB       1500 + 1200 a core + 600 a further backbone of a pass, and as much again at every further attempt

The core seconds are those of `bench.extract` (720p H.264), scaled with the seconds that are analysed: of a pass, one
decoding and all of its networks. On a GPU only decoding counts. The factor 3 is for slower cores, larger frames and
busy disks; a job that runs out of time loses nothing but its place in the queue.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from config.model import Config
from pipeline.records import PROBE

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


def gpus(config: Config, names: Sequence[str]) -> int:
    """Return the number of GPUs that a pass asks for: 1 if one of its backbones has `device: cuda`.

    0 with `auto`, which uses a GPU if it has one.
    """
    return int(any(config.backbones[name].device == "cuda" for name in names))


def threads(config: Config, names: Sequence[str]) -> int:
    """Return the cores of a pass: the most that one of its backbones asks for."""
    return max(config.backbones[name].threads for name in names)


def minutes(config: Config, names: Sequence[str], videos: int, attempt: int = 1) -> int:
    """Return the time limit (minutes) of a job of `videos` videos; `names`: the backbones of a pass, or the probe."""
    if list(names) == [PROBE]:
        seconds = PROBE_SECONDS * videos
    else:
        decodings, networks = [], 0.0
        for name in names:
            whole, decoding = _measured().get(config.backbones[name].kind or name, _measured()[""])
            decodings.append(decoding)
            networks += 0.0 if gpus(config, [name]) else whole - decoding
        analysed = config.segments.count * config.segments.seconds / MEASURED_SECONDS
        seconds = (max(decodings) + networks) * analysed * videos / threads(config, names)
    return START + math.ceil(attempt * MARGIN * seconds / 60)


def megabytes(cores: int, attempt: int = 1, backbones: int = 1) -> int:
    """Return the memory (MB) of a job with `cores` cores, Snakemake's own two processes included."""
    return attempt * (1500 + 1200 * cores + 600 * (backbones - 1))


def training_megabytes(cache_bytes: int, attempt: int = 1) -> int:
    """Return the memory (MB) of a job that holds `cache_bytes` bytes of features."""
    return attempt * (2000 + math.ceil(1.5 * cache_bytes / 1e6))

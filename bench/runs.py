"""Runs the pipeline's modules as a user's jobs are run, for the benches that try to break them.

`Run` is one results folder with a configuration of its own. Reads the videos of its table; writes only that folder.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.light import NAMES as LIGHT
from bench.measure import ROOT, save
from config.files import write_json
from config.model import Config, load
from config.paths import Paths
from data.manifest import read_manifest
from pipeline.records import PROBE, Plan, Record, read_plan, read_record
from pipeline.store import objects_digest, part_arrays, read_array

TINY_SEGMENTS = {"count": 1, "seconds": 3.0, "window": 3.2}
"""One segment a video, as short as MusicNN allows."""


@dataclass(frozen=True)
class Ended:
    """How a job ended: exit status (negative: a signal; None: stopped as hung), its stderr, its longest standstill."""

    status: int | None
    text: str
    standstill: float
    """Seconds; the longest time without a new outcome in the journal, start and end included."""


class Run:
    """One results folder. `backbones` as in the configuration; `settings` are further keys of it."""

    def __init__(self, results: Path, table: Path, backbones: dict[str, dict[str, Any]], **settings: Any) -> None:
        first = next(iter(backbones))
        self.paths = Paths(results)
        self.light = not backbones.keys().isdisjoint(LIGHT)
        self.config: Config = load(
            {
                "results": str(results),
                "videos": str(table),
                "backbones": backbones,
                "heads": {"audio": first, "video": first},
                "segments": TINY_SEGMENTS,
                **settings,
            }
        )
        write_json(self.paths.config, self.config.model_dump(mode="json"))

    @property
    def parts(self) -> list[str]:
        """The probe and the backbones, in the order in which they run."""
        return [PROBE, *self.config.backbones]

    @property
    def plan(self) -> Plan:
        """The plan as it is now."""
        return read_plan(self.paths)

    def command(self, module: str, *arguments: str) -> list[str]:
        """Return the command line of a module of the pipeline."""
        wrapper = ["bench.light"] if self.light else []
        return [sys.executable, "-m", *wrapper, module, "--config", str(self.paths.config), *arguments]

    def job(self, part: str, shard: int) -> list[str]:
        """Return the command line of the job that computes a shard of a part."""
        if part == PROBE:
            return self.command("pipeline.probe", "--shard", str(shard))
        return self.command("pipeline.extract", "--backbone", part, "--shard", str(shard))

    def prepare(self) -> None:
        """Make manifest, weights and plan; again after the table has grown."""
        weights = [("pipeline.weights", "--backbone", name) for name in self.config.backbones]
        for module, *arguments in [("data.manifest",), *weights, ("pipeline.plan",)]:
            process = subprocess.run(
                self.command(module, *arguments), cwd=ROOT, capture_output=True, text=True, encoding="utf-8"
            )
            if process.returncode:
                raise RuntimeError(f"{module} failed:\n{process.stderr}")

    def extract(self, patience: float) -> dict[tuple[str, int], Ended]:
        """Run every job. One without a new outcome for `patience` seconds counts as hung and is stopped."""
        return {
            (part, shard): self.watch(part, shard, patience) for part in self.parts for shard in range(self.plan.shards)
        }

    def watch(self, part: str, shard: int, patience: float) -> Ended:
        """Run one job to its end, watching its journal."""
        journal = self.paths.work(part, shard) / "journal"
        with tempfile.TemporaryFile("w+", encoding="utf-8") as text:
            process = subprocess.Popen(self.job(part, shard), cwd=ROOT, stdout=text, stderr=text)
            size, moved, longest, status = -1, time.monotonic(), 0.0, None
            while (status := process.poll()) is None:
                time.sleep(0.05)
                now = size_of(journal)
                longest = max(longest, time.monotonic() - moved)
                if now != size:
                    size, moved = now, time.monotonic()
                elif time.monotonic() - moved > patience:
                    process.kill()
                    process.wait()
                    break
            text.seek(0)
            return Ended(status, text.read()[-4000:], longest)

    def record(self, part: str, shard: int) -> Record | None:
        """Return the done record of a shard."""
        return read_record(self.paths.done(part, shard))

    def torn(self, part: str, shard: int) -> bool:
        """Return whether there is a done record whose shard is not in the store byte for byte."""
        record = self.record(part, shard)
        return record is not None and record.digest != objects_digest(self.paths, shard, part_arrays(part))

    def outcomes(self, part: str) -> dict[str, str]:
        """Return {video_id: "ok" or the reason}; "lost" where neither the arrays nor the ledger know the video."""
        ids = read_manifest(self.paths.manifest)["video_id"].to_pylist()
        outcomes = dict.fromkeys(ids, "lost")
        name = "duration" if part == PROBE else f"{part}_valid"
        values = np.asarray(read_array(self.paths, name)[:])
        valid = np.isfinite(values) if part == PROBE else values
        for shard in range(self.plan.shards):
            record = self.record(part, shard)
            for failure in record.failures if record else ():
                outcomes[failure.video_id] = failure.reason
        for video_id, ok in zip(ids, valid, strict=True):
            if ok:  # neither lost nor twice: in the arrays and in the ledger would be a contradiction
                outcomes[video_id] = "ok" if outcomes[video_id] == "lost" else f"both ok and {outcomes[video_id]}"
        return outcomes

    def features(self, part: str) -> dict[str, bytes]:
        """Return {video_id: the bytes of its features, or of its starts}, NaN included."""
        ids = read_manifest(self.paths.manifest)["video_id"].to_pylist()
        array = np.asarray(read_array(self.paths, "start" if part == PROBE else part)[:])
        return {video_id: row.tobytes() for video_id, row in zip(ids, array, strict=True)}


def size_of(path: Path) -> int:
    """Return the size of a file in bytes, -1 where there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1


def write_table(path: Path, videos: Iterable[tuple[str, Path]]) -> Path:
    """Write a table of videos (id, path) and return its path. Parquet, because of what the paths may contain."""
    rows = list(videos)
    columns = {"video_id": [name for name, _ in rows], "path": [str(where) for _, where in rows]}
    pq.write_table(pa.table(columns), path)
    return path


def show(result: dict[str, Any]) -> None:
    """Print a result."""
    print(json.dumps(result, indent=1, ensure_ascii=False))


@contextmanager
def working_folder(given: Path | None = None) -> Iterator[Path]:
    """Yield the folder that the user gave, which stays, or a temporary one; absolute, because jobs run elsewhere."""
    if given is None:
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary)
    else:
        given.mkdir(parents=True, exist_ok=True)
        yield given.absolute()


def finish(name: str, command: str, result: dict[str, Any], keep: bool) -> NoReturn:
    """Save the result of a campaign (or print it, without `keep`) and end with status 1 if it has `problems`."""
    if keep:
        save(name, command, result)
    else:
        show(result)
    for problem in result["problems"]:
        print(f"PROBLEM {problem}", file=sys.stderr)
    sys.exit(1 if result["problems"] else 0)

"""How far the extraction is: shards, videos a second, time left, failures by reason.

    python -m pipeline.status RESULTS [--json]

Reads the plan, the done records and the signs of life in `logs/progress/`; asks no scheduler and writes nothing, so it
works while jobs run, from any machine that sees the results. A job that has said nothing for `--quiet` minutes is not
running any more: killed, or its machine is gone; the next `snakemake extract …` goes on there.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from config.cli import clock, run
from config.paths import Paths
from pipeline.heartbeat import last
from pipeline.plan import read_plan, shard_rows
from pipeline.readers import REASONS
from pipeline.records import read_record
from pipeline.store import PROBE

QUIET = 15
"""Minutes. A job speaks every ten seconds or, if videos take longer, after every video."""


@dataclass
class Part:
    """One part (a backbone, or the probe): shards by state, and videos."""

    shards: int
    videos: int
    done: int = 0
    running: int = 0
    failed: int = 0
    interrupted: int = 0
    videos_done: int = 0
    rate: float = 0.0
    """Videos a second of all running jobs together."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Videos without features by reason, in finished shards."""
    problems: dict[int, str] = field(default_factory=dict)
    """{shard: why its last job failed}."""

    @property
    def waiting(self) -> int:
        """Shards that no job has begun."""
        return self.shards - self.done - self.running - self.failed - self.interrupted

    @property
    def seconds_left(self) -> float | None:
        """At the present rate; None where nothing runs."""
        return (self.videos - self.videos_done) / self.rate if self.rate > 0 else None


def status(paths: Paths, now: datetime, quiet: float = QUIET) -> dict[str, Part]:
    """The state of every part. UserError if there is no plan yet."""
    plan = read_plan(paths)
    return {part: _part(paths, plan, part, now, quiet) for part in (PROBE, *plan["backbones"])}


def _part(paths: Paths, plan: dict[str, Any], part: str, now: datetime, quiet: float) -> Part:
    key = plan["segment_key"] if part == PROBE else plan["backbones"][part]["key"]
    found = Part(plan["shards"], plan["videos"])
    for shard in range(plan["shards"]):
        rows = len(shard_rows(plan, shard))
        record = read_record(paths.done(part, shard))
        if record is not None and record.key == key and record.rows == rows:
            found.done += 1
            found.videos_done += rows
            found.reasons.update(failure.reason for failure in record.failures)
            continue
        sign = last(paths.progress(part, shard))
        if sign is None:
            continue
        state = sign.get("state", "working")
        age = (now - datetime.fromisoformat(sign["time"])).total_seconds()
        if state == "failed":
            found.failed += 1
            found.problems[shard] = sign["why"]
        elif state == "stopped" or age > 60 * quiet:
            found.interrupted += 1
        else:
            found.running += 1
            if state == "working":
                found.videos_done += rows - (sign["total"] - sign["done"])
                found.rate += sign["rate"]
    return found


def words(parts: dict[str, Part]) -> str:
    """The state as a table, failures by reason, and what went wrong."""
    head = ("", "shards", "done", "running", "failed", "interrupted", "waiting", "videos", "videos/s", "time left")
    lines: list[tuple[str, ...]] = [head]
    for name, p in parts.items():
        left = "" if p.seconds_left is None else clock(p.seconds_left)
        counts = (p.shards, p.done, p.running, p.failed, p.interrupted, p.waiting)
        lines.append((name, *map(str, counts), f"{p.videos_done}/{p.videos}", f"{p.rate:.2f}", left))
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    text = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    for name, p in parts.items():
        for reason, count in p.reasons.most_common():
            text.append(f"{name}: {count} videos {REASONS[reason].kind}: {reason}")
        for shard, why in p.problems.items():
            text.append(f"{name} shard {shard} failed: {why}")
    return "\n".join(text)


def main() -> None:
    """Command line."""
    p = argparse.ArgumentParser(
        prog="python -m pipeline.status", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("results", type=Path, metavar="RESULTS", help="the results folder")
    p.add_argument("--quiet", type=float, default=QUIET, metavar="MINUTES", help=f"default {QUIET}")
    p.add_argument("--json", action="store_true", help="for machines")
    arguments = p.parse_args()
    parts = status(Paths(arguments.results), datetime.now(UTC), arguments.quiet)
    if arguments.json:
        print(json.dumps({name: asdict(p) | {"seconds_left": p.seconds_left} for name, p in parts.items()}, indent=1))
    else:
        print(words(parts))


if __name__ == "__main__":
    run(main)

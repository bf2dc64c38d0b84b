"""Show how far the extraction is: shards, videos a second, time left, failures by reason, jobs without a sign of life.

    python -m pipeline.status RESULTS [--json]

Reads the plan, the done records, the claims and the signs of life in `logs/progress/` and `logs/hung/`; asks no
scheduler and changes nothing, so it works while jobs run, from any machine that sees the results. Times are compared by
the file server's clock. A job without a sign of life for `--quiet` minutes is `silent` if its process may still
exist, because it or its machine hangs. Otherwise it is `interrupted`: it was killed, its machine is gone, or it hung
and exited, with its stacks shown here. The next `snakemake extract …` resumes there.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from config.cli import clock, parser, results_folder, run
from config.paths import Paths
from pipeline.heartbeat import last, last_dump
from pipeline.lifeless import Lifeless, earlier, lifeless
from pipeline.readers import REASONS
from pipeline.readers.downmix import MEANING
from pipeline.records import Plan, read_plan, read_record

QUIET = 15
"""Minutes. A job speaks every ten seconds or, if videos take longer, after every video."""


@dataclass
class Part:
    """One part (a backbone, or the probe): shards by state, and videos."""

    shards: int
    videos: int
    done: int = 0
    running: int = 0
    silent: int = 0
    """Jobs without a sign of life that may still exist."""
    failed: int = 0
    interrupted: int = 0
    videos_done: int = 0
    rate: float = 0.0
    """Videos a second of all running jobs together."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Videos without features by reason, in finished shards."""
    mono_loss: int = 0
    """Videos with features whose audio lost much when it was mixed to mono, in finished shards."""
    problems: dict[int, str] = field(default_factory=dict)
    """{shard: why its last job failed}."""
    lifeless: list[Lifeless] = field(default_factory=list)
    """Jobs without a sign of life: silent, hung or killed."""
    hung_before: dict[int, str] = field(default_factory=dict)
    """{shard: words about a job that hung on it, before it was done or another job began}."""

    @property
    def waiting(self) -> int:
        """Shards that no job has begun."""
        return self.shards - self.done - self.running - self.silent - self.failed - self.interrupted

    @property
    def seconds_left(self) -> float | None:
        """At the present rate; None where nothing runs."""
        return (self.videos - self.videos_done) / self.rate if self.rate > 0 else None


def status(paths: Paths, quiet: float = QUIET, now: float | None = None) -> dict[str, Part]:
    """Return the state of every part; `quiet`: minutes; `now`: the file server's time. UserError without a plan."""
    plan = read_plan(paths)
    now = file_clock(paths.results) if now is None else now
    return {part: _part(paths, plan, part, now, quiet) for part in plan.parts}


def file_clock(results: Path) -> float:
    """Return the file server's time (s since 1970), from a file made just now, to compare files' times with.

    Without the right to write, it is this machine's time.
    """
    try:
        with tempfile.TemporaryFile(dir=results) as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return datetime.now(UTC).timestamp()


def _part(paths: Paths, plan: Plan, part: str, now: float, quiet: float) -> Part:
    counts = Part(plan.shards, plan.videos)
    for shard in range(plan.shards):
        rows = len(plan.rows(shard))
        record = read_record(paths.done(part, shard))
        if record is not None and record.key == plan.key(part) and record.rows == rows:
            counts.done += 1
            counts.videos_done += rows
            counts.reasons.update(failure.reason for failure in record.failures)
            counts.mono_loss += len(record.mono_loss)
        else:
            _unfinished(counts, paths, part, shard, rows, now, quiet)
        dump = last_dump(paths.hung(part, shard))
        if dump is not None and not any(job.shard == shard and job.state == "hung" for job in counts.lifeless):
            counts.hung_before[shard] = earlier(paths, part, shard, dump)
    return counts


def _unfinished(counts: Part, paths: Paths, part: str, shard: int, rows: int, now: float, quiet: float) -> None:
    """Count a shard that is not done."""
    sign = last(paths.progress(part, shard))
    if sign is None:
        return
    state = sign.get("state", "working")
    seconds = max(0.0, now - paths.progress(part, shard).stat().st_mtime)
    dump = last_dump(paths.hung(part, shard))
    if state == "failed":
        counts.failed += 1
        counts.problems[shard] = sign["why"]
    elif state == "stopped":
        counts.interrupted += 1
    elif seconds > 60 * quiet or (dump is not None and dump.latest):
        job = lifeless(paths, part, shard, now, seconds)
        counts.lifeless.append(job)
        if job.state == "silent":
            counts.silent += 1
        else:
            counts.interrupted += 1
    else:
        counts.running += 1
        if state == "working":
            counts.videos_done += rows - (sign["total"] - sign["done"])
            counts.rate += sign["rate"]


def words(parts: dict[str, Part]) -> str:
    """Return the state as text: a table, failures by reason, and what went wrong."""
    states = ("done", "running", "silent", "failed", "interrupted", "waiting")
    head = ("", "shards", *states, "videos", "videos/s", "time left")
    lines: list[tuple[str, ...]] = [head]
    for name, part in parts.items():
        left = "" if part.seconds_left is None else clock(part.seconds_left)
        counts = (part.shards, part.done, part.running, part.silent, part.failed, part.interrupted, part.waiting)
        lines.append((name, *map(str, counts), f"{part.videos_done}/{part.videos}", f"{part.rate:.2f}", left))
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    text = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    for name, part in parts.items():
        for reason, count in part.reasons.most_common():
            text.append(f"{name}: {count} videos {REASONS[reason].kind}: {reason}")
        if part.mono_loss:
            text.append(f"{name}: {part.mono_loss} videos with features {MEANING}")
        for shard, why in part.problems.items():
            text.append(f"{name} shard {shard} failed: {why}")
        text += [f"{name} {job}" for job in part.lifeless]
        text += [f"{name} shard {shard}, before: {message}" for shard, message in part.hung_before.items()]
    return "\n".join(text)


def main() -> None:
    """Run the command line."""
    command_line = parser(__doc__, "pipeline.status", config=False)
    command_line.add_argument("results", type=results_folder, metavar="RESULTS", help="the results folder")
    command_line.add_argument("--quiet", type=float, default=QUIET, metavar="MINUTES", help=f"default {QUIET}")
    command_line.add_argument("--json", action="store_true", help="for machines")
    arguments = command_line.parse_args()
    parts = status(Paths(arguments.results), arguments.quiet)
    if arguments.json:
        states = {name: asdict(part) | {"seconds_left": part.seconds_left} for name, part in parts.items()}
        print(json.dumps(states, indent=1))
    else:
        print(words(parts))


if __name__ == "__main__":
    run(main)

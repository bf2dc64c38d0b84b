"""Check a finished cache: open every shard and compare it with its record.

    python -m pipeline.verify RESULTS            say what is damaged; exit status 1 if anything is
    python -m pipeline.verify RESULTS --repair   and delete the damaged shards' records, so that the next
                                                 `snakemake extract …` computes those shards again

Reads `plan.json`, `done/`, `ledger/` and `features.zarr`. Without `--repair` it writes nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from config.cli import UserError, parser, progress, results_folder, run
from config.paths import Paths
from pipeline.records import PROBE, Plan, forget_done, read_plan, read_record
from pipeline.shards import Shards
from pipeline.store import objects_digest, part_arrays


def finite_segments(features: np.ndarray) -> np.ndarray:
    """Return bool [videos, segments]: which segments of float16 [videos, segments, dim] are finite throughout.

    NaN and infinity are the numbers whose exponent bits are all set; numpy compares integers faster than float16.
    """
    return (features.view(np.uint16) & 0x7FFF).max(axis=2) < 0x7C00


def check_shard(paths: Paths, plan: Plan, part: str, shard: int) -> str | None:
    """Return what is wrong with one shard of one part, in words; None if nothing is."""
    try:
        return _problem(paths, plan, part, shard)
    except UserError as error:
        return str(error)


def _problem(paths: Paths, plan: Plan, part: str, shard: int) -> str | None:
    record = read_record(paths.done(part, shard))
    rows = plan.rows(shard)
    if record is None:
        return "not finished"
    if record.key != plan.key(part):
        return "made under another cache key than the plan's"
    if record.rows != len(rows):
        return f"has {record.rows} videos, the plan {len(rows)}"
    digest = objects_digest(paths, shard, part_arrays(part))
    if digest is None:
        return "its objects are missing in the store"
    if digest != record.digest:
        return "its bytes are not those that were written"
    here = slice(rows.start, rows.stop)
    first, second = (Shards.open(paths.features / name)[here] for name in part_arrays(part))
    valid = np.isfinite(second) if part == PROBE else second
    segments = np.isfinite(first) if part == PROBE else finite_segments(first)
    partial = int((segments.any(axis=1) & ~segments.all(axis=1)).sum())
    if not (valid == segments.any(axis=1)).all() or (int(valid.sum()), partial) != (record.valid, record.partial):
        return "its valid flags do not fit its features"
    return None


def check_shards(
    paths: Paths, plan: Plan, jobs: Sequence[tuple[str, int]], threads: int
) -> Iterator[tuple[str, int, str | None]]:
    """Yield (part, shard, what is wrong or None) for each (part, shard) of `jobs`, in order, `threads` at a time.

    Threads are enough: reading, hashing and numpy let go of the interpreter.
    """
    with ThreadPoolExecutor(threads) as pool:
        checks = pool.map(lambda job: check_shard(paths, plan, *job), jobs)
        try:
            for (part, shard), problem in zip(jobs, checks, strict=True):
                yield part, shard, problem
        finally:
            pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for a thousand shards


def main() -> None:
    """Run the command line."""
    command_line = parser(__doc__, "pipeline.verify", config=False)
    command_line.add_argument("results", type=results_folder, metavar="RESULTS", help="the results folder")
    command_line.add_argument("--repair", action="store_true", help="delete the records of damaged shards")
    command_line.add_argument(
        "--threads", type=int, default=len(os.sched_getaffinity(0)), metavar="N", help="default: the cores there are"
    )
    arguments = command_line.parse_args()
    paths = Paths(arguments.results)
    plan = read_plan(paths)
    bad = 0
    jobs = [(part, shard) for part in plan.parts for shard in range(plan.shards)]
    checked = check_shards(paths, plan, jobs, arguments.threads)
    for part, shard, problem in progress(checked, len(jobs), "verify", "shards"):
        if problem is not None:
            bad += 1
            print(f"{part} shard {shard}: {problem}")
            if arguments.repair:
                forget_done(paths, part, shard)
                paths.ledger(part, shard, plan.key(part)).unlink(missing_ok=True)
    print(f"{len(jobs) - bad} of {len(jobs)} shards are as their records say")
    if bad and arguments.repair:
        print(f"deleted the records of {bad} shards; run `snakemake extract …` to compute them again")
    if bad:
        sys.exit(0 if arguments.repair else 1)


if __name__ == "__main__":
    run(main)

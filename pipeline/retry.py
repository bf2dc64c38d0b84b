"""Forget failures, so that the next `snakemake extract …` tries just those videos again.

    python -m pipeline.retry --config RESULTS/config.json                    every failed video
    python -m pipeline.retry --config RESULTS/config.json --reason timeout   only those that failed for this reason

Reads `plan.json` and `ledger/`; rewrites the ledgers (and unfinished journals) without those failures, and deletes the
done records of their shards and `features.json`, so that Snakemake runs those shards again. Features are not touched:
the next run adds the rows that succeed and leaves all others as they are, to the bit. Filtered videos (too short, no
audio, no video stream) are forgotten only if their reason is named. Not for use while the workflow runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from config.cli import parser, run
from config.model import read
from config.paths import Paths
from pipeline.journal import Journal
from pipeline.readers import REASONS, MediaError
from pipeline.records import PROBE, Failure, Plan, forget_done, read_plan, read_record, write_ledger


def forget(paths: Paths, plan: Plan, reasons: Iterable[str]) -> dict[tuple[str, int], list[Failure]]:
    """Forget the failures with these reasons; return them by part and shard.

    What is forgotten of the probe is forgotten of the backbones, too: their failures are copies of it. If this is
    killed, run it again: a done record is deleted before its ledger changes, so nothing is missed.
    """
    chosen = set(reasons)
    forgotten: dict[tuple[str, int], list[Failure]] = {}
    for shard in range(plan.shards):
        probed: set[int] = set()
        for part in plan.parts:
            key = plan.key(part)
            rows = _forget_journal(paths, plan, part, shard, chosen, probed)
            record = read_record(paths.ledger(part, shard, key))
            failures = record.failures if record else []
            gone = [f for f in failures if f.reason in chosen or f.row in probed]
            if record and gone:
                paths.features_record.unlink(missing_ok=True)
                forget_done(paths, part, shard)
                kept = [failure for failure in failures if failure not in gone]
                tried = record.tried | {failure.row: failure.attempts for failure in gone}
                write_ledger(paths, part, shard, replace(record, failures=kept, tried=tried))
                forgotten[part, shard] = gone
            if part == PROBE:
                probed = rows | {failure.row for failure in gone}
    return forgotten


def _forget_journal(paths: Paths, plan: Plan, part: str, shard: int, reasons: set[str], probed: set[int]) -> set[int]:
    """Forget the same in the journal of an unfinished job; return the rows."""
    folder = paths.work(part, shard)
    if not (folder / "journal").exists():
        return set()
    count = plan.segments.count
    shape, dtype = ((1 + count,), np.float32) if part == PROBE else ((count, plan.backbones[part].dim), np.float16)
    with Journal(folder, plan.key(part), shape, dtype) as journal:
        failed = {row: outcome for row, outcome in journal.outcomes.items() if isinstance(outcome, MediaError)}
        rows = {row for row, error in failed.items() if error.reason in reasons or row in probed}
        if rows:
            journal.forget(rows)
    return rows


def main() -> None:
    """Command line."""
    p = parser(__doc__, "pipeline.retry")
    p.add_argument(
        "--reason", nargs="+", choices=sorted(REASONS), metavar="REASON", help="only these reasons, of failures.csv"
    )
    arguments = p.parse_args()
    paths = read(arguments.config).paths
    plan = read_plan(paths)
    failed = [name for name, reason in REASONS.items() if not reason.filtered]
    forgotten = forget(paths, plan, arguments.reason or failed)
    for (part, shard), failures in forgotten.items():
        for failure in failures:
            print(f"{part} shard {shard}: {failure.video_id}: {failure.reason}: {failure.message}")
    videos = {failure.row for failures in forgotten.values() for failure in failures}
    if forgotten:
        print(f"{len(videos)} videos will be tried again; run `snakemake extract …`")
    else:
        print("no finished shard has such failures; there is nothing to try again")


if __name__ == "__main__":
    run(main)

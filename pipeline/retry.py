"""Forget failures or whole videos, so that the next `snakemake extract …` computes just those videos again.

    python -m pipeline.retry --config RESULTS/config.json                    every failed video
    python -m pipeline.retry --config RESULTS/config.json --reason timeout   only those that failed for this reason
    python -m pipeline.retry --config RESULTS/config.json --videos A B       all features of these videos, and where
                                                                             their segments begin
    python -m pipeline.retry --config RESULTS/config.json --changed audio_offset
                                                                             the same of the videos of which the table
                                                                             has changed since (data/changed.py)

Reads `plan.json`, the manifest, `work/changed_videos.json` and `ledger/`; rewrites the ledgers (and unfinished
journals) without those failures, and deletes the done records of their shards and `features.json`, so that Snakemake
runs those shards again. Features are not touched: the next run replaces the rows that were forgotten and leaves all
others as they are, to the bit. Filtered videos (too short, no audio, no video stream) are forgotten only if their
reason is named. Not for use while the workflow runs.

The audio track decides where segments begin. So of a video whose track is another one than when it was computed
everything is forgotten with one failure.
"""

from __future__ import annotations

import argparse
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np

from config.cli import UserError, parser, run
from config.model import read
from config.paths import Paths
from data.changed import CHANGES, forget_changed, read_changed
from data.manifest import read_manifest
from pipeline.journal import Journal
from pipeline.readers import REASONS, MediaError
from pipeline.records import PROBE, Failure, Plan, Record, forget_done, read_plan, read_record, write_ledger

log = logging.getLogger("retry")


@dataclass
class Forgotten:
    """What was forgotten: `failures` by part and shard; the rows that had `features` of a part, or starts of segments;
    and `whole`, the rows of which nothing is left, whatever there was."""

    failures: dict[tuple[str, int], list[Failure]] = field(default_factory=dict)
    features: set[int] = field(default_factory=set)
    whole: set[int] = field(default_factory=set)


def forget(
    paths: Paths, plan: Plan, reasons: Iterable[str], rows: Iterable[int] = (), changed: Iterable[int] = ()
) -> Forgotten:
    """Forget the failures with these reasons, and everything of the videos of `rows`; return what was forgotten.

    What is forgotten of the probe is forgotten of the backbones, too: their failures are copies of it. Of the rows of
    `changed` everything is forgotten with one failure. If this is killed, run it again: a done record is deleted
    before its ledger changes and the probe's ledger comes first, so nothing is missed.
    """
    chosen, named, other = set(reasons), set(rows), set(changed)
    forgotten = Forgotten()
    for shard in range(plan.shards):
        mine = set(plan.rows(shard))
        whole = named & mine
        if other & mine:
            whole |= other & _failed(paths, plan, shard, chosen)
        probed: set[int] = set()
        for part in plan.parts:
            again = _forget_journal(paths, plan, part, shard, chosen, probed, whole)
            record = read_record(paths.ledger(part, shard, plan.key(part)))
            if record:
                gone = [
                    failure for failure in record.failures if failure.reason in chosen or failure.row in probed | whole
                ]
                forgotten.features |= _forget_ledger(paths, part, shard, record, plan.rows(shard), gone, whole)
                if gone:
                    forgotten.failures[part, shard] = gone
                    again |= {failure.row for failure in gone}
            if part == PROBE:
                probed = again
        if whole:
            forgotten.whole |= whole
            _forget_earlier(paths, plan, shard, whole)
    return forgotten


def _failed(paths: Paths, plan: Plan, shard: int, reasons: set[str]) -> set[int]:
    """Return the rows of a shard that failed for these reasons, and those that the probe has to do again anyway: a run
    that was killed may have forgotten no more of them."""
    rows: set[int] = set()
    for part in plan.parts:
        record = read_record(paths.ledger(part, shard, plan.key(part)))
        if record:
            rows |= {failure.row for failure in record.failures if failure.reason in reasons}
            rows |= set(record.tried) if part == PROBE else set()
        with _journal(paths, plan, part, shard) as journal:
            failed = journal.outcomes.items() if journal else ()
            rows |= {row for row, error in failed if isinstance(error, MediaError) and error.reason in reasons}
    return rows


def _forget_ledger(
    paths: Paths, part: str, shard: int, record: Record, rows: range, gone: list[Failure], whole: set[int]
) -> set[int]:
    """Forget these failures of a finished shard (manifest rows `rows`) and the features of `whole`; return the rows
    that had features."""
    known = {failure.row for failure in record.failures} | set(record.tried)
    features = (whole & set(rows[: record.rows])) - known
    if gone or features:
        forget_done(paths, part, shard)
        kept = [failure for failure in record.failures if failure not in gone]
        tried = record.tried | {failure.row: failure.attempts for failure in gone} | dict.fromkeys(features, 0)
        decoders = _fewer(record.decoders, len(features))
        write_ledger(paths, part, shard, replace(record, failures=kept, tried=tried, decoders=decoders))
    return features


def _fewer(decoders: dict[str, int], videos: int) -> dict[str, int]:
    """Return the counts without as many videos. Which decoder read which video is not kept: the commonest counts as
    theirs."""
    counts = Counter(decoders)
    for _ in range(min(videos, counts.total())):
        counts[counts.most_common(1)[0][0]] -= 1
    return dict(+counts)


def _forget_earlier(paths: Paths, plan: Plan, shard: int, whole: set[int]) -> None:
    """Forget the rows in the ledgers of backbones and keys that are not planned now, which may come back."""
    planned = {paths.ledger(part, shard, plan.key(part)) for part in plan.parts}
    for part, path in paths.ledgers(shard):
        record = None if path in planned else read_record(path)
        if record:
            gone = [failure for failure in record.failures if failure.row in whole]
            _forget_ledger(paths, part, shard, record, plan.rows(shard), gone, whole)


@contextmanager
def _journal(paths: Paths, plan: Plan, part: str, shard: int) -> Iterator[Journal | None]:
    """Open the journal of an unfinished job; None if there is none."""
    folder = paths.work(part, shard)
    if not (folder / "journal").exists():
        yield None
        return
    count = plan.segments.count
    shape, dtype = ((1 + count,), np.float32) if part == PROBE else ((count, plan.backbones[part].dim), np.float16)
    with Journal(folder, plan.key(part), shape, dtype) as journal:
        yield journal


def _forget_journal(
    paths: Paths, plan: Plan, part: str, shard: int, reasons: set[str], probed: set[int], whole: set[int]
) -> set[int]:
    """Forget the same in the journal of an unfinished job; return the rows."""
    with _journal(paths, plan, part, shard) as journal:
        if journal is None:
            return set()
        failed = {row: outcome for row, outcome in journal.outcomes.items() if isinstance(outcome, MediaError)}
        rows = {row for row, error in failed.items() if error.reason in reasons or row in probed}
        rows |= whole & set(journal.outcomes)
        if rows:
            journal.forget(rows)
        return rows


def _known(changed: dict[str, list[str]], number: dict[str, int], paths: Paths) -> dict[str, list[str]]:
    """Return the noted ids that the manifest has. The others are of a manifest that was deleted since, and are said."""
    if lost := sorted({video_id for ids in changed.values() for video_id in ids if video_id not in number}):
        log.warning(
            "%s notes %d changed videos that %s does not have, such as %r; there is nothing of them to forget",
            paths.changed_videos, len(lost), paths.manifest, lost[0],
        )  # fmt: skip
    return {column: [video_id for video_id in ids if video_id in number] for column, ids in changed.items()}


def _arguments() -> argparse.Namespace:
    command_line = parser(__doc__, "pipeline.retry")
    which = command_line.add_mutually_exclusive_group()
    which.add_argument(
        "--reason", nargs="+", choices=sorted(REASONS), metavar="REASON", help="only these reasons, of failures.csv"
    )
    which.add_argument("--videos", nargs="+", metavar="ID", help="everything of these videos, also if it is computed")
    which.add_argument(
        "--changed",
        nargs="+",
        choices=sorted(CHANGES),
        metavar="COLUMN",
        help=f"everything of the videos of which this column has changed ({', '.join(CHANGES)})",
    )
    return command_line.parse_args()


def main() -> None:
    """Run the command line."""
    arguments = _arguments()
    paths = read(arguments.config).paths
    plan = read_plan(paths)
    ids = read_manifest(paths.manifest, ["video_id"])["video_id"].to_pylist()
    number = {video_id: row for row, video_id in enumerate(ids)}
    changed = _known(read_changed(paths), number, paths)
    if unknown := [video_id for video_id in arguments.videos or () if video_id not in number]:
        raise UserError(f"--videos: {paths.manifest} has no video {unknown[0]!r}")
    noted = (changed.get(column, []) for column in arguments.changed or ())
    rows = {number[video_id] for video_id in arguments.videos or chain.from_iterable(noted)}
    failed = [name for name, reason in REASONS.items() if not reason.filtered]
    reasons = [] if arguments.videos or arguments.changed else arguments.reason or failed
    others = {number[video_id] for video_id in chain.from_iterable(changed.values())}
    forgotten = forget(paths, plan, reasons, rows, others)
    for (part, shard), failures in forgotten.failures.items():
        for failure in failures:
            print(f"{part} shard {shard}: {failure.video_id}: {failure.reason}: {failure.message}")
    for row in sorted(forgotten.features):
        print(f"{ids[row]}: its features and where its segments begin")
    forget_changed(paths, [ids[row] for row in forgotten.whole])
    videos = {failure.row for failures in forgotten.failures.values() for failure in failures} | forgotten.features
    if videos:
        print(f"{len(videos)} videos will be tried again; run `snakemake extract …`")
    elif rows:
        print("nothing of these videos stands in a finished shard; there is nothing to compute again")
    else:
        print("no finished shard has such failures; there is nothing to try again")


if __name__ == "__main__":
    run(main)

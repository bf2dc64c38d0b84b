"""One shard from start to finish, the same for the probe and for every backbone.

Reads the plan, the manifest's rows of the shard, what an earlier job left (ledger, store, journal); writes the journal
as it goes, then the shard's objects and its records. `ShardJob.todo` says which videos are still to be done.
"""

from __future__ import annotations

import argparse
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from config.cli import Progress, Stopping, UserError
from config.model import Config
from data.manifest import active, read_manifest
from pipeline.heartbeat import PATIENCE, Watch
from pipeline.journal import Journal
from pipeline.readers import REASONS, MediaError, decoder_versions
from pipeline.records import PROBE, Failure, Record, read_plan, write_job
from pipeline.store import finish_shard, part_arrays, read_array, stored_shard

Outcome = np.ndarray | MediaError
# A handful of failures says nothing about a shard, however small the shard is.
FEWEST_FAILURES = 10
UNFETCHED = 20
"""Videos in a row that could not be fetched after which the network counts as down and the job stops."""


def shard_arguments(command_line: argparse.ArgumentParser) -> None:
    """Add the arguments that say which shards a job computes."""
    command_line.add_argument("--shard", type=int, required=True, help="number of the shard, from 0")
    command_line.add_argument(
        "--shards", type=int, default=1, metavar="N", help="this many from there on (shards_a_job); default 1"
    )


def failed_rows(record: Record) -> dict[int, MediaError]:
    """Return the failures of a record as the outcomes of a reader, by row."""
    return {
        failure.row: MediaError(failure.reason, failure.message, attempts=failure.attempts, decoder=failure.decoder)
        for failure in record.failures
    }


def run_shards(
    config: Config, parts: Sequence[str], arguments: argparse.Namespace, work: Callable[[int, Stopping], object]
) -> None:
    """Call `work(shard, stop)` for every shard of the job's arguments; write its records if it has several shards."""
    paths = config.paths
    shards = read_plan(paths).job(arguments.shard, arguments.shards)
    with Stopping() as stop:
        for shard in shards:
            work(shard, stop)
            if shard != shards[-1]:
                stop.leave(f"shards {shard + 1} to {shards[-1]} are left")
    if arguments.shards > 1:
        for part in parts:
            write_job(paths, part, shards, arguments.shards)


class ShardJob:
    """The rows of one shard for one part (a backbone, or `probe`), and what is known about them.

    An outcome is an array [segments, dim] for a backbone, [1 + segments] (duration, starts) for the probe.
    """

    def __init__(self, config: Config, part: str, shard: int, shape: tuple[int, ...], dtype: type) -> None:
        self.config, self.part, self.shard = config, part, shard
        self.paths = config.paths
        self.plan = read_plan(self.paths)
        self.key = self.plan.key(part)
        self.rows = self.plan.rows(shard)
        manifest = read_manifest(self.paths.manifest)
        if manifest.num_rows < self.plan.videos:
            raise UserError(f"{self.paths.manifest} has fewer rows than {self.paths.plan}; run `snakemake manifest …`")
        self.videos: pa.Table = manifest.slice(self.rows.start, len(self.rows))
        self.log = logging.getLogger(f"{part} {shard:05d}")
        self.progress = self.paths.progress(part, shard)
        # Two tries of one video are no hang, however long a user lets a video take.
        patience = max(PATIENCE, 3 * config.decoding.longest_seconds)
        self.watch = Watch(self.progress, self.paths.hung(part, shard), patience)
        self.journal = Journal(self.paths.work(part, shard), self.key, shape, dtype)
        self.decoders: Counter[str] = Counter()
        self._stored_rows: list[int] = []
        self._tried = dict(self.journal.tried)
        self._unfetched: list[int] = []
        try:
            self._take_over()
        except BaseException:
            self.journal.close()  # nobody else knows of it yet
            raise
        known = len(self.journal.outcomes)
        self.log.info("%d videos, %d of them done already", len(self.rows), known)

    def _take_over(self) -> None:
        """Load what an earlier job has stored under the same key, so that a grown shard only computes new rows."""
        record = stored_shard(self.paths, self.part, self.shard, self.key)
        if record is None:
            self.decoders += Counter(self.journal.carried)
            return
        self._tried = record.tried | self._tried
        rows = self.rows[: record.rows]
        failed = failed_rows(record)
        blocks = [np.asarray(read_array(self.paths, name)[rows.start : rows.stop]) for name in part_arrays(self.part)]
        for position, row in enumerate(rows):
            if row in record.tried:  # forgotten; the store may still have what it was
                continue
            stored = failed[row] if row in failed else self._stored(blocks, position)
            if stored is not None:
                # The store is right, not the journal, which a kill may have left beside it: else the row's decoder
                # would count twice.
                self.journal.outcomes[row] = stored
                self.journal.decoders.pop(row, None)
                self.journal.mono_loss.pop(row, None)
                if row in record.mono_loss:
                    self.journal.mono_loss[row] = record.mono_loss[row]
                self.journal.timelines.pop(row, None)
                self._stored_rows.append(row)
                timeline = record.timeline(row)
                if self.part == PROBE and timeline != []:
                    self.journal.timelines[row] = timeline
        self.decoders += Counter(record.decoders)

    def _stored(self, blocks: list[np.ndarray], position: int) -> np.ndarray | None:
        """Return the stored outcome of the shard's n-th row; None if it is neither valid nor failed, to be redone."""
        if self.part in self.plan.backbones:
            features, valid = blocks
            return features[position] if valid[position] else None
        starts, durations = blocks
        duration = durations[position]
        return np.concatenate([[duration], starts[position]]) if np.isfinite(duration) else None

    def todo(self) -> list[dict[str, Any]]:
        """Return the manifest rows (dicts) without an outcome, in order."""
        return [video for video in self.videos.to_pylist() if video["row"] not in self.journal.outcomes]

    def missing(self) -> int:
        """Return how many videos have no outcome."""
        return len(self.rows) - len(self.journal.outcomes)

    def shown(self, shares: Callable[[], tuple[float, float]] | None = None) -> Progress:
        """Return what shows the progress over the videos without an outcome.

        `shares` returns the shares of the time spent waiting for decoding and in the network.
        """

        def extra() -> tuple[str, dict[str, Any]]:
            errors = (one for one in self.journal.outcomes.values() if isinstance(one, MediaError))
            kinds = Counter(error.filtered for error in errors)
            words = f"{kinds[False]} failed"
            waiting, network = shares() if shares else (None, None)
            if waiting is not None:
                words = f"{waiting:.0%} waiting for decoding, {network:.0%} in the network, {words}"
            facts = {"waiting": waiting, "network": network, "failed": kinds[False], "filtered": kinds[True]}
            return words, facts

        return Progress(self.missing(), self.log.name, "videos", extra=extra, record=self.progress)

    def add(self, row: int, outcome: Outcome) -> None:
        """Write an outcome to the journal; a sign of life. UserError if UNFETCHED videos in a row could not be fetched:
        each may have taken minutes, and the next ones would fail likewise."""
        if isinstance(outcome, MediaError):
            outcome.attempts += self._tried.get(row, 0)
        self.journal.add(row, outcome)
        self.watch.alive()
        unfetched = isinstance(outcome, MediaError) and _unfetched(outcome)
        self._unfetched = [*self._unfetched, row] if unfetched else []
        if len(self._unfetched) == UNFETCHED:
            raise UserError(
                f"{UNFETCHED} videos in a row could not be fetched; the last one: {outcome}. They are not noted as "
                "failed. Run again when the network or the host is back; raise decoding.remote.deadline_seconds if the "
                "host is slow; or take it out of decoding.remote"
            )

    def forget_unfetched(self) -> None:
        """Forget the videos that could not be fetched since the last one that could, because the job stops."""
        if self._unfetched:
            self.journal.forget(self._unfetched)
            self._unfetched = []

    def note(
        self, outcomes: Iterable[tuple[int, Outcome]], shares: Callable[[], tuple[float, float]] | None = None
    ) -> None:
        """Write outcomes to the journal as they come, and show progress; `shares` as in `shown`."""
        with self.shown(shares) as progress:
            for row, outcome in outcomes:
                self.add(row, outcome)
                progress.step()

    def leave(self, stop: Stopping) -> None:
        """Exit if a signal has come and videos are left; the journal has the others."""
        if left := self.missing():
            stop.leave(f"{left} of the {len(self.rows)} videos are left")

    def finish(self) -> Record:
        """Put the shard in place. UserError, keeping the journal, if too many videos failed."""
        outcomes = [self.journal.outcomes[row] for row in self.rows]
        ids = self.videos["video_id"].to_pylist()
        failures = [
            Failure(row, video_id, outcome.reason, outcome.message, outcome.attempts, outcome.decoder)
            for row, video_id, outcome in zip(self.rows, ids, outcomes, strict=True)
            if isinstance(outcome, MediaError)
        ]
        self._check_ratio(failures)
        valid = np.array([isinstance(outcome, np.ndarray) for outcome in outcomes], dtype=bool)
        block = np.full((len(self.rows), *self.journal.shape), np.nan, self.journal.dtype)
        for position, outcome in enumerate(outcomes):
            if isinstance(outcome, np.ndarray):
                block[position] = outcome
        blocks = [block, valid] if self.part in self.plan.backbones else [block[:, 1:], block[:, 0]]
        # A decoded video may fail later; a journal that is opened again does not know who decoded it.
        usable = [row for row, ok in zip(self.rows, valid, strict=True) if ok]
        fresh = (self.journal.decoders[row] for row in usable if row in self.journal.decoders)
        decoders = dict(sorted((self.decoders + Counter(fresh)).items()))
        partial = int((valid & np.isnan(block.reshape(len(block), -1)).any(axis=1)).sum())
        versions = decoder_versions({*decoders, *(failure.decoder for failure in failures)})
        lost = {row: self.journal.mono_loss[row] for row in usable if row in self.journal.mono_loss}
        timelines = dict(sorted(self.journal.timelines.items())) if self.part == PROBE else None
        record = Record(
            self.key,
            len(self.rows),
            int(valid.sum()),
            "",
            failures,
            decoders,
            partial,
            versions,
            timelines=timelines,
            mono_loss=lost,
        )
        # From the first object's new place to the last one's the store has neither the old shard nor the new one. A job
        # that is killed there finds everything in the journal.
        self.journal.carry(dict(self.decoders))
        for row in self._stored_rows:
            self.journal.add(row, self.journal.outcomes[row])
        record = finish_shard(self.paths, self.part, self.shard, blocks, record)
        self.journal.discard()
        self.log.info("finished: %d of %d videos, %s", record.valid, record.rows, _counts(failures) or "no failures")
        return record

    def _check_ratio(self, failures: list[Failure]) -> None:
        limit = self.config.decoding.failure_ratio
        # A retired video's file may be gone for good.
        listed = dict(zip(self.rows, active(self.videos), strict=True))
        failures = [failure for failure in failures if listed[failure.row] and not REASONS[failure.reason].filtered]
        if len(failures) >= FEWEST_FAILURES and len(failures) > limit * sum(listed.values()):
            self.journal.forget(failure.row for failure in failures)
            raise UserError(
                f"{len(failures)} of the {len(self.rows)} videos of shard {self.shard} failed for {self.part} "
                f"({_counts(failures)}), more than decoding.failure_ratio = {limit:g} allows. For example "
                f"{failures[0].video_id}: {failures[0].message}. What was computed is kept; mend the files, "
                "or raise the ratio, and run again."
            )


def _unfetched(error: MediaError) -> bool:
    """Return whether a file did not come because the network or a host fails, not because of the file."""
    return error.reason == "network" or (error.reason == "timeout" and error.not_fetched)


def _counts(failures: list[Failure]) -> str:
    counts = Counter(failure.reason for failure in failures)
    return ", ".join(f"{reason} {count}" for reason, count in counts.most_common())

"""Done records and ledgers: small JSON files that say which shard is finished, under which cache key, and what failed.

Reads and writes `done/<part>/<shard>.json` (what Snakemake watches, and deletes before it runs a job again) and
`ledger/<part>/<key>/<shard>.json` (the same record where Snakemake never looks, so that a job that runs again knows
what is there already). A part is a backbone, or `probe`. Records hold no wall clock: equal work gives equal bytes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

from config.cli import UserError
from config.files import read_json, write_json
from config.paths import Paths
from pipeline.readers import MediaError


@dataclass(frozen=True)
class Failure:
    """One video that could not be used. `row` counts from the manifest's first row; the rest is as in MediaError."""

    row: int
    video_id: str
    reason: str
    message: str
    attempts: int = 1
    decoder: str = ""

    def error(self) -> MediaError:
        """The failure as the outcome of a reader."""
        return MediaError(self.reason, self.message, attempts=self.attempts, decoder=self.decoder)


@dataclass(frozen=True)
class Record:
    """A finished shard: `rows` videos from the shard's first row on, of which `valid` have features.

    `decoders` counts which decoder read how many of the valid ones; empty for the probe, which decodes nothing.
    `partial` counts the valid ones with damaged segments (`decoding.partial`). `versions` are those of the decoders'
    packages when the shard was put in place. `tried` counts by row how often videos were tried whose failure
    `pipeline.retry` has forgotten; only in ledgers, until those videos have been tried again.
    """

    key: str
    rows: int
    valid: int
    digest: str
    failures: list[Failure] = field(default_factory=list)
    decoders: dict[str, int] = field(default_factory=dict)
    partial: int = 0
    versions: dict[str, str] = field(default_factory=dict)
    tried: dict[int, int] = field(default_factory=dict)


def read_record(path: Path) -> Record | None:
    """Read a done record or ledger, also one without the fields that have defaults; None if it does not exist."""
    raw = read_json(path)
    if raw is None:
        return None
    try:
        failures = [Failure(**f) for f in raw["failures"]]
        tried = {
            int(row): attempts for row, attempts in raw.get("tried", {}).items()
        }  # JSON has no other keys than text
        return Record(**{**raw, "failures": failures, "tried": tried})
    except (TypeError, KeyError, ValueError) as error:
        raise UserError(f"{path} is not a record of this version ({error}); delete it and run again") from None


def write_record(paths: Paths, part: str, shard: int, record: Record) -> None:
    """Write the ledger, then the done record. Called last, when the shard is in place."""
    write_ledger(paths, part, shard, record)
    write_json(paths.done(part, shard), asdict(record))


def write_job(paths: Paths, part: str, shards: range, shards_a_job: int) -> None:
    """Write what Snakemake watches of a job of several shards, when all of them are in place: their digests."""
    records = {shard: read_record(paths.done(part, shard)) for shard in shards}
    digests = {f"{shard:05d}": record.digest for shard, record in records.items() if record is not None}
    write_json(paths.job_done(part, shards.start, shards_a_job), digests)


def forget_done(paths: Paths, part: str, shard: int) -> None:
    """Delete a shard's done record, and with it those of all jobs of several shards that it belongs to."""
    for folder in paths.done(part, shard).parent.glob("*_shards"):
        several = int(folder.name.removesuffix("_shards"))
        paths.job_done(part, shard - shard % several, several).unlink(missing_ok=True)
    paths.done(part, shard).unlink(missing_ok=True)


def write_ledger(paths: Paths, part: str, shard: int, record: Record) -> None:
    """Write the ledger alone: what the next job of this shard knows."""
    write_json(paths.ledger(part, shard, record.key), asdict(record))

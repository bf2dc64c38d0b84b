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


@dataclass(frozen=True)
class Failure:
    """One video that could not be used. `row` counts from the manifest's first row."""

    row: int
    video_id: str
    reason: str
    message: str


@dataclass(frozen=True)
class Record:
    """A finished shard: `rows` videos from the shard's first row on, of which `valid` have features."""

    key: str
    rows: int
    valid: int
    digest: str
    failures: list[Failure] = field(default_factory=list)


def read_record(path: Path) -> Record | None:
    """Read a done record or ledger; None if it does not exist."""
    raw = read_json(path)
    if raw is None:
        return None
    try:
        return Record(**{**raw, "failures": [Failure(**f) for f in raw["failures"]]})
    except (TypeError, KeyError) as error:
        raise UserError(f"{path} is not a record of this version ({error}); delete it and run again") from None


def write_record(paths: Paths, part: str, shard: int, record: Record) -> None:
    """Write the ledger, then the done record. Called last, when the shard is in place."""
    for path in (paths.ledger(part, shard, record.key), paths.done(part, shard)):
        write_json(path, asdict(record))

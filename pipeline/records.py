"""The small JSON files of the extraction, as dataclasses: the plan, the records of finished shards, that of the cache.

Reads and writes `plan.json` (how many shards there are, under which cache keys), `features.json` (what the finished
cache holds), `done/<part>/<shard>.json` (what Snakemake watches, and deletes before it runs a job again) and
`ledger/<part>/<key>/<shard>.json` (the same record where Snakemake never looks, so that a job that runs again knows
what is there already). A part is a backbone, or `probe`. Records hold no wall clock: equal work gives equal bytes.
The Snakefile reads the plan in every job, so that this module imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from config.cli import UserError
from config.files import read_json, write_json
from config.paths import Paths
from config.pipeline import Segments

PROBE = "probe"
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class PlannedBackbone:
    """What the plan says about a backbone: cache key, width of its features, and what the key was made of.

    `weights` is the record of its weights (`pipeline.weights.prepare`), `preprocessing` as the backbone tells it.
    """

    key: str
    dim: int
    modality: str = ""
    """`audio` or `video`; empty in plans of old planted caches (bench/fill.py)."""
    weights: dict[str, Any]
    random_weights: bool
    preprocessing: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The plan of the extraction: `videos` in `shards` shards of `shard_videos`, the last one shorter."""

    format: int
    videos: int
    shard_videos: int
    shards: int
    segments: Segments
    segment_key: str
    """Cache key of the probe."""
    backbones: dict[str, PlannedBackbone]
    passes: list[list[str]] = field(default_factory=list)
    """Which backbones are computed together (`pipeline.passes`); empty in plans of older versions: each alone."""

    @property
    def parts(self) -> list[str]:
        """The probe and the backbones, in the order in which they run."""
        return [PROBE, *self.backbones]

    @property
    def feature_bytes(self) -> int:
        """Bytes of the features of all backbones (float16)."""
        return 2 * self.videos * self.segments.count * sum(backbone.dim for backbone in self.backbones.values())

    def key(self, part: str) -> str:
        """Return the cache key of a part."""
        return self.segment_key if part == PROBE else self.backbones[part].key

    def rows(self, shard: int) -> range:
        """Return the manifest rows of a shard. UserError if there is no such shard."""
        if not 0 <= shard < self.shards:
            raise UserError(f"there is no shard {shard}; the plan has shards 0 to {self.shards - 1}")
        first = shard * self.shard_videos
        return range(first, min(first + self.shard_videos, self.videos))

    def job(self, first: int, shards: int) -> range:
        """Return the shards of a job that begins with `first` and takes up to `shards`. UserError if there is none."""
        self.rows(first)
        return range(first, min(first + shards, self.shards))

    def json(self) -> dict[str, Any]:
        """Return the plan as it is written."""
        return {**asdict(self), "segments": self.segments.model_dump()}


def read_plan(paths: Paths) -> Plan:
    """Read the plan. UserError if the plan stage has not run."""
    plan = _parsed(paths.plan, _plan)
    if plan is None:
        raise UserError(f"{paths.plan} does not exist; run `snakemake extract …`")
    return plan


def _plan(raw: dict[str, Any]) -> Plan:
    backbones = {name: PlannedBackbone(**planned) for name, planned in raw["backbones"].items()}
    return Plan(**{**raw, "segments": Segments(**raw["segments"]), "backbones": backbones})


def write_plan(paths: Paths, plan: Plan) -> None:
    """Write the plan. Called last, when the store has its size and keys."""
    write_json(paths.plan, plan.json())


@dataclass(frozen=True)
class CachedBackbone:
    """A backbone's features in the finished cache: how many videos are `valid`, and a digest of all their shards."""

    key: str
    valid: int
    sha256: str
    random_weights: bool


@dataclass(frozen=True)
class CacheRecord:
    """The finished cache. `complete`: {split: videos with features of all backbones that experiments read}."""

    videos: int
    segments: Segments
    complete: dict[str, int]
    backbones: dict[str, CachedBackbone]


def read_cache_record(paths: Paths) -> CacheRecord:
    """Read `features.json`. UserError if the extraction is not finished."""
    record = _parsed(paths.features_record, _cache_record)
    if record is None:
        raise UserError(f"{paths.features_record} does not exist; run `snakemake extract …`")
    return record


def _cache_record(raw: dict[str, Any]) -> CacheRecord:
    backbones = {name: CachedBackbone(**cached) for name, cached in raw["backbones"].items()}
    return CacheRecord(**{**raw, "segments": Segments(**raw["segments"]), "backbones": backbones})


def write_cache_record(paths: Paths, record: CacheRecord) -> None:
    """Write `features.json`. Called last, when every shard is in place."""
    write_json(paths.features_record, {**asdict(record), "segments": record.segments.model_dump()})


def _parsed(path: Path, parse: Callable[[dict[str, Any]], T]) -> T | None:
    """Read and parse a JSON file; None if it does not exist, UserError if it is not what `parse` takes."""
    raw = read_json(path)
    if raw is None:
        return None
    try:
        return parse(raw)
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is not a record of this version ({error}); delete it and run again") from None


@dataclass(frozen=True)
class Failure:
    """One video that could not be used. `row` counts from the manifest's first row; the rest is as in MediaError."""

    row: int
    video_id: str
    reason: str
    message: str
    attempts: int = 1
    decoder: str = ""


@dataclass(frozen=True)
class Record:
    """A finished shard: `rows` videos from the shard's first row on, of which `valid` have features.

    `decoders` counts which decoder read how many of the valid ones; empty for the probe, which decodes nothing.
    `partial` counts the valid ones with damaged segments (`decoding.partial`). `versions` are those of the decoders'
    packages when the shard was put in place. `tried` has the rows that `pipeline.retry` has forgotten, and how often
    they had failed (0: they had features); only in ledgers, until those videos have been done again. `mono_loss` is by
    row how far (dB) the mono audio lies below its loudest channel, of valid videos where it is more than
    readers/downmix.LOSS; not written where there are none. `timelines` is the probe's: by row what the readers need to
    mend a file's clock (`MediaInfo.timeline`). A row that is not there has a clock that is right; None means that
    nobody has looked (the record of an older version).
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
    mono_loss: dict[int, float] = field(default_factory=dict)
    timelines: dict[int, list[float] | None] | None = None

    def json(self) -> dict[str, Any]:
        """Return the record as JSON; `timelines` and `mono_loss` only if there are any."""
        left_out = {"timelines"} if self.timelines is None else set()
        left_out |= set() if self.mono_loss else {"mono_loss"}
        return {name: value for name, value in asdict(self).items() if name not in left_out}

    def timeline(self, row: int) -> list[float] | None:
        """Return what the probe knows of a file's clock: empty for one that is right, None where it has not looked."""
        return None if self.timelines is None else self.timelines.get(row, [])


def read_record(path: Path) -> Record | None:
    """Read a done record or ledger, also one without the fields that have defaults; None if it does not exist."""
    return _parsed(path, _record)


def _record(raw: dict[str, Any]) -> Record:
    failures = [Failure(**failure) for failure in raw["failures"]]
    # JSON has no other keys than text.
    by_row = {name: {int(row): value for row, value in raw.get(name, {}).items()} for name in ("tried", "mono_loss")}
    timelines = raw.get("timelines")
    if timelines is not None:
        timelines = {int(row): numbers for row, numbers in timelines.items()}
    return Record(**{**raw, **by_row, "failures": failures, "timelines": timelines})


def write_record(paths: Paths, part: str, shard: int, record: Record) -> None:
    """Write the ledger, then the done record. Called last, when the shard is in place."""
    write_ledger(paths, part, shard, record)
    write_json(paths.done(part, shard), record.json())


def write_job(paths: Paths, part: str, shards: range, shards_a_job: int) -> None:
    """Write what Snakemake watches of a job of several shards: their digests. UserError if one has no done record."""
    digests = {}
    for shard in shards:
        record = read_record(paths.done(part, shard))
        if record is None:
            raise UserError(
                f"{paths.done(part, shard)} does not exist, so that the job of shards {shards[0]} to {shards[-1]} of "
                f"{part} is not finished; somebody deleted it while the job ran. Run again: what is computed is kept"
            )
        digests[f"{shard:05d}"] = record.digest
    write_json(paths.job_done(part, shards.start, shards_a_job), digests)


def forget_done(paths: Paths, part: str, shard: int) -> None:
    """Delete a shard's done record, and with it those of all jobs of several shards that it belongs to.

    Deletes `features.json` too: Snakemake looks for a missing record only where what is made of it is missing as well.
    """
    paths.features_record.unlink(missing_ok=True)
    for folder in paths.done(part, shard).parent.glob("*_shards"):
        several = int(folder.name.removesuffix("_shards"))
        paths.job_done(part, shard - shard % several, several).unlink(missing_ok=True)
    paths.done(part, shard).unlink(missing_ok=True)


def write_ledger(paths: Paths, part: str, shard: int, record: Record) -> None:
    """Write the ledger alone: what the next job of this shard knows."""
    write_json(paths.ledger(part, shard, record.key), record.json())

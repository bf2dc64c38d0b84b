"""The configuration: every key, its default and its meaning. Reads YAML/JSON; writes nothing but `config/schema.json`.

`load` validates a mapping (what Snakemake merged from its config files), `read` a resolved `config.json`.
`python -m config.model` rewrites the JSON schema that editors use; a test fails when it has drifted.
"""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError, model_validator

from config.cli import UserError
from config.heads import Experiment as Experiment
from config.heads import Heads
from config.heads import SegmentPolicy as SegmentPolicy
from config.labels import FEATURES, Labels, Probes
from config.section import Section
from config.study import Study


class Segments(Section):
    """Which seconds of a video are looked at (data/segments.py has the rule)."""

    count: int = Field(6, ge=1, le=1000)
    """Segments a video; the video is cut into this many equal parts, one segment in each."""
    seconds: float = Field(3.0, ge=1.0, le=60.0)
    """Length of a segment in seconds. MusicNN needs at least 3."""
    window: float = Field(5.0, gt=0)
    """Length in seconds of the window drawn at random in each part; the segment is its middle."""
    seed: int = 0
    """Changes which windows are drawn."""

    @model_validator(mode="after")
    def _fits(self) -> Segments:
        if self.window < self.seconds:
            raise ValueError(f"segments.window ({self.window}) is shorter than segments.seconds ({self.seconds})")
        return self


class Render(Section):
    """Music videos rendered for the demo: synthesised music and moving pictures that share latent factors."""

    videos: int = Field(240, ge=1)
    """How many to render."""
    correlation: float = Field(1.0, ge=0.0, le=1.0)
    """0: sound and picture are independent; 1: the same latent factors drive both."""
    seed: int = 0
    seconds: tuple[float, float] = (20.0, 40.0)
    """Shortest and longest duration in seconds."""
    inconsistency: float = Field(1.0, ge=0, le=10)
    """How far the sections of a video, of its sound and of its pictures, lie from its average: 0 not at all, 1 as in a
    song with verse and chorus. The sections correlate as the rest does."""


class Splits(Section):
    """Shares of the train, validation and test splits; a video's split depends on its id (or artist) alone."""

    train: float = Field(0.8, gt=0, lt=1)
    validation: float = Field(0.1, gt=0, lt=1)
    test: float = Field(0.1, gt=0, lt=1)

    @model_validator(mode="after")
    def _sums(self) -> Splits:
        if abs(self.train + self.validation + self.test - 1) > 1e-9:
            raise ValueError("splits.train + splits.validation + splits.test must be 1")
        return self


class Backbone(Section):
    """A frozen network, or formulas. `pipeline/backbones/__init__.py` lists which exist and what options each takes."""

    weights: str
    """Where the weights come from: `wheel`, `kinetics400`, `random`, or the path of a local file; `none` for those that
    are formulas."""
    seed: int = 0
    """Seed of `weights: random`."""
    batch: int = Field(32, ge=1)
    """Segments a forward pass on a GPU; on a CPU each has its own. Does not change the features."""
    threads: int = Field(1, ge=1)
    """Cores a job. With 1, decoding and the network take turns; with more, they share the cores. On CPUs several
    jobs of one core each (`--cores` sets how many run) are as fast; beside a GPU, as many as decoding needs."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes a GPU where PyTorch sees one."""
    options: dict[str, str | int | float | bool] = {}
    """Backbone-specific options."""


class Decoding(Section):
    """How media files are read."""

    video: Literal["pyav", "decord"] = "pyav"
    """Reader of pictures. Both return the same frames for the same times."""
    deadline_seconds: float = Field(120.0, gt=0)
    """A file whose decoding takes longer is stopped and counts as failed (`timeout`)."""
    memory_mb: int = Field(4096, ge=512)
    """Address space of a decoding process in MiB; a file that needs more counts as failed (`out_of_memory`)."""
    recycle: int = Field(500, ge=1)
    """Files after which a decoding process is replaced, because decoders leak."""
    staging: str | None = None
    """Folder on a disk of the computing node itself, such as `$TMPDIR`, that a video is copied to before it is decoded.
    For file systems that are slow at reading here and there; whole files are read then, not just what is needed."""
    partial: bool = False
    """Keep the good segments of a video where others are damaged: it is valid then, with NaN in the damaged ones.
    Videos that were done already stay as they are; `python -m pipeline.retry` gives the failed ones their chance."""
    failure_ratio: float = Field(0.5, ge=0, le=1)
    """A shard with a larger share of failed videos stops the run, keeping what it has. Filtered ones do not count."""


LEAST_VIDEOS = {"train": 10, "validation": 2, "test": 2}
"""Videos of each split with features on both sides without which projection heads cannot be fitted and ranked."""


def trainable(complete: dict[str, int]) -> bool:
    """Whether {split: videos with features on both sides} is enough for projection heads."""
    return all(complete[split] >= least for split, least in LEAST_VIDEOS.items())


class Evaluation(Section):
    """What is measured on the test split."""

    gallery: int = Field(1000, ge=2)
    """Size of the paper's gallery; drawn from the test split where that is larger."""
    bootstrap: int = Field(1000, ge=100)
    """Resamples for confidence intervals."""
    seed: int = 0


class DaskSlurm(Section):
    """Workers that dask has Slurm start, each a job (dask-jobqueue)."""

    jobs: int = Field(4, ge=1)
    """How many."""
    cores: int = Field(4, ge=1)
    """Of each."""
    memory_gb: int = Field(16, ge=1)
    """Of each, in 10^9 bytes."""
    walltime: str = Field("01:00:00", pattern=r"^(\d+-)?\d+:\d\d:\d\d$")
    """Of each, as Slurm writes it: hours:minutes:seconds."""
    partition: str | None = None
    account: str | None = None
    interface: str | None = None
    """Network interface by which workers find the scheduler, such as `ib0`; by default the one that has the route."""


class Dask(Section):
    """Where statistics and covariances of the whole cache are computed: by default in the job's own threads."""

    scheduler: str | None = None
    """Address of a dask scheduler that runs already, as `tcp://host:8786`."""
    slurm: DaskSlurm | None = None
    """Start workers as Slurm jobs. `slurm: {}` takes the defaults."""

    @model_validator(mode="after")
    def _one(self) -> Dask:
        if self.scheduler is not None and self.slurm is not None:
            raise ValueError("set `scheduler` (one that runs) or `slurm` (workers to be started), not both")
        return self


class Config(Section):
    """Everything a run depends on."""

    results: str = Field(min_length=1, pattern=r"^[^{}\n]+$")
    """Output folder, without braces in its name. Nothing is written outside it."""
    videos: str | None = None
    """CSV, TSV or Parquet with at least `video_id,path`, or a folder of videos. Not with `render`."""
    render: Render | None = None
    """Render a set of music videos instead of reading the user's."""
    shard_videos: int = Field(1000, ge=1, le=100_000)
    """Videos a shard: one job reads one shard with one backbone."""
    shards_a_job: int = Field(1, ge=1, le=1000)
    """Consecutive shards that one job reads, one after the other, for schedulers that prefer few long jobs (1 to 8
    hours). Does not change the features, and may be changed at any time: finished shards stay finished."""
    segments: Segments = Segments()
    splits: Splits = Splits()
    decoding: Decoding = Decoding()
    backbones: dict[str, Backbone] = {
        "musicnn": Backbone(weights="wheel"),
        "r2plus1d": Backbone(weights="kinetics400"),
    }
    heads: Heads = Heads()
    labels: Labels = Labels()
    probes: Probes = Probes()
    eval: Evaluation = Evaluation()
    dask: Dask = Dask()
    study: Study = Study()

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        if (self.videos is None) == (self.render is None):
            raise ValueError("set exactly one of `videos` (a table or a folder of yours) and `render` (made-up videos)")
        for side in (self.heads.audio, self.heads.video):
            if side not in self.backbones:
                raise ValueError(f"heads uses the backbone '{side}', but backbones has only {sorted(self.backbones)}")
        for kind in ("backbones", "heads.experiments"):
            names = self.backbones if kind == "backbones" else self.heads.experiments
            for name in names:
                if not name.replace("_", "").isalnum() or not name.isascii():
                    raise ValueError(f"{kind}: the name '{name}' may have only letters, digits and underscores")
        if FEATURES in self.heads.experiments:
            raise ValueError(
                f"heads.experiments: the name '{FEATURES}' is taken: eval/{FEATURES}/ has the probes without heads"
            )
        return self

    @property
    def table(self) -> Path:
        """The table or folder of videos that the manifest is made from."""
        return Path(self.videos) if self.videos is not None else Path(self.results) / "rendered" / "videos.csv"


def load(raw: dict[str, Any]) -> Config:
    """Validate a mapping. Raises UserError that names every wrong key, with the nearest right one."""
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        raise UserError("the configuration is wrong:\n" + "\n".join(_explain(e) for e in error.errors())) from None


def read(path: str | Path) -> Config:
    """Read the resolved `config.json` that the workflow writes into the results folder."""
    path = Path(path)
    try:
        return load(json.loads(path.read_text()))
    except FileNotFoundError:
        raise UserError(
            f"{path} does not exist. The workflow writes it when it starts: run `snakemake --cores 1 --configfile …`."
        ) from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not JSON: {error}") from None


def _explain(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] != "extra_forbidden":
        return f"  {where or 'configuration'}: {error['msg'].removeprefix('Value error, ')}"
    near = difflib.get_close_matches(where.rsplit(".", 1)[-1], _all_keys(), n=1)
    return f"  {where}: unknown key" + (f"; did you mean '{near[0]}'?" if near else "")


def _all_keys() -> set[str]:
    models: list[type[BaseModel]] = [Experiment, *Section.__subclasses__()]
    return {key for model in models for key in model.model_fields}


SCHEMA = Path(__file__).with_name("schema.json")


def schema_text() -> str:
    """The JSON schema of the configuration as the text of `config/schema.json`."""
    return json.dumps(Config.model_json_schema(), indent=1) + "\n"


if __name__ == "__main__":
    SCHEMA.write_text(schema_text())

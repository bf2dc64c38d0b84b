"""The configuration of the study of the paper's open questions, one section for each. Writes nothing.

Reads nothing but whether the files exist that `study.paper_code` names (`PaperCode.check_clone`).

Defaults are the full size; config/study_demo.yaml has a size for two cores and about half an hour.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from config.cli import UserError
from config.heads import Experiment, Seeds
from config.labels import Classifier
from config.section import PathText, Section, Width, left_out

Correlations = list[Annotated[float, Field(ge=0, le=1)]]
TENTHS = [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]
Question = Literal["correlation", "length", "aggregation", "fusion", "relations", "ablation", "paper_code", "sources"]
"""All questions, in the page's order; each has a folder in study/ and a field of its name in `Study`."""
RELATED_BACKBONES = ("sound_descriptors", "picture_descriptors")
"""The backbones of named descriptors, which `relations` needs."""
PAPER_REPOSITORY = "https://github.com/KarelVeldkamp/Multimodal-Musicvideo-Representation"
PAPER_COMMIT = "06bf64b4f9199128e8f1264b093aedd08017a3be"
"""The authors' code, and the commit of it that was examined."""
PAPER_MODULES = Path("src", "ecir_project", "mmnet")
PAPER_FILES = ("data.py", "evaluation.py", "model.py", "train.py")
"""Where its modules are, and those that are run."""
FEWEST_PERMUTATIONS = 19
"""The fewest random draws for p = 0.05, because p is at least 1 / (1 + draws)."""


class Simulated(Section):
    """Features simulated by a latent-factor model, without videos (study/correlation/simulated.py)."""

    videos: int = Field(8000, ge=10)
    """Training videos for the curves over correlations."""
    gallery: int = Field(1000, ge=10)
    """Test videos; each is ranked against all."""
    factors: int = Field(16, ge=1)
    """Number of latent factors of a video."""
    noise: float = Field(1.0, ge=0)
    """Standard deviation of the noise that is added to each feature; without noise, features lie between -1 and 1."""
    max_epochs: int = Field(15, ge=1)
    """The most epochs on simulated features; the smaller of this and the experiment's own `max_epochs` holds."""
    grid: Correlations = TENTHS
    """Correlations of the curves, 0 to 1. 0 is always included."""
    sizes: list[Annotated[int, Field(ge=10)]] = Field([250, 500, 1000, 2000, 4000, 8000], min_length=1)
    """Numbers of training videos for the map over correlations and numbers of videos."""
    map_grid: Correlations = Field(TENTHS, min_length=1)
    """Correlations of the map, 0 to 1."""


class Paired(Section):
    """Rendered videos whose audio is paired with the frames of other videos (study/correlation/pairing.py)."""

    grid: Correlations = TENTHS
    """Correlations, 0 to 1, of all latent factors together. 0 is always included."""
    own_frames: bool = False
    """Whether audio may keep its own frames below ρ = 1. By default it does only where ρ cannot be reached
    otherwise."""
    kinds: list[Literal["dance", "mood", "genre"]] = ["dance", "mood", "genre"]
    """Kinds of link that are studied besides, each through some of the latent factors or the genre."""
    kinds_grid: Correlations = TENTHS
    """Correlations of these kinds, 0 to 1."""

    @model_serializer(mode="wrap")
    def _without_later_options(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out `own_frames` at its default: studies that are older than it are not repeated for it."""
        return left_out(handler(self), "own_frames", False)


class Correlation(Section):
    """From which correlation of audio and video on does each experiment of `heads.experiments` find it?"""

    simulated: Simulated = Simulated()
    """Simulated features, without videos."""
    rendered: Paired = Paired()
    """Rendered videos, paired anew. Left out if the videos of the cache were not rendered."""
    null_seeds: int = Field(20, ge=2)
    """Runs of each experiment at correlation 0, with the seeds 0, 1, …, to count how often one seems to beat chance."""
    few: list[str] = []
    """Experiments for the map and for the kinds of link. Empty: the first and the last of `heads.experiments`."""


class Variant(Section):
    """Length and number of segments of one extraction."""

    seconds: float = Field(ge=3, le=60)
    """Length of a segment in seconds. MusicNN needs at least 3."""
    count: int = Field(ge=1, le=1000)
    """Number of segments a video."""
    start: Literal["random", "keyframe"] | None = None
    """Where segments start. Default: as `segments.start` says."""

    @model_serializer(mode="wrap")
    def _without_later_options(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out `start` at its default: rules know variants by this, and results are older than that option."""
        whole: dict[str, Any] = handler(self)
        return {name: value for name, value in whole.items() if (name, value) != ("start", None)}

    @property
    def name(self) -> str:
        """Name of its folder in study/length/."""
        return f"{self.seconds:g}s_{self.count}" + (f"_{self.start}" if self.start else "")


class Length(Section):
    """How long segments should be, and how many: a part of the videos is extracted again with each variant."""

    videos: int = Field(2000, ge=20)
    """Number of videos that are extracted again, the same for every variant, chosen by a hash of their ids."""
    variants: list[Variant] = Field(
        [Variant(seconds=3, count=12), Variant(seconds=5, count=12), Variant(seconds=10, count=12)], min_length=2
    )
    """One for each length: `seconds` and `count`. Smaller numbers of segments are drawn at random from the extracted
    ones. A further one of the same `seconds`, with `start: keyframe` or `start: random`, is compared with the first."""
    counts: list[Annotated[int, Field(ge=1)]] = [1, 3, 6, 12]
    """Numbers of segments at which the lengths are compared, as far as a variant has so many."""
    totals: list[Annotated[float, Field(gt=0)]] = [10.0, 15.0, 30.0, 60.0]
    """Total seconds a video at which the lengths are compared, by the number of segments that comes within 10 %."""
    folds: int = Field(4, ge=2)
    """Folds of cross-validation over the videos."""
    components: int = Field(64, ge=1)
    """Principal components of each modality, the input of the linear head."""

    @property
    def lengths(self) -> list[Variant]:
        """The first variant of each length: those that are compared with each other."""
        first: dict[float, Variant] = {}
        for variant in self.variants:
            first.setdefault(variant.seconds, variant)
        return list(first.values())

    @property
    def least(self) -> int:
        """Number of segments that all variants have."""
        return min(variant.count for variant in self.variants)

    def counts_of(self, variant: Variant) -> list[int]:
        """Return the numbers of segments that are evaluated with a variant, ascending."""
        known = (self.count_for(total, variant) for total in self.totals)
        return sorted({n for n in self.counts if n <= variant.count} | {n for n in known if n is not None})

    def count_for(self, total: float, variant: Variant) -> int | None:
        """Return the number of the variant's segments that sums to `total` seconds within 10 %, or None."""
        count = round(total / variant.seconds)
        fits = 1 <= count <= variant.count and abs(count * variant.seconds - total) <= 0.1 * total + 1e-9
        return count if fits else None

    @model_validator(mode="after")
    def _lengths_differ(self) -> Length:
        if len({(variant.seconds, variant.start) for variant in self.variants}) < len(self.variants):
            raise ValueError(
                "study.length.variants: two have the same seconds and start; the larger count has the smaller one"
            )
        for variant in self.variants:
            if not self.counts_of(variant):
                raise ValueError(
                    f"study.length: neither counts nor totals has a number of segments for the variant {variant.name}"
                )
        return self


def _recommended() -> Experiment:
    """Return the experiment `recommended` of config/paper.yaml."""
    return Experiment(
        standardise=True,
        hidden=[1024],
        output="linear",
        temperature=0.4,
        learned_temperature=True,
        optimiser="adamw",
        learning_rate=0.001,
        weight_decay=1.0,
        schedule="cosine",
        warmup=2,
        batch=2000,
        segment_policy="all",
        patience=5,
        max_epochs=30,
    )


class Aggregation(Section):
    """Poolings of a video's segments, each trained end to end with the heads (study/aggregation/train.py)."""

    recipe: Experiment = Field(default_factory=_recommended)
    """Heads and training, the same for every pooling. `batch` counts videos; all of their segments are used."""
    replaced: list[Annotated[int, Field(ge=0)]] = [0, 1, 2, 3]
    """Numbers of each video's segments whose frames are replaced by other videos', in training and test: the points
    of a curve. 0 must be among them, and all are below `segments.count`."""
    videos: int = Field(20_000, ge=10)
    """The most videos of the training split, and of the validation split. All of their segments are held in memory."""
    gallery: int = Field(2000, ge=2)
    """The most test videos; each is ranked against all."""

    @field_validator("recipe")
    @classmethod
    def _trained_as_it_says(cls, recipe: Experiment) -> Experiment:
        wrong = [
            key
            for key, ignored in (
                ("shuffle: once", recipe.shuffle == "once"),
                ("repeat_step: true", recipe.repeat_step),
                ("segment_policy: first", recipe.segment_policy == "first"),
                ("normalise: false", not all(recipe.unit)),
            )
            if ignored
        ]
        if wrong:
            raise ValueError(f"{', '.join(wrong)}: poolings are not trained so; leave it out of this recipe")
        return recipe

    @field_validator("replaced")
    @classmethod
    def _begins_with_none(cls, replaced: list[int]) -> list[int]:
        if 0 not in replaced:
            raise ValueError("0 must be one of them: the videos as they are")
        return replaced


class Fusion(Classifier):
    """Networks that predict genre and tags from both modalities together (study/fusion/train.py)."""

    hidden: int = Field(256, ge=8)
    """Hidden width of the perceptron on concatenated features; the other networks have about as many parameters."""
    max_epochs: int = Field(60, ge=1)
    """The most epochs; early stopping usually ends the training earlier."""
    lost: float = Field(0.3, gt=0, lt=1)
    """Rate of the modality dropout that every fusion is also trained with: share of videos that lose one modality."""
    components: int = Field(64, ge=1)
    """Number of canonical variates of each modality."""
    shrinkages: list[Annotated[float, Field(gt=0, le=1)]] = Field([0.001, 0.01, 0.03, 0.1, 0.3, 0.6, 0.9], min_length=1)
    """Shrinkages of CCA's covariances, above 0, at most 1. The best on the validation split is taken."""
    videos: int = Field(20_000, ge=10)
    """The most videos of the training split, and of the validation split. All of their segments are held in memory."""
    test_videos: int = Field(5000, ge=2)
    """The most test videos."""


class Relations(Section):
    """Which relations between audio and video exist (study/relations/measure.py)."""

    false_discoveries: float = Field(0.05, gt=0, lt=1)
    """False discovery rate: expected share of false relations among the significant ones (Benjamini and Hochberg)."""
    permutations: int = Field(99, ge=1)
    """Random draws for the chance of feature spaces: of artists' signs, or of pairings. At least 19."""
    null_seeds: int = Field(20, ge=1)
    """Number of times that video descriptors are shuffled between artists, to count false discoveries."""
    videos: int = Field(5000, ge=20)
    """The most videos, drawn at random, for ridge regression, neighbours and the chance of feature spaces."""
    neighbours: int = Field(10, ge=1)
    """Number of nearest neighbours that are compared between feature spaces."""


class PaperCode(Section):
    """The authors' own training and evaluation code, run from your clone of it (study/paper_code/).

    The clone is code that you chose to run: it runs with your rights, in a process and a working folder of its own.
    """

    clone: PathText | None = None
    """Your clone of the repository of the paper's authors. Nothing of it is shipped here."""
    checkpoints: list[PathText] = []
    """Checkpoints that the authors published, to be read (never as pickled code) and described."""
    models: list[Literal["baseline", "single_head"]] = Field(["baseline", "single_head"], min_length=1)
    """Models of the authors: two heads, or one on the video features alone."""
    grid: Correlations = [0, 0.25, 0.5, 0.75, 1]
    """Correlations of simulated features (`study.correlation.simulated` has their factors and noise), 0 to 1. Empty:
    the cache alone."""
    cache: bool = True
    """Also train on the cache of this results folder. With `false` the question needs no videos."""
    videos: int = Field(5000, ge=10)
    """Simulated training videos."""
    gallery: int = Field(1000, ge=10)
    """Validation videos in a gallery; each is ranked against all. On the cache, at most as many as there are."""
    galleries: int = Field(2, ge=1)
    """Galleries of simulated validation videos."""
    batch: int = Field(1000, ge=2)
    """Pairs in a training batch, at most as many as there are training videos."""
    max_epochs: int = Field(100, ge=1)
    """The most epochs; the authors' early stopping usually ends the training earlier."""

    @model_validator(mode="after")
    def _has_features(self) -> PaperCode:
        if not self.grid and not self.cache:
            raise ValueError("study.paper_code: without correlations in `grid`, `cache` must be true")
        return self

    @property
    def module_files(self) -> list[Path]:
        """The files in the clone that are run; none without a clone."""
        return [Path(self.clone) / PAPER_MODULES / name for name in PAPER_FILES] if self.clone else []

    def check_clone(self) -> Path:
        """Return the folder of the modules in the clone. Raises UserError if there is none, or it is another one."""
        if self.clone is None:
            raise UserError(
                f"study.paper_code.clone: the question `paper_code` runs the authors' code. Clone it, `git clone "
                f"{PAPER_REPOSITORY} FOLDER && git -C FOLDER checkout {PAPER_COMMIT}`, read what you are going to run, "
                "and set this key to FOLDER"
            )
        folder = Path(self.clone) / PAPER_MODULES
        missing = [path.name for path in self.module_files if not path.is_file()]
        if missing:
            raise UserError(
                f"study.paper_code.clone: {folder} has no {', '.join(missing)}; it should be a clone of "
                f"{PAPER_REPOSITORY} at commit {PAPER_COMMIT}"
            )
        for path in self.checkpoints:
            if not Path(path).is_file():
                raise UserError(f"study.paper_code.checkpoints: {path} is no file")
        return folder


def _small_recommended() -> Experiment:
    """Return `recommended` for some tens of videos: small batches, no warm-up, and width, temperature and weight decay
    as they were when the protocol was fixed."""
    changes = {"batch": 32, "warmup": 0, "patience": 10, "hidden": [512], "temperature": 0.07, "weight_decay": 0.1}
    return Experiment(**(_recommended().model_dump() | changes))


class Sources(Section):
    """A small collection of real videos: does what is found go beyond the look and the sound of its sources?

    The protocol of study/sources/. Its sources are the groups of the videos. The primary pair of backbones is
    `heads.audio` and `heads.video`.
    """

    near_duplicate: float = Field(0.95, gt=0, le=1)
    """Cosine of two videos' standardised features, in either modality, from which the later one is left out."""
    folds: int = Field(5, ge=2)
    """Folds of whole sources; each is ranked by a head that was fitted on the others."""
    repeats: int = Field(10, ge=1)
    """Assignments of sources to folds; a video's rank is the mean over them."""
    components: int = Field(32, ge=1)
    """Principal components of each modality."""
    dimensions: int = Field(8, ge=1)
    """Canonical variates that are compared."""
    shrinkages: list[Annotated[float, Field(gt=0, le=1)]] = Field([0.1, 0.3, 0.6, 0.9], min_length=1)
    """Shrinkages of the covariances; each fit chooses one by folds of whole sources inside its training sources."""
    inner_folds: int = Field(3, ge=2)
    """Folds inside the training sources for that choice."""
    permutations: int = Field(999, ge=FEWEST_PERMUTATIONS)
    """Random permutations for the primary analysis."""
    secondary_permutations: int = Field(199, ge=FEWEST_PERMUTATIONS)
    """Random permutations for each secondary analysis."""
    others: list[Annotated[list[str], Field(min_length=2, max_length=2)]] = []
    """Secondary pairs of backbones, `[audio, video]` each."""
    tag: str | None = None
    """A tag of the table of videos: a secondary analysis of the videos that have it."""
    recipe: Experiment = Field(default_factory=_small_recommended)
    """Projection heads of a secondary analysis; with each of `study.seeds` they are trained for every fold."""
    power: Correlations = [0.3, 0.5, 0.7]
    """Correlations of simulated videos, paired inside their sources, at which the power of the primary test is
    estimated."""
    power_runs: int = Field(50, ge=2)
    """Simulated collections for each correlation, and for none."""


class TrainMode(Section):
    """Backbones whose features were extracted in training mode, beside the same ones in evaluation mode."""

    audio: str | None = None
    """Name in `backbones` of the audio backbone in training mode."""
    video: str | None = None
    """Name in `backbones` of the video backbone in training mode, such as one of kind `timm` with `mode: train`."""


class Ablation(Section):
    """From the published code to another recipe, one change at a time (study/ablation/train.py)."""

    first: str = "paper_code"
    """Name in `heads.experiments` of the experiment where the chain of changes begins."""
    last: str = "recommended"
    """Name in `heads.experiments` of the experiment where it ends."""
    seeds: Seeds = Field([0, 1, 2, 3, 4], min_length=2)
    """Random seeds of the trainings, of the simulated features and of the pairings of rendered videos."""
    steps: int = Field(2000, ge=1)
    """Optimiser steps of every training."""
    checks: int = Field(20, ge=1)
    """Number of validations in a training, equally spaced; the weights with the lowest validation loss are kept."""
    simulated: Correlations = Field([0.25, 0.5])
    """Correlations of simulated features (`study.correlation.simulated` has their factors and noise)."""
    videos: int = Field(5000, ge=10)
    """Simulated training videos; an eighth as many are for validation."""
    gallery: int = Field(1000, ge=10)
    """Simulated test videos; each is ranked against all."""
    dims: tuple[Width, Width] | None = None
    """Widths of simulated features, audio and video. Default: those of the cache."""
    rendered: Correlations = Field([0.5], min_length=1)
    """Correlations at which rendered videos are paired anew. Other videos are used as they are."""
    train_mode: TrainMode | None = None
    """Features of backbones in training mode, as in the published code: where the chain begins. Default: none."""

    @model_validator(mode="after")
    def _checks_are_steps(self) -> Ablation:
        if self.checks > self.steps:
            raise ValueError(f"checks ({self.checks}) are more than steps ({self.steps})")
        return self


class Study(Section):
    """What `snakemake study` runs. Every question reads the cache of this results folder."""

    questions: list[Question] = Field(["correlation", "length", "aggregation", "fusion", "relations"], min_length=1)
    """Questions that are asked. The page has them in an order of its own."""
    seeds: Seeds = Field([0, 1, 2, 3, 4], min_length=1)
    """Random seeds; every training of the study runs once with each."""
    length: Length = Length()
    """How long segments should be, and how many."""
    correlation: Correlation = Correlation()
    """From which correlation on experiments find it."""
    aggregation: Aggregation = Aggregation()
    """How the segments of a video are pooled."""
    fusion: Fusion = Fusion()
    """Genre and tags from both modalities together."""
    relations: Relations = Relations()
    """Which relations between audio and video exist."""
    ablation: Ablation = Ablation()
    """From the published code to the recommended recipe, one change at a time."""
    paper_code: PaperCode = PaperCode()
    """What the authors' own code measures. Asked only where `questions` names it."""
    sources: Sources = Sources()
    """A small collection of real videos, by whole sources. Asked only where `questions` names it."""

    @property
    def needs_videos(self) -> bool:
        """Whether any question that is asked reads the cache of videos."""
        return self.questions != ["paper_code"] or self.paper_code.cache

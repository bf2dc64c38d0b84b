"""The configuration of labels, and of the probes that predict them. Reads and writes nothing."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from config.cli import UserError
from config.section import PathText, Section, Width

FEATURES = "features"
"""Name that stands for the backbones' features in place of an experiment: their evaluation is in eval/features/."""


class GenreLabels(Section):
    """One genre label per video."""

    source: PathText = Field("manifest", min_length=1)
    """Source of the genres: `manifest` (the column `genre` of the table of videos), or the path of a tagtraum genre
    file for the Million Song Dataset (`*.cls`)."""
    two_genres: Literal["drop", "first"] = "drop"
    """Tracks with two genres in a tagtraum file: `drop` leaves them without a label, `first` keeps the first genre,
    which has the majority of the votes in CD1 and half of them in CD2."""
    tracks: PathText | None = None
    """Text file with one Million Song Dataset track id per line; only these tracks are labelled. Default: all."""


class TagLabels(Section):
    """Any number of tags per video (multi-label)."""

    source: PathText = Field("manifest", min_length=1)
    """Source of the tags: `manifest` (the column `tags` of the table of videos), or the path of the Last.fm dataset's
    `lastfm_tags.db`."""
    top: int = Field(10, ge=1)
    """Number of most frequent tags to predict. Synonyms count as different tags."""
    minimum_value: float = Field(0.0, ge=0, le=100)
    """Smallest value, from 0 to 100, at which a tag of the Last.fm dataset counts."""
    tracks: PathText | None = None
    """Text file with one Million Song Dataset track id per line; only these tracks are labelled. Default: all."""


class Labels(Section):
    """Labels for the probes. A task set to `null` is left out. Relative paths start at the working directory."""

    genre: GenreLabels | None = GenreLabels()
    """The genre task: one label per video."""
    tagging: TagLabels | None = TagLabels()
    """The tagging task: any number of tags per video."""
    msd_summary: PathText | None = None
    """Path of the Million Song Dataset's `msd_summary_file.h5`, which matches videos without `msd_track_id` by artist
    and title. Default: match by `msd_track_id` alone."""

    musicnn_training_list: PathText | None = None
    """Path of `train_gt_msd.tsv`, the tracks that MusicNN's weights `wheel` were trained on. With it, probes of labels
    of the Million Song Dataset say how many of their tracks are among them. Default: they say that there are some."""

    def task(self, name: str) -> GenreLabels | TagLabels:
        """Return the settings of a task; UserError if it does not exist or is left out."""
        settings = {"genre": self.genre, "tagging": self.tagging}.get(name)
        if settings is None:
            raise UserError(f"labels.{name}: no such task; there are {self.tasks}")
        return settings

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks that are not left out, in the order of the keys."""
        return [name for name in ("genre", "tagging") if getattr(self, name) is not None]

    def files(self, name: str) -> dict[str, str]:
        """Return the paths of the files that a task's labels come from, by configuration key."""
        task = self.task(name)
        source = None if task.source == "manifest" else task.source
        needs_tracks = source is not None or task.tracks is not None
        paths = {
            f"labels.{name}.source": source,
            f"labels.{name}.tracks": task.tracks,
            "labels.msd_summary": self.msd_summary if needs_tracks else None,
            "labels.musicnn_training_list": self.musicnn_training_list if needs_tracks else None,
        }
        return {key: path for key, path in paths.items() if path is not None}


class Classifier(Section):
    """Training of a classifier of genre or tags with AdamW."""

    dropout: float = Field(0.3, ge=0, lt=1)
    """Probability that an output of a hidden layer is zeroed in training."""
    learning_rate: float = Field(0.001, gt=0)
    """Learning rate of AdamW, constant."""
    weight_decay: float = Field(0.01, ge=0)
    """Weight decay of AdamW."""
    batch: int = Field(128, ge=1)
    """Videos per batch."""
    patience: int = Field(10, ge=1)
    """Early stopping: epochs without a lower validation loss after which training stops."""


class Probes(Classifier):
    """Probes: classifiers of genre and tags on frozen features or embeddings, a perceptron and a linear one."""

    hidden: list[Width] = Field([512, 256], min_length=1)
    """Widths (units) of the perceptron's hidden layers (dense, ReLU, dropout); the paper's by default."""
    max_epochs: int = Field(200, ge=1)
    """Most epochs of a training; early stopping usually ends it sooner."""

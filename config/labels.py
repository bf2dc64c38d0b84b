"""The configuration of labels and of the probes that predict them. Reads and writes nothing."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from config.cli import UserError
from config.section import Section

FEATURES = "features"
"""Stands for no experiment: what the backbones' own features are worth is in eval/features/."""


class GenreLabels(Section):
    """One genre a video."""

    source: str = Field("manifest", min_length=1)
    """`manifest` (the column `genre`), or the path of a tagtraum genre file for the Million Song Dataset (`*.cls`)."""
    two_genres: Literal["drop", "first"] = "drop"
    """Tracks to which a tagtraum file gives two genres. In CD1 the first is the majority's, in CD2 both got as many
    votes; `drop` leaves such tracks out."""
    tracks: str | None = None
    """Text file with track ids of the Million Song Dataset, one a line: only these tracks are labelled."""


class TagLabels(Section):
    """Any number of tags a video."""

    source: str = Field("manifest", min_length=1)
    """`manifest` (the column `tags`), or the path of the Last.fm dataset's `lastfm_tags.db`."""
    top: int = Field(10, ge=1)
    """How many of the most frequent tags are kept. Synonyms are different tags."""
    minimum_value: float = Field(0.0, ge=0, le=100)
    """Tags of the Last.fm dataset have values from 0 to 100; smaller ones than this do not count."""
    tracks: str | None = None
    """As in `labels.genre`."""


class Labels(Section):
    """What the probes predict. A task that is `null` is left out. Relative paths start at the working directory."""

    genre: GenreLabels | None = GenreLabels()
    tagging: TagLabels | None = TagLabels()
    msd_summary: str | None = None
    """The Million Song Dataset's `msd_summary_file.h5`: finds the tracks of videos without `msd_track_id` by artist
    and title."""

    def task(self, name: str) -> GenreLabels | TagLabels:
        """The settings of one task. UserError with the tasks that there are otherwise."""
        if name not in self.tasks:
            raise UserError(f"labels.{name}: no such task; there are {self.tasks}")
        return getattr(self, name)

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks that are not left out."""
        return [name for name in ("genre", "tagging") if getattr(self, name) is not None]

    def files(self, name: str) -> dict[str, str]:
        """The files that a task's labels come from, by their configuration keys."""
        task = self.task(name)
        source = None if task.source == "manifest" else task.source
        needs_tracks = source is not None or task.tracks is not None
        found = {
            f"labels.{name}.source": source,
            f"labels.{name}.tracks": task.tracks,
            "labels.msd_summary": self.msd_summary if needs_tracks else None,
        }
        return {key: path for key, path in found.items() if path is not None}


class Classifier(Section):
    """How a network that predicts labels is trained, with AdamW."""

    dropout: float = Field(0.3, ge=0, lt=1)
    """Of the hidden layers."""
    learning_rate: float = Field(0.001, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    batch: int = Field(128, ge=1)
    """Videos a batch."""
    patience: int = Field(10, ge=1)
    """Stop after this many epochs without a lower validation loss."""


class Probes(Classifier):
    """Classifiers that tell how much a representation says about genre and tags: a perceptron, and a linear one."""

    hidden: list[int] = Field([512, 256], min_length=1)
    """Widths of the perceptron's hidden layers (the paper's by default); each is dense, ReLU, dropout."""
    max_epochs: int = Field(200, ge=1)

"""The configuration of the question `paper_code`. Writes nothing.

Reads nothing but whether the files exist that it names (`PaperCode.check_clone`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from config.cli import UserError
from config.section import PathText, Section
from config.study.common import Correlations

PAPER_REPOSITORY = "https://github.com/KarelVeldkamp/Multimodal-Musicvideo-Representation"
PAPER_COMMIT = "06bf64b4f9199128e8f1264b093aedd08017a3be"
"""The authors' code, and the commit of it that was examined."""
PAPER_MODULES = Path("src", "ecir_project", "mmnet")
PAPER_FILES = ("data.py", "evaluation.py", "model.py", "train.py")
"""Where its modules are, and those that are run."""


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

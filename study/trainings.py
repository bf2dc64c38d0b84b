"""Run many small trainings in parallel, checkpointing each; a killed run loses only those in progress.

Writes FOLDER/pieces/NAME.safetensors when a training ends, and at the end FOLDER/trained.safetensors with all tensors,
in its metadata what each training says of itself; then the pieces are removed. A training of this size runs best on
one core.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from config.cli import UserError, progress
from config.model import Config
from config.processes import parallel
from heads.checkpoint import read_if_whole, read_tensors, write_tensors
from pipeline.features import open_features

TRAINED = "trained.safetensors"


@dataclass(frozen=True)
class Outcome:
    """What a training leaves: tensors by name, and facts about it, as JSON."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]


_train: Callable[[str], Outcome]


def work_off(
    folder: Path,
    names: Sequence[str],
    same: dict[str, Any],
    prepare: Callable[[Any], Callable[[str], Outcome]],
    given: Any,
    threads: int,
) -> None:
    """Run the trainings `names` and write their outcomes into one file.

    `prepare(given)`, called once in each process, returns the function that runs the training of a name; both arguments
    must pickle, as they are sent to new processes. `same` is JSON on which all trainings depend: those left by a run
    with another one are repeated. Raises UserError if a process is killed; finished trainings are kept.
    """
    pieces = folder / "pieces"
    missing = [name for name in names if _read(pieces / f"{name}.safetensors", same) is None]
    finished = parallel(_run, missing, threads, _start, prepare, given)
    for name, outcome in progress(finished, len(missing), folder.name, "trainings"):
        write_tensors(pieces / f"{name}.safetensors", outcome.tensors, {"same": same, "facts": outcome.facts})
    tensors: dict[str, Tensor] = {}
    facts = {}
    for name in names:
        written = _read(pieces / f"{name}.safetensors", same)
        assert written is not None
        tensors |= {f"{name}/{key}": tensor for key, tensor in written.tensors.items()}
        facts[name] = written.facts
    write_tensors(folder / TRAINED, tensors, {"same": same, "facts": facts})
    shutil.rmtree(pieces)


@dataclass(frozen=True)
class Trained:
    """What `work_off` wrote: `tensors` by TRAINING/NAME, each training's `facts`, and what all depend on, `same`."""

    tensors: dict[str, Tensor]
    facts: dict[str, dict[str, Any]]
    same: dict[str, Any]


def read_trained(config: Config, part: str, backbones: Sequence[str] = ()) -> Trained:
    """Read a question's trainings. Raises UserError if they are missing, damaged, or of other cache keys.

    `backbones` are those that they were trained on; by default `heads.audio` and `heads.video`.
    """
    paths, backbones = config.paths, backbones or (config.heads.audio, config.heads.video)
    path = paths.study_work(part) / TRAINED
    try:
        tensors, metadata = read_tensors(path)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; run `snakemake study …`") from None
    view, same = open_features(paths), metadata["same"]
    if same["keys"] != {name: view.key(name) for name in backbones}:
        raise UserError(
            f"{path} was trained on other features than the cache has now; run `python -m study.{part}.train`"
        )
    return Trained(tensors, metadata["facts"], same)


def _read(path: Path, same: dict[str, Any]) -> Outcome | None:
    """Read a finished training; None if it is missing, damaged, or of other settings: then it is repeated."""
    content = read_if_whole(path)
    if content is None or content[1].get("same") != same:
        return None
    return Outcome(content[0], content[1]["facts"])


def _start(prepare: Callable[[Any], Callable[[str], Outcome]], given: Any) -> None:
    global _train
    torch.set_num_threads(1)
    _train = prepare(given)


def _run(name: str) -> Outcome:
    return _train(name)

"""Many small trainings, worked off by several processes, each kept when it is done: a killed run loses what it was at.

Writes FOLDER/pieces/NAME.safetensors while it runs; at the end FOLDER/trained.safetensors, which has all of them, its
metadata with what they say of themselves, and removes the pieces. A training of this size uses one core best.
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
from config.paths import Paths
from config.processes import each
from heads.checkpoint import read_if_whole, read_tensors, write_tensors
from pipeline.features import open_features

Piece = tuple[dict[str, Tensor], dict[str, Any]]
"""Tensors by name, and what a piece says of itself, as JSON."""
TRAINED = "trained.safetensors"
_work: Callable[[str], Piece]


def work_off(
    folder: Path,
    names: Sequence[str],
    same: dict[str, Any],
    prepare: Callable[[Any], Callable[[str], Piece]],
    given: Any,
    threads: int,
) -> None:
    """Make every piece and put them together.

    `prepare(given)`, called once in each process, gives the function that makes the piece of a name; both arguments
    must be of a kind that pickles, as they travel to new processes. `same` is JSON on which all pieces depend: those
    left by a run with another one are made again. UserError where a process is killed; the pieces done are kept.
    """
    pieces = folder / "pieces"
    missing = [name for name in names if _read(pieces / f"{name}.safetensors", same) is None]
    made = each(_make, missing, threads, _start, prepare, given)
    for name, piece in progress(made, len(missing), folder.name, "trainings"):
        write_tensors(pieces / f"{name}.safetensors", piece[0], {"same": same, "facts": piece[1]})
    tensors: dict[str, Tensor] = {}
    facts = {}
    for name in names:
        found = _read(pieces / f"{name}.safetensors", same)
        assert found is not None
        tensors |= {f"{name}/{key}": tensor for key, tensor in found[0].items()}
        facts[name] = found[1]
    write_tensors(folder / TRAINED, tensors, {"same": same, "facts": facts})
    shutil.rmtree(pieces)


@dataclass(frozen=True)
class Trained:
    """What `work_off` put together: `tensors` by PIECE/NAME, each piece's `facts`, and what all depend on."""

    tensors: dict[str, Tensor]
    facts: dict[str, dict[str, Any]]
    same: dict[str, Any]


def read_trained(config: Config, part: str) -> Trained:
    """A part's trainings. UserError if they are missing, damaged, or of features of other cache keys."""
    paths = Paths(Path(config.results))
    path = paths.study_work(part) / TRAINED
    try:
        tensors, metadata = read_tensors(path)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; run `snakemake study …`") from None
    view, same = open_features(paths), metadata["same"]
    if same["keys"] != {name: view.key(name) for name in (config.heads.audio, config.heads.video)}:
        raise UserError(
            f"{path} was trained on other features than the cache has now; run `python -m heads.study.{part}`"
        )
    return Trained(tensors, metadata["facts"], same)


def _read(path: Path, same: dict[str, Any]) -> Piece | None:
    """A finished piece; None where there is none, or one that is damaged or of something else: it is made again."""
    found = read_if_whole(path)
    return (found[0], found[1]["facts"]) if found is not None and found[1].get("same") == same else None


def _start(prepare: Callable[[Any], Callable[[str], Piece]], given: Any) -> None:
    global _work
    torch.set_num_threads(1)
    _work = prepare(given)


def _make(name: str) -> Piece:
    return _work(name)

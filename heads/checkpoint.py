"""Trained heads as a file, and the state of an unfinished training. Reads and writes safetensors, never pickle.

Both files are one safetensors object each, with JSON in its metadata: tensors and what they mean cannot come apart.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from config.cli import UserError
from config.files import replacing
from config.heads import Experiment
from heads.model import TwoHeads, build

# One metadata entry only: safetensors writes several in an arbitrary order, and equal trainings shall give equal bytes.
ENTRY = "heads"


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write tensors and JSON metadata atomically; equal contents give equal bytes."""
    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    data = safetensors.torch.save(ready, {ENTRY: json.dumps(metadata, allow_nan=False)})
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write_tensors` wrote, onto the CPU. Raises FileNotFoundError if missing, UserError if damaged."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {})[ENTRY])
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118 (not a mapping)
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise UserError(f"{path} is damaged or not of this program ({error}); delete it and train again") from None


def read_if_whole(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Return what `read_tensors` reads; None if the file is missing or damaged. For files that can be made again."""
    try:
        return read_tensors(path)
    except (FileNotFoundError, UserError):
        return None


@dataclass(frozen=True)
class About:
    """What a checkpoint says of itself: the experiment, and by backbone the cache keys and random-weights flags."""

    experiment: dict[str, Any]
    seed: int
    audio: str
    video: str
    audio_dim: int
    video_dim: int
    keys: dict[str, str]
    random_weights: dict[str, bool]
    data: str
    """sha256 of the rows trained and validated on and of the cached features (`PairedFeatures.digest`)."""
    matmul: str = "auto"
    """`heads.matmul`; earlier versions did not note it."""
    epoch: int = 0
    """The epoch, counted from 1, whose weights these are: the one with the lowest validation loss."""
    validation_loss: float | None = None


def save_checkpoint(path: Path, weights: dict[str, Tensor], about: About) -> None:
    """Write `checkpoint.safetensors`: `audio.*`, `video.*` and, where the loss learns something, `loss.*`."""
    write_tensors(path, weights, asdict(about))


def load_checkpoint(path: Path) -> tuple[TwoHeads, About]:
    """Read the trained heads, in eval mode on the CPU. Raises UserError if missing, damaged or of another layout."""
    try:
        tensors, metadata = read_tensors(path)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; run `snakemake train …`") from None
    try:
        about = About(**metadata)
        heads = trained(Experiment.model_validate(about.experiment), (about.audio_dim, about.video_dim), tensors)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{path} is not a checkpoint of this version ({error}); delete it and train again") from None
    return heads, about


def trained(experiment: Experiment, dims: tuple[int, int], tensors: dict[str, Tensor]) -> TwoHeads:
    """Return heads with these tensors, in eval mode on the CPU. Raises RuntimeError if they are of another layout."""
    heads = build(experiment, *dims)
    heads.load_state_dict({name: tensor for name, tensor in tensors.items() if not name.startswith("loss.")})
    return heads.eval()


@dataclass
class Progress:
    """A training between two epochs: all that the next one depends on, beside the data and the configuration."""

    weights: dict[str, Tensor]
    moments: dict[str, Tensor]
    """The optimiser's, by `<parameter's number>.<name>`."""
    best: dict[str, Tensor]
    about: About
    """The best epoch so far; with its epoch at 0 and no loss, also what two runs must share to be the same training."""
    metrics: list[dict[str, Any]]
    """One entry an epoch."""


def save_progress(path: Path, progress: Progress) -> None:
    """Write `state.safetensors` atomically: a killed training leaves the previous epoch's state or this one's."""
    groups = {"weights": progress.weights, "moments": progress.moments, "best": progress.best}
    tensors = {f"{group}/{name}": tensor for group, named in groups.items() for name, tensor in named.items()}
    write_tensors(path, tensors, {"about": asdict(progress.about), "metrics": progress.metrics})


def load_progress(path: Path, description: About) -> Progress | None:
    """Read an unfinished training's state; None if there is none, or it is of another configuration or other data."""
    try:
        tensors, metadata = read_tensors(path)
        about = About(**metadata["about"])
    except (FileNotFoundError, UserError, TypeError, KeyError):
        # Unlike a checkpoint, a state may be thrown away: it only saves time.
        return None
    if replace(about, epoch=0, validation_loss=None) != description:
        return None
    groups: dict[str, dict[str, Tensor]] = {"weights": {}, "moments": {}, "best": {}}
    for name, tensor in tensors.items():
        group, _, tensor_name = name.partition("/")
        groups[group][tensor_name] = tensor
    return Progress(about=about, metrics=metadata["metrics"], **groups)


def moments_of(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return an optimiser's moments and step counts as named tensors."""
    state = optimiser.state_dict()["state"]
    return {f"{number}.{name}": tensor for number, named in state.items() for name, tensor in named.items()}


def restore_moments(optimiser: torch.optim.Optimizer, moments: dict[str, Tensor]) -> None:
    """Load moments that `moments_of` returned into the optimiser."""
    whole = optimiser.state_dict()
    for key, tensor in moments.items():
        number, _, name = key.partition(".")
        whole["state"].setdefault(int(number), {})[name] = tensor
    optimiser.load_state_dict(whole)

"""What the checkpoints say that the authors published, and what else could explain it. Reads them; writes nothing.

They are read by `torch.load(weights_only=True)`, which builds tensors and plain values and runs no code of the file.
A checkpoint of `train()` stores `epoch`, `Eiters` (optimiser steps), `best_rsum` (the lowest validation loss so far,
summed over both directions), `opt` and `model`: the state of the video head and of the audio head.
"""

from __future__ import annotations

import hashlib
import math
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import hypergeom
from torch import Tensor

from config.cli import UserError
from study.answer import Row

BATCH, VALIDATION = 1000, 9000
"""Pairs in a training batch, and most validation videos, in the authors' conf/emb/parameters/train_model.yml. Neither
is stored in a checkpoint."""
SMALL = 1e-4
"""`AverageMeter` divides a sum of n values by n + SMALL, not by n."""
SURE = 0.95
KEYS = ("epoch", "model", "best_rsum", "opt", "Eiters")
HEAD = ("dense1.weight", "bn1.running_mean", "dense2.weight")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint. Raises UserError if it is missing, needs code, is damaged, or another one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old pickle protocols, of files that are then refused
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"study.paper_code.checkpoints: {path} does not exist") from None
    except pickle.UnpicklingError as error:
        raise UserError(
            f"study.paper_code.checkpoints: {path} holds more than tensors and plain values, or is no checkpoint "
            f"(a Git LFS pointer?), so it is not loaded: {_line(error)}"
        ) from None
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
        raise UserError(f"study.paper_code.checkpoints: {path} is damaged or no checkpoint: {_line(error)}") from None
    missing = [key for key in KEYS if not isinstance(content, dict) or key not in content]
    if missing:
        raise UserError(f"study.paper_code.checkpoints: {path} has no {', '.join(missing)}: `train()` did not save it")
    heads = content["model"]
    if not isinstance(heads, list) or len(heads) != 2 or not all(isinstance(head, dict) for head in heads):
        raise UserError(f"study.paper_code.checkpoints: the model in {path} is not a state of two heads")
    if not all(isinstance(value, Tensor) for head in heads for value in head.values()):
        raise UserError(f"study.paper_code.checkpoints: the heads in {path} are not tensors")
    return content


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def description(path: Path) -> Row:
    """Return the row of a checkpoint: what it stores, beside chance for galleries of BATCH."""
    content = read_checkpoint(path)
    video, audio = content["model"]
    try:
        stored, steps, epoch = float(content["best_rsum"]), int(content["Eiters"]), int(content["epoch"])
    except (TypeError, ValueError, RuntimeError):
        raise UserError(f"study.paper_code.checkpoints: best_rsum, Eiters or epoch in {path} is not a number") from None
    chance = 2 * math.log(BATCH)
    # The mean as `AverageMeter` gives it, of as many galleries as the configuration has.
    galleries = VALIDATION // BATCH
    loss = stored * (galleries + SMALL) / galleries
    return {
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "model": _classes(video, audio),
        "epoch": epoch,
        "steps": steps,
        "pairs_an_epoch": steps * BATCH // epoch if epoch else None,
        "best_rsum": stored,
        "validation_loss": loss,
        "chance": chance,
        "below_chance_a_direction": (chance - loss) / 2,
        "batch_at_chance": math.exp(loss / 2),
        "batch_norm_affine_trained": not all(_untouched(head) for head in (video, audio)),
        "batch_norm_running_trained": any(_counted(head) for head in (video, audio)),
        "batch_norm_steps": max(
            (int(head[key]) for head in (video, audio) for key in head if "num_batches" in key), default=0
        ),
    }


def _classes(video: dict[str, Tensor], audio: dict[str, Tensor]) -> str:
    """Name the authors' classes that have these layers."""
    if not audio and "dense3.weight" in video and all(key in video for key in HEAD):
        return "single_head (VideoEncoderEmb2, AudioEncoderEmb2)"
    if "dense3.weight" not in video and all(key in head for key in HEAD for head in (video, audio)):
        return "two heads (VideoEncoderEmb, AudioEncoderEmb)"
    return "none of the published classes on features"


def _untouched(head: dict[str, Tensor]) -> bool:
    """Return whether the factors and offsets of batch normalisation are exactly those it starts with."""
    weights = [head[key] for key in head if key.startswith("bn") and key.endswith(".weight")]
    biases = [head[key] for key in head if key.startswith("bn") and key.endswith(".bias")]
    return all(bool((weight == 1).all()) for weight in weights) and all(bool((bias == 0).all()) for bias in biases)


def _counted(head: dict[str, Tensor]) -> bool:
    """Return whether the running statistics of batch normalisation differ from those it starts with."""
    return any(bool((head[key] != 0).any()) for key in head if key.endswith("running_mean"))


def zeros_loss(videos: np.ndarray | int, zeros: np.ndarray | float, gallery: int = BATCH) -> np.ndarray:
    """Return the lowest validation loss, both directions, of embeddings without alignment, if some are zero.

    The data loader drops the last incomplete batch, so of `videos` validation videos only whole galleries are embedded;
    the embeddings of the others stay rows of zeros, at random places. Only whole galleries of rows are then compared,
    in which `zeros` rows in all are zero. In a gallery of n with the share p of zeros: the pairs of zeros have equal
    similarities, loss ln n. For the others nothing aligned means that the positive's similarity is on average that of
    the non-zero negatives, so by Jensen's inequality their loss is at least ln((1 - p) n), reached where similarities
    are equal and large. Together 2 (ln n + (1 - p) ln(1 - p)). At least one row is not zero.
    """
    kept = 1 - np.asarray(zeros) / (np.asarray(videos) // gallery * gallery)
    losses: np.ndarray = 2 * (math.log(gallery) + kept * np.log(kept))
    return losses


def alternatives(row: Row) -> list[Row]:
    """Return the numbers of validation videos with which rows of zeros alone explain a checkpoint's loss, a line each.

    `whole_galleries` k: from `from_videos` (with the expected number of zeros in the galleries; None if only chance
    gives enough) or `from_videos_95` (with the most zeros in 95 % of the shuffles) to `to_videos`, the last before one
    more gallery is whole.
    """
    lines = []
    for whole in range(1, VALIDATION // BATCH):
        stored = row["best_rsum"] * (whole + SMALL) / whole
        videos = np.arange(whole * BATCH + 1, (whole + 1) * BATCH)
        rows, dropped = whole * BATCH, videos - whole * BATCH
        expected = _first(videos, dropped * rows / videos, stored)
        likely = _first(videos, hypergeom.ppf(SURE, videos, dropped, rows), stored)
        if likely is not None:
            line = {"file": row["file"], "whole_galleries": whole, "from_videos": expected, "from_videos_95": likely}
            lines.append(line | {"to_videos": int(videos[-1])})
    return lines


def _first(videos: np.ndarray, zeros: np.ndarray, stored: float) -> int | None:
    """Return the first number of videos with which unaligned embeddings can have the stored loss."""
    enough = np.flatnonzero(zeros_loss(videos, zeros) <= stored)
    return int(videos[enough[0]]) if len(enough) else None

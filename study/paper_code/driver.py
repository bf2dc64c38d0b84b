"""Run the authors' `train()` once, unmodified, in this process. Started by study/paper_code/runs.py, not by hand.

    python -m study.paper_code.driver        in the working folder

Reads from the working folder:
  job.json              `modules`, their folder; `opt`, their options; `names`, which of their classes stand for those
                        that `train()` names; `batch`, `gallery`, `seed`
  features.safetensors  float32 [videos, dim]: `audio_train`, `video_train`, `audio_validation`, `video_validation`
Writes there:
  saved/                    what the authors' code saves
  embeddings.safetensors    float32 [validation videos, dim]: `audio.last`, `video.last` of the last epoch's model, and
                            `audio.best`, `video.best` of the one with the lowest validation loss
  outcome.json              what the authors' code logged, a dict an epoch, and the steps taken

Their data loader, `train()`, `validate()`, `encode_data()` and `get_validation_metrics()` do all the work. What they
saved is read without unpickling objects. The process ends when its standard input closes, that is with its parent.
"""

from __future__ import annotations

import json
import os
import random
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from study.paper_code import stand_ins

SAVED = "saved"
BEST = "model_best.pth.tar"
"""The file name that the authors' code gives to the best epoch."""
EPOCH = "Validation loss"
"""The name of a value that their code logs once an epoch, beside all others of the validation."""


def run(folder: Path) -> None:
    """Run the job in `folder`."""
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    features = safetensors.torch.load_file(folder / "features.safetensors")
    log = stand_ins.prepare(Path(job["modules"]))
    train = stand_ins.module("train")
    for name, chosen in job["names"].items():
        # `train()` looks its classes up in its module by name, so another class of theirs can stand there.
        setattr(train, name, getattr(stand_ins.module("model"), chosen))
    random.seed(job["seed"])
    np.random.seed(job["seed"])
    torch.manual_seed(job["seed"])
    loaders = [
        train.create_dataloader(
            size,
            _items(features[f"audio_{split}"]),
            _items(features[f"video_{split}"]),
            len(features[f"audio_{split}"]),
            job["opt"],
        )
        for split, size in (("train", job["batch"]), ("validation", job["gallery"]))
    ]
    (folder / SAVED).mkdir(exist_ok=True)
    model = train.train(job["opt"], *loaders, job["gallery"])
    embeddings = dict(zip(("video.last", "audio.last"), train.encode_data(model, loaders[1]), strict=True))
    best = torch.load(folder / SAVED / BEST, map_location="cpu", weights_only=True)
    model.load_state_dict(best["model"])
    embeddings |= dict(zip(("video.best", "audio.best"), train.encode_data(model, loaders[1]), strict=True))
    tensors = {name: torch.from_numpy(values).float().contiguous() for name, values in embeddings.items()}
    safetensors.torch.save_file(tensors, folder / "embeddings.safetensors")
    outcome = {
        "epochs": [line for line in log.lines if EPOCH in line],
        "best_epoch": int(best["epoch"]),
        "steps": int(model.Eiters),
    }
    (folder / "outcome.json").write_text(json.dumps(outcome), encoding="utf-8")


def _items(features: Tensor) -> dict[str, Callable[[], Tensor]]:
    """Return features as their loaders: {VIDEO_SEGMENT: function that loads it}; ids sort as the rows do."""
    digits = len(str(len(features)))
    return {f"{row:0{digits}d}_0": partial(_load, features, row) for row in range(len(features))}


def _load(features: Tensor, row: int) -> Tensor:
    return features[row]


def _end_with_parent() -> None:
    """Wait until standard input closes, and end the process."""
    while os.read(0, 1):
        pass
    os._exit(1)


def main() -> None:
    """Run the job of the working folder on one thread."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    run(Path.cwd())


if __name__ == "__main__":
    main()

"""Run the authors' code once in a process of its own, and rank its embeddings truly.

Writes the job into a working folder, starts the driver there (study/paper_code/driver.py), reads what it wrote, as JSON
and safetensors, and removes the folder. The process gets no variables of the environment but those it needs.
The authors' code is not confined: it can do what the user can.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

import study
from config.cli import UserError
from eval.ranks import ranks

OPTIONS: dict[str, Any] = {
    "val_step": 5,
    "measure": "cosine",
    "logger_name": "saved",
    "filename": "last",
    "log_step": 10,
    "reset_train": True,
    "finetune": False,
    "learning_rate": 0.01,
    "audio_layer_sizes": [512, 256],
    "normalise": True,
    "use_embeddings": True,
    "max_increases": 2,
}
"""Options of `train()`, with the values of the authors' conf/emb/parameters/train_model.yml but for file names."""
WIDTHS = (1506, 512)
"""The widths of audio and video features that the authors' classes are built for."""
VARIABLES = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "LANG", "LC_ALL")
SHOWN = 2000
"""Characters of the error output that a message shows."""


@dataclass(frozen=True)
class Model:
    """A model of the authors: sizes of the video layers, and their classes in place of those that `train()` names."""

    layers: list[int]
    names: dict[str, str]


MODELS = {
    "baseline": Model([512, 256], {"VideoEncoderEmb2": "VideoEncoderEmb", "AudioEncoderEmb2": "AudioEncoderEmb"}),
    "single_head": Model([512, 1506, 1506], {}),
}
"""`train()` is published with the classes of the single head; the baseline's are in the same module."""


@dataclass(frozen=True)
class Features:
    """Float32 [videos, dim] of training and validation videos; the widths are WIDTHS."""

    audio_train: np.ndarray
    video_train: np.ndarray
    audio_validation: np.ndarray
    video_validation: np.ndarray


@dataclass(frozen=True)
class Outcome:
    """What a run left: `epochs`, what it logged; embeddings float32 [validation videos, dim] by `audio.last`, ….

    `best_epoch` counts from 1: the epoch with the lowest validation loss; `steps` are those of the optimiser.
    """

    epochs: list[dict[str, float]]
    best_epoch: int
    steps: int
    embeddings: dict[str, np.ndarray]


def run_once(
    modules: Path, folder: Path, model: str, features: Features, batch: int, gallery: int, epochs: int, seed: int
) -> Outcome:
    """Train `model` in a process of its own that works in `folder`. Raises UserError if it fails.

    `gallery` is the size of validation batches: the number of validation videos must be a multiple of it, else the
    authors' code would leave rows of zeros.
    """
    if len(features.audio_validation) % gallery:
        raise ValueError(f"{len(features.audio_validation)} validation videos are no multiple of {gallery}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    folder, chosen = folder.absolute(), MODELS[model]
    safetensors.numpy.save_file(vars(features), folder / "features.safetensors")
    job = {
        "modules": str(modules.absolute()),
        "opt": OPTIONS | {"video_layer_sizes": chosen.layers, "num_epochs": epochs},
        "names": chosen.names,
        "batch": batch,
        "gallery": gallery,
        "seed": seed % 2**32,
    }
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    command = [sys.executable, "-m", "study.paper_code.driver"]
    with open(folder / "errors.txt", "wb") as errors:
        # The pipe to its standard input is how it notices the end of this process.
        process = subprocess.Popen(
            command, cwd=folder, env=_environment(folder), stdin=subprocess.PIPE, stdout=errors, stderr=errors
        )
        try:
            process.wait()
        finally:
            process.kill()
            process.wait()
            if process.stdin:
                process.stdin.close()
    if process.returncode:
        text = (folder / "errors.txt").read_text(encoding="utf-8", errors="replace")
        raise UserError(
            f"study.paper_code.clone: the authors' code in {modules} ended with status {process.returncode}:\n"
            f"{text[-SHOWN:].strip()}"
        )
    outcome = json.loads((folder / "outcome.json").read_text(encoding="utf-8"))
    embeddings = safetensors.numpy.load_file(folder / "embeddings.safetensors")
    shutil.rmtree(folder)
    return Outcome(embeddings=embeddings, **outcome)


def _environment(folder: Path) -> dict[str, str]:
    """Return the variables of the process: no bytecode beside the clone's files, no GPU, no variables of the user."""
    kept = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    root = str(Path(study.__file__).parents[1])
    own = {
        "PYTHONPATH": root,
        "PYTHONSAFEPATH": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUTF8": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
    }
    return kept | own | {"HOME": str(folder), "TMPDIR": str(folder)}


def true_ranks(audio: np.ndarray, video: np.ndarray, gallery: int) -> np.ndarray:
    """Rank the positives in galleries of consecutive rows by dot products, as the authors compare embeddings.

    `audio`, `video`: [videos, dim]. Returns float64 [2, videos]: audio → video and video → audio (eval/ranks.py).
    """
    pairs = [
        ranks(audio[first : first + gallery], video[first : first + gallery], unit=(False, False))
        for first in range(0, len(audio), gallery)
    ]
    return np.concatenate([np.stack(pair) for pair in pairs], axis=1)

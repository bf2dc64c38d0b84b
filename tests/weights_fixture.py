"""MusicNN's real weights for tests, fetched from the package index once a process."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from config.model import Config, load
from config.paths import Paths
from pipeline.backbones.musicnn_weights import download
from pipeline.weights import prepare


@cache
def musicnn_wheel() -> Path:
    """The wheel musicnn==0.1.0 in a temporary folder that goes when the process ends."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    return download(folder)


def config_of(results: Path, backbone: str, weights: str | Path, **keys: Any) -> Config:
    """A configuration with one backbone."""
    return load(
        {
            "results": str(results),
            "videos": "none.csv",
            "backbones": {backbone: {"weights": str(weights), **keys}},
            "heads": {"audio": backbone, "video": backbone},
        }
    )


def converted_musicnn(folder: Path) -> Path:
    """Write `musicnn.safetensors`, converted from the wheel, into the folder and return its path."""
    with tempfile.TemporaryDirectory(dir=folder) as results:
        prepare(config_of(Path(results), "musicnn", musicnn_wheel()), "musicnn")
        return Paths(Path(results)).weights("musicnn").rename(folder / "musicnn.safetensors")

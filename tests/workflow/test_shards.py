"""The workflow over tar shards: killed and resumed it gives what the plain files give, and so do separate tracks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from config.paths import Paths
from tests.support.commands import ROOT, finish, start, wait_until
from tests.support.media import Audio, Video, regular, write
from tests.support.shards import write_shard
from tests.support.workflow import planned_rules, snakemake

VIDEOS = 24
BACKBONES = {"sound_descriptors": {"weights": "none"}, "picture_descriptors": {"weights": "none"}}


def configuration(folder: Path, videos: Path | str) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    return {
        "results": str(folder / "results"),
        "videos": str(videos),
        "segments": {"count": 2, "seconds": 3.0, "window": 3.0},
        "backbones": BACKBONES,
        "heads": {"audio": "sound_descriptors", "video": "picture_descriptors", "experiments": {}},
    }


def arrays(folder: Path) -> dict[str, np.ndarray]:
    group = zarr.open_group(folder / "results" / "features.zarr", mode="r")
    return {name: array[:] for name, array in group.arrays()}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Small videos that differ in colour and pitch."""
    folder = tmp_path_factory.mktemp("files")

    def video(i: int) -> Video:
        def draw(k: int, width: int, height: int) -> np.ndarray:
            return np.full((height, width, 3), (10 * i, 5 * k % 256, 100), np.uint8)

        return Video(regular(7, 10), width=96, height=64, gop=20, draw=draw)

    def tone(i: int) -> Audio:
        return Audio(7, wave=lambda t: 0.5 * np.sin(2 * np.pi * (200 + 40 * i) * t))

    return [Path(write(folder / f"v{i:02d}.{'mkv' if i % 2 else 'mp4'}", video(i), tone(i))) for i in range(VIDEOS)]


@pytest.fixture(scope="module")
def plain(files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of the plain files."""
    folder = tmp_path_factory.mktemp("plain")
    table = folder / "videos.csv"
    table.write_text("video_id,path\n" + "".join(f"{file.stem},{file}\n" for file in files))
    snakemake(folder, configuration(folder, table), "extract")
    return folder


def test_killed_and_resumed_over_shards(files: list[Path], plain: Path, tmp_path: Path) -> None:
    shards, half = tmp_path / "shards", VIDEOS // 2
    for number, part in enumerate((files[:half], files[half:])):
        members: dict[str, bytes] = {}
        for file in part:
            members[file.name] = file.read_bytes()
            members[f"{file.stem}.json"] = json.dumps({"video_id": file.stem, "genre": "test"}).encode()
        write_shard(shards / f"{number:05d}.tar", members)
    config = configuration(tmp_path, shards / "{00000..00001}.tar")
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    arguments = ["--snakefile", ROOT / "Snakefile", "--directory", tmp_path, "--cores", "1"]
    run = [sys.executable, "-m", "snakemake", "extract", *arguments, "--configfile", tmp_path / "config.yaml"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = start(run, cwd=tmp_path, start_new_session=True, **quiet)
    paths = Paths(tmp_path / "results")
    journals = [paths.work(name, 0) / "journal" for name in BACKBONES]
    wait_until(process, lambda: any(journal.exists() and journal.stat().st_size > 1000 for journal in journals))
    os.killpg(process.pid, signal.SIGKILL)
    finish(process)
    assert not paths.features_record.exists()
    snakemake(tmp_path, config, "--unlock")
    snakemake(tmp_path, config, "extract")
    ours, theirs = arrays(tmp_path), arrays(plain)
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        np.testing.assert_array_equal(ours[name], array)
    assert theirs["sound_descriptors_valid"].all() and theirs["picture_descriptors_valid"].all()
    assert len(list(paths.shard_indexes.iterdir())) == 2
    # Nothing to do; then a third shard, one that is cut off.
    assert not planned_rules(snakemake(tmp_path, config, "extract", "--dry-run"))
    whole = Path(write_shard(shards / "00002.tar", {f"x{i}.mp4": files[i].read_bytes() for i in range(2)}))
    os.truncate(whole, whole.stat().st_size - 10240 - files[1].stat().st_size // 2)
    config = configuration(tmp_path, shards)
    snakemake(tmp_path, config, "extract")
    grown = arrays(tmp_path)
    for name, array in theirs.items():
        np.testing.assert_array_equal(grown[name][:VIDEOS], array)
    assert grown["picture_descriptors_valid"][VIDEOS:].tolist() == [True, False]
    failures = {line.split(",")[3] for line in paths.failures.read_text().splitlines()[1:]}
    assert failures == {"unreadable"} and "ends inside the member" in paths.failures.read_text()


def test_separate_tracks_in_shards(files: list[Path], tmp_path: Path) -> None:
    """Clips and music of two libraries, plain and in shards; the music begins later than the clip, or ends earlier."""
    waves = [
        Path(write(tmp_path / f"m{i}.wav", Audio(8.0 - i, codec="pcm_s16le"))) for i in range(3)
    ]  # 8, 7 and 6 seconds of a chirp
    clips, offsets = files[:3], (1.0, -1.5, 0.0)
    clip_shard = write_shard(tmp_path / "clips.tar", {clip.name: clip.read_bytes() for clip in clips})
    music_shard = write_shard(tmp_path / "music.tar", {f"m/{wave.name}": wave.read_bytes() for wave in waves})
    places = {
        "plain": [(str(clip), str(wave)) for clip, wave in zip(clips, waves, strict=True)],
        "shards": [
            (f"{clip_shard}::{clip.name}", f"{music_shard}::m/{wave.name}")
            for clip, wave in zip(clips, waves, strict=True)
        ],
    }
    made = {}
    for kind, rows in places.items():
        folder = tmp_path / kind
        folder.mkdir()
        lines = [f"v{i},{path},{track},{offsets[i]}\n" for i, (path, track) in enumerate(rows)]
        (folder / "videos.csv").write_text("video_id,path,audio_path,audio_offset\n" + "".join(lines))
        snakemake(folder, configuration(folder, folder / "videos.csv"), "extract")
        made[kind] = arrays(folder)
    for name, array in made["plain"].items():
        np.testing.assert_array_equal(made["shards"][name], array)
    assert made["plain"]["sound_descriptors_valid"].all() and made["plain"]["picture_descriptors_valid"].all()
    start, duration = made["plain"]["start"], made["plain"]["duration"]
    assert duration == pytest.approx([7.0, 7.0, 6.0], abs=0.1)
    assert (start[1] >= 1.5).all() and (start + 3.0 <= duration[:, None] + 0.01).all()

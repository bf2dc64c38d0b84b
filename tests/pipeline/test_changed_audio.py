"""Videos that get another audio track, or another offset of it, and are computed again: as if they had been new."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.runs import Run
from data.changed import read_changed
from pipeline.store import read_array
from tests.support.commands import execute
from tests.support.media import Audio, Video, chirp, numbered_frame, regular, write

pytestmark = pytest.mark.workflow

SECONDS = 12.0
BACKBONES = {name: {"weights": "none"} for name in ("sound_descriptors", "picture_descriptors")}
ARRAYS = ["start", "duration", *(name + suffix for name in BACKBONES for suffix in ("", "_valid"))]
EARLIER = "silent,silent.mp4,,\nknown,known.mp4,music.m4a,0\nother,known.mp4,music.m4a,1\n"
LATER = "silent,silent.mp4,music.m4a,-3.1\nknown,known.mp4,music.m4a,-4\nother,known.mp4,music.m4a,1\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two clips of 12 s without audio, and 8 s of music."""
    folder = tmp_path_factory.mktemp("media")
    for number, name in enumerate(("silent", "known")):

        def draw(k, width, height, shift=211 * number):
            return numbered_frame(k + shift, width, height)

        write(folder / f"{name}.mp4", Video(regular(SECONDS, 10), gop=10, draw=draw))
    write(folder / "music.m4a", Audio(8.0, wave=chirp, rate=44100))
    return folder


def prepared(folder: Path, results: Path, rows: str) -> Run:
    """Write the table and plan a results folder."""
    table = folder / "videos.csv"
    table.write_text("video_id,path,audio_path,audio_offset\n" + rows)
    run = Run(results, table, BACKBONES, segments={"count": 2, "seconds": 3.0})
    run.prepare()
    return run


def extracted(run: Run) -> dict[str, np.ndarray]:
    """Run all jobs that are to be run; return the arrays."""
    for (part, _), ended in run.extract(60).items():
        assert ended.status == 0, (part, ended.text)
    return {name: np.asarray(read_array(run.paths, name)[:]) for name in ARRAYS}


def test_another_track_moves_the_segments(folder: Path, tmp_path: Path) -> None:
    before = extracted(prepared(folder, tmp_path / "results", EARLIER))
    assert before["sound_descriptors_valid"].tolist() == [False, True, True]
    run = prepared(folder, tmp_path / "results", LATER)
    assert read_changed(run.paths) == {"audio_path": ["silent"], "audio_offset": ["known"]}
    kept = extracted(run)
    for name, array in before.items():  # nothing happens by itself
        np.testing.assert_array_equal(kept[name], array)
    execute(run.command("pipeline.retry", "--reason", "no_audio_stream"), check=True)
    assert read_changed(run.paths) == {"audio_offset": ["known"]}
    done = execute(run.command("pipeline.retry", "--changed", "audio_offset"), check=True)
    assert "known: its features and where its segments begin" in done.stdout and not read_changed(run.paths)
    after = extracted(run)
    fresh = extracted(prepared(folder, tmp_path / "fresh", LATER))
    for name in ARRAYS:
        np.testing.assert_array_equal(after[name], fresh[name], err_msg=name)
        np.testing.assert_array_equal(after[name][2], before[name][2], err_msg=name)
    assert after["sound_descriptors_valid"].all() and after["picture_descriptors_valid"].all()
    for row, first in enumerate((3.1, 4.0)):
        assert (after["start"][row] >= first - 0.05).all() and (after["start"][row] + 3.0 <= first + 8.05).all()

"""Decord against PyAV: the same frames for the same times, or a refusal. Temporary files only."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.readers.container import probe
from pipeline.readers.video import read_video
from tests.support.commands import execute
from tests.support.library import CROP, LIBRARY, RESIZE, Files, turned_midway
from tests.support.media import Audio, Video, numbers, regular, write

# What decord refuses: codecs it lacks, and containers in which it does not seek exactly.
NOT_DECORD = ("av1.mkv", "no_duration.webm", "mpeg4.avi", "h264.avi", "h264.flv", "mpeg2.ts", "mpeg2.mpg", "offset.ts")

DECORD = """
import json, sys
import numpy as np
from pipeline.readers import MediaError, video_pyav
from pipeline.readers.opening import open_media
from pipeline.readers.video import read_video
jobs, out = json.load(sys.stdin), sys.argv[1]
answers = []
for k, (path, starts, resize) in enumerate(jobs):
    try:
        clips = read_video(path, starts, 1.0, fps=10, resize=tuple(resize), crop=(112, 112), decoder="decord")
        np.save(f"{out}/{k}.npy", clips)
        answers.append(None)
    except MediaError as error:
        answers.append([error.reason, error.message])
assert not {"torch", "essentia"} & set(sys.modules)
print(json.dumps(answers))
"""


Job = tuple[str, list[float], tuple[int, int]]


def decord(jobs: list[Job], folder: Path) -> list[np.ndarray | list[str]]:
    """Read in a process of its own, where neither torch nor essentia is; clips, or the reason and message."""
    done = execute([sys.executable, "-c", DECORD, str(folder)], input=json.dumps(jobs))
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    return [answer or np.load(folder / f"{k}.npy") for k, answer in enumerate(answers)]


needs_decord = pytest.mark.skipif(importlib.util.find_spec("decord") is None, reason="decord has no wheel here")


@needs_decord
def test_decord_returns_the_same_frames(library: Files, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    names = [name for name in LIBRARY if name not in NOT_DECORD]
    jobs = []
    for name in names:
        length = probe(library(name)).duration
        starts = [*rng.uniform(0, length - 1, 6).tolist(), 0.0, length - 1]
        jobs.append((library(name), starts, RESIZE))
    for turn in range(8):
        video = Video(regular(1, 10), width=200, height=120, rotation=turn % 4 * 90, hflip=turn > 3)
        jobs.append((write(tmp_path / f"turn{turn}.mp4", video), [0.0], RESIZE))
    big = Video(regular(2, 25), width=640, height=360, bframes=2)
    jobs += [(write(tmp_path / "big.mp4", big), [0.0, 0.7], size) for size in (RESIZE, (112, 112))]
    for (path, starts, size), clips in zip(jobs, decord(jobs, tmp_path), strict=True):
        assert isinstance(clips, np.ndarray), (path, clips)
        ours = read_video(path, starts, 1.0, fps=10, resize=size, crop=CROP)
        assert numbers(clips, size) == numbers(ours, size), path
        difference = np.abs(clips.astype(int) - ours).mean(axis=(2, 3, 4)).max()
        assert difference < (3 if "interlaced" in path or size == (112, 112) else 1), path


@needs_decord
def test_decord_refuses_what_it_cannot_read_exactly(library: Files, tmp_path: Path) -> None:
    jobs = [(library(name), [0.0], RESIZE) for name in NOT_DECORD]
    jobs += [(write(tmp_path / "audio.mp4", Audio(2)), [0.0], RESIZE), (__file__, [0.0], RESIZE)]
    jobs += [(library("constant.mp4"), [4.8], RESIZE)]
    *refused, audio, text, beyond, turned = decord([*jobs, (turned_midway(tmp_path), [0.5], RESIZE)], tmp_path)
    assert "orientation" in turned[1] and turned[1].endswith("set decoding.video: pyav")
    for reason, message in refused:
        assert reason == "decode_error" and message.endswith("set decoding.video: pyav")
    assert refused[0][1].count("av1") == 1
    assert (audio[0], text[0], beyond[0]) == ("no_video_stream", "unreadable", "decode_error")

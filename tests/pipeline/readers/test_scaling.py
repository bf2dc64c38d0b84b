"""Scaling by the shorter side and by interpolation, against torchvision's and Pillow's. Temporary files only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.backbones.torchvision_import import import_torchvision
from pipeline.readers import Interpolation, MediaError, VideoRequest
from pipeline.readers.video import read_video
from tests.support.library import LIBRARY, Files
from tests.support.media import Video, in_one_stream, number, numbered_frame, numbers, regular, write


@settings(max_examples=60, deadline=None)
@given(height=st.integers(16, 500), width=st.integers(16, 500), shorter=st.integers(8, 300))
@example(height=180, width=320, shorter=256)
@example(height=320, width=180, shorter=256)
@example(height=121, width=163, shorter=112)
def test_the_shorter_side_is_rounded_as_torchvision_does(height: int, width: int, shorter: int) -> None:
    transforms = import_torchvision().transforms
    theirs = transforms.Resize(shorter)(Image.new("L", (width, height)))
    assert VideoRequest(1.0, shorter, (1, 1)).scaled(height, width) == theirs.size[::-1]


def drawn(k: int, width: int, height: int) -> np.ndarray:
    """Return a frame of soft shapes in grey and the number `k`: what every chroma sampling can hold."""
    y, x = np.mgrid[:height, :width]
    waves = 40 * np.sin(x / 3.7 + k) + 40 * np.cos(y / 5.1 - x / 17)
    return np.clip(numbered_frame(k, width, height) * 0.6 + 50 + waves[..., None] * 0.6, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("interpolation", "most"), [("bilinear", 0.6), ("bicubic", 0.8)])
@pytest.mark.parametrize("size", [(640, 360), (360, 640), (163, 121), (128, 128)])
def test_pixels_are_those_of_pillow(
    size: tuple[int, int], interpolation: Interpolation, most: float, tmp_path: Path
) -> None:
    """Shrinking and enlarging, wide, tall and square: what torchvision's transforms do to the decoded frame."""
    width, height = size
    path = write(tmp_path / "a.mkv", Video(regular(1, 5), width=width, height=height, pix_fmt="yuv444p", draw=drawn))
    native = read_video(path, [0.0], 1.0, fps=5, resize=(height, width), crop=(height, width))
    ours = read_video(path, [0.0], 1.0, fps=5, resize=144, crop=(128, 112), interpolation=interpolation)
    assert ours.shape == (1, 5, 128, 112, 3) and ours.dtype == np.uint8
    transforms = import_torchvision().transforms
    mode = transforms.InterpolationMode(interpolation)
    theirs = transforms.Compose([transforms.Resize(144, mode), transforms.CenterCrop((128, 112))])
    expected = np.stack([np.asarray(theirs(Image.fromarray(frame))) for frame in native[0]])
    assert np.abs(ours[0].astype(int) - expected).mean() < most
    other: Interpolation = "bilinear" if interpolation == "bicubic" else "bicubic"
    wrong = read_video(path, [0.0], 1.0, fps=5, resize=144, crop=(128, 112), interpolation=other)
    assert np.abs(wrong[0].astype(int) - expected).mean() > np.abs(ours[0].astype(int) - expected).mean()


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_the_shorter_side_is_that_of_the_upright_frame(rotation: int, tmp_path: Path) -> None:
    path = write(tmp_path / "turned.mp4", Video(regular(1, 10), width=200, height=120, rotation=rotation))
    clip = read_video(path, [0.0], 1.0, fps=10, resize=96, crop=(96, 96))[0]
    scaled = (96, 160) if rotation % 180 == 0 else (160, 96)
    assert [number(frame, scaled) for frame in clip] == list(range(10))


def test_every_size_in_a_file_is_scaled_by_its_own_shape(tmp_path: Path) -> None:
    how = {"options": {"params": "repeat-headers=1"}, "gop": 25}
    parts = [Video(regular(1, 25), **how), Video(regular(1, 25, 1), **how, width=320, height=180)]
    files = [write(tmp_path / f"{i}.ts", part) for i, part in enumerate(parts)]
    clip = read_video(in_one_stream(tmp_path / "a.mkv", *files), [0.5], 1.0, fps=10, resize=96, crop=(96, 96))[0]
    assert [number(frame, (96, 128)) for frame in clip[:5]] == [12, 15, 17, 20, 22]
    assert [number(frame, (96, 170)) for frame in clip[5:]] == [0, 2, 5, 7, 10]


@pytest.mark.parametrize("name", [name for name in LIBRARY if name != "av1.mkv"])
def test_the_same_frames_as_with_a_fixed_size(name: str, library: Files) -> None:
    """The library's frames are 160×120, so the shorter side gives 96 × 128."""
    size = (96, 128) if not name.startswith("odd") else (96, 129)
    fixed = read_video(library(name), [0.3, 1.1], 0.5, fps=10, resize=size, crop=(96, 96))
    shorter = read_video(library(name), [0.3, 1.1], 0.5, fps=10, resize=96, crop=(96, 96))
    assert (fixed == shorter).all() and min(min(clip) for clip in numbers(shorter, size)) >= 0


def test_a_shape_that_would_fill_the_memory_is_an_error(tmp_path: Path) -> None:
    def draw(k: int, width: int, height: int) -> np.ndarray:
        return np.zeros((height, width, 3), np.uint8)

    line = Video(regular(1, 5), "ffv1", width=8192, height=2, draw=draw, pix_fmt="yuv444p")
    path = write(tmp_path / "line.mkv", line)
    with pytest.raises(MediaError, match="8192×2 pixels cannot be scaled"):
        read_video(path, [0.0], 1.0, fps=5, resize=256, crop=(224, 224))


@pytest.mark.parametrize(("resize", "crop"), [(112, (113, 100)), (112, (100, 113)), ((128, 112), (100, 113))])
def test_a_crop_larger_than_the_frame_is_refused(resize: int | tuple[int, int], crop: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="larger than the resized frame"):
        VideoRequest(1.0, resize, crop)

"""Video descriptors on clips whose cuts, motion and colours are known."""

import colorsys
from dataclasses import asdict

import numpy as np
import pytest

from pipeline.backbones import descriptors
from pipeline.backbones.video_descriptors import SIZE, VideoDescriptors, describe
from pipeline.readers.first import video
from tests.support.media import Video, regular, write

NAME = "picture_descriptors"
FRAMES = 30


def still(rgb: tuple[float, float, float], frames: int = FRAMES) -> np.ndarray:
    return np.broadcast_to((np.array(rgb) * 255).round().astype(np.uint8), (frames, *SIZE, 3))


def scenes(every: int, frames: int = FRAMES) -> np.ndarray:
    """Another random still after every `every` frames."""
    rng = np.random.default_rng(0)
    stills = rng.integers(0, 256, (frames, *SIZE, 3), np.uint8)
    return stills[np.arange(frames) // every]


def test_columns_have_names():
    columns = list(descriptors.columns(NAME).items())
    assert columns[0] == ("cut_rate", slice(0, 1)) and ("dominant_hue", slice(5, 7)) in columns
    assert columns[-1] == ("change", slice(8, VideoDescriptors.dim)) and VideoDescriptors.dim == 38


@pytest.mark.parametrize("every", [1, 2, 5, 10, 30])
def test_a_cut_every_so_many_frames(every):
    values = describe(scenes(every))
    cuts = np.arange(every, FRAMES, every) - 1  # the change before frame k is change k - 1
    assert values["cut_rate"] == pytest.approx(len(cuts) / 2.9)
    assert values["motion_energy"] == 0
    np.testing.assert_array_equal(np.flatnonzero(values["change"]), cuts)


def test_a_flash_is_not_a_cut():
    frame = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    clip = np.stack([frame // (1 + k % 2) for k in range(FRAMES)])
    assert describe(clip)["cut_rate"] == 0 and describe(clip)["motion_energy"] > 0.2


def test_steady_motion_is_not_cut():
    bars = np.tile((np.arange(SIZE[1]) // 8 % 2 * 255).astype(np.uint8)[:, None], (1, 3))
    clip = np.stack([np.broadcast_to(np.roll(bars, 2 * k, axis=0), (*SIZE, 3)) for k in range(FRAMES)])
    values = describe(clip)
    assert values["cut_rate"] == 0
    # Two of every eight columns change from black to white or back.
    assert values["motion_energy"] == pytest.approx(0.25)
    np.testing.assert_allclose(values["change"][:-1], 0.25)
    assert values["change"][-1] == 0


@pytest.mark.parametrize("degrees", [0, 35, 120, 215, 300, 359])
def test_hue_and_saturation_of_a_pure_colour(degrees):
    rgb = colorsys.hsv_to_rgb(degrees / 360, 0.6, 0.8)
    values = describe(still(rgb))
    angle = np.radians(degrees)
    np.testing.assert_allclose(values["dominant_hue"], [np.cos(angle), np.sin(angle)], atol=0.02)  # of 8 bits
    assert values["saturation"] == pytest.approx(0.6, abs=0.01)
    assert values["contrast"] == pytest.approx(0, abs=1e-6)


def test_dominant_is_the_more_frequent_hue_not_the_mean():
    clip = np.array(still((1.0, 0.0, 0.0)))
    clip[:, :, : SIZE[1] // 3] = (0, 255, 255)
    np.testing.assert_allclose(describe(clip)["dominant_hue"], [1, 0], atol=1e-6)


@pytest.mark.parametrize("level", [0.0, 0.25, 1.0])
def test_grey_has_brightness_and_no_colour(level):
    values = describe(still((level,) * 3))
    assert values["brightness"] == pytest.approx(level, abs=0.005)
    assert values["saturation"] == values["colourfulness"] == 0 and (values["dominant_hue"] == 0).all()


def test_contrast_and_colourfulness_against_their_formulas():
    clip = np.array(still((0.0, 0.0, 0.0)))
    clip[:, : SIZE[0] // 3] = 255
    assert describe(clip)["contrast"] == pytest.approx(np.sqrt(2) / 3) and describe(clip)[
        "brightness"
    ] == pytest.approx(1 / 3)
    clip[:, :, :40], clip[:, :, 40:] = (200, 30, 60), (20, 90, 250)
    # rg = 170 or -70, yb = 55 or -195, half of the frame each (Hasler & Süsstrunk 2003, eq. 5 and 6).
    expected = np.hypot(120, 125) + 0.3 * np.hypot(50, -70)
    assert describe(clip)["colourfulness"] == pytest.approx(expected, rel=1e-5)


def test_segments_of_a_file_in_the_order_of_the_columns(tmp_path):
    """Through the reader: four scenes of 1.5 s each; a segment of three seconds sees one or two cuts."""
    colours = [(200, 40, 40), (40, 200, 40), (40, 40, 200), (220, 220, 30)]

    def draw(k: int, width: int, height: int) -> np.ndarray:
        return np.broadcast_to(np.uint8(colours[int(k / 25 / 1.5)]), (height, width, 3))

    path = write(tmp_path / "film.mp4", Video(regular(6, 25), draw=draw))
    backbone = VideoDescriptors(tmp_path, {}, "cpu", 1)
    starts = [0.0, 0.7, 2.0]
    clips = video(path, decoder="pyav", starts=starts, seconds=3.0, **asdict(backbone.request({}))).segments
    features = backbone.features(clips)
    assert features.shape == (3, 38) and features.dtype == np.float32 and np.isfinite(features).all()
    np.testing.assert_allclose(features[:, 0] * 2.9, [1, 2, 2], rtol=1e-5)
    change = features[:, descriptors.columns(NAME)["change"]]
    # Cuts at 1.52, 3.00 and 4.52 s: in the bin of the change from the last frame before to the first one after.
    assert [np.flatnonzero(row > 0.1).tolist() for row in change] == [[15], [8, 22], [9, 25]]
    np.testing.assert_array_equal(backbone.features(clips[1:2])[0], features[1])


def test_other_shapes_are_refused(tmp_path):
    backbone = VideoDescriptors(tmp_path, {}, "cpu", 1)
    for wrong in (
        np.zeros((1, 1, *SIZE, 3), np.uint8),
        np.zeros((1, 9, *SIZE, 3), np.float32),
        np.zeros((9, *SIZE, 3)),
    ):
        with pytest.raises(ValueError, match="uint8"):
            backbone.features(wrong)
    assert backbone.features(np.zeros((0, FRAMES, *SIZE, 3), np.uint8)).shape == (0, 38)

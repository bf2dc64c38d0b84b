"""Video descriptors: cuts, motion, light, colour, and when the image changes. Reads and writes nothing.

Computed from ten frames a second, scaled to 45 × 80 pixels whatever their shape. Names and units: `descriptors.py`.

- A change is the mean absolute difference of two neighbouring frames over pixels and colours, as a share of the full
  range. It is a cut if it is at least CUT and the frame has not merely moved: the peak of the phase correlation of the
  two frames' luma (Kuglin & Hines 1975), which is 1 for a shifted frame, is below ALIKE. Where the luma of a frame has
  a standard deviation below EVEN, only coding noise is left to correlate, and the peak counts as 0. So neither fast
  motion nor flashes are cuts; nor are dissolves and fades. On rendered videos, whose cuts are known, 98 % of the cuts
  are found and 98 % of the detections are cuts; a threshold on changes relative to their median finds 12 %.
- `motion_energy` is the mean of the changes that are not cuts.
- `colourfulness` is Hasler & Süsstrunk's M3 (2003, "Measuring colourfulness in natural images", eq. 5 and 6; sRGB in
  0 to 255), the mean over the frames.
- `dominant_hue`: hues of all pixels go into a histogram of 36 bins, weighted by chroma (max − min of RGB) and smoothed
  over three bins; the result is the mean direction of the colours in the three bins at the peak. Chroma below GREY
  counts as none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.backbones.descriptors import BIN_SECONDS, BINS, DescriptorBackbone
from pipeline.readers import VideoRequest

SIZE = (45, 80)
CUT, ALIKE, EVEN = 0.03, 0.16, 0.01
HUES, GREY = 36, 0.02
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


class VideoDescriptors(DescriptorBackbone):
    """Segments [n, frames, 45, 80, 3] uint8 RGB, ten frames a second, at least two → [n, 38] float32."""

    name = "picture_descriptors"

    def __init__(self, weights: Path, options: dict[str, Any], device: str, threads: int) -> None:
        pass

    @staticmethod
    def preprocessing(options: dict[str, Any]) -> dict[str, Any]:
        """Return the cache key's part of this backbone; `extractor` counts changes of the results of this code."""
        rules: dict[str, Any] = {"cut": CUT, "alike": ALIKE, "even": EVEN, "hues": HUES, "grey": GREY}
        size = {"fps": 1 / BIN_SECONDS, "bins": BINS, "resize": list(SIZE)}
        return {"extractor": 1, "columns": list(VideoDescriptors.columns), **size, **rules}

    @staticmethod
    def request(options: dict[str, Any]) -> VideoRequest:
        return VideoRequest(1 / BIN_SECONDS, SIZE, SIZE)

    @staticmethod
    def check_segments(segments: np.ndarray) -> None:
        """Raise ValueError unless the segments are uint8 [n, 2 or more frames, 45, 80, 3]."""
        shape = segments.shape
        if segments.dtype != np.uint8 or len(shape) != 5 or shape[1] < 2 or shape[2:] != (*SIZE, 3):
            raise ValueError(f"descriptors take uint8 [n, frames, 45, 80, 3], got {segments.dtype} {list(shape)}")

    def describe(self, segment: np.ndarray) -> dict[str, float | np.ndarray]:
        return describe(segment)


def describe(clip: np.ndarray) -> dict[str, float | np.ndarray]:
    """Return {descriptor or `change`: its value} of a segment, uint8 [frames, height, width, 3] RGB at 10 frames/s."""
    rgb = clip.astype(np.float32) / 255
    changes = np.abs(np.diff(rgb, axis=0)).mean(axis=(1, 2, 3))
    luma = rgb @ LUMA
    cuts = (changes >= CUT) & (phase_correlation(luma) < ALIKE)
    high, low = rgb.max(axis=-1), rgb.min(axis=-1)
    envelope = np.zeros(BINS, np.float32)
    envelope[: len(changes)] = changes[:BINS]  # change k lies between frames k and k + 1: inside bin k
    return {
        # n frames show n - 1 changes.
        "cut_rate": cuts.sum() / (len(changes) * BIN_SECONDS),
        "motion_energy": changes[~cuts].mean() if not cuts.all() else 0.0,
        "brightness": luma.mean(),
        "saturation": ((high - low) / np.maximum(high, 1e-6)).mean(),
        "colourfulness": colourfulness(rgb),
        "dominant_hue": dominant_hue(rgb, high, high - low),
        "contrast": luma.std(axis=(1, 2)).mean(),
        "change": envelope,
    }


def phase_correlation(luma: np.ndarray) -> np.ndarray:
    """Return the peak phase correlations of neighbours, [frames, height, width] → [frames - 1]; 0 for EVEN ones."""
    height, width = luma.shape[1:]
    edge = np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1]).astype(np.float32)
    spectra = np.fft.rfft2((luma - luma.mean(axis=(1, 2), keepdims=True)) * edge)
    cross = spectra[1:] * spectra[:-1].conj()
    size = np.abs(cross)
    # Frequencies with next to nothing in them have a phase of rounding errors.
    phases = cross / (size + 1e-3 * size.mean(axis=(1, 2), keepdims=True) + 1e-9)
    shifted = np.fft.irfft2(np.abs(phases), s=(height, width))[:, 0, 0]  # the peak for a frame that is only shifted
    peaks = np.fft.irfft2(phases, s=(height, width)).max(axis=(1, 2))
    even = luma.std(axis=(1, 2)) < EVEN
    return np.asarray(np.where(even[1:] | even[:-1], 0, peaks / np.maximum(shifted, 1e-6)))


def colourfulness(rgb: np.ndarray) -> float:
    """Return the mean M3 of frames [frames, height, width, 3] in 0 to 1."""
    red, green, blue = np.moveaxis(rgb, -1, 0) * np.float32(255)
    opponents = np.stack([red - green, (red + green) / 2 - blue]).reshape(2, len(rgb), -1)
    spread, middle = np.hypot(*opponents.std(axis=2)), np.hypot(*opponents.mean(axis=2))
    return float((spread + 0.3 * middle).mean())


def dominant_hue(rgb: np.ndarray, high: np.ndarray, chroma: np.ndarray) -> np.ndarray:
    """Return cosine and sine of the most frequent hue; (0, 0) where no pixel is coloured.

    `rgb` [..., 3] in 0 to 1, its maximum `high` [...] over the colours, and `chroma` [...], maximum − minimum.
    """
    coloured = chroma > GREY
    if not coloured.any():
        return np.zeros(2, np.float32)
    (red, green, blue), top, weight = rgb[coloured].T, high[coloured], chroma[coloured]
    from_green, from_blue = 2 + (blue - red) / weight, 4 + (red - green) / weight
    sixth = np.where(top == red, (green - blue) / weight, np.where(top == green, from_green, from_blue))
    angle = sixth * np.float32(np.pi / 3)
    # Bins are centred on multiples of ten degrees, red's among them.
    bins = np.rint(angle * np.float32(HUES / (2 * np.pi))).astype(np.int64) % HUES
    sums = np.stack([np.bincount(bins, weight * part, HUES) for part in (1, np.cos(angle), np.sin(angle))])
    smooth = sums + np.roll(sums, 1, axis=1) + np.roll(sums, -1, axis=1)
    direction = smooth[1:, smooth[0].argmax()]
    return np.asarray(direction / np.hypot(*direction), np.float32)

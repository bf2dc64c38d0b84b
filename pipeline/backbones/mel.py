"""MusicNN's log-mel front-end, in numpy and in torch. Reads and writes nothing; torch is imported only by `Torch`.

The original calls `librosa.feature.melspectrogram(y, sr=16000, n_fft=512, hop_length=256, n_mels=96)` and takes
log10(10000 x + 1) (musicnn/extractor.py; librosa ≥ 0.10 definitions: periodic Hann window, centred frames, zero
padding, power spectrum, Slaney mel scale and area normalisation). The original's float16 step in between is left out:
with numpy ≥ 2 it overflows to infinity on loud music. Here everything is float32.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

RATE = 16000
N_FFT = 512
HOP = 256
BANDS = 96
PATCH = 187
"""Frames that the network sees at once, 2.992 s."""
MIN_SAMPLES = (PATCH - 1) * HOP
"""Fewest samples that make a patch, 2.976 s."""
GAIN = 10000.0


def description() -> dict[str, object]:
    """Return the front-end's parameters as JSON, for the cache key."""
    return {
        "n_fft": N_FFT,
        "hop": HOP,
        "bands": BANDS,
        "window": "hann, periodic",
        "padding": "zeros, centred",
        "spectrum": "power",
        "mel": "slaney, 0-8000 Hz, slaney norm",
        "log": "log10(10000 x + 1)",
        "patch": PATCH,
        "patch_hop": PATCH,
    }


@cache
def window() -> np.ndarray:
    """Return the periodic Hann window, [512] float32."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)).astype(np.float32)


@cache
def filterbank() -> np.ndarray:
    """Return [257, 96] float32: triangles on the Slaney mel scale, 0 to 8000 Hz, each of area 2 (in Hz).

    Slaney's Auditory Toolbox (1998): linear below 1000 Hz with 3/200 mel a Hz, logarithmic above with 27 mels for a
    factor of 6.4.
    """
    step = np.log(6.4) / 27
    top = 15 + np.log(RATE / 2 / 1000) / step
    mels = np.linspace(0, top, BANDS + 2)
    edges = np.where(mels < 15, mels * 200 / 3, 1000 * np.exp((mels - 15) * step))
    bins = np.linspace(0, RATE / 2, N_FFT // 2 + 1)[:, None]
    rise = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return np.asarray(np.maximum(0, np.minimum(rise, fall)) * 2 / (edges[2:] - edges[:-2]), np.float32)


def patches_in(samples: int) -> int:
    """Return the number of whole patches in a segment of `samples`. Raises ValueError if there is none."""
    if samples < MIN_SAMPLES:
        raise ValueError(f"MusicNN needs segments of at least {MIN_SAMPLES} samples at {RATE} Hz, got {samples}")
    return (samples // HOP + 1) // PATCH


def log_mel(segments: np.ndarray) -> np.ndarray:
    """Return log-mel spectrograms, [n, samples] float32 at 16 kHz → [n, samples // 256 + 1, 96] float32."""
    padded = np.pad(segments, ((0, 0), (N_FFT // 2, N_FFT // 2)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, N_FFT, axis=1)[:, ::HOP]
    spectrum = np.fft.rfft(frames * window())
    power = spectrum.real**2 + spectrum.imag**2
    return np.asarray(np.log10(np.float32(GAIN) * (power @ filterbank()) + np.float32(1)))


def patches(segments: np.ndarray) -> np.ndarray:
    """Return the k whole patches of every segment, [n, samples] float32 → [n · k, 187, 96] float32."""
    count = patches_in(segments.shape[1])
    return log_mel(segments)[:, : count * PATCH].reshape(-1, PATCH, BANDS)


class Torch:
    """The same front-end in torch, on a device."""

    def __init__(self, device: torch.device) -> None:
        import torch

        self._window = torch.from_numpy(window()).to(device)
        self._filterbank = torch.from_numpy(filterbank()).to(device)

    def log_mel(self, segments: torch.Tensor) -> torch.Tensor:
        """Return `log_mel` of a tensor, on its device."""
        import torch

        spectrum = torch.stft(
            segments, N_FFT, HOP, window=self._window, center=True, pad_mode="constant", return_complex=True
        )
        power = spectrum.real.square() + spectrum.imag.square()
        return torch.log10(GAIN * (power.transpose(1, 2) @ self._filterbank) + 1)

    def patches(self, segments: torch.Tensor) -> torch.Tensor:
        """Return `patches` of a tensor, on its device."""
        count = patches_in(segments.shape[1])
        return self.log_mel(segments)[:, : count * PATCH].reshape(-1, PATCH, BANDS)

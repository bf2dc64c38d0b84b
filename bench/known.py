"""Media with a known answer: which second of the content a reader really returned. Writes the files it is asked for.

The content has 20 s. Every frame shows its number in ten bits, bright or dark boxes on top and their inverse at the
bottom; the audio has a click at every whole second s, a 20 ms tone of 1000 + 100·s Hz.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

WIDTH, HEIGHT, FPS, SECONDS, RATE = 320, 240, 25, 20, 48000
CLICK = 0.02
"""Seconds that a click lasts."""
FREQUENCIES = 1000 + 100.0 * np.arange(SECONDS)
LOUD = 0.0875
"""Share of a click's level at which it counts as heard."""


def numbered_frame(number: int) -> np.ndarray:
    """Draw frame `number` as uint8 [HEIGHT, WIDTH, 3]."""
    frame = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    for bit in range(10):
        is_set = number >> bit & 1
        frame[:48, bit * 32 : bit * 32 + 32] = 235 if is_set else 16
        frame[-48:, bit * 32 : bit * 32 + 32] = 16 if is_set else 235
    return frame


def number(frame: np.ndarray) -> int:
    """Return the number that a frame of any size shows."""
    height, width = frame.shape[:2]
    value = 0
    for bit in range(10):
        columns = slice(int(width * (bit + 0.3) / 10), int(width * (bit + 0.7) / 10))
        top, bottom = frame[int(height * 0.05) : int(height * 0.15), columns], frame[-int(height * 0.15) :, columns]
        value |= int(top.mean() > bottom.mean()) << bit
    return value


def clicking_audio() -> np.ndarray:
    """Make the audio, float [SECONDS · RATE]."""
    times = np.arange(SECONDS * RATE) / RATE
    wave, samples = 0.01 * np.sin(2 * np.pi * 100 * times), round(CLICK * RATE)
    for second, hertz in enumerate(FREQUENCIES):
        wave[second * RATE : second * RATE + samples] += 0.5 * np.sin(2 * np.pi * hertz * np.arange(samples) / RATE)
    return wave


def clicks(audio: np.ndarray, rate: int) -> list[tuple[int, float]]:
    """Return (second of the content, where it begins in `audio` in s) of every click in mono `audio`."""
    samples = round(CLICK * rate)
    window, times = np.hanning(samples), np.arange(samples) / rate
    size = 1 << (len(audio) + samples).bit_length()
    spectrum = np.fft.fft(audio, size)
    waves = np.exp(2j * np.pi * FREQUENCIES[:, None] * times) * window
    table = np.abs(np.fft.ifft(spectrum * np.conj(np.fft.fft(waves, size)))[:, : len(audio) - samples + 1])
    strongest, step = table.max(0), round(3 * CLICK * rate)
    heard: list[tuple[int, float]] = []
    after = 0
    for index in np.flatnonzero(strongest > LOUD * window.sum()).tolist():
        if index >= after:
            peak = index + int(np.argmax(strongest[index : index + step]))
            heard.append((int(np.argmax(table[:, peak])), peak / rate))
            after = index + step
    return heard


def render(path: Path) -> None:
    """Write the content without loss: FFV1 and PCM in Matroska."""
    with av.open(str(path), "w") as out:
        video: Any = out.add_stream("ffv1", rate=FPS)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        audio: Any = out.add_stream("pcm_s16le", rate=RATE, layout="stereo")
        samples = np.round(np.stack([clicking_audio()] * 2) * 32767).astype(np.int16)
        for second in range(SECONDS):
            for number_shown in range(second * FPS, (second + 1) * FPS):
                image = av.VideoFrame.from_ndarray(numbered_frame(number_shown), format="rgb24")
                frame = image.reformat(format="yuv420p")
                frame.pts, frame.time_base = number_shown, Fraction(1, FPS)
                out.mux(video.encode(frame))
            part = np.ascontiguousarray(samples[:, second * RATE : second * RATE + RATE].T.reshape(1, -1))
            block = av.AudioFrame.from_ndarray(part, format="s16", layout="stereo")
            block.sample_rate, block.pts, block.time_base = RATE, second * RATE, Fraction(1, RATE)
            out.mux(audio.encode(block))
        out.mux(video.encode(None))
        out.mux(audio.encode(None))

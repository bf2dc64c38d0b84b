"""Mixes the channels of decoded audio to mono and measures what that loses. Reads and writes nothing.

`mean` is the mean of all channels. `layout` weights channels by their loudspeakers: ITU-R BS.775-3, annex 4, table 2
(mono from 3/2), times √½, so that stereo is its mean: left and right ½, centre √½, surrounds √⅛. The low-frequency
effects channel (LFE) is left out, as there. The table ends at five channels; in larger layouts, channels between left,
right and centre count as left and right, a single back centre as two surrounds (½), and every other channel (wide,
side, back, above, below) as a surround.

The coefficients depend on the layout alone, so silent channels count: stereo stored in 5.1 or 7.1 is as loud as stereo,
a whole video is mixed alike, and loud audio in all channels may exceed ±1. If the file does not name the loudspeakers,
six channels are treated as 5.1 and eight as 7.1 in the usual order, as players do; for other numbers the mean is taken.
"""

from __future__ import annotations

from functools import lru_cache
from math import log10, sqrt
from typing import Any, Literal

import numpy as np

Downmix = Literal["mean", "layout"]

LOSS = 9.0
"""Loss (dB against the loudest channel) above which it is reported. Stereo loses 3 dB, or 6 with one channel silent;
9 and more means channels that cancel out, or one or two active ones of many."""
MEANING = f"lose more than {LOSS:g} dB against their loudest channel when mixed to mono"
"""What to say of videos with more than LOSS."""
MOST = 120.0
"""Largest loss (dB); channels that cancel out completely lose infinitely much, which JSON cannot hold."""
SILENCE = 1e-6
"""Mean square (-60 dBFS) of the loudest channel below which no loss is measured."""

FRONT, CENTRE, SURROUND, BACK = 0.5, sqrt(0.5), sqrt(0.125), 0.5
COEFFICIENTS = {
    **dict.fromkeys(("FL", "FR", "FLC", "FRC", "DL", "DR", "BIL", "BIR"), FRONT),
    **dict.fromkeys(("SL", "SR", "BL", "BR", "SDL", "SDR", "SSL", "SSR", "WL", "WR"), SURROUND),
    **dict.fromkeys(("TFL", "TFC", "TFR", "TSL", "TC", "TSR", "TBL", "TBC", "TBR", "TTL", "TTR"), SURROUND),
    **dict.fromkeys(("BFL", "BFC", "BFR"), SURROUND),
    "FC": CENTRE,
    "BC": BACK,
    "LFE": 0.0,
    "LFE2": 0.0,
}
"""{FFmpeg's name of a loudspeaker: weight}."""
USUAL = {
    6: ("FL", "FR", "FC", "LFE", "BL", "BR"),
    8: ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR"),
}
"""The order (Microsoft's WAVEFORMATEXTENSIBLE) of channels without named loudspeakers, as PCM in Matroska has."""
UNNAMED = "NONE"
PLANES = 8
"""Number of channels from which PyAV 18 counts planes wrongly and reads beyond the frame."""


@lru_cache(maxsize=64)
def coefficients(channels: tuple[str, ...]) -> np.ndarray | None:
    """Return float32 [channels], weights by loudspeaker; None where the mean applies: one channel, or unnamed ones."""
    if set(channels) == {UNNAMED}:
        channels = USUAL.get(len(channels), channels)
    if len(channels) == 1 or not set(channels) <= set(COEFFICIENTS):
        return None
    weights = np.array([COEFFICIENTS[name] for name in channels], np.float32)
    equal = bool((weights == np.float32(1 / len(channels))).all())
    return None if equal or not weights.any() else weights


def mono(frame: Any, downmix: Downmix) -> tuple[np.ndarray, float]:
    """Return a decoded (PyAV) frame as one channel, float32 [samples], and the energy of its loudest channel.

    Full scale is 1 in every sample format; the energy is the sum of squares.
    """
    if frame.format.is_planar and frame.layout.nb_channels >= PLANES:
        from av import AudioResampler  # only here: users of LOSS and MEANING need no FFmpeg

        packed = AudioResampler(frame.format.packed.name, frame.layout, frame.sample_rate)
        (frame,) = packed.resample(frame)
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    exact = np.float32 if samples.dtype.kind == "f" else np.float64
    weights = coefficients(tuple(channel.name for channel in frame.layout.channels)) if downmix == "layout" else None
    mixed = samples.mean(axis=0, dtype=exact) if weights is None else None
    offset, scale = 0, 1.0
    if samples.dtype == np.uint8:
        offset, scale = 128, 128.0
    elif samples.dtype.kind == "i":
        scale = -float(np.iinfo(samples.dtype).min)
    if mixed is None:
        assert weights is not None
        mixed = weights @ (samples.astype(exact) - offset) / scale
    elif scale != 1:
        mixed = (mixed - offset) / scale
    channels = samples.astype(np.float32, copy=False)
    channels = channels - np.float32(offset) if offset else channels
    energy = max(float(np.dot(channel, channel)) for channel in channels) / scale**2
    return mixed.astype(np.float32), energy


def mixed_to_mono(runs: list[list[Any]], downmix: Downmix) -> tuple[list[np.ndarray], float]:
    """Return runs of frames as one channel, float32 [samples] each, and how far (dB, 0 to MOST) it lies below the
    loudest.

    The loudest channel is determined in each frame, so that the number of channels may change.
    """
    frames = [[mono(frame, downmix) for frame in run] for run in runs]
    mixed = [np.concatenate([samples for samples, _ in run]) for run in frames]
    loudest = sum(energy for run in frames for _, energy in run)
    if not np.isfinite(loudest) or loudest <= SILENCE * sum(map(len, mixed)):
        return mixed, 0.0
    energy = sum(float(np.dot(samples, samples)) for samples in mixed)
    return mixed, min(MOST, max(0.0, 10 * log10(loudest / energy))) if energy > 0 else MOST

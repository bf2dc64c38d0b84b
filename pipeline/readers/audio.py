"""Sound of given seconds of a media file: mono, resampled, in place to the sample. Reads one file; writes nothing.

Decoding starts half a second early (codecs need a run-up after a seek), channels are averaged (FFmpeg's own downmix of
float sound is 3 dB louder), and soxr's HQ quality resamples (-150 dB of aliases). Where time stamps are rounded, as
in Matroska and WebM (1 ms), a run of frames is placed where all of its stamps agree.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
import soxr

from pipeline.readers import MediaError
from pipeline.readers.opening import Media, open_media, reported_as

PREROLL = (0.5, 5.0)
"""Seconds before the first needed sample at which decoding starts; the second is for containers that seek badly."""
MARGIN = 0.1
"""Seconds around a segment that the resampler's filter looks at."""
JITTER = 0.01
"""Stamps that deviate by less (s) belong to contiguous frames."""
GAP = 0.1
"""The longest hole (s) inside the sound that counts as silence; a longer one is damage."""
TAIL = 0.5
"""The longest part (s) of a segment that may lie after the end of the sound."""


@dataclass
class _Run:
    """Contiguous decoded samples, mono, at the native rate.

    `first` is the earliest and the latest position of the first sample that fits all time stamps so far; `lattice`
    (step, phase) are the positions that are possible at all, where they are known.
    """

    rate: int
    first: tuple[float, float]
    parts: list[np.ndarray]
    length: int = 0
    lattice: tuple[int, float] | None = None

    @property
    def start(self) -> int:
        """Position of the first sample on the presentation clock, in native samples."""
        low, high = self.first
        middle = (low + high) / 2
        if self.lattice:
            step, phase = self.lattice
            snapped = round((middle - phase) / step) * step + phase
            if low - 1 <= snapped <= high + 1:
                return round(snapped)
        return round(middle)


def read_audio(path: str, starts: Sequence[float], seconds: float, rate: int) -> np.ndarray:
    """Sound of the segments as float32 [len(starts), round(seconds × rate)], mono, nominally within ±1.

    `starts` are seconds on the presentation clock; sample k of a segment is the sound at (round(start × rate) + k) /
    rate. Where the file has no sound (it starts late, or ends up to TAIL before the segment does) there are zeros.
    Raises MediaError: missing, unreadable, no_audio_stream, empty_audio (a segment without any sample), decode_error
    (damage inside a segment, unknown codec, or the sound ends too early).
    """
    with open_media(path) as media, reported_as("decode_error"):
        stream = media.only("audio")
        clips = [_segment(path, media, stream, float(start), seconds, rate) for start in starts]
    return np.stack(clips) if clips else np.zeros((0, round(seconds * rate)), np.float32)


def _segment(path: str, media: Media, stream: Any, start: float, seconds: float, rate: int) -> np.ndarray:
    runs = _runs(path, media, stream, start - MARGIN, start + seconds + MARGIN)
    if not runs:
        raise _empty(start)
    native = runs[0].rate
    if any(run.rate != native for run in runs):
        raise MediaError("decode_error", f"the sample rate changes near {start:.1f} s")
    # A buffer that begins at a multiple of `step_in` native samples begins at a whole output sample too.
    common = math.gcd(native, rate)
    step_in, step_out = native // common, rate // common
    block = math.floor((start - MARGIN) * native / step_in)
    origin, stop = block * step_in, math.ceil((start + seconds + MARGIN) * native)
    sound = np.zeros(stop - origin, np.float32)
    spans = []
    for run in runs:
        at = run.start - origin
        low, high = max(0, at), min(len(sound), at + run.length)
        if high > low:
            sound[low:high] = np.concatenate(run.parts)[low - at : high - at]
            spans.append(((low + origin) / native, (high + origin) / native))
    _check(spans, start, start + seconds)
    resampled = sound if native == rate else soxr.resample(sound, native, rate, quality="HQ")
    count, skip = round(seconds * rate), round(start * rate) - block * step_out
    clip = np.zeros(count, np.float32)
    clip[: max(0, len(resampled) - skip)] = resampled[skip : skip + count]
    return clip


def _check(spans: list[tuple[float, float]], start: float, stop: float) -> None:
    """Raise unless the spans (s) of decoded sound cover [start, stop) but for a late beginning and a small tail."""
    inside = [(low, high) for low, high in spans if high > start and low < stop]
    if not inside:
        raise _empty(start)
    for (_, high), (low, _) in zip(spans, spans[1:], strict=False):
        if low - high > GAP and low > start and high < stop:
            raise MediaError("decode_error", f"the sound is missing from {high:.2f} to {low:.2f} s")
    if stop - inside[-1][1] > TAIL:
        raise MediaError(
            "decode_error", f"the sound ends at {inside[-1][1]:.2f} s, inside the segment at {start:.2f} s"
        )


def _empty(start: float) -> MediaError:
    return MediaError("empty_audio", f"there is no sound in the segment at {start:.2f} s")


def _runs(path: str, media: Media, stream: Any, start: float, stop: float) -> list[_Run]:
    """Decoded sound that covers [start, stop) as far as the file has it, in order of time."""
    begins = -math.inf if stream.start_time is None else float(stream.start_time * stream.time_base) - media.origin
    for preroll in PREROLL:
        try:
            media.container.seek(math.floor((start - preroll + media.origin) / stream.time_base), stream=stream)
        except (av.error.FFmpegError, OSError):
            break  # not seekable
        landed, runs = _decode(media, stream, start, stop)
        # Only the beginning of the stream may come later than asked for; anything else is a seek that went wrong.
        if landed <= max(start, begins + JITTER):
            return runs
    with open_media(path) as fresh:
        return _decode(fresh, fresh.only("audio"), start, stop)[1]


def _decode(media: Media, stream: Any, start: float, stop: float) -> tuple[float, list[_Run]]:
    """The time of the first decoded frame, and the runs of sound that touch [start, stop)."""
    runs: list[_Run] = []
    landed = math.inf
    for frame in _frames(media, stream, start):
        native = frame.sample_rate
        stamp = float(_ticks(frame) * frame.time_base) - media.origin
        landed = min(landed, stamp)
        if stamp >= stop:
            break
        if stamp + frame.samples / native < start:
            continue
        position, half_tick = stamp * native, float(frame.time_base * native) / 2
        run = runs[-1] if runs else None
        if run is None or run.rate != native or abs(position - run.start - run.length) > JITTER * native:
            run = _Run(native, (-math.inf, math.inf), [], lattice=_lattice(media, stream, frame))
            runs.append(run)
        # Each stamp is right to half a tick; together they narrow down where the run begins.
        low, high = position - run.length - half_tick, position - run.length + half_tick
        if low <= run.first[1] and high >= run.first[0]:
            run.first = max(low, run.first[0]), min(high, run.first[1])
        run.parts.append(_mono(frame))
        run.length += frame.samples
    return landed, runs


def _frames(media: Media, stream: Any, start: float) -> Iterator[Any]:
    """Decoded frames from where the container stands. Damage before `start` is skipped, later it is raised."""
    for packet in media.container.demux(stream):
        ticks = packet.pts if packet.pts is not None else packet.dts
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            end = None if ticks is None else float((ticks + (packet.duration or 0)) * packet.time_base) - media.origin
            if end is not None and end < start:
                continue
            where = "" if end is None else f" near {end:.2f} s"
            raise MediaError("decode_error", f"the sound is damaged{where}") from None
        yield from (frame for frame in frames if _ticks(frame) is not None and frame.samples)


def _ticks(frame: Any) -> Any:
    return frame.pts if frame.pts is not None else frame.dts


def _lattice(media: Media, stream: Any, frame: Any) -> tuple[int, float] | None:
    """Positions at which a run that begins with `frame` can begin, (step, phase) in samples, or None.

    Frames that last (nearly) whole milliseconds, as Opus' do, have stamps whose rounding hides the fraction for ever.
    But all frames end a multiple of the frame's length after the stream begins, less the samples that the decoder drops
    at the very beginning (Opus says how many: RFC 7845, section 5.1).
    """
    context = stream.codec_context
    codec, header, dropped = context.codec.canonical_name, bytes(context.extradata or b""), 0
    step = {"opus": 120, "aac": 1024}.get(codec, frame.samples)
    if stream.start_time is None:
        return None
    if codec == "opus" and header.startswith(b"OpusHead") and frame.sample_rate == 48000:
        dropped = int.from_bytes(header[10:12], "little")
    begin = (float(stream.start_time * stream.time_base) - media.origin) * frame.sample_rate
    return step, begin - dropped - frame.samples


def _mono(frame: Any) -> np.ndarray:
    """The mean of a frame's channels as float32 within ±1."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    mono = samples.mean(axis=0, dtype=np.float32 if samples.dtype.kind == "f" else np.float64)
    if samples.dtype == np.uint8:
        mono = (mono - 128) / 128
    elif samples.dtype.kind == "i":
        mono = mono / -float(np.iinfo(samples.dtype).min)
    return mono.astype(np.float32)

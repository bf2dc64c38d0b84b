"""Audio of given seconds of a media file: mono, resampled, placed to the sample. Reads one file; writes nothing.

Several backbones that need the same seconds are served by one decoding: only mixing and resampling are done for each.

Decoding starts half a second early, because codecs need preroll after a seek. Channels are averaged (FFmpeg's own
downmix of float audio is 3 dB louder) or mixed by loudspeaker (readers/downmix.py). soxr resamples in HQ quality
(aliases at -150 dB). Where time stamps are rounded, as in Matroska and WebM (1 ms), a run of frames is placed where all
of its stamps agree.

Sample rate, channels and sample format may change inside a file: each frame is mixed to mono in its own format, runs of
one rate are resampled together, and the results are added. Missing audio has one rule, whether it begins late, has a
gap or ends early: up to MISSING seconds of a segment are zeros; with more missing, the segment is invalid.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import av
import numpy as np
import soxr

from pipeline.readers import AudioRequest, MediaError
from pipeline.readers.downmix import Downmix, mixed_to_mono
from pipeline.readers.follow import KINDS, Piece, continued, unbroken
from pipeline.readers.opening import Kind, Media, open_media, reported_as, ticks_of
from pipeline.readers.source import Source
from pipeline.readers.timeline import known_or_surveyed, placed

PREROLL = (0.5, 5.0)
"""Seconds before the first needed sample at which decoding starts; the second for containers that seek badly."""
MARGIN = 0.1
"""Seconds around a segment that the resampler's filter looks at."""
JITTER = 0.01
"""Stamps that deviate by less (s) belong to contiguous frames."""
MISSING = 0.5
"""Total seconds of a segment that may be missing in the file; they become zeros."""


@dataclass(frozen=True)
class MonoAudio:
    """Audio of segments, float32 [segments, samples], and what mixing to mono lost, float64 [segments] (dB)."""

    segments: np.ndarray
    loss: np.ndarray


@dataclass
class _Run:
    """Contiguous decoded audio at the native rate; `frames` are PyAV's, whose channels and format may differ.

    `first` is the earliest and the latest position of the first sample that agrees with all time stamps so far;
    `lattice` (step, phase) are the possible positions, if known.
    """

    rate: int
    first: tuple[float, float]
    frames: list[Any]
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


def read_audio(
    path: Source,
    starts: Sequence[float],
    seconds: float,
    rate: int,
    downmix: Downmix = "mean",
    timeline: Sequence[float] | None = None,
    kinds: Sequence[Kind] = KINDS,
) -> MonoAudio:
    """Return what `read_audios` returns for the one request `AudioRequest(rate, downmix)`."""
    return read_audios(path, starts, seconds, [AudioRequest(rate, downmix)], timeline, kinds)[0]


def read_audios(
    path: Source,
    starts: Sequence[float],
    seconds: float,
    requests: Sequence[AudioRequest],
    timeline: Sequence[float] | None = None,
    kinds: Sequence[Kind] = KINDS,
) -> list[MonoAudio]:
    """Return the audio of the segments for each request: float32 [len(starts), round(seconds × rate)], mono, nominally
    within ±1. The file is decoded once.

    `starts` are seconds on the presentation clock; sample k of a segment is the audio at (round(start × rate) + k) /
    rate. Where the file has no audio there are zeros, for up to MISSING seconds of a segment. A request's `downmix` is
    how channels become one: `mean`, or by their loudspeakers, `layout` (readers/downmix.py). `timeline` is what the
    probe learned about the file's clock (`MediaInfo.timeline`); if None, it is surveyed here. `kinds`: the file's
    streams that count for that; of a separate audio track, `audio` alone. Raises MediaError: missing, unreadable,
    discontinuous, no_audio_stream, encrypted, empty_audio (more is missing), decode_error (damage inside a segment,
    unknown codec).
    """
    known = known_or_surveyed(path, timeline, kinds)
    wanted = list(dict.fromkeys(requests))
    with open_media(path) as opened, reported_as("decode_error"):
        media = placed(opened, known)
        stream = media.only("audio")
        pieces = known.pieces if known else ()
        segments = [_segment(path, media, stream, float(start), seconds, wanted, pieces) for start in starts]
    read = {}
    for request in wanted:
        clips = [segment[request] for segment in segments]
        empty = np.zeros((0, round(seconds * request.rate)), np.float32)
        audio = np.stack([clip for clip, _ in clips]) if clips else empty
        read[request] = MonoAudio(audio, np.array([loss for _, loss in clips], np.float64))
    return [read[request] for request in requests]


def _segment(
    path: Source,
    media: Media,
    stream: Any,
    start: float,
    seconds: float,
    requests: Sequence[AudioRequest],
    pieces: tuple[Piece, ...] = (),
) -> dict[AudioRequest, tuple[np.ndarray, float]]:
    """Return for each request the segment's samples and what mixing to mono lost (dB)."""
    if pieces:
        runs = _continued_runs(path, media, start - MARGIN, start + seconds + MARGIN, pieces)
    else:
        runs = _runs(path, media, stream, start - MARGIN, start + seconds + MARGIN)
    spans = [(run.start / run.rate, (run.start + run.length) / run.rate) for run in runs]
    _check(spans, start, start + seconds)
    for number, (run, after) in enumerate(pairwise(runs)):
        if run.rate != after.rate:  # pieces of different rates are added, so they must not overlap
            begin, end = spans[number]
            spans[number] = begin, max(begin, min(end, spans[number + 1][0]))
    ends = [end for _, end in spans]
    mixed = {
        downmix: mixed_to_mono([run.frames for run in runs], downmix)
        for downmix in dict.fromkeys(request.downmix for request in requests)
    }
    clips = {}
    for request in requests:
        samples, loss = mixed[request.downmix]
        mono = [_Mono(run.rate, run.start, end, of_run) for run, end, of_run in zip(runs, ends, samples, strict=True)]
        clips[request] = _joined(mono, start, seconds, request.rate), loss
    return clips


def _joined(mono: list[_Mono], start: float, seconds: float, rate: int) -> np.ndarray:
    """Return a segment's audio from all its runs."""
    resampled = [
        _resampled([run for run in mono if run.rate == native], start, seconds, rate)
        for native in dict.fromkeys(run.rate for run in mono)
    ]
    return resampled[0] if len(resampled) == 1 else np.asarray(np.stack(resampled).sum(axis=0))


@dataclass(frozen=True)
class _Mono:
    """A run mixed to mono: `samples` from the native sample `start` on, valid until `end` (s)."""

    rate: int
    start: int
    end: float
    samples: np.ndarray


def _resampled(runs: list[_Mono], start: float, seconds: float, rate: int) -> np.ndarray:
    """Return a segment's audio from runs of one rate; zeros where there are none."""
    # A buffer that begins at a multiple of `step_in` native samples begins at a whole output sample too.
    native = runs[0].rate
    common = math.gcd(native, rate)
    step_in, step_out = native // common, rate // common
    block = math.floor((start - MARGIN) * native / step_in)
    origin, stop = block * step_in, math.ceil((start + seconds + MARGIN) * native)
    buffer = np.zeros(stop - origin, np.float32)
    for run in runs:
        position = run.start - origin
        low, high = max(0, position), min(len(buffer), position + len(run.samples), round(run.end * native) - origin)
        if high > low:
            buffer[low:high] = run.samples[low - position : high - position]
    resampled = buffer if native == rate else soxr.resample(buffer, native, rate, quality="HQ")
    count, skip = round(seconds * rate), round(start * rate) - block * step_out
    clip = np.zeros(count, np.float32)
    clip[: max(0, len(resampled) - skip)] = resampled[skip : skip + count]
    return clip


def _check(spans: list[tuple[float, float]], start: float, stop: float) -> None:
    """Raise MediaError unless the spans (s) of decoded audio cover [start, stop) except for MISSING seconds."""
    missing, longest, reached = 0.0, (start, start), start
    for low, high in [*sorted(spans), (stop, stop)]:
        low, high = min(max(low, start), stop), min(max(high, start), stop)
        if low > reached:
            missing += low - reached
            longest = max(longest, (reached, low), key=lambda gap: gap[1] - gap[0])
        reached = max(reached, high)
    if missing >= stop - start - 1e-6:
        raise MediaError("empty_audio", f"there is no audio in the segment at {start:.2f} s")
    if missing > MISSING:
        message = f"{missing:.2f} s of audio are missing in the segment at {start:.2f} s, at most {MISSING:g} may be"
        raise MediaError("empty_audio", f"{message}; the longest gap is from {longest[0]:.2f} to {longest[1]:.2f} s")


def _runs(path: Source, media: Media, stream: Any, start: float, stop: float) -> list[_Run]:
    """Return decoded audio that covers [start, stop) as far as the file has it, in order of time."""
    stream_start = (
        -math.inf if stream.start_time is None else float(stream.start_time * stream.time_base) - media.origin
    )
    for preroll in PREROLL:
        try:
            media.container.seek(math.floor((start - preroll + media.origin) / stream.time_base), stream=stream)
        except (av.error.FFmpegError, OSError):
            break  # not seekable
        landed, runs = _decode(media, stream, start, stop)
        # Only the beginning of the stream may come later than requested; anything else is a failed seek.
        if landed <= max(start, stream_start + JITTER):
            return runs
    with open_media(path) as fresh:
        return _decode(fresh, fresh.only("audio"), start, stop)[1]


def _continued_runs(path: Source, media: Media, start: float, stop: float, pieces: tuple[Piece, ...]) -> list[_Run]:
    """Return the same for a file whose clock breaks, where seeks fail: read from its beginning, skip up to `start`."""
    with open_media(path) as opened:
        fresh = replace(opened, origin=media.origin)
        stream = fresh.only("audio")
        packets = (
            packet
            for packet in continued(fresh, stream, pieces)
            if not _ends_before(packet, start - PREROLL[0], fresh.origin)
        )
        return _decode(fresh, stream, start, stop, packets)[1]


def _ends_before(packet: Any, time: float, origin: float) -> bool:
    ticks = ticks_of(packet)
    return ticks is not None and float((ticks + (packet.duration or 0)) * packet.time_base) - origin < time


def _decode(
    media: Media, stream: Any, start: float, stop: float, packets: Iterator[Any] | None = None
) -> tuple[float, list[_Run]]:
    """Return the time of the first decoded frame, and the runs of audio that overlap [start, stop).

    `packets`: what to decode; by default all from the container's position on.
    """
    runs: list[_Run] = []
    landed = math.inf
    for frame in _frames(media, stream, start, stop - MARGIN, packets):
        native = frame.sample_rate
        stamp = float(ticks_of(frame) * frame.time_base) - media.origin
        landed = min(landed, stamp)
        if stamp >= stop:
            break
        if stamp + frame.samples / native < start:
            continue
        position, half_tick = stamp * native, float(frame.time_base * native) / 2
        run = runs[-1] if runs else None
        if run is None or run.rate != native or abs(position - run.start - run.length) > JITTER * native:
            lattice = _lattice(media, stream, frame) if packets is None else None
            run = _Run(native, (-math.inf, math.inf), [], lattice=lattice)
            runs.append(run)
        # Each stamp is exact to half a tick; together they narrow down where the run begins.
        low, high = position - run.length - half_tick, position - run.length + half_tick
        if low <= run.first[1] and high >= run.first[0]:
            run.first = max(low, run.first[0]), min(high, run.first[1])
        run.frames.append(frame)
        run.length += frame.samples
    return landed, runs


def _frames(
    media: Media, stream: Any, start: float, enough: float, packets: Iterator[Any] | None = None
) -> Iterator[Any]:
    """Yield decoded frames of the packets, by default all from the container's position on.

    Damage before `start` is skipped, from `enough` on it ends the iteration, between the two it raises MediaError.
    """
    for packet in unbroken(media.container.demux(stream)) if packets is None else packets:
        ticks = ticks_of(packet)
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            end = None if ticks is None else float((ticks + (packet.duration or 0)) * packet.time_base) - media.origin
            if end is not None and end < start:
                continue
            if ticks is not None and float(ticks * packet.time_base) - media.origin >= enough:
                return
            place = "" if end is None else f" near {end:.2f} s"
            raise MediaError("decode_error", f"the audio is damaged{place}") from None
        yield from (frame for frame in frames if ticks_of(frame) is not None and frame.samples)


def _lattice(media: Media, stream: Any, frame: Any) -> tuple[int, float] | None:
    """Return where a run that begins with `frame` can begin, (step, phase) in samples, or None.

    Frames of (nearly) whole milliseconds, as in Opus, have rounded stamps that never reveal the fraction. But every
    frame ends a multiple of the frame's length after the start of the stream, less the samples that the decoder drops
    at the beginning (Opus states how many: RFC 7845, section 5.1).
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

"""Reads frames with decord 0.6, made exact: PyAV lists the packets, decord decodes. Reads one file; writes nothing.

decord numbers frames by packets and seeks by number, which silently goes wrong after an open-GOP keyframe (x265's
default), in transport streams and in AVI. So the frame numbers come from PyAV's packet list (compared with decord's own
time stamps), decord only seeks to keyframes that no frame order crosses, and the frames are counted from there. What it
cannot read exactly raises a MediaError that is `unsupported`.

decord is imported inside `frames`, only in processes without torch and essentia: it breaks their loading.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.readers import MediaError, VideoRequest
from pipeline.readers.opening import Media, open_media
from pipeline.readers.source import Source
from pipeline.readers.timeline import Timeline
from pipeline.readers.video import Wanted, blank, can_start, cropped, has_orientation, orientation, shown

CONTAINERS = {"mov", "matroska"}
WAY_OUT = "set decoding.video: pyav"
DUPLICATES = 0.0001
"""Share of frames that decord may replace by copies of others before it reports an error: practically none."""


@dataclass(frozen=True)
class _Packets:
    """The video packets in the order of decoding, which is decord's; `stamps` are seconds from the origin."""

    stamps: np.ndarray
    """float64 [packets]"""
    visible: np.ndarray
    """bool [packets]: whether the packet's frame is shown."""
    anchors: np.ndarray
    """int [·]: packets that decode without earlier ones, and before which all earlier packets are shown."""
    end: float
    mirrored: int | None
    """The axis of [frames, height, width, 3] along which decord forgets to mirror the frame, or None."""


def takes(request: VideoRequest) -> bool:
    """Return whether decord can scale frames like that."""
    return not isinstance(request.resize, int) and request.interpolation == "bilinear"


def frames(path: Source, wanted: Sequence[Wanted], timeline: Timeline | None = None) -> list[np.ndarray]:
    """Return the upright, scaled and cropped frames of each request: uint8 [segments, frames, height, width, 3].

    decord scales while it decodes, so the file is decoded for one request after the other.
    """
    clips = [blank(wish) for wish in wanted]
    if not any(wish.times.size for wish in wanted):
        return clips
    if not all(takes(wish.request) for wish in wanted):
        message = f"decord scales to one size only, and bilinearly; {WAY_OUT}"
        raise MediaError("decode_error", message, unsupported=True)
    if timeline is not None:
        raise MediaError("decode_error", f"decord cannot correct the clock of this file; {WAY_OUT}", unsupported=True)
    with open_media(path) as media:
        packets = _packets(media)
        stamps = np.sort(packets.stamps[packets.visible])
        for clip, w in zip(clips, wanted, strict=True):
            if w.times.size:
                _fill(clip, media, packets, stamps, w)
    return clips


def _fill(clips: np.ndarray, media: Media, packets: _Packets, stamps: np.ndarray, wanted: Wanted) -> None:
    """Put the frames of one request into `clips`; `stamps` are those of the visible frames, ascending."""
    size = wanted.request.resize
    assert not isinstance(size, int)
    reader = _reader(media, packets, size)
    for index in np.argsort(wanted.times[:, 0]):
        numbers = shown(stamps, packets.end, wanted.times[index])
        try:
            scaled = np.stack(_read(reader, packets, stamps, numbers))
        except Exception as error:
            raise MediaError(
                "decode_error", f"decord fails in this file, near {wanted.times[index, 0]:.1f} s; {WAY_OUT}"
            ) from error
        upright = scaled if packets.mirrored is None else np.flip(scaled, packets.mirrored)
        clips[index] = cropped(upright, wanted.request)


def _read(reader: Any, packets: _Packets, stamps: np.ndarray, wanted: np.ndarray) -> list[np.ndarray]:
    """Decode from the last anchor before the first wanted frame to the last one; `wanted` are ascending numbers."""
    usable = [anchor for anchor in packets.anchors if packets.stamps[anchor] <= stamps[wanted[0]]]
    number = 0
    # decord's count is wrong after packets that show nothing; seeking to the beginning resets it.
    reader.seek(0)
    if usable:
        reader.seek_accurate(int(usable[-1]))
        number = int(np.searchsorted(stamps, packets.stamps[usable[-1]]))
    decoded: dict[int, np.ndarray] = {}
    needed = set(wanted.tolist())
    while number <= wanted[-1]:
        frame = reader.next()
        if number in needed:
            decoded[number] = frame.asnumpy()
        number += 1
    return [decoded[number] for number in wanted.tolist()]


def _reader(media: Media, packets: _Packets, size: tuple[int, int]) -> Any:
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    content = media.content
    url = f"file:/dev/fd/{content.descriptor}"
    try:
        reader = decord.VideoReader(
            url if content.whole else f"subfile,,start,{content.begin},end,{content.begin + content.size},,:{url}",
            ctx=decord.cpu(0),
            width=size[1],
            height=size[0],
            num_threads=1,
            fault_tol=DUPLICATES,
        )
        begins = reader.get_frame_timestamp(np.arange(len(reader)))[:, 0]
    except Exception as error:
        codec = media.only("video").codec_context.codec.canonical_name
        # decord does not distinguish an unknown codec from damage here; PyAV, which is tried next, does.
        message = f"decord cannot open this file (codec {codec}); {WAY_OUT}"
        raise MediaError("decode_error", message, unsupported=True) from error
    expected = np.sort(packets.stamps)
    expected = expected - expected[0]
    begins = begins - begins[0]
    # decord's stamps are float32.
    if len(begins) != len(expected) or np.abs(begins - expected).max() > 1e-3 + 2e-7 * expected[-1]:
        message = f"decord and FFmpeg disagree about the frames of this file; {WAY_OUT}"
        raise MediaError("decode_error", message, unsupported=True)
    return reader


def _packets(media: Media) -> _Packets:
    stream = media.only("video")
    if not CONTAINERS & media.formats:
        message = f"decord does not seek exactly in {media.container.format.name} files; {WAY_OUT}"
        raise MediaError("decode_error", message, unsupported=True)
    stamps: list[float] = []
    visible: list[bool] = []
    keys: list[int] = []
    end = 0.0
    turn: tuple[bool, bool, bool] | None = None
    for packet in media.container.demux(stream):
        if not packet.size:
            continue
        if packet.pts is None:
            message = f"this file has frames without time stamps, which decord needs; {WAY_OUT}"
            raise MediaError("decode_error", message, unsupported=True)
        if turn is None:  # known only from a decoded frame
            turn = next((orientation(frame) for frame in stream.codec_context.decode(packet)), None)
        if can_start(stream.codec_context, packet):
            if stamps and has_orientation(stream.codec_context, packet):
                message = f"this file changes its orientation, which decord ignores; {WAY_OUT}"
                raise MediaError("decode_error", message, unsupported=True)
            keys.append(len(stamps))
        stamps.append(float(packet.pts * stream.time_base) - media.origin)
        visible.append(not packet.is_discard and not _is_hidden(stream.codec_context, packet))
        end = max(end, stamps[-1] + float((packet.duration or 0) * stream.time_base))
    if not any(visible):
        raise MediaError("decode_error", "the video stream has no visible frames")
    times = np.array(stamps)
    highest = np.concatenate([[-np.inf], np.maximum.accumulate(times)[:-1]])
    lowest = np.concatenate([np.minimum.accumulate(times[::-1])[::-1][1:], [np.inf]])
    clean = (times > highest) & (times < lowest) & np.array(visible)
    transpose, flip_y, flip_x = turn or (False, False, False)
    return _Packets(
        stamps=times,
        visible=np.array(visible),
        anchors=np.array([key for key in keys if clean[key]], int),
        end=end,
        # decord turns by the angle of the frame's x axis alone. An odd number of reflections leaves one across y.
        mirrored=(2 if transpose else 1) if transpose ^ flip_y ^ flip_x else None,
    )


def _is_hidden(codec: Any, packet: Any) -> bool:
    """Return whether the packet is a VP8 frame that is only a reference, never shown (RFC 6386, section 9.1)."""
    return codec.codec.canonical_name == "vp8" and not bytes(packet)[0] & 0x10

"""Reads pictures with decord 0.6, made exact: PyAV lists the packets, decord decodes. Reads one file; writes nothing.

decord numbers frames by packets and seeks by number, which goes wrong after an open-GOP keyframe (x265's default), in
transport streams and in AVI, without a word. So the frame numbers come from PyAV's packet list (compared with decord's
own time stamps), decord is only ever sent to keyframes that nothing crosses, and the frames are counted from there.
What it cannot read exactly is refused with a message (a MediaError that is `unsupported`), not guessed.

decord is imported inside `frames`, only ever in a process without torch and essentia: it breaks their loading.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.readers import MediaError
from pipeline.readers.opening import Media, open_media
from pipeline.readers.video import can_start, orientation, shown

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
    """bool [packets]: whether the packet makes a picture that is shown."""
    anchors: np.ndarray
    """int [·]: packets that are decoded without any other before them, with all that comes before shown before."""
    end: float
    mirrored: int | None
    """The axis along which decord forgets to mirror the picture, or None."""


def frames(path: str, times: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Upright pictures of `size` = (height, width) shown at `times` [n, k] (s): uint8 [n, k, height, width, 3]."""
    clips = np.zeros((*times.shape, *size, 3), np.uint8)
    if times.size == 0:
        return clips
    with open_media(path) as media:
        packets = _packets(media)
        reader = _reader(media, packets, size)
        stamps = np.sort(packets.stamps[packets.visible])
        for index in np.argsort(times[:, 0]):
            wanted = shown(stamps, packets.end, times[index])
            try:
                clips[index] = _read(reader, packets, stamps, wanted)
            except Exception as error:
                raise MediaError(
                    "decode_error", f"decord fails in this file, near {times[index, 0]:.1f} s; {WAY_OUT}"
                ) from error
    return clips if packets.mirrored is None else np.flip(clips, packets.mirrored)


def _read(reader: Any, packets: _Packets, stamps: np.ndarray, wanted: np.ndarray) -> list[np.ndarray]:
    """Decode from the last anchor before the first wanted frame to the last wanted one; `wanted` are ascending."""
    usable = [a for a in packets.anchors if packets.stamps[a] <= stamps[wanted[0]]]
    number = 0
    # Its own count is off after packets that show nothing; a seek to the beginning makes it forget.
    reader.seek(0)
    if usable:
        reader.seek_accurate(int(usable[-1]))
        number = int(np.searchsorted(stamps, packets.stamps[usable[-1]]))
    pictures: dict[int, np.ndarray] = {}
    needed = set(wanted.tolist())
    while number <= wanted[-1]:
        picture = reader.next()
        if number in needed:
            pictures[number] = picture.asnumpy()
        number += 1
    return [pictures[n] for n in wanted.tolist()]


def _reader(media: Media, packets: _Packets, size: tuple[int, int]) -> Any:
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    try:
        reader = decord.VideoReader(
            f"file:/dev/fd/{media.descriptor}",
            ctx=decord.cpu(0),
            width=size[1],
            height=size[0],
            num_threads=1,
            fault_tol=DUPLICATES,
        )
        begins = reader.get_frame_timestamp(np.arange(len(reader)))[:, 0]
    except Exception as error:
        codec = media.only("video").codec_context.codec.canonical_name
        # decord does not tell an unknown codec from damage here; PyAV, which comes next, does.
        message = f"decord cannot open this file (codec {codec}); {WAY_OUT}"
        raise MediaError("decode_error", message, unsupported=True) from error
    expected = np.sort(packets.stamps)
    expected = expected - expected[0]
    begins = begins - begins[0]
    # decord's stamps are float32.
    if len(begins) != len(expected) or np.abs(begins - expected).max() > 1e-3 + 2e-7 * expected[-1]:
        message = f"decord and FFmpeg do not see the same frames in this file; {WAY_OUT}"
        raise MediaError("decode_error", message, unsupported=True)
    return reader


def _packets(media: Media) -> _Packets:
    stream = media.only("video")
    name = media.container.format.name
    if not CONTAINERS & set(name.split(",")):
        message = f"decord does not seek exactly in {name} files; {WAY_OUT}"
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
            message = f"this file has pictures without time stamps, which decord needs; {WAY_OUT}"
            raise MediaError("decode_error", message, unsupported=True)
        if turn is None:  # only a decoded frame tells how the picture is turned
            turn = next((orientation(frame) for frame in stream.codec_context.decode(packet)), None)
        if can_start(stream.codec_context, packet):
            keys.append(len(stamps))
        stamps.append(float(packet.pts * stream.time_base) - media.origin)
        visible.append(not packet.is_discard and not _is_hidden(stream.codec_context, packet))
        end = max(end, stamps[-1] + float((packet.duration or 0) * stream.time_base))
    if not any(visible):
        raise MediaError("decode_error", "the file has no packets with pictures")
    times = np.array(stamps)
    highest = np.concatenate([[-np.inf], np.maximum.accumulate(times)[:-1]])
    lowest = np.concatenate([np.minimum.accumulate(times[::-1])[::-1][1:], [np.inf]])
    clean = (times > highest) & (times < lowest) & np.array(visible)
    transpose, flip_y, flip_x = turn or (False, False, False)
    return _Packets(
        stamps=times,
        visible=np.array(visible),
        anchors=np.array([k for k in keys if clean[k]], int),
        end=end,
        # decord turns by the angle of the picture's x axis alone. An odd number of reflections is left over, across y.
        mirrored=(3 if transpose else 2) if transpose ^ flip_y ^ flip_x else None,
    )


def _is_hidden(codec: Any, packet: Any) -> bool:
    """Whether the packet is a VP8 frame that is only referred to, never shown (RFC 6386, section 9.1)."""
    return codec.codec.canonical_name == "vp8" and not bytes(packet)[0] & 0x10

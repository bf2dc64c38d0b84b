"""Files whose time is wrong in every way that the readers should master, made with the ffmpeg command line tool.

Each is made of `bench.known`'s content, so that what is read of it can be told from its content. VARIANTS lists
them. Writes into the folder that it is given.
"""

from __future__ import annotations

import struct
import subprocess
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.known import SECONDS, render

STILL = "-frames:v 1"


@dataclass(frozen=True)
class Variant:
    """A bad file. `make` writes it to a path with `suffix`; `seconds` of content are in it."""

    fault: str
    words: str
    suffix: str
    make: Callable[[Maker, Path], None]
    seconds: float = SECONDS


class Maker:
    """Runs ffmpeg in a folder; encodes each part of the content once a codec."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = folder / "known.mkv"
        if not self.source.exists():
            render(self.source)

    def run(self, arguments: str, *paths: Path) -> None:
        """Run ffmpeg with `arguments`, in which `{0}` … stand for the paths. CalledProcessError with what it said."""
        words = [word.format(*paths) for word in arguments.split()]
        subprocess.run(["ffmpeg", "-v", "error", "-y", *words], check=True, capture_output=True, text=True)

    def part(self, how: str, suffix: str, start: float = 0, seconds: float = SECONDS, after: str = "") -> Path:
        """Encode [start, start + seconds) of the content so, with its clock at its container's usual beginning."""
        name = f"{zlib.crc32(repr((how, start, seconds)).encode())}"
        encoded = self.folder / f"part-{name}.mkv"
        if not encoded.exists():
            self.run(f"-ss {start} -t {seconds} -i {{0}} {how} {{1}}", self.source, encoded)
        out = self.folder / f"part-{name}-{zlib.crc32(after.encode())}.{suffix}"
        if not out.exists():
            self.run(f"-i {{0}} -c copy {after} {{1}}", encoded, out)
        return out

    def joined(
        self,
        out: Path,
        how: str,
        cuts: tuple[float, ...] = (0, 10, 20),
        skip: int = 0,
        after: str = "",
        later: str = "",
        order: tuple[int, ...] = (),
    ) -> None:
        """Join the parts between `cuts`, byte after byte.

        `skip`: bytes left out at the beginning of all but the first; `after`, `later`: options for the first part and
        for the others.
        """
        parts = list(zip(cuts, cuts[1:], strict=False))
        data = b""
        for place, number in enumerate(order or range(len(parts))):
            low, high = parts[number]
            part = self.part(how, out.suffix[1:], low, high - low, later if place and later else after)
            data += part.read_bytes()[skip if place else 0 :]
        out.write_bytes(data)


def join(how: str, **options: object) -> Callable[[Maker, Path], None]:
    """Return a maker: `Maker.joined` with these options."""
    return lambda maker, out: maker.joined(out, how, **options)  # type: ignore[arg-type]


def whole(how: str, after: str = "") -> Callable[[Maker, Path], None]:
    """Return a maker of all of the content in one file, with these options."""

    def make(maker: Maker, out: Path) -> None:
        out.write_bytes(maker.part(how, out.suffix[1:], after=after).read_bytes())

    return make


def again(inner: Callable[[Maker, Path], None], suffix: str, options: str) -> Callable[[Maker, Path], None]:
    """Return a maker of what `inner` makes, copied by ffmpeg into another container."""

    def make(maker: Maker, out: Path) -> None:
        first = out.with_suffix(f".first.{suffix}")
        inner(maker, first)
        maker.run(f"{options} -i {{0}} -map 0 -c copy {{1}}", first, out)

    return make


def changed(inner: Callable[[Maker, Path], None], change: Callable[[bytes], bytes]) -> Callable[[Maker, Path], None]:
    """Return a maker of what `inner` makes, with its bytes changed."""

    def make(maker: Maker, out: Path) -> None:
        inner(maker, out)
        out.write_bytes(change(out.read_bytes()))

    return make


def half(data: bytes) -> bytes:
    """Return the first half."""
    return data[: len(data) // 2]


def header_seconds(name: bytes, factor: float) -> Callable[[bytes], bytes]:
    """Multiply the durations in all MP4 boxes `mdhd` or `tkhd` of version 0."""

    def change(data: bytes) -> bytes:
        buffer, position = bytearray(data), data.find(name)
        where = {b"mdhd": 20, b"tkhd": 24, b"mvhd": 20}[name]
        while position >= 0:
            low = position + where
            buffer[low : low + 4] = round(int.from_bytes(buffer[low : low + 4]) * factor).to_bytes(4)
            position = data.find(name, position + 4)
        return bytes(buffer)

    return change


def matroska_seconds(seconds: float) -> Callable[[bytes], bytes]:
    """Give a Matroska file another duration (a float64 in ms)."""

    def change(data: bytes) -> bytes:
        position = data.index(b"\x44\x89\x88") + 3
        return data[:position] + struct.pack(">d", seconds * 1000) + data[position + 8 :]

    return change


def flv_seconds(seconds: float) -> Callable[[bytes], bytes]:
    """Give an FLV file another duration in its metadata."""

    def change(data: bytes) -> bytes:
        position = data.index(b"duration\0") + 9
        return data[:position] + struct.pack(">d", seconds) + data[position + 8 :]

    return change


def avi_frames(factor: float) -> Callable[[bytes], bytes]:
    """Multiply the lengths in an AVI file's stream headers."""

    def change(data: bytes) -> bytes:
        buffer, position = bytearray(data), data.find(b"strh")
        while position >= 0:
            low = position + 8 + 32
            buffer[low : low + 4] = round(int.from_bytes(buffer[low : low + 4], "little") * factor).to_bytes(
                4, "little"
            )
            position = data.find(b"strh", position + 4)
        return bytes(buffer)

    return change


def still(how: str, audio: str, options: str = STILL) -> Callable[[Maker, Path], None]:
    """Return a maker of one frame of the content, and all of its audio."""

    def make(maker: Maker, out: Path) -> None:
        frame, song = out.with_suffix(".frame.mkv"), out.with_suffix(".song.mkv")
        maker.run(f"-i {{0}} -an {how} {options} {{1}}", maker.source, frame)
        maker.run(f"-i {{0}} -vn {audio} {{1}}", maker.source, song)
        maker.run("-i {0} -i {1} -map 0:v -map 1:a -c copy {2}", frame, song, out)

    return make


H264 = "-c:v libx264 -preset ultrafast -g 25 -bf 2 -b:v 300k -c:a aac -ac 2"
H264_MP3 = "-c:v libx264 -preset ultrafast -g 25 -bf 2 -b:v 300k -c:a libmp3lame -ac 2"
HEVC = "-c:v libx265 -preset ultrafast -x265-params log-level=none:keyint=25 -b:v 300k -c:a aac -ac 2"
MPEG2 = "-c:v mpeg2video -g 12 -bf 2 -b:v 1500k -c:a mp2 -ac 2"
VP8 = "-c:v libvpx -deadline realtime -cpu-used 8 -g 50 -b:v 400k -c:a libvorbis"
VP9 = "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 50 -b:v 400k -c:a libopus"
MPEG4 = "-c:v mpeg4 -g 25 -b:v 600k"
THEORA = "-c:v libtheora -g 25 -b:v 600k -c:a libvorbis"
FRAGMENTS = "-movflags frag_keyframe+empty_moov+default_base_moof"
DASH = "-movflags +dash+frag_keyframe+empty_moov+global_sidx"
X264 = "-c:v libx264 -preset veryfast -b:v 300k"
ANNEXB = "-bsf:v h264_mp4toannexb"
GAP = "-output_ts_offset {}"

VARIANTS = (
    Variant("F5", "H.264/AAC, two parts", "ts", join(H264)),
    Variant("F5", "MPEG-2/MP2, two parts", "ts", join(MPEG2)),
    Variant("F5", "HEVC/AAC, four uneven parts", "ts", join(HEVC, cuts=(0, 3, 11, 13, 20))),
    Variant(
        "F5",
        "H.264/AAC, second begins earlier by 4 s",
        "ts",
        join(H264, after="-output_ts_offset 50", later="-output_ts_offset 46"),
    ),
    Variant("F5", "H.264/AAC, parts in the other order", "ts", join(H264, order=(1, 0))),
    Variant("F5", "H.264/MP3 in M2TS", "m2ts", join(H264_MP3)),
    Variant("F5", "MPEG-2/MP2, two cells", "vob", join(MPEG2)),
    Variant("F5", "MPEG-2/MP2, MPEG-1 system stream", "mpg", join(MPEG2, cuts=(0, 7, 20))),
    Variant("F5", "H.264/AAC, two parts", "flv", join(H264, skip=13)),
    Variant("F5", "H.264/MP3, three parts", "flv", join(H264_MP3, cuts=(0, 6, 12, 20), skip=13)),
    Variant("F5", "H.264/AAC, fragmented, two parts", "mp4", join(H264, after=FRAGMENTS)),
    Variant("F5", "H.264/AAC, DASH fragments, three parts", "mp4", join(H264, cuts=(0, 6, 12, 20), after=DASH)),
    Variant("F5", "VP8/Vorbis, two parts", "webm", join(VP8)),
    Variant("F5", "VP9/Opus, live, two parts", "webm", join(VP9, after="-live 1")),
    Variant("F5", "VP9/Opus, three parts", "webm", join(VP9, cuts=(0, 4, 12, 20))),
    Variant("F5", "H.264/AAC, two parts", "mkv", join(H264)),
    Variant("F5", "Theora/Vorbis, chained", "ogv", join(THEORA)),
    Variant("F6", "H.264/AAC, +5000 s", "ts", join(H264, later=GAP.format(5000))),
    Variant("F6", "MPEG-2/MP2, +600 s", "ts", join(MPEG2, later=GAP.format(600))),
    Variant("F6", "H.264/AAC, +40 s", "ts", join(H264, later=GAP.format(40))),
    Variant("F6", "MPEG-2/MP2, +5000 s", "vob", join(MPEG2, later=GAP.format(5000))),
    Variant("F6", "H.264/AAC, +5000 s", "flv", join(H264, skip=13, later=GAP.format(5000))),
    Variant(
        "F6",
        "H.264/AAC, fragmented, +5000 s",
        "mp4",
        join(H264, after=FRAGMENTS, later=FRAGMENTS + " " + GAP.format(5000)),
    ),
    Variant(
        "F6",
        "H.264/AAC, index, +5000 s",
        "mp4",
        again(join(H264, later=GAP.format(5000)), "ts", "-copyts -dts_error_threshold 90000 -fflags +igndts"),
    ),
    Variant(
        "F6",
        "H.264/AAC, +600 s",
        "mkv",
        again(join(H264, later=GAP.format(600)), "ts", "-copyts -dts_delta_threshold 90000"),
    ),
    Variant("F7", "H.264/AAC at 95400 s", "ts", whole(H264, GAP.format(95400))),
    Variant("F7", "H.264/AAC, wraps after 8 s", "ts", whole(H264, GAP.format(95434.3))),
    Variant("F7", "MPEG-2/MP2, wraps after 12 s", "ts", whole(MPEG2, GAP.format(95430.3))),
    Variant("F7", "HEVC/AAC at 95442 s", "ts", whole(HEVC, GAP.format(95442))),
    Variant("F7", "H.264/MP3 in M2TS at 95420 s", "m2ts", whole(H264_MP3, GAP.format(95420))),
    Variant("F7", "MPEG-2/MP2 at 95400 s", "vob", whole(MPEG2, GAP.format(95400))),
    Variant("F7", "MPEG-2/MP2, wraps after 8 s", "vob", whole(MPEG2, GAP.format(95435))),
    Variant("F7", "H.264/AAC at 4294960 s (32-bit clock)", "flv", whole(H264, GAP.format(2147470))),
    Variant("F7", "H.264/AAC at 5000 s", "mkv", whole(H264, GAP.format(5000))),
    Variant(
        "F8", "all track headers say 2 s", "mp4", changed(whole(H264, "-use_editlist 0"), header_seconds(b"mdhd", 0.1))
    ),
    Variant(
        "F8", "all track headers say 60 s", "mp4", changed(whole(H264, "-use_editlist 0"), header_seconds(b"mdhd", 3))
    ),
    Variant(
        "F8", "index before content, half of the file", "mp4", changed(whole(H264, "-movflags +faststart"), half), 10
    ),
    Variant("F8", "fragments, half of the file", "mp4", changed(whole(H264, FRAGMENTS), half), 10),
    Variant("F8", "DASH with index of fragments, half of the file", "mp4", changed(whole(H264, DASH), half), 10),
    Variant("F8", "header says 200 s", "mkv", changed(whole(H264), matroska_seconds(200))),
    Variant("F8", "header says 5 s", "webm", changed(whole(VP9), matroska_seconds(5))),
    Variant("F8", "half of the file", "mkv", changed(whole(H264), half), 10),
    Variant("F8", "metadata says 5 s", "flv", changed(whole(H264), flv_seconds(5))),
    Variant("F8", "metadata says 300 s", "flv", changed(whole(H264), flv_seconds(300))),
    Variant("F8", "stream headers say twice as much", "avi", changed(whole(MPEG4 + " -c:a libmp3lame"), avi_frames(2))),
    Variant("F8", "stream headers say a quarter", "avi", changed(whole(MPEG4 + " -c:a libmp3lame"), avi_frames(0.25))),
    Variant("F8", "half of the file, no index", "avi", changed(whole(MPEG4 + " -c:a libmp3lame"), half), 10),
    Variant("F8", "half of the file", "ts", changed(whole(H264), half), 10),
    Variant("F9", "MPEG-4, 2 B-frames, MP3", "avi", whole(MPEG4 + " -bf 2 -c:a libmp3lame")),
    Variant("F9", "MPEG-4, 1 B-frame, PCM", "avi", whole(MPEG4 + " -bf 1 -c:a pcm_s16le")),
    Variant("F9", "Xvid, MP3", "avi", whole("-c:v libxvid -bf 2 -b:v 600k -c:a libmp3lame")),
    Variant("F9", "H.264, 3 B-frames, pyramid, MP3", "avi", whole(X264 + " -bf 3 -c:a libmp3lame", ANNEXB)),
    Variant("F9", "H.264, 8 B-frames, AC-3", "avi", whole(X264 + " -bf 8 -b-pyramid 2 -g 40 -c:a ac3", ANNEXB)),
    Variant("F9", "MPEG-2, 2 B-frames, MP2", "avi", whole("-c:v mpeg2video -bf 2 -g 12 -b:v 1500k -c:a mp2")),
    Variant("F9", "MPEG-4 without B-frames, MP3", "avi", whole(MPEG4 + " -c:a libmp3lame")),
    Variant("F18", "H.264 picture, AAC", "mp4", still("-c:v libx264", "-c:a aac")),
    Variant("F18", "PNG picture, FLAC", "mkv", still("-c:v png", "-c:a flac")),
    Variant("F18", "VP9 picture, Opus", "webm", still("-c:v libvpx-vp9", "-c:a libopus")),
    Variant("F18", "H.264 picture, AAC", "ts", still("-c:v libx264", "-c:a aac")),
    Variant("F18", "H.264 picture, AAC", "flv", still("-c:v libx264", "-c:a aac")),
    Variant("F18", "JPEG picture, PCM", "mov", still("-c:v mjpeg", "-c:a pcm_s16le")),
    Variant("F18", "MPEG-4 picture, MP3", "avi", still("-c:v mpeg4", "-c:a libmp3lame")),
    Variant("F18", "three pictures within 0.12 s, AAC", "mp4", still("-c:v libx264", "-c:a aac", "-frames:v 3")),
    Variant("F18", "MPEG-2 picture, MP2", "vob", still("-c:v mpeg2video", "-c:a mp2")),
)

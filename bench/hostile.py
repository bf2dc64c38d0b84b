"""Files made to do harm: to open other files or addresses, to fill memory, to hang their reader, to confuse by name.

Writes them into the folder that it is given, with PyAV or by hand, from good files.
"""

from __future__ import annotations

import os
import socket
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av

HUGE = 1_000_000_000
NAMES = (
    "with space.mp4",
    "quote'single.mp4",
    'quote"double.mp4',
    "new\nline.mp4",
    "tab\tand\rreturn.mp4",
    "-rf.mp4",
    "--help",
    "日本語の歌 🎵 é.mp4",
    "$(touch harm);`touch harm`&.mp4",
    "%03d.mp4",
    "http:evil.mp4",
    "file:evil.mp4",
    "concat:a|b.mp4",
    "fd:3",
    "*?[a-z].mp4",
    "back\\slash.mp4",
    "{wildcards.shard}.mp4",
    "no extension",
    "music.m3u8",
    "n" * 246 + ".mp4",
)
"""Names that a good file may have; it must be read all the same."""


@dataclass(frozen=True)
class Hostile:
    """One file. `expected`: "ok" must give features, "fail" must not; "any" may do either, but nothing else."""

    name: str
    path: Path
    expected: Literal["ok", "fail", "any"]


def hostile(folder: Path, good: Path, port: int, huge: bool = True) -> list[Hostile]:
    """Write all of them below `folder`. `good` is a good mp4 in another place, `port` one where nobody may call.

    `huge=False` leaves out the videos with huge frames, which take seconds each.
    """
    folder.mkdir()
    files = [*_names(folder, good), *_playlists(folder, good, port), *_special(folder, good), *_bombs(folder, good)]
    files += _huge(folder) if huge else []
    assert len({hostile_file.name for hostile_file in files}) == len(files)
    return files


def _names(folder: Path, good: Path) -> Iterator[Hostile]:
    (folder / "names").mkdir()
    for number, name in enumerate(NAMES):
        os.link(good, folder / "names" / name)
        yield Hostile(f"name {number:02d}", folder / "names" / name, "ok")


def _playlists(folder: Path, good: Path, port: int) -> Iterator[Hostile]:
    web = f"http://127.0.0.1:{port}/x.mp4"
    media = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{}\n#EXT-X-ENDLIST\n"
    texts = {
        "concat script": f"ffconcat version 1.0\nfile '{good}'\n",
        "concat script, file URL": f"ffconcat version 1.0\nfile 'file://{good}'\n",
        "concat script, web": f"ffconcat version 1.0\nfile '{web}'\n",
        "concat script after spaces": f"  \r\n\tffconcat version 1.0\nfile '{good}'\n",
        "concat script after BOM": f"\ufeffffconcat version 1.0\nfile '{good}'\n",
        "HLS, file URL": media.format(f"file://{good}"),
        "HLS, path": media.format(good),
        "HLS, web": media.format(web),
        "HLS, secrets": media.format("file:///etc/passwd"),
        "HLS, key": media.replace("#EXTINF", f'#EXT-X-KEY:METHOD=AES-128,URI="{web}"\n#EXTINF').format(good),
        "HLS, subfile": media.format(f"subfile,,start,0,end,0,,:{good}"),
        "HLS, concat": media.format(f"concat:{good}|{web}"),
        "HLS behind lines": "\n\n\n" + media.format(web),
        "DASH": f'<?xml version="1.0"?><MPD><Period><AdaptationSet><Representation><BaseURL>{web}</BaseURL>'
        "</Representation></AdaptationSet></Period></MPD>",
        "SMIL": f'<smil><body><video src="{web}"/></body></smil>',
        "SDP": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video "
        f"{port} RTP/AVP 96\na=rtpmap:96 H264/90000\n",
        "RTSP reference": f"[Reference]\nRef1={web}\n",
        "PLS": f"[playlist]\nFile1={web}\n",
        "web address": web + "\n",
        "script": "#!/bin/sh\ntouch harm\n",
    }
    for number, (name, text) in enumerate(texts.items()):
        path = folder / f"list{number:02d}{'.mp4' if number % 2 else '.m3u8'}"
        path.write_text(text, encoding="utf-8")
        yield Hostile(name, path, "fail")


def _special(folder: Path, good: Path) -> Iterator[Hostile]:
    where = folder / "special"
    where.mkdir()
    os.mkfifo(where / "fifo.mp4")
    yield Hostile("named pipe", where / "fifo.mp4", "fail")
    (where / "folder.mp4").mkdir()
    yield Hostile("folder", where / "folder.mp4", "fail")
    for name, target in (("loop", where / "loop.mp4"), ("dangling link", where / "nowhere"), ("device", "/dev/zero")):
        link = where / f"{name}.mp4"
        link.symlink_to(target)
        yield Hostile(name, link, "fail")
    (where / "terminal.mp4").symlink_to("/dev/stdin")
    yield Hostile("standard input", where / "terminal.mp4", "fail")
    (where / "link.mp4").symlink_to(good)
    yield Hostile("link to a good file", where / "link.mp4", "ok")
    (where / "secret.mp4").write_bytes(good.read_bytes())
    (where / "secret.mp4").chmod(0)
    yield Hostile("no permission", where / "secret.mp4", "ok" if os.geteuid() == 0 else "fail")
    with socket.socket(socket.AF_UNIX) as server:
        descriptor = os.open(where, os.O_RDONLY)  # a socket's address may have 108 bytes only
        server.bind(f"/proc/self/fd/{descriptor}/socket.mp4")
        os.close(descriptor)
    yield Hostile("socket", where / "socket.mp4", "fail")
    yield Hostile("below a file", good / "x.mp4", "fail")
    yield Hostile("long name", where / ("n" * 300 + ".mp4"), "fail")


def _bombs(folder: Path, good: Path) -> Iterator[Hostile]:
    data = good.read_bytes()
    for name, changed in _claims(data):
        path = folder / f"claims {name}.mp4"
        path.write_bytes(changed)
        yield Hostile(f"claims {name}", path, "any")
    for count in (64, 65, 1000):
        path = folder / f"streams{count}.mkv"
        yield Hostile(f"{count} streams", _streams(path, count), "fail" if count > 64 else "any")
    for rate in (1, 2**31 - 1, 2**32 - 1):
        for channels in (1, 65535):
            path = folder / f"wav{rate}-{channels}.wav"
            path.write_bytes(_wav(rate, channels, bytes(200_000)))
            yield Hostile(f"sound at {rate} Hz, {channels} channels", path, "any")


def _huge(folder: Path) -> Iterator[Hostile]:
    # FFmpeg itself refuses frames from 16,384 × 16,384 on; what it lets through is worse.
    yield Hostile("16000×16000 from the start", _pngs(folder / "start16000.mov", [16000] * 4, 16000), "fail")
    yield Hostile("8000×8000 from the start", _pngs(folder / "start8000.mov", [8000] * 4, 8000), "any")
    for width in (16000, 30000):
        grown = _pngs(folder / f"later{width}.mov", [64, 64, width, width], 64)
        yield Hostile(f"{width}×{width} later", grown, "any")


def _claims(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield names and bytes of a good mp4 whose tables claim what is not there."""

    def patched(kind: bytes, *changes: tuple[int, str, int]) -> bytes:
        out, position = bytearray(data), data.find(kind)
        while position >= 0:  # in every track
            for offset, form, value in changes:
                struct.pack_into(form, out, position + 4 + offset, value)
            position = data.find(kind, position + 4)
        return bytes(out)

    # Offsets count from behind the box's type; versions and flags are its first four bytes.
    yield "10^9 samples of 1 byte", patched(b"stsz", (4, ">I", 1), (8, ">I", HUGE))
    yield "10^9 samples", patched(b"stsz", (8, ">I", HUGE))
    yield "10^9 frames of one duration", patched(b"stts", (8, ">I", HUGE))
    yield "10^9 durations", patched(b"stts", (4, ">I", HUGE))
    yield "10^9 chunks", patched(b"stco", (4, ">I", HUGE))
    yield "10^9 samples a chunk", patched(b"stsc", (12, ">I", HUGE))
    yield "a long film", patched(b"mdhd", (16, ">I", 0xFFFFFFFE))
    yield "no time scale", patched(b"mdhd", (12, ">I", 0))
    yield "one tick a century", patched(b"mdhd", (12, ">I", 1), (16, ">I", 0x7FFFFFFF))
    yield "16384×16384 in avc1", patched(b"avc1", (24, ">H", 16384), (26, ">H", 16384))
    yield "0×0 in avc1", patched(b"avc1", (24, ">H", 0), (26, ">H", 0))


def _png(width: int) -> bytes:
    """Return a black PNG image of width × width pixels: `width`² bytes in about a thousandth of that."""
    packer, row = zlib.compressobj(1), bytes(1 + width)
    packed = b"".join([*(packer.compress(row) for _ in range(width)), packer.flush()])
    header = struct.pack(">IIBBBBB", width, width, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", packed), (b"IEND", b""))
    body = b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def _pngs(path: Path, widths: list[int], declared: int) -> Path:
    """Write a video of one PNG a second with these widths (= heights); the container declares one size."""
    images = {width: _png(width) for width in widths}
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("png", rate=1)
        stream.width = stream.height = declared
        stream.pix_fmt = "gray"
        container.start_encoding()
        for second, width in enumerate(widths):
            _mux(container, stream, images[width], second)
    return path


def _streams(path: Path, count: int) -> Path:
    """Write a file with many audio streams, each with four seconds of silence."""
    with av.open(str(path), "w") as container:
        streams: list[Any] = [container.add_stream("pcm_s16le", rate=8000, layout="mono") for _ in range(count)]
        container.start_encoding()
        for second in range(4):
            for stream in streams:
                _mux(container, stream, bytes(16000), second)
    return path


def _mux(container: Any, stream: Any, data: bytes, second: int) -> None:
    packet = av.Packet(data)
    packet.stream, packet.time_base = stream, Fraction(1, 1)
    packet.pts = packet.dts = second
    packet.duration, packet.is_keyframe = 1, True
    container.mux(packet)


def _wav(rate: int, channels: int, data: bytes) -> bytes:
    block = channels * 2
    form = struct.pack("<HHIIHH", 1, channels, rate, min(rate * block, 2**32 - 1), block % 65536, 16)
    size = struct.pack("<I", len(data))
    return (
        b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + size + data
    )

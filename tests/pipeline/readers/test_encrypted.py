"""Encrypted audio and video: recognised in every container that marks it, and only there. Temporary files only."""

from __future__ import annotations

import random
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

from pipeline.readers import REASONS, MediaError, first
from pipeline.readers.audio import read_audio
from pipeline.readers.container import probe
from pipeline.readers.opening import open_media
from pipeline.readers.video import read_video
from tests.support.library import LIBRARY, Files
from tests.support.media import Audio, Video, regular, write

KEYS = {
    "encryption_scheme": "cenc-aes-ctr",
    "encryption_key": "00112233445566778899aabbccddeeff",
    "encryption_kid": "0123456789abcdef0123456789abcdef",
}
VIDEO = Video(regular(4, 25), bframes=2)
MPEG = Video(regular(4, 25), "mpeg2video", time_base=Fraction(1, 25), options={"b": "2000000"})
OLD = Video(regular(4, 25), "mpeg4", time_base=Fraction(1, 25))
PLAIN: dict[str, tuple[Video, Audio]] = {
    "a.mp4": (VIDEO, Audio(4)),
    "a.mov": (VIDEO, Audio(4, codec="pcm_s16le")),
    "a.mkv": (VIDEO, Audio(4, codec="pcm_s16le")),
    "a.ts": (VIDEO, Audio(4)),
    "a.m2ts": (VIDEO, Audio(4)),
    "a.mpg": (MPEG, Audio(4, codec="mp2")),
    "a.flv": (VIDEO, Audio(4)),
    "a.asf": (OLD, Audio(4, codec="wmav2")),
    "a.mxf": (MPEG, Audio(4, codec="pcm_s16le", rate=48000)),
}
FORMATS = {"a.mpg": "vob", "a.m2ts": "mpegts"}


def plain(folder: Path, name: str) -> str:
    options = {"mpegts_m2ts_mode": "1"} if name == "a.m2ts" else {}
    return write(folder / name, *PLAIN[name], format=FORMATS.get(name), options=options)


def audio(path: str) -> None:
    read_audio(path, [0.5], 3.0, 16000)


def video(path: str) -> None:
    read_video(path, [0.5], 3.0, fps=5, resize=(128, 171), crop=(112, 112))


def reason(read: Callable[[str], None], path: str) -> str | None:
    try:
        read(path)
    except MediaError as error:
        return error.reason
    return None


@pytest.mark.parametrize("name", PLAIN)
def test_files_that_are_not_encrypted_are_read(name: str, tmp_path: Path) -> None:
    path = plain(tmp_path, name)
    assert (reason(audio, path), reason(video, path)) == (None, None)


@pytest.mark.parametrize("name", LIBRARY)
def test_no_file_of_the_library_is_encrypted(name: str, library: Files) -> None:
    with open_media(library(name)) as media:
        for kind in ("audio", "video"):
            if media.best(kind) is not None:  # type: ignore[arg-type]
                media.only(kind)  # type: ignore[arg-type]


@pytest.mark.parametrize("codec", ["aac", "pcm_s16le"])
@pytest.mark.parametrize("fragmented", [False, True])
def test_common_encryption(codec: str, fragmented: bool, tmp_path: Path) -> None:
    flags = {"movflags": "frag_keyframe+empty_moov"} if fragmented else {}
    form = "mov" if codec == "pcm_s16le" else "mp4"
    path = write(tmp_path / "a.mp4", VIDEO, Audio(4, codec=codec), format=form, options=KEYS | flags)
    assert (reason(audio, path), reason(video, path)) == ("encrypted", "encrypted")
    assert probe(path).duration == pytest.approx(4, abs=0.1)
    with pytest.raises(MediaError, match="the audio is encrypted") as raised:
        first.audio(path, starts=[0.0], seconds=3.0, rate=16000, partial=True)
    assert raised.value.filtered and not REASONS["decode_error"].filtered
    with pytest.raises(MediaError, match="the video is encrypted"):
        first.video(path, decoder="pyav", starts=[0.0], seconds=1.0, fps=5, resize=(128, 171), crop=(112, 112))


@pytest.mark.parametrize("kind", ["audio", "video"])
def test_only_one_stream_is_encrypted(kind: str, tmp_path: Path) -> None:
    """Sample descriptions are turned back to clear ones in one of the two tracks."""
    path = Path(write(tmp_path / "a.mp4", VIDEO, Audio(4), options=KEYS))
    data = path.read_bytes()
    wrong, right = (b"encv", b"avc1") if kind == "audio" else (b"enca", b"mp4a")
    position = data.index(wrong)
    data = data.replace(wrong, right)
    position = data.index(b"sinf", position)
    path.write_bytes(data[:position] + b"free" + data[position + 4 :])
    with open_media(str(path)) as media:
        media.only("video" if kind == "audio" else "audio")
    with open_media(str(path)) as media, pytest.raises(MediaError) as raised:
        media.only(kind)  # type: ignore[arg-type]
    assert raised.value.reason == "encrypted"


def test_matroska(tmp_path: Path) -> None:
    """The audio track gets a ContentEncoding of type encryption in the place of its language and FlagLacing."""
    path = Path(plain(tmp_path, "a.mkv"))
    data = path.read_bytes()
    before, behind = data[: data.index(b"A_PCM")], data[data.index(b"A_PCM") :]
    head, unneeded, rest = before.rpartition(bytes.fromhex("9c810022b59c83") + b"und")
    assert unneeded
    path.write_bytes(head + bytes.fromhex("6d8087" + "624084" + "50338101") + rest + behind)
    assert (reason(audio, str(path)), reason(video, str(path))) == ("encrypted", None)


@pytest.mark.parametrize("name", ["a.ts", "a.m2ts"])
@pytest.mark.parametrize("pid, kind", [(257, "audio"), (256, "video")])
@pytest.mark.parametrize("how", ["packets", "late packets", "PES"])
def test_transport_streams(name: str, pid: int, kind: str, how: str, tmp_path: Path) -> None:
    path = Path(plain(tmp_path, name))
    data = bytearray(path.read_bytes())
    step = 192 if name == "a.m2ts" else 188
    if name == "a.m2ts":
        pid = {257: 0x1100, 256: 0x1011}[pid]
    for position in range(step - 188, len(data), step):
        if (data[position + 1] & 31) * 256 + data[position + 2] == pid and (
            how != "late packets" or position > len(data) / 2
        ):
            if how == "PES":
                payload = position + 4 + (1 + data[position + 4] if data[position + 3] & 32 else 0)
                if data[position + 1] & 64 and payload < position + 181:
                    data[payload + 6] |= 0x20
            else:
                data[position + 3] |= 0x80
    path.write_bytes(data)
    with open_media(str(path)) as media, pytest.raises(MediaError) as raised:
        media.only(kind)  # type: ignore[arg-type]
    assert raised.value.reason == "encrypted"
    with open_media(str(path)) as media:
        media.only("audio" if kind == "video" else "video")


def test_sample_aes(tmp_path: Path) -> None:
    """The map says that AAC is AAC encrypted as for HLS; FFmpeg does not check the checksum here either."""
    path = Path(plain(tmp_path, "a.ts"))
    data = bytearray(path.read_bytes())
    changed = 0
    for position in range(0, len(data), 188):
        entry = data.find(b"\x0f\xe1\x01", position, position + 188)
        if data[position + 1] & 0x5F == 0x50 and data[position + 2] == 0 and entry > 0:
            data[entry] = 0xCF
            end = position + 5 + 3 + (data[position + 6] & 15) * 256 + data[position + 7] - 4
            data[end : end + 4] = crc(bytes(data[position + 5 : end]))
            changed += 1
    assert changed
    path.write_bytes(data)
    assert (reason(audio, str(path)), reason(video, str(path))) == ("encrypted", None)


def crc(section: bytes) -> bytes:
    """CRC-32 of MPEG tables."""
    value = 0xFFFFFFFF
    for byte in section:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value & 0x80000000 else 0)) & 0xFFFFFFFF
    return value.to_bytes(4)


@pytest.mark.parametrize("code, read", [(0xC0, audio), (0xE0, video)])
def test_program_streams(code: int, read: Callable[[str], None], tmp_path: Path) -> None:
    path = Path(plain(tmp_path, "a.mpg"))
    data = bytearray(path.read_bytes())
    position = data.find(bytes([0, 0, 1, code]))
    while position >= 0:
        data[position + 6] |= 0x10  # of the two bits
        position = data.find(bytes([0, 0, 1, code]), position + 4)
    path.write_bytes(data)
    assert reason(read, str(path)) == "encrypted"
    assert reason(audio if read is video else video, str(path)) is None


@pytest.mark.parametrize("how", ["object", "flag"])
def test_asf(how: str, tmp_path: Path) -> None:
    path = Path(plain(tmp_path, "a.asf"))
    data = bytearray(path.read_bytes())
    if how == "flag":
        properties = bytes.fromhex("9107dcb7b7a9cf118ee600c00c205365")
        position = data.index(properties)
        while data[position + 24] != 0x40:  # the stream's type: audio
            position = data.index(properties, position + 1)
        data[position + 73] |= 0x80
    else:
        # The codec list is not needed to play; its place is taken by a Content Encryption Object.
        position = data.index(bytes.fromhex("4052d1861d31d011a3a400a0c90348f6"))
        data[position : position + 16] = bytes.fromhex("fbb3112223bdd211b4b700a0c955fc6e")
        size = int.from_bytes(data[position + 16 : position + 24], "little")
        data[position + 24 : position + size] = bytes(size - 24)
    path.write_bytes(data)
    assert reason(audio, str(path)) == "encrypted"
    assert reason(video, str(path)) == (None if how == "flag" else "encrypted")


def test_flv(tmp_path: Path) -> None:
    path = Path(plain(tmp_path, "a.flv"))
    data = bytearray(path.read_bytes())
    position = 13
    while position < len(data):
        if data[position] == 8:
            data[position] |= 0x20
        position += 15 + int.from_bytes(data[position + 1 : position + 4])
    path.write_bytes(data)
    assert (reason(audio, str(path)), reason(video, str(path))) == ("encrypted", None)


def test_mxf(tmp_path: Path) -> None:
    """A filler becomes a cryptographic context."""
    path = Path(plain(tmp_path, "a.mxf"))
    data = bytearray(path.read_bytes())
    position = data.index(bytes.fromhex("060e2b34010101020301021001000000"))
    data[position : position + 16] = bytes.fromhex("060e2b34025301010d01040102020000")
    path.write_bytes(data)
    assert reason(audio, str(path)) == "encrypted"


@pytest.mark.parametrize("name", PLAIN)
def test_broken_files_are_not_called_encrypted_and_end_in_time(name: str, tmp_path: Path) -> None:
    whole = Path(plain(tmp_path, name)).read_bytes()
    rng = random.Random(name)
    for trial in range(25):
        data = bytearray(whole[: rng.randrange(200, len(whole))] if trial % 2 else whole)
        for _ in range(rng.randrange(30)):
            data[rng.randrange(min(len(data), 4000))] = rng.randrange(256)
        path = tmp_path / f"broken{trial}-{name}"
        path.write_bytes(data)
        assert reason(audio, str(path)) != "encrypted"

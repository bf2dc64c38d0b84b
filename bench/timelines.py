"""Whether audio and video of a segment are the same content, in files whose time is wrong: container × fault × outcome.

    python -m bench.timelines FOLDER        writes bench/results/timelines.json

Needs the ffmpeg command line tool (with libx264, libx265, libvpx, libxvid and libtheora), which makes the files in
FOLDER from a content in which every frame carries its number and every second a click of its own. Each file is
probed, six segments are drawn as in an extraction, and both readers read them. `right`: at every click the frame is
the content's of that time, within TOLERANCE. A reason: the file, or one modality of it, failed with that reason.
`WRONG`: anything else. Audio that is used without video has to be that of its second. With `--healthy FILE …` the
probe's cost is measured against opening the file and reading its durations (CPU time).
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.known import FPS, clicks, number
from bench.measure import save
from bench.timeline_media import VARIANTS, Maker, Variant
from config.cli import parser, run
from config.pipeline import Segments
from data.segments import segment_starts
from pipeline.readers import MediaError
from pipeline.readers.audio import read_audio
from pipeline.readers.container import MediaInfo, probe
from pipeline.readers.opening import open_media
from pipeline.readers.video import read_video

TOLERANCE = 0.16
"""Seconds between audio and video that are still in sync: AAC's and MP3's delay, 50 ms, a frame, Xvid's two."""
RATE = 16000
SHOWN_A_SECOND = 25


def differences(path: str, info: MediaInfo, start: float, seconds: float) -> list[float]:
    """Return by how many seconds the video is ahead of the audio at every click of a segment. Raises MediaError."""
    audio = read_audio(path, [start], seconds, RATE, timeline=info.timeline).segments[0]
    frames = read_video(
        path, [start], seconds, fps=SHOWN_A_SECOND, resize=(120, 160), crop=(120, 160), timeline=info.timeline
    )[0]
    shown = np.array([number(frame) for frame in frames]) / FPS
    ahead = []
    for second, heard in clicks(audio, RATE):
        frame = min(round(heard * SHOWN_A_SECOND), len(shown) - 1)
        ahead.append(float(shown[frame] + heard - frame / SHOWN_A_SECOND - second))
    return ahead


def outcome(path: str, name: str) -> dict[str, Any]:
    """Return what becomes of one file: `right`, `WRONG`, or reasons; the seconds used, the largest difference."""
    spec = Segments()
    try:
        info = probe(path)
    except MediaError as error:
        return {"outcome": error.reason, "message": error.message}
    starts = segment_starts(name, info.duration - info.begin, spec)
    if starts is None:
        return {"outcome": "too_short", "message": f"{info.duration - info.begin:.2f} s"}
    offsets: list[float] = []
    reasons: dict[str, None] = {}
    for start in (starts + info.begin).tolist():
        try:
            offsets += differences(path, info, start, spec.seconds)
        except MediaError as error:
            try:
                audio = read_audio(path, [start], spec.seconds, RATE, timeline=info.timeline).segments[0]
            except MediaError as audio_error:
                reasons[f"audio: {audio_error.reason}"] = None
                continue
            reasons[f"video: {error.reason}"] = None
            offsets += [second - start - heard for second, heard in clicks(audio, RATE)]  # the audio is used alone
    worst = max((abs(difference) for difference in offsets), default=0.0)
    words = ", ".join(reasons) or "right"
    wrong = worst > TOLERANCE or not (offsets or reasons)
    return {
        "outcome": "WRONG" if wrong else words,
        "seconds": round(info.duration - info.begin, 2),
        "worst": round(worst, 3),
        "clicks": len(offsets),
    }


def cost(path: Path, repeats: int = 15) -> dict[str, float]:
    """Return CPU time in ms (least of `repeats`) of opening a file and reading its durations, and of the probe."""

    def floor() -> None:
        with open_media(str(path)) as media:
            [(stream.start_time, stream.duration) for stream in media.container.streams]

    def least(function: Any) -> float:
        times = []
        for _ in range(repeats):
            began = time.process_time()
            function()
            times.append(time.process_time() - began)
        return round(min(times) * 1000, 2)

    return {"open_ms": least(floor), "probe_ms": least(lambda: probe(str(path)))}


def measure(folder: Path, variants: tuple[Variant, ...], healthy: list[Path]) -> dict[str, Any]:
    """Return all outcomes, and what probing the `healthy` files costs. CalledProcessError where ffmpeg fails."""
    folder.mkdir(parents=True, exist_ok=True)
    maker = Maker(folder)
    rows = []
    for variant in variants:
        path = folder / f"{variant.fault} {variant.words.replace('/', ' ')}.{variant.suffix}"
        if not path.exists():
            variant.make(maker, path)
        row = {"fault": variant.fault, "container": variant.suffix, "words": variant.words, "content": variant.seconds}
        rows.append(row | outcome(str(path), path.name))
        print(*rows[-1].values(), flush=True)
    return {"files": rows, "healthy": {path.name: cost(path) for path in healthy}}


def main() -> None:
    """Run the command line."""
    command_line = parser(__doc__, "bench.timelines", config=False)
    command_line.add_argument("folder", type=Path, help="where the files are made and kept")
    command_line.add_argument(
        "--healthy", type=Path, nargs="+", default=[], metavar="FILE", help="files that are right, to time"
    )
    command_line.add_argument("--only", metavar="FAULT", help="only this fault, without saving")
    arguments = command_line.parse_args()
    chosen = tuple(variant for variant in VARIANTS if arguments.only in (None, variant.fault))
    try:
        result = measure(arguments.folder, chosen, arguments.healthy)
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"ffmpeg failed: {' '.join(error.cmd)}\n{error.stderr}") from error
    if arguments.only is None:
        save("timelines", "python -m bench.timelines FOLDER", result)


if __name__ == "__main__":
    run(main)

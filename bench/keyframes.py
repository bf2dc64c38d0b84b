"""Segments that start at keyframes against random ones: processor seconds and bytes read for one video's segments.

    python -m bench.keyframes FOLDER [--repeats 8] [--seconds 240]

Reads the files of bench.media in FOLDER and three of its own (renders what is missing); writes
bench/results/keyframes.json. What a random start costs depends on where it falls, so each repeat draws other segments.
Every measurement is a process of its own, importing done before the clock starts; the starts take turns, so other load
disturbs all alike. Ratios are of sums over the repeats.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from bench.measure import SECONDS, SEGMENTS, bar, child, markdown, measured, save, start, summary
from bench.media import FILES as MEDIA
from bench.media import SECONDS as DURATION
from bench.media import path_of, render
from config.cli import parser

FPS, RESIZE, CROP = 10.0, (128, 171), (112, 112)
ENCODED = {file.name: file for file in MEDIA}
H264 = ENCODED["h264_gop250"]
FIXED = {"scenecut": "0", "keyint": "250", "min-keyint": "250"}
FILES = (
    replace(
        H264,
        name="h264_fixed250",
        options={**H264.options, "x264-params": ":".join(f"{key}={value}" for key, value in FIXED.items())},
        words="H.264, fixed GOP 250",
    ),
    replace(
        H264,
        name="hevc_fixed250",
        codec="libx265",
        options={
            "preset": "superfast",
            "b": "2000k",
            "x265-params": ":".join(
                f"{option}={value}" for option, value in (FIXED | {"open-gop": "0", "log-level": "none"}).items()
            ),
        },
        words="HEVC, fixed GOP 250",
    ),
    replace(ENCODED["av1"], words="AV1, 0.6 Mbit/s"),
    replace(ENCODED["av1"], name="av1_2500k", options={"preset": "12", "b": "2500k"}, words="AV1, 1.8 Mbit/s"),
    replace(H264, words="H.264, GOP ≤ 250, scene cuts"),
    ENCODED["vp9"],
)
BARS = dict(zip((file.name for file in FILES), (0.55, 0.55, 0.55, 0.55, 0.75, 0.75), strict=True))
"""The largest ratio of processor seconds of decoding, keyframe starts to random ones, by file."""
STARTS = {"random": "random", "keyframe": "keyframe, drawn", "nearest": "keyframe, nearest"}
"""How starts are chosen; `nearest`: the keyframe that is nearest to the random start, which is no option."""


def starts_of(how: str, path: str, video_id: str) -> list[float]:
    """Return where the segments begin (s), as the store has them."""
    from config.pipeline import Segments
    from data.segments import not_before, segment_starts
    from pipeline.readers.container import probe
    from pipeline.readers.keyframes import opened
    from pipeline.readers.keyframes import probe as with_keyframes

    if how == "keyframe":
        return list(with_keyframes(path, video_id, Segments(start="keyframe")).starts)
    end = probe(path).duration
    random = segment_starts(video_id, end, Segments())
    assert random is not None
    if how == "random":
        return [float(np.float32(start)) for start in random]
    nearest, part = [], end / SEGMENTS
    with opened(path) as keyframes:
        for i, wanted in enumerate(random.tolist()):
            first, last = i * part, (i + 1) * part - SECONDS
            times = [keyframes.shown(number) for number in keyframes.listed(first, last)]
            fits = [not_before(time) for time in times if time is not None and first <= time <= last]
            nearest.append(min(fits, key=lambda time: abs(time - wanted), default=float(np.float32(wanted))))
    return nearest


def measure(how: str, path: str, video_id: str) -> dict[str, Any]:
    """Measure once, in this process: what finding starts and reading segments cost, and scaling of that."""
    from pipeline.readers import keyframes, video_pyav  # noqa: F401  their import is not the file's cost
    from pipeline.readers.video import read_video

    scaling, scaled = 0.0, video_pyav._Reader._array

    def timed_scaling(*frame: Any) -> Any:
        nonlocal scaling
        before = time.process_time()
        array = scaled(*frame)
        scaling += time.process_time() - before
        return array

    starts, finding = measured(lambda: starts_of(how, path, video_id))
    with patch.object(video_pyav._Reader, "_array", timed_scaling):
        clips, reading = measured(
            lambda: read_video(path, starts, SECONDS, fps=FPS, resize=RESIZE, crop=CROP, timeline=[])
        )
    return {
        "finding": finding,
        "reading": reading | {"scaling": scaling, "decoding": reading["cpu"] - scaling},
        "frames": int(np.prod(clips.shape[:2])),
    }


def bench(folder: Path, duration: float, repeats: int) -> dict[str, Any]:
    """Measure every file with every kind of starts, `repeats` draws by turns; return the result file's content."""
    files = render(folder, duration, FILES)
    measurements: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for repeat in range(repeats):
        for file in files:
            for how in STARTS:
                measurements[file.name, how].append(
                    child("bench.keyframes", how, str(path_of(folder, file)), f"bench {repeat}")
                )
    rows = []
    for (name, how), runs in measurements.items():
        random = measurements[name, "random"]
        rows.append(
            {
                "file": next(file.words for file in files if file.name == name),
                "starts": how,
                "cpu_seconds": summary(run["reading"]["cpu"] for run in runs),
                "cpu_ratio": round(_sum(runs, "reading", "cpu") / _sum(random, "reading", "cpu"), 3),
                "scaling_cpu_seconds": round(_sum(runs, "reading", "scaling") / len(runs), 3),
                "decoding_ratio": round(_sum(runs, "reading", "decoding") / _sum(random, "reading", "decoding"), 3),
                "cpu_ratio_each": summary(
                    run["reading"]["cpu"] / other["reading"]["cpu"] for run, other in zip(runs, random, strict=True)
                ),
                "read_ratio": round(_sum(runs, "reading", "read") / _sum(random, "reading", "read"), 3),
                "megabytes_read": round(_sum(runs, "reading", "read") / len(runs) / 1e6, 1),
                "finding_cpu_seconds": round(_sum(runs, "finding", "cpu") / len(runs), 4),
                "finding_megabytes_read": round(_sum(runs, "finding", "read") / len(runs) / 1e6, 1),
                "frames": runs[0]["frames"],
            }
        )
    kept = {(row["file"], row["starts"]): row["cpu_ratio"] for row in rows}
    return {
        "seconds": duration,
        "segments": SEGMENTS,
        "segment_seconds": SECONDS,
        "fps": FPS,
        "repeats": repeats,
        "rows": rows,
        "bars": [
            bar(
                f"decoding from keyframe starts / random ones, {file.words}",
                kept[file.words, "keyframe"],
                at_most=BARS[file.name],
            )
            for file in files
        ],
    }


def _sum(runs: list[dict[str, Any]], step: str, cost: str) -> float:
    return sum(float(run[step][cost]) for run in runs)


def table(result: dict[str, Any]) -> str:
    """Return the costs as Markdown, a file a line."""
    rows = {(row["file"], row["starts"]): row for row in result["rows"]}
    lines = []
    for file in dict.fromkeys(row["file"] for row in result["rows"]):
        random, drawn, nearest = (rows[file, how] for how in STARTS)
        lines.append(
            [
                file,
                *(f"{row['cpu_seconds']['median']:.2f} s, {row['megabytes_read']:.0f} MB" for row in (random, drawn)),
                f"{drawn['cpu_ratio']:.2f}",
                f"{drawn['decoding_ratio']:.2f}",
                f"{nearest['cpu_ratio']:.2f}",
                f"{drawn['read_ratio']:.2f}",
                *(
                    f"{1000 * row['finding_cpu_seconds']:.0f} ms, {row['finding_megabytes_read']:.1f} MB"
                    for row in (random, drawn)
                ),
            ]
        )
    header = [
        "file",
        "random starts",
        "keyframe starts",
        "ratio of CPU",
        "without scaling",
        "nearest keyframe",
        "ratio of bytes",
    ]
    return markdown([*header, "file check, random", "file check, keyframes"], lines)


def main() -> None:
    """Run the command line."""
    command_line = parser(__doc__, "bench.keyframes", config=False)
    command_line.add_argument("folder", type=Path, help="where the bench's files are kept")
    command_line.add_argument("--repeats", type=int, default=8, help="draws of segments")
    command_line.add_argument("--seconds", type=float, default=DURATION, help="length of each file")
    arguments = command_line.parse_args()
    result = bench(arguments.folder, arguments.seconds, arguments.repeats)
    save("keyframes", f"python -m bench.keyframes FOLDER --repeats {arguments.repeats}", result)
    print(table(result))


if __name__ == "__main__":
    start(main, measure)

"""The video decoders compared: processor seconds and bytes read for one video's segments.

    python -m bench.decode FOLDER [--repeats 3] [--seconds 240]

Reads the files of bench.media in FOLDER (renders what is missing); writes bench/results/decode.json. Every
measurement is a process of its own, importing done before the clock starts; decoders take turns, medians are reported.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from bench.measure import SECONDS, SEGMENTS, child, markdown, measured, save, start, starts_of, summary
from bench.media import SECONDS as DURATION
from bench.media import path_of, render
from config.cli import parser

FPS, RESIZE, CROP = 10.0, (128, 171), (112, 112)
DECODERS = {
    "pyav": "PyAV, skipping unneeded frames",
    "plain": "PyAV, every frame after the seek",
    "decord": "decord",
}


def frames_of(decoder: str, path: str, starts: list[float]) -> np.ndarray:
    from pipeline.readers import video, video_pyav

    skipping = () if decoder == "plain" else video_pyav.SKIPPING
    reader = "decord" if decoder == "decord" else "pyav"
    with patch.object(video_pyav, "SKIPPING", skipping):
        return video.read_video(path, starts, SECONDS, fps=FPS, resize=RESIZE, crop=CROP, decoder=reader)


def measure(decoder: str, path: str, duration: str) -> dict[str, Any]:
    """Measure once, in this process: processor seconds, wall seconds, bytes; or why the decoder refuses the file."""
    from pipeline.readers import MediaError

    if decoder == "decord":
        import decord  # noqa: F401  its import is not the file's cost
    from pipeline.readers import video, video_pyav  # noqa: F401

    try:
        clips, cost = measured(lambda: frames_of(decoder, path, starts_of(float(duration))))
    except MediaError as error:
        return {"refused": str(error)}
    return {**cost, "frames": int(np.prod(clips.shape[:2])), "mean": float(clips.mean())}


def bench(folder: Path, duration: float, repeats: int) -> dict[str, Any]:
    """Measure every file with every decoder, `repeats` times by turns; return the result file's content."""
    files = render(folder, duration)
    measurements: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for _ in range(repeats):
        for file in files:
            for decoder in DECODERS:
                measurements[file.name, decoder].append(
                    child("bench.decode", decoder, str(path_of(folder, file)), str(duration))
                )
    rows = []
    for (name, decoder), runs in measurements.items():
        row: dict[str, Any] = {"file": next(file.words for file in files if file.name == name), "decoder": decoder}
        if "refused" in runs[0]:
            row["refused"] = runs[0]["refused"]
        else:
            row |= {"cpu_seconds": summary(run["cpu"] for run in runs), "frames": runs[0]["frames"]}
            row |= {"megabytes_read": round(runs[0]["read"] / 1e6, 1), "mean_pixel": round(runs[0]["mean"], 3)}
        rows.append(row)
    return {"seconds": duration, "segments": SEGMENTS, "segment_seconds": SECONDS, "fps": FPS, "rows": rows}


def table(result: dict[str, Any]) -> str:
    """Return the costs as Markdown: a decoder a line, a file a column."""
    files = dict.fromkeys(row["file"] for row in result["rows"])
    return markdown(
        ["decoder", *files],
        [
            [words, *(_cell(row) for row in result["rows"] if row["decoder"] == decoder)]
            for decoder, words in DECODERS.items()
        ],
    )


def _cell(row: dict[str, Any]) -> str:
    if "refused" in row:
        return "cannot open it"
    return f"{row['cpu_seconds']['median']:.2f} s, {row['megabytes_read']:.0f} MB"


def main() -> None:
    """Run the command line."""
    command_line = parser(__doc__, "bench.decode", config=False)
    command_line.add_argument("folder", type=Path, help="where the bench's files are kept")
    command_line.add_argument("--repeats", type=int, default=3)
    command_line.add_argument("--seconds", type=float, default=DURATION, help="length of each file")
    arguments = command_line.parse_args()
    result = bench(arguments.folder, arguments.seconds, arguments.repeats)
    save("decode", f"python -m bench.decode FOLDER --repeats {arguments.repeats}", result)
    print(table(result))


if __name__ == "__main__":
    start(main, measure)

"""Members of tar shards beside plain files: processor seconds and bytes read, and what a shard's index costs.

    python -m bench.shards FOLDER [--repeats 5] [--seconds 240] [--members 1000]

Reads the H.264 file of bench.media in FOLDER (renders it if it is missing) and writes two shards there; writes
bench/results/shards.json. Every reading is a process of its own, importing done before the clock starts; file and
member take turns. The shard for the index has holes for contents: of it only headers are read, by the project and by
Python's tarfile.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from bench.measure import (
    RATE,
    SECONDS,
    SEGMENTS,
    bar,
    child,
    markdown,
    measured,
    save,
    start,
    starts_of,
    summary,
    timed,
)
from bench.media import FILES, path_of, render
from bench.media import SECONDS as DURATION
from config.cli import parser

HOW = {"file": "plain file", "member": "member, read in place", "copied": "member, copied first (`decoding.staging`)"}
FILE = FILES[0]
SIZE = 950_000
"""Bytes of each member of the shard for the index."""


def write_shard(path: Path, video: Path) -> None:
    """Write a shard with the video between two members of the same bytes."""
    with tarfile.open(path, "w") as tar:
        for name in ("before.mp4", "clip.mp4", "after.mp4"):
            tar.add(video, name)


def write_headers(path: Path, members: int) -> None:
    """Write a shard of `members` videos with `.json` beside them; the videos are holes."""
    with open(path, "wb") as file, tarfile.open(fileobj=file, mode="w") as tar:
        for number in range(members):
            about = tarfile.TarInfo(f"{number:09d}.json")
            about.size = 2
            tar.addfile(about, io.BytesIO(b"{}"))
            video = tarfile.TarInfo(f"{number:09d}.mp4")
            video.size = SIZE
            tar.addfile(video)
            tar.offset = -(-(tar.offset + SIZE) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
            file.seek(tar.offset)


def measure(how: str, path: str, shard: str, duration: str, folder: str) -> dict[str, Any]:
    """Probe and read the audio and the frames of six segments once, in this process; return the costs and a digest."""
    from data.places import File, Member, Place
    from pipeline.access import Access, opened
    from pipeline.readers import audio, container, video, video_pyav  # noqa: F401

    starts = starts_of(float(duration))
    place: Place = File(path) if how == "file" else Member(shard, "clip.mp4")
    access = Access(staging=folder if how == "copied" else None)

    def read() -> str:
        digest = hashlib.sha256()
        with opened(place, access) as source:
            timeline = container.probe(source).timeline
            digest.update(audio.read_audio(source, starts, SECONDS, RATE, timeline=timeline).segments.tobytes())
            scaled: dict[str, Any] = {"fps": 10.0, "resize": (128, 171), "crop": (112, 112), "timeline": timeline}
            digest.update(video.read_video(source, starts, SECONDS, **scaled).tobytes())
        return digest.hexdigest()

    digest, cost = measured(read)
    return {**cost, "digest": digest}


def of_index(shard: Path, folder: Path, repeats: int) -> dict[str, Any]:
    """Return the seconds of walking through a shard, of reading the index that is kept, of finding one member with it,
    and of tarfile's list of members; the shard is in the system's memory."""
    from data import tar_index

    def listed() -> int:
        with tarfile.open(shard) as archive:
            return len(archive.getmembers())

    def walked(kept: Path | None) -> int:
        return len(tar_index.index_of(str(shard), kept).entries)

    name = f"{7:09d}.mp4"
    ways = {
        "walk": lambda: walked(None),
        "kept": lambda: walked(folder),
        "tarfile": listed,
        "member": lambda: tar_index.located(str(shard), name, folder),
    }
    expected = listed()
    seconds: dict[str, list[float]] = defaultdict(list)
    for _ in range(repeats + 1):
        for way, work in ways.items():
            found, took = timed(work)
            assert way == "member" or found == expected, "the two list other members"
            seconds[way].append(took)
    return {"members": expected, **{way: summary(took[1:], 6) for way, took in seconds.items()}}


def bench(folder: Path, duration: float, repeats: int, members: int) -> dict[str, Any]:
    """Measure `repeats` times by turns; return the result file's content."""
    render(folder, duration, [FILE])
    video, shard, headers = path_of(folder, FILE), folder / "shard.tar", folder / "headers.tar"
    write_shard(shard, video)
    runs: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for _ in range(repeats):
        for how in HOW:
            runs[how].append(child("bench.shards", how, str(video), str(shard), str(duration), str(folder)))
    assert len({run["digest"] for how in HOW for run in runs[how]}) == 1, "a member gives other numbers than its file"
    rows = [
        {
            "source": how,
            "cpu_seconds": summary(run["cpu"] for run in runs[how]),
            "megabytes_read": round(runs[how][0]["read"] / 1e6, 1),
        }
        for how in HOW
    ]
    write_headers(headers, members)
    indexes = folder / "indexes"
    index = of_index(headers, indexes, repeats)
    for path in (shard, headers, *indexes.iterdir()):
        os.unlink(path)
    ratio = rows[1]["cpu_seconds"]["median"] / rows[0]["cpu_seconds"]["median"]
    return {
        "seconds": duration,
        "megabytes": round(video.stat().st_size / 1e6, 1),
        "segments": SEGMENTS,
        "segment_seconds": SECONDS,
        "rows": rows,
        "index": index,
        "bars": [bar("member of a tar shard, processor seconds beside the plain file", ratio, at_most=1.05)],
    }


def table(result: dict[str, Any]) -> str:
    """Return the costs as Markdown."""
    rows = [
        [HOW[row["source"]], f"{row['cpu_seconds']['median']:.2f} s", f"{row['megabytes_read']:.0f} MB"]
        for row in result["rows"]
    ]
    return markdown(["source", "processor", "read"], rows)


def index_words(result: dict[str, Any]) -> str:
    """Return what the index of a shard costs, as a sentence."""
    index = result["index"]
    walk, kept, others = (1000 * index[way]["median"] for way in ("walk", "kept", "tarfile"))
    return (
        f"A shard of {index['members']:,} members (videos and their `.json`): {walk:.0f} ms to walk through its "
        f"headers (Python's tarfile: {others:.0f} ms), {kept:.0f} ms to read the list that is kept, and "
        f"{1e6 * index['member']['median']:.0f} µs to find one member, its header compared."
    )


def main() -> None:
    """Run the command line."""
    command_line = parser(__doc__, "bench.shards", config=False)
    command_line.add_argument("folder", type=Path, help="where the bench's files are kept")
    command_line.add_argument("--repeats", type=int, default=5)
    command_line.add_argument("--seconds", type=float, default=DURATION, help="length of the file")
    command_line.add_argument("--members", type=int, default=1000, help="videos in the shard for the index")
    arguments = command_line.parse_args()
    result = bench(arguments.folder, arguments.seconds, arguments.repeats, arguments.members)
    save("shards", f"python -m bench.shards FOLDER --repeats {arguments.repeats}", result)
    print(table(result))
    print(index_words(result))


if __name__ == "__main__":
    start(main, measure)

"""The fault campaign: damaged and hostile files among good ones, through the real jobs and both video decoders.

    python -m bench.faults                      1,100 damaged files; writes bench/results/faults.json
    python -m bench.faults --damaged 30 --good 4 --no-result --folder DIR

What must hold: no job dies, none stands still for longer than deadlines explain, every video is in the arrays or in the
ledger, and the good neighbours have the same bytes as in a run without the bad ones. Exit status 1 if it does not.
Writes the files and the results folders into a temporary folder (or DIR), and fetches MusicNN's weights, or takes them
from `--musicnn FILE`.
"""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av

from bench.damage import damaged
from bench.hostile import Hostile, hostile
from bench.runs import Run, finish, working_folder, write_table
from config.cli import parser
from config.pipeline import Render
from data.render import render_video
from pipeline.readers import REASONS

SEED = 3
DEADLINE = 10.0
PATIENCE = 120.0
"""Seconds without a new outcome after which a job is hung: two tries of a few tasks in turn, and a slow start."""
REMUXED = ("mkv", "ts", "flv", "mov")
VIDEO_BACKBONES = {"pyav": "r2plus1d", "decord": "r2plus1d"}
"""The backbone that sees the frames of each decoder."""
SETTINGS: dict[str, dict[str, Any]] = {
    "r2plus1d": {"weights": "random", "options": {"fps": 1.0}},
    "picture_descriptors": {"weights": "none"},
}


def good_files(folder: Path, count: int) -> list[Path]:
    """Render `count` short music videos (mp4, every eighth webm) and put further copies into other containers."""
    folder.mkdir()
    render = Render(videos=count, seconds=(4.0, 6.0), seed=SEED)
    rendered = [render_video(render, i, folder) for i in range(count - 1)]
    rendered.append(render_video(render, 7, folder) if count <= 7 else render_video(render, count - 1, folder))
    copies = [remuxed(rendered[i % (count - 1)], suffix) for i, suffix in enumerate(REMUXED)]
    return [*rendered, *copies, recoded(rendered[0])]


def remuxed(path: Path, suffix: str) -> Path:
    """Copy the streams into another container, beside the file."""
    target = path.with_name(f"{path.stem}-in-{suffix}.{suffix}")
    with av.open(str(path)) as source, av.open(str(target), "w") as out:
        streams = {stream.index: out.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                out.mux(packet)
    return target


def recoded(path: Path) -> Path:
    """Encode as MPEG-4 and PCM in AVI, beside the file: codecs and a container that the others do not have."""
    target = path.with_suffix(".avi")
    with av.open(str(path)) as source, av.open(str(target), "w") as out:
        frames, samples = source.streams.video[0], source.streams.audio[0]
        video: Any = out.add_stream("mpeg4", rate=frames.average_rate)
        video.width, video.height, video.pix_fmt = frames.width, frames.height, "yuv420p"
        audio: Any = out.add_stream("pcm_s16le", rate=samples.rate, layout="mono")
        for frame in source.decode(frames, samples):
            if isinstance(frame, av.VideoFrame):
                packets = video.encode(av.VideoFrame.from_ndarray(frame.to_ndarray(), format="yuv420p"))
            elif isinstance(frame, av.AudioFrame):
                packets = audio.encode(frame)
            out.mux(packets)
        for stream in (video, audio):
            out.mux(stream.encode(None))
    return target


@contextmanager
def nobody_calls() -> Iterator[tuple[int, list[str]]]:
    """Listen on a local port; yield it and the list of those who connected so far."""
    calls: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    connection, address = server.accept()
                except OSError:
                    return
                calls.append(str(address))
                connection.close()

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1], calls
        server.shutdown(socket.SHUT_RDWR)


def mixed(good: list[tuple[str, Path]], bad: list[tuple[str, Path]]) -> list[tuple[str, Path]]:
    """Return the bad ones in order with the good ones spread evenly among them."""
    step = len(bad) / len(good)
    keyed = [(i + 0.5, video) for i, video in enumerate(bad)] + [
        ((i + 0.5) * step + 0.1, video) for i, video in enumerate(good)
    ]
    return [video for _, video in sorted(keyed, key=lambda pair: pair[0])]


def campaign(
    folder: Path,
    count: int,
    goods: int,
    musicnn: str,
    shard: int,
    seed: int,
    huge: bool = True,
    video_backbones: dict[str, str] = VIDEO_BACKBONES,
) -> dict[str, Any]:
    """Make the files in `folder`, run everything, and count. The result is what bench/results/faults.json holds.

    `video_backbones`: the backbone of each decoder, one of SETTINGS; `picture_descriptors` is the cheaper.
    """
    good = good_files(folder / "good", goods)
    neighbours = [(f"good {path.name}", path) for path in good]
    bad, kinds = [], {}
    (folder / "bad").mkdir()
    contents = [path.read_bytes() for path in good]
    for number, (kind, index, data) in enumerate(damaged(contents, count, seed)):
        path = folder / "bad" / f"{number:05d}{good[index].suffix}"
        path.write_bytes(data)
        bad.append((f"bad {number:05d}", path))
        kinds[bad[-1][0]] = kind
    with nobody_calls() as (port, calls):
        harmful = hostile(folder / "hostile", good[0], port, huge)
        bad += [(f"hostile {file.name}", file.path) for file in harmful]
        videos = mixed(neighbours, bad)
        runs = [_run(folder, neighbours, videos, shard, musicnn, *pair) for pair in video_backbones.items()]
    problems = [problem for run in runs for problem in run.pop("problems")]
    problems += [f"a call from {address}" for address in calls]
    columns = {name: outcomes for run in runs for name, outcomes in run["outcomes"].items()}
    problems += list(_unexpected(harmful, columns))
    return {
        "seed": seed,
        "damaged_files": count,
        "hostile_files": len(harmful),
        "good_neighbours": len(neighbours),
        "videos_a_shard": shard,
        "deadline_seconds": DEADLINE,
        "jobs": sum(run["jobs"] for run in runs),
        "longest_standstill_seconds": round(max(run["standstill"] for run in runs), 1),
        "network_calls": len(calls),
        "problems": problems,
        "outcomes": {name: dict(Counter(outcomes.values()).most_common()) for name, outcomes in columns.items()},
        "by_damage": {name: _by_kind(kinds, outcomes) for name, outcomes in columns.items()},
        "hostile": {
            file.name: {name: outcomes[f"hostile {file.name}"] for name, outcomes in columns.items()}
            for file in harmful
        },
    }  # fmt: skip


def _run(
    folder: Path,
    neighbours: list[tuple[str, Path]],
    videos: list[tuple[str, Path]],
    shard: int,
    musicnn: str,
    how: str,
    backbone: str,
) -> dict[str, Any]:
    """Run one decoder: the good files alone, then everything. Audio is the same for both, and is read in one only."""
    backbones: dict[str, dict[str, Any]] = {backbone: SETTINGS[backbone]}
    if how == "pyav":
        backbones["musicnn"] = {"weights": musicnn}
    settings = {
        "shard_videos": shard,
        "decoding": {"video": how, "deadline_seconds": DEADLINE, "memory_mb": 2048, "failure_ratio": 1.0},
    }
    clean = Run(
        folder / f"{how}-clean", write_table(folder / f"{how}-clean.parquet", neighbours), backbones, **settings
    )
    dirty = Run(folder / f"{how}-dirty", write_table(folder / f"{how}-dirty.parquet", videos), backbones, **settings)
    problems, jobs, standstill = [], 0, 0.0
    for run in (clean, dirty):
        run.prepare()
        for (part, number), ended in run.extract(PATIENCE).items():
            jobs, standstill = jobs + 1, max(standstill, ended.standstill)
            if ended.status != 0:
                problems.append(
                    f"{how} {part} shard {number}: {'hung' if ended.status is None else 'died'}: {ended.text}"
                )
    outcomes = {}
    for part in dirty.parts:
        name = f"{part}/{how}" if part == backbone else part
        together, alone = dirty.outcomes(part), clean.outcomes(part)
        problems += [
            f"{name}: {video} is {outcome}" for video, outcome in together.items() if outcome not in {"ok", *REASONS}
        ]
        with_others, without = dirty.features(part), clean.features(part)
        for video, _ in neighbours:
            if (together[video], with_others[video]) != (alone[video], without[video]):
                problems.append(
                    f"{name}: {video} is {together[video]} among bad files, {alone[video]} without, or differs"
                )
        outcomes[name] = together
    return {"problems": problems, "jobs": jobs, "standstill": standstill, "outcomes": outcomes}


def _by_kind(kinds: dict[str, str], outcomes: dict[str, str]) -> dict[str, dict[str, int]]:
    table: dict[str, Counter[str]] = {}
    for video, kind in kinds.items():
        table.setdefault(kind, Counter())[outcomes[video]] += 1
    return {kind: dict(counts.most_common()) for kind, counts in table.items()}


def _unexpected(harmful: list[Hostile], columns: dict[str, dict[str, str]]) -> Iterator[str]:
    for file in harmful:
        for name, outcomes in columns.items():
            outcome = outcomes[f"hostile {file.name}"]
            if (file.expected == "ok") != (outcome == "ok") and file.expected != "any":
                yield f"{name}: the hostile file “{file.name}” should be {file.expected} and is {outcome}"


def musicnn_weights(folder: Path) -> str:
    """Keep MusicNN's weights from the package index as a local file in `folder`, so that they are fetched once."""
    folder.mkdir()
    run = Run(folder, write_table(folder / "none.parquet", [("x", folder)]), {"musicnn": {"weights": "wheel"}})
    run.prepare()
    return str(run.paths.weights("musicnn"))


def main() -> None:
    """Run the command line."""
    command_line = parser(__doc__, "bench.faults", config=False)
    command_line.add_argument("--damaged", type=int, default=1100)
    command_line.add_argument(
        "--good", type=int, default=12, help="rendered videos; five more containers are made from them"
    )
    command_line.add_argument("--shard", type=int, default=400, help="videos a shard")
    command_line.add_argument("--seed", type=int, default=SEED)
    command_line.add_argument("--musicnn", help="MusicNN's weights as a local file")
    command_line.add_argument("--folder", type=Path, help="keep the files and results here")
    command_line.add_argument("--no-result", action="store_true", help="print the result instead of writing it")
    arguments = command_line.parse_args()
    with working_folder(arguments.folder) as folder:
        weights = arguments.musicnn or musicnn_weights(folder / "weights")
        result = campaign(folder, arguments.damaged, arguments.good, weights, arguments.shard, arguments.seed)
    command = f"python -m bench.faults --damaged {arguments.damaged} --good {arguments.good} --seed {arguments.seed}"
    finish("faults", command, result, keep=not arguments.no_result)


if __name__ == "__main__":
    main()

"""What a query costs at full size, and whether a song taken out of its video finds it again.

    python -m bench.query size FOLDER            # writes 550,000 videos' embeddings into FOLDER: 3.5 GB, 2 minutes
    python -m bench.query audio results/demo     # each test video's audio as mp3 and as opus

Writes bench/results/query.json (each part keeps the other's), FOLDER, and files in the system's temporary folder.
`size`: a cache with planted structure, but few features a segment (bench/fill.py), is embedded by untrained projection
heads of the real width; then the time of a search once everything is open, beside that of reading the same bytes and of
the bare matrix product of the same size, and the process's largest memory. `audio`: the ranks of the videos' own video
by that audio, beside those by the collection's own embeddings, which are the evaluation's. `make bench` runs both.
"""

from __future__ import annotations

import os
import resource
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from threadpoolctl import threadpool_limits

from bench import measure
from bench.fill import Planted, fill
from config.cli import UserError, parser
from config.model import load, read
from eval.query.query import Query
from eval.ranks import ranks
from eval.retrieval import load_test
from heads.checkpoint import About, save_checkpoint
from heads.embed import BLOCK, embed
from heads.model import build
from heads.runs import runs

VIDEOS, SEGMENTS, NARROW = 550_000, 6, 16
"""The size of the collection, and the width of its planted features: only embeddings are measured here."""
EXPERIMENT = "planted"
CODECS = {"mp3": "libmp3lame", "opus": "libopus"}
"""{suffix: FFmpeg's encoder}."""
REPEATS = 5


def audio_alone(source: str, target: Path, bit_rate: int = 128_000) -> Path:
    """Encode the audio of a file into `target`, by its suffix as mp3 or opus, 48 kHz stereo; return the target."""
    with av.open(source) as film, av.open(str(target), "w") as out:
        stream = out.add_stream(CODECS[target.suffix[1:]], rate=48_000, layout="stereo")
        assert isinstance(stream, av.AudioStream)
        stream.bit_rate = bit_rate
        resampler = av.AudioResampler(format=stream.codec_context.format, layout="stereo", rate=48_000)
        fifo, size = av.AudioFifo(), stream.codec_context.frame_size or 960
        for frame in film.decode(audio=0):
            for ready in resampler.resample(frame):
                ready.pts = None
                fifo.write(ready)
            while (block := fifo.read(size)) is not None:
                out.mux(stream.encode(block))
        if (block := fifo.read(partial=True)) is not None:
            out.mux(stream.encode(block))
        out.mux(stream.encode(None))
    return target


KEYS = {"musicnn": "m" * 64, "r2plus1d": "r" * 64}
"""Cache keys of the planted features."""


def plant(folder: Path, videos: int, processes: int, widths: dict[str, int]) -> None:
    """Write a collection with features of these widths, and its embeddings by untrained heads of the default width.

    widths: {backbone: features a segment}, of `KEYS`.
    """
    keys, dims = KEYS, (widths["musicnn"], widths["r2plus1d"])
    # One layer: the time of the projection heads is not what is measured.
    heads = {"experiments": {EXPERIMENT: {"hidden": [], "output": "linear"}}}
    segments = {"count": SEGMENTS}
    config = load({"results": str(folder), "videos": "videos.csv", "segments": segments, "heads": heads})
    fill(config, Planted({name: widths[name] for name in keys}, keys), videos, processes)
    torch.manual_seed(0)
    (run,) = runs(config, EXPERIMENT)
    experiment = config.experiment(EXPERIMENT)
    about = About(
        experiment.model_dump(mode="json"),
        *(run.seed, "musicnn", "r2plus1d", *dims, keys, dict.fromkeys(keys, True), "planted"),
    )
    save_checkpoint(run.folder / "checkpoint.safetensors", build(experiment, *dims).state_dict(), about)
    torch.set_num_threads(processes)
    embed(config, EXPERIMENT)


def sizes(folder: str, threads: str) -> dict[str, Any]:
    """Open the collection and search it, in this process."""
    count = int(threads)
    query, opening = measure.timed(lambda: Query(folder, EXPERIMENT, threads=count))
    name = "v000100"
    answer, first = measure.timed(lambda: query.search(name))
    directions = [measure.timed(lambda: query.search(name))[1] for _ in range(REPEATS)]
    moments = [measure.timed(lambda: query.search(name, level="segment"))[1] for _ in range(REPEATS)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "threads": count,
        "videos": query.record["videos"],
        "segments": query.record["segments"],
        "embedding": query.record["embedding"],
        "gallery": answer.searches[0].gallery,
        "opening": opening,
        "first_two_searches": first,
        # Both directions are searched; one is half of it.
        "search": measure.summary(value / 2 for value in directions),
        "search_by_segments": measure.summary(value / 2 for value in moments),
        "memory_gb": peak / 1e9,
    }


def floor(folder: str, threads: str) -> dict[str, Any]:
    """Read the bytes of one modality's embeddings, and multiply as many float32 numbers with one vector."""
    count = int(threads)
    files = sorted(Path(folder, "heads", EXPERIMENT, "embeddings.zarr", "video").rglob("c/*/0/0"))
    dim = 256

    def read_all() -> int:
        buffers = [bytearray(files[0].stat().st_size) for _ in range(count)]

        def part(number: int) -> int:
            total = 0
            for path in files[number::count]:
                with open(path, "rb", buffering=0) as file:
                    total += file.readinto(buffers[number])
            return total

        with ThreadPoolExecutor(count) as pool:
            return sum(pool.map(part, range(count)))

    def multiply() -> None:
        block, vector = np.ones((BLOCK * SEGMENTS, dim), np.float32), np.ones((dim, 1), np.float32)

        def part(number: int) -> None:
            for _ in files[number::count]:
                block @ vector

        with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(count) as pool:
            list(pool.map(part, range(count)))

    size = read_all()
    return {
        "bytes": size,
        "reading": measure.summary(_seconds(read_all) for _ in range(REPEATS)),
        "product": measure.summary(_seconds(multiply) for _ in range(REPEATS)),
    }


def _seconds(work: Callable[[], object]) -> float:
    return measure.timed(work)[1]


def by_audio(folder: Path, names: list[str]) -> list[dict[str, Any]]:
    """Query with the audio of every test video alone; return ranks for each experiment of the names."""
    config = read(folder / "config.json")
    rows = []
    for name in names or [next(iter(config.heads.experiments))]:
        query = Query(config, name)
        test, _ = load_test(config, name, query.run)
        ids, paths = (test.table[column].to_pylist() for column in ("video_id", "path"))
        by_id = [answer.searches[0] for answer in query.search_all(ids, split="test")]
        expected = ranks(*test.level("video")[:2])[0]
        ranks_by_kind = {"evaluation": expected, "cache": np.array([search.own_rank for search in by_id])}
        with tempfile.TemporaryDirectory() as temporary:
            for suffix in CODECS:
                files = [
                    audio_alone(path, Path(temporary, f"{i}.{suffix}")) for i, path in zip(ids, paths, strict=True)
                ]
                answers = query.search_all(files, top=len(ids), split="test")
                places = [
                    {match.video_id: match.rank for match in answer.searches[0].matches}[video_id]
                    for video_id, answer in zip(ids, answers, strict=True)
                ]
                ranks_by_kind[suffix] = np.array(places, float)
        for kind, rank in ranks_by_kind.items():
            rows.append(
                {
                    "experiment": name,
                    "audio": kind,
                    "gallery": len(ids),
                    "chance": (len(ids) + 1) / 2,
                    "median": float(np.median(rank)),
                    "mean": float(np.mean(rank)),
                    "same_as_evaluation": int((rank == expected).sum()),
                    "farthest": float(np.abs(rank - expected).max()),
                    "ranks": rank.tolist(),
                }
            )
    return rows


def table_of_size(result: dict[str, Any]) -> str:
    """Return the costs as Markdown."""
    costs, bare = result["size"], result["floor"]
    rows = [
        ["start, until everything is open", f"{costs['opening']:.1f}"],
        ["search, whole videos", _spread(costs["search"])],
        ["search, best segments", _spread(costs["search_by_segments"])],
        [f"reading the {bare['bytes'] / 1e9:.1f} GB alone", _spread(bare["reading"])],
        ["the matrix product alone, of what is in the cache", _spread(bare["product"])],
    ]
    size = f"{costs['videos']:,} × {costs['segments']} segments of {costs['embedding']} numbers"
    return measure.markdown([f"{size}, {costs['threads']} cores", "s"], rows) + (
        f"\n\nLargest memory: {costs['memory_gb']:.1f} GB. The files were in the system's memory; from a disk, reading "
        "adds its time."
    )


def table_of_audio(result: dict[str, Any]) -> str:
    """Return the ranks by audio alone as Markdown."""
    words = {"evaluation": "evaluation", "cache": "query by id", "mp3": "its audio as mp3", "opus": "its audio as opus"}
    rows = [
        [
            *(row["experiment"], words[row["audio"]], f"{row['median']:g}", f"{row['mean']:.2f}"),
            *(f"{row['same_as_evaluation']} of {row['gallery']}", f"{row['farthest']:g}"),
        ]
        for row in result["audio"]
    ]
    header = ["experiment", "query", "median rank", "mean rank", "same rank as in the evaluation", "farthest from it"]
    return measure.markdown(header, rows)


def _spread(seconds: dict[str, float]) -> str:
    return f"{seconds['median']:.2f} ({seconds['min']:.2f} to {seconds['max']:.2f})"


def bars(costs: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the bars of a search at full size."""
    return [
        measure.bar("query: a search of 550,000 videos (s)", costs["search"]["max"], at_most=3),
        measure.bar("query: largest memory (GB)", costs["memory_gb"], at_most=2.5),
    ]


def main() -> None:
    """Run the command line."""
    command_line = parser(__doc__, "bench.query", config=False)
    command_line.add_argument("part", choices=("size", "audio"))
    command_line.add_argument("folder", type=Path, help="size: a folder to write; audio: a finished demo")
    command_line.add_argument("experiments", nargs="*", help="audio: of these experiments (default: the first)")
    command_line.add_argument("--videos", type=int, default=VIDEOS)
    command_line.add_argument("--threads", type=int, default=2, metavar="N", help="cores (default 2)")
    arguments = command_line.parse_args()
    result = {name: value for name, value in (measure.load("query") or {}).items() if name in PARTS}
    if arguments.part == "audio":
        result["audio"] = by_audio(arguments.folder, arguments.experiments)
    else:
        if not (arguments.folder / "heads").exists():
            plant(arguments.folder, arguments.videos, len(os.sched_getaffinity(0)), dict.fromkeys(KEYS, NARROW))
        if not (arguments.folder / "heads" / EXPERIMENT / "embeddings.json").exists():
            raise UserError(f"{arguments.folder} was left unfinished; delete it")
        result["floor"] = measure.child("bench.query", "floor", str(arguments.folder), str(arguments.threads))
        result["size"] = measure.child("bench.query", "size", str(arguments.folder), str(arguments.threads))
        result["bars"] = bars(result["size"])
    measure.save("query", "python -m bench.query size FOLDER && python -m bench.query audio results/demo", result)


PARTS = ("size", "floor", "bars", "audio")


def _answer(part: str, folder: str, threads: str) -> dict[str, Any]:
    return sizes(folder, threads) if part == "size" else floor(folder, threads)


if __name__ == "__main__":
    measure.start(main, _answer)

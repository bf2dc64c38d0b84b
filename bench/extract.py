"""The whole extraction against its own floor, and against the way most people do it.

    python -m bench.extract FOLDER [--repeats 2] [--copies 2] [--seconds 240]

Reads the files of bench.media in FOLDER; works in FOLDER/work; writes bench/results/extract.json. Runs, taking
turns and each in a process of its own: `whole` (pipeline.extract on a shard), `decode` (its worker processes alone),
`forward` (its passes alone, on the same segments in memory), `baseline` (bench.baseline). Start-up (imports, weights)
is counted apart.

Three ways to share cores are measured: `1` and `2` as the extraction does it for a job of so many cores, and `1+1`: one
core decodes, the other one computes. Only there do decoding and network not take cores from each other, as with a GPU;
so only there can the whole be as fast as the slower of the two alone.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from bench.decode import FPS
from bench.measure import BACKBONES, RATE, ROOT, SECONDS, SEGMENTS, child, markdown, measured, save, start, summary
from bench.media import SECONDS as DURATION
from bench.media import path_of, render
from bench.network import backbone, musicnn_gflop, peak_gflops, r2plus1d_gflop
from config.cli import parser
from config.files import write_json
from config.model import Config, load
from config.paths import Paths
from pipeline.forward import Layout, layout

PARTS = tuple(reversed(BACKBONES))
"""The dearest first."""


def cores_of(name: str) -> tuple[int, Layout]:
    """Return the number of cores of a way to share them, and the layout."""
    if name == "1+1":
        return 2, Layout(decoders=1, ahead=2, passes=1, threads=1)
    return int(name), layout(int(name), "cpu")


def _config(folder: Path, part: str, threads: int) -> Config:
    backbones: dict[str, Any] = {name: {"weights": "random"} for name in PARTS}
    backbones[part]["threads"] = threads
    return load({"results": str(folder / "results"), "videos": str(folder / "videos"), "backbones": backbones})


def prepare(folder: Path, files: list[Path], copies: int) -> None:
    """Make a results folder with everything but features, for `copies` links to each file."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "videos").mkdir(parents=True)
    for copy in range(copies):
        for file in files:
            os.link(file, folder / "videos" / f"{file.stem}-{copy}{file.suffix}")
    config = _config(folder, "musicnn", 1)
    path = config.paths.config
    write_json(path, config.model_dump(mode="json"))
    weights = [["pipeline.weights", "--backbone", name] for name in PARTS]
    for module, *arguments in (["data.manifest"], *weights, ["pipeline.plan"], ["pipeline.probe", "--shard", "0"]):
        command = [sys.executable, "-m", module, "--config", str(path), *arguments]
        subprocess.run(command, cwd=ROOT, check=True, stderr=subprocess.DEVNULL)


def _forget(config: Config, part: str) -> None:
    """Let the shard be done from nothing again."""
    shutil.rmtree(config.paths.ledger(part, 0, "key").parents[1], ignore_errors=True)


def _tasks(config: Config, part: str) -> tuple[Any, list[Any]]:
    from pipeline.extract import Lane, tasks

    _forget(config, part)
    lane = Lane(config, part, 0)
    with lane.job.journal:
        return lane.job, list(tasks([lane]))


def whole(folder: Path, part: str, way: str) -> dict[str, Any]:
    """Time pipeline.extract on the shard, from its first task to its last feature."""
    from pipeline.backbones.registry import load_class
    from pipeline.extract import extract

    threads, cores = cores_of(way)
    config = _config(folder, part, threads)
    _forget(config, part)
    load_class(part)  # importing is start-up
    backbone(part, config.paths.weights(part))
    meter, cost = measured(lambda: extract(config, [part], 0, cores))
    wall = meter.decode + meter.network
    return {
        "wall": wall,
        "start_up": cost["wall"] - wall,
        "cpu": cost["cpu"],
        "waiting_for_decode": meter.decode / wall,
    }


def decode(folder: Path, part: str, way: str) -> dict[str, Any]:
    """Time the decoding processes alone, as many as the extraction has."""
    from pipeline.workers import Pool

    threads, cores = cores_of(way)
    config = _config(folder, part, threads)
    _, tasks = _tasks(config, part)

    def work() -> int:
        with Pool(cores.decoders, config.decoding) as pool:
            return sum(len(answer.segments) for _, answer in pool.results(tasks, max(cores.ahead, 1)))

    segments, cost = measured(work)
    return {**cost, "segments": segments}


def forward(folder: Path, part: str, way: str) -> dict[str, Any]:
    """Time the forward passes alone, as many at a time as the extraction has, on the same segments in memory."""
    from importlib import import_module

    from pipeline.forward import Meter, Network, outcomes

    threads, cores = cores_of(way)
    config = _config(folder, part, threads)
    job, tasks = _tasks(config, part)
    module, _, name = tasks[0].function.partition(":")
    read = getattr(import_module(module), name)
    unique = {Path(task.arguments["path"]).name.rpartition("-")[0]: task for task in tasks}
    arrays = {stem: read(**task.arguments).segments for stem, task in unique.items()}
    decoded = [(task.key, {part: arrays[Path(task.arguments["path"]).name.rpartition("-")[0]]}) for task in tasks]
    networks = {part: Network(backbone(part, job.paths.weights(part)), 1)}
    _, cost = measured(lambda: list(outcomes(iter(decoded), networks, cores.passes, Meter())))
    return {**cost, "segments": sum(len(arrays[part]) for _, arrays in decoded), "peak_gflops": peak_gflops(threads)}


def baseline(folder: Path, path: str, duration: str) -> dict[str, Any]:
    """Time bench.baseline on the whole file: every frame, every clip one after the other."""
    import torch

    from bench.baseline import run as run_baseline

    torch.set_num_threads(1)
    weights = Paths(folder / "results").weights("r2plus1d")
    starts = [float(start) for start in np.arange(0.0, float(duration) - SECONDS + 1e-6, SECONDS)]
    return run_baseline(Path(path), starts, weights)


def bench(folder: Path, duration: float, repeats: int, copies: int, count: int) -> dict[str, Any]:
    """Do all runs, then take the ratios of their medians; return the result file's content."""
    files = [path_of(folder, file) for file in render(folder, duration)][:count]
    # Audio takes a tenth of the time, so ten times the videos: starting the worker must not be most of it.
    videos = {part: copies * len(files) * (10 if BACKBONES[part].modality == "audio" else 1) for part in PARTS}
    for part in PARTS:
        prepare(folder / "work" / part, files, videos[part] // len(files))
    cores = len(os.sched_getaffinity(0))
    ways = ("1", "2", "1+1") if cores > 1 else ("1",)
    layouts = [(part, way) for part in PARTS for way in ways]
    runs: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for _ in range(repeats):
        for part, way in layouts:
            for kind in ("whole", "decode", "forward"):
                cost = child("bench.extract", kind, str(folder / "work" / part), part, way)
                runs[part, way, kind].append(cost)
                print(part, way, kind, json.dumps(cost), flush=True)
    slow = child("bench.extract", "baseline", str(folder / "work" / "r2plus1d"), str(files[0]), str(duration))
    gflop = {
        "r2plus1d": r2plus1d_gflop(round(SECONDS * FPS)),
        "musicnn": musicnn_gflop(Paths(folder / "work" / "musicnn" / "results").weights("musicnn")),
    }
    rows = [_row(part, way, runs, videos[part], gflop[part]) for part, way in layouts]
    ours = next(run for run in rows if run["backbone"] == "r2plus1d" and run["cores"] == "1")["core_seconds_a_video"]
    same, every = slow["pictures"] + SEGMENTS * slow["clip"], slow["pictures"] + slow["segments"]
    return {
        "files": {"seconds": duration, "videos": videos, "segments": SEGMENTS, "fps": FPS, "rate": RATE},
        "gflop_a_segment": {name: round(value, 2) for name, value in gflop.items()},
        "rows": rows,
        "baseline": {
            **{key: round(value, 2) for key, value in slow.items()},
            "same_segments": {"seconds": round(same, 1)},
            "every_clip": {"seconds": round(every, 1)},
            "times_as_slow_same_segments": round(same / ours["median"], 1),
            "times_as_slow_every_clip": round(every / ours["median"], 1),
        },
    }


def _row(part: str, way: str, runs: Any, videos: int, gflop: float) -> dict[str, Any]:
    """Return one line of the result.

    `of_slower`: the slower floor's time over ours. `of_cores`: (decode + forward processor seconds) / cores over ours,
    the floor where both share the same cores.
    """
    threads = cores_of(way)[0]

    def median(kind: str, what: str) -> float:
        return summary((run[what] for run in runs[part, way, kind]), 6)["median"]

    pairs = list(zip(*(runs[part, way, kind] for kind in ("whole", "decode", "forward")), strict=True))
    forward_rate = runs[part, way, "forward"][0]["segments"] / median("forward", "cpu") * threads
    return {
        "backbone": part,
        "cores": way,
        "seconds_a_video": summary(run["wall"] / videos for run in runs[part, way, "whole"]),
        "decode_seconds_a_video": round(median("decode", "wall") / videos, 3),
        "forward_seconds_a_video": round(median("forward", "wall") / videos, 3),
        "decode_cpu_a_video": round(median("decode", "cpu") / videos, 3),
        "forward_cpu_a_video": round(median("forward", "cpu") / videos, 3),
        "core_seconds_a_video": summary(run["cpu"] / videos for run in runs[part, way, "whole"]),
        "of_cpu": summary((decoding["cpu"] + forward["cpu"]) / whole["cpu"] for whole, decoding, forward in pairs),
        "start_up_seconds": round(median("whole", "start_up"), 1),
        "of_slower": summary(
            max(decoding["wall"], forward["wall"]) / whole["wall"] for whole, decoding, forward in pairs
        ),
        "of_cores": summary(
            (decoding["cpu"] + forward["cpu"]) / threads / whole["wall"] for whole, decoding, forward in pairs
        ),
        "segments_a_second_a_core": round(SEGMENTS * videos / median("whole", "cpu"), 2),
        "forward_gflops": round(forward_rate * gflop, 1),
        "peak_gflops": round(max(run["peak_gflops"] for run in runs[part, way, "forward"]), 1),
        "of_peak": round(forward_rate * gflop / max(run["peak_gflops"] for run in runs[part, way, "forward"]), 3),
        "decode_share_of_waiting": round(median("whole", "waiting_for_decode"), 3),
    }


def table(result: dict[str, Any]) -> str:
    """Return the extraction beside its floors as Markdown."""
    header = ["backbone, cores", "core s a video", "decode alone", "network alone", "of both alone"]
    return markdown(
        [*header, "of the slower, wall", "segments/s a core", "of float32 peak"],
        [
            [
                f"{row['backbone']}, {row['cores']}",
                f"{row['core_seconds_a_video']['median']:.2f}",
                f"{row['decode_cpu_a_video']:.2f}",
                f"{row['forward_cpu_a_video']:.2f}",
                f"{row['of_cpu']['median']:.2f}",
                f"{row['of_slower']['median']:.2f}",
                f"{row['segments_a_second_a_core']:.1f}",
                f"{row['of_peak']:.0%}",
            ]
            for row in result["rows"]
        ],
    )


def baseline_table(result: dict[str, Any]) -> str:
    """Return this pipeline beside the baseline as Markdown."""
    slow = result["baseline"]
    row = next(row for row in result["rows"] if (row["backbone"], row["cores"]) == ("r2plus1d", "1"))
    rows = [["this pipeline", f"{row['core_seconds_a_video']['median']:.1f}", "1"]]
    for kind, words in (("same_segments", "same six clips"), ("every_clip", "every clip")):
        times = f"{slow[f'times_as_slow_{kind}']:.1f}"
        rows.append([f"whole file decoded, {words}", f"{slow[kind]['seconds']:.0f}", times])
    return markdown(["R(2+1)D, one core", "s a video", "times as slow"], rows)


def main() -> None:
    """Run the command line."""
    command_line = parser(__doc__, "bench.extract", config=False)
    command_line.add_argument("folder", type=Path, help="where the bench's files are kept")
    command_line.add_argument("--repeats", type=int, default=2)
    command_line.add_argument("--copies", type=int, default=2, help="videos of each file")
    command_line.add_argument("--files", type=int, default=4, help="how many of the four files")
    command_line.add_argument("--seconds", type=float, default=DURATION, help="length of each file")
    arguments = command_line.parse_args()
    result = bench(arguments.folder.resolve(), arguments.seconds, arguments.repeats, arguments.copies, arguments.files)
    save(
        "extract",
        f"python -m bench.extract FOLDER --repeats {arguments.repeats} --copies {arguments.copies} "
        f"--files {arguments.files}",
        result,
    )
    print(table(result), baseline_table(result), sep="\n\n")


def _answer(kind: str, folder: str, *arguments: str) -> dict[str, Any]:
    works = {"whole": whole, "decode": decode, "forward": forward, "baseline": baseline}
    return works[kind](Path(folder), *arguments)


if __name__ == "__main__":
    start(main, _answer)

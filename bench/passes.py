"""Several networks in one pass against each of them alone: processor seconds and bytes read.

    python -m bench.passes FOLDER [--repeats 2] [--seconds 240]

Reads the files of bench.media in FOLDER (renders what is missing); works in FOLDER/passes; writes
bench/results/passes.json. Every measurement is a process of its own, importing done before the clock starts; what is
compared takes turns, so that other load on the machine disturbs all alike, and the ratios of the repeats' sums are
reported.

1. The reader: one reading for three requests of different rates and sizes, against three readings, frames compared.
2. The extraction, one core: `pipeline.extract` with three backbones in one pass, against one decoding alone and the
   three networks alone, and against three passes. R(2+1)D in float32 and in bfloat16. Weights are random, which costs
   what trained ones cost.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.measure import ROOT, SECONDS, SEGMENTS, bar, child, markdown, measured, save, start, starts_of
from bench.media import SECONDS as DURATION
from bench.media import path_of, render
from config.cli import parser
from config.files import write_json
from config.model import Config, load

REQUESTS: tuple[dict[str, Any], ...] = (
    {"fps": 10.0, "resize": (128, 171), "crop": (112, 112)},
    {"fps": 2.0, "resize": (256, 455), "crop": (224, 224)},
    {"fps": 4.0, "resize": (120, 160), "crop": (120, 160)},
)
NETWORKS: dict[str, dict[str, Any]] = {
    "r2plus1d": {"weights": "random"},
    "efficientnet_lite0": {"weights": "random", "kind": "timm", "options": {"model": "tf_efficientnet_lite0"}},
    "picture_descriptors": {"weights": "none"},
}
PRECISIONS = ("float32", "bfloat16")
PASS_FILES = ("h264_gop250", "vp9")
"""The files that the networks look at."""
READ_BAR, BYTES_BAR, PASS_BAR = 0.45, 1.01, 1.10


def read(which: str, path: str, duration: str) -> dict[str, Any]:
    """Measure in this process one reading for the requests of these numbers."""
    from pipeline.readers import VideoRequest, video_pyav  # noqa: F401  its import is not the file's cost
    from pipeline.readers.video import read_videos

    requests = [VideoRequest(**REQUESTS[int(number)]) for number in which]
    starts = starts_of(float(duration))
    # As an extraction does it, to which the file check has said that the clock is right.
    clips, cost = measured(lambda: read_videos(path, starts, SECONDS, requests, timeline=[]))
    return {**cost, "frames": [hashlib.sha256(clip.tobytes()).hexdigest() for clip in clips]}


def reads(folder: Path, duration: float, repeats: int) -> list[dict[str, Any]]:
    """Return for each file what one reading costs, and what a reading for each request costs."""
    every = "".join(map(str, range(len(REQUESTS))))
    rows = []
    for file in render(folder, duration):
        runs: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for _ in range(repeats):
            for which in (every, *every):
                runs[which].append(child("bench.passes", "read", which, str(path_of(folder, file)), str(duration)))
        cpu = {which: sum(run["cpu"] for run in runs[which]) / repeats for which in runs}
        size = {which: runs[which][0]["read"] for which in runs}
        apart = sum(cpu[which] for which in every)
        frames = [run["frames"][0] for which in every for run in runs[which][:1]]
        rows.append(
            {
                "file": file.words,
                "cpu_seconds": {"together": round(cpu[every], 3), "apart": round(apart, 3)},
                "cpu_ratio": round(cpu[every] / apart, 3),
                "megabytes": {which: round(count / 1e6, 2) for which, count in size.items()},
                "bytes_ratio": round(size[every] / sum(size[which] for which in every), 3),
                "bytes_to_largest": round(size[every] / max(size[which] for which in every), 3),
                "frames_identical": all(run["frames"] == frames for run in runs[every]),
            }
        )
    return rows


def _config(folder: Path, precision: str) -> Config:
    backbones = {name: dict(settings) for name, settings in NETWORKS.items()}
    backbones["r2plus1d"]["options"] = {"precision": precision}
    return load(
        {
            "results": str(folder / precision),
            "videos": str(folder / "videos"),
            "backbones": backbones,
            "heads": {"audio": "r2plus1d", "video": "r2plus1d"},
        }
    )


def prepare(folder: Path, files: list[Path], precision: str) -> None:
    """Make a results folder with everything but features."""
    config = _config(folder, precision)
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    for file in files:
        link = folder / "videos" / file.name
        link.unlink(missing_ok=True)
        os.link(file, link)
    path = config.paths.config
    write_json(path, config.model_dump(mode="json"))
    weights = [["pipeline.weights", "--backbone", name] for name in NETWORKS]
    for module, *arguments in (["data.manifest"], *weights, ["pipeline.plan"], ["pipeline.probe", "--shard", "0"]):
        command = [sys.executable, "-m", module, "--config", str(path), *arguments]
        subprocess.run(command, cwd=ROOT, check=True, stderr=subprocess.DEVNULL)


def _forget(config: Config, names: list[str]) -> None:
    """Let the shard be done from nothing again."""
    for name in names:
        shutil.rmtree(config.paths.ledger(name, 0, "key").parents[1], ignore_errors=True)
        shutil.rmtree(config.paths.work(name, 0), ignore_errors=True)


def _warm(config: Config, names: list[str]) -> None:
    """Import what the networks need, and build each once: that is start-up."""
    from pipeline.backbones.chosen import chosen

    for name in names:
        chosen(config, name).build(config.paths.weights(name), "cpu", 1)


def extraction(step: str, folder: str, precision: str, names: str) -> dict[str, Any]:
    """Measure in this process, with one core: `whole`, the pass; or alone its `decoding` or its `networks`."""
    from pipeline.extract import Lane, extract, handed_out, tasks
    from pipeline.forward import Meter, Outcome, layout, outcomes
    from pipeline.workers import Pool

    config, wanted, cores = _config(Path(folder), precision), names.split(","), layout(1, "cpu")
    _forget(config, wanted)
    if step != "decoding":
        _warm(config, wanted)
    if step == "whole":
        return measured(lambda: extract(config, wanted, 0))[1]
    with ExitStack() as stack:
        lanes = [Lane(config, name, 0) for name in wanted]
        for lane in lanes:
            stack.enter_context(lane.job.journal)
        pending = list(tasks(lanes))

        def decode() -> list[tuple[int, Any]]:
            with Pool(1, config.decoding) as pool:
                return list(pool.results(pending, 1))

        answers, cost = measured(decode)
        handed: list[tuple[int, dict[str, Outcome]]] = list(handed_out(iter(answers), lanes))

        def forward() -> list[Any]:
            networks = {lane.name: lane.network(config.backbones[lane.name], cores.threads) for lane in lanes}
            return list(outcomes(iter(handed), networks, cores.passes, Meter()))

        return cost if step == "decoding" else measured(forward)[1]


def passes(folder: Path, duration: float, repeats: int) -> list[dict[str, Any]]:
    """Return for each precision what the pass costs, what its parts cost alone, and what three passes cost."""
    work = folder / "passes"
    shutil.rmtree(work, ignore_errors=True)
    files = [path_of(folder, file) for file in render(folder, duration) if file.name in PASS_FILES]
    every = ",".join(NETWORKS)
    rows = []
    for precision in PRECISIONS:
        prepare(work, files, precision)
        costs: dict[str, list[float]] = defaultdict(list)
        for _ in range(repeats):
            for label, step, names in _steps(every):
                cost = child("bench.passes", step, str(work), precision, names)
                costs[label].append(cost["cpu"] / len(files))
        mean = {label: sum(values) / repeats for label, values in costs.items()}
        alone = mean["decoding"] + mean["networks"]
        apart = sum(mean[name] for name in NETWORKS)
        rows.append(
            {
                "precision": precision,
                "core_seconds_a_video": {label: round(value, 3) for label, value in mean.items()},
                "all": {label: [round(value, 3) for value in values] for label, values in costs.items()},
                "to_parts": round(mean["pass"] / alone, 3),
                "to_three_passes": round(mean["pass"] / apart, 3),
            }
        )
    return rows


def _steps(every: str) -> Iterator[tuple[str, str, str]]:
    """Yield (label, step, backbones) of a repeat."""
    yield "pass", "whole", every
    yield "decoding", "decoding", every
    yield "networks", "networks", every
    for name in NETWORKS:
        yield name, "whole", name


def bench(folder: Path, duration: float, repeats: int) -> dict[str, Any]:
    """Measure both; return the result file's content."""
    read_rows = reads(folder, duration, 4 * repeats)  # these are short
    pass_rows = passes(folder, duration, repeats)
    bars = []
    for row in read_rows:
        bars.append(bar(f"one reading for three requests, CPU, {row['file']}", row["cpu_ratio"], at_most=READ_BAR))
        words = f"one reading for three requests, bytes to those of the longest alone, {row['file']}"
        bars.append(bar(words, row["bytes_to_largest"], at_most=BYTES_BAR))
    identical = sum(row["frames_identical"] for row in read_rows) / len(read_rows)
    bars.append(bar("one reading for three requests, share of files with the same frames", identical, at_least=1))
    for row in pass_rows:
        words = f"one pass to one decoding and three networks, R(2+1)D in {row['precision']}"
        bars.append(bar(words, row["to_parts"], at_most=PASS_BAR))
    requests = [{**request, "resize": list(request["resize"]), "crop": list(request["crop"])} for request in REQUESTS]
    return {
        "seconds": duration,
        "segments": SEGMENTS,
        "segment_seconds": SECONDS,
        "repeats": repeats,
        "requests": requests,
        "reads": read_rows,
        "files": list(PASS_FILES),
        "passes": pass_rows,
        "bars": bars,
    }


def reads_table(result: dict[str, Any]) -> str:
    """Return what reading costs as Markdown, a file a line."""
    rows = []
    for row in result["reads"]:
        sizes = row["megabytes"]
        together = max(sizes, key=len)
        apart = sum(size for which, size in sizes.items() if which != together)
        rows.append(
            [
                row["file"],
                f"{row['cpu_seconds']['apart']:.2f} s, {apart:.1f} MB",
                f"{row['cpu_seconds']['together']:.2f} s, {sizes[together]:.1f} MB",
                f"{row['cpu_ratio']:.2f}",
                f"{row['bytes_ratio']:.2f}",
                f"{row['bytes_to_largest']:.2f}",
                "the same" if row["frames_identical"] else "DIFFERENT",
            ]
        )
    header = ["file", "three readings", "one reading", "CPU", "bytes", "bytes to the longest of the three", "frames"]
    return markdown(header, rows)


def table(result: dict[str, Any]) -> str:
    """Return what a pass costs as Markdown, a precision a line."""
    rows = []
    for row in result["passes"]:
        cost = row["core_seconds_a_video"]
        rows.append(
            [
                row["precision"],
                *(f"{cost[label]:.1f}" for label in ("pass", "decoding", "networks")),
                f"{row['to_parts']:.2f}",
                f"{sum(cost[name] for name in NETWORKS):.1f}",
                f"{row['to_three_passes']:.2f}",
            ]
        )
    header = [
        "R(2+1)D in",
        "one pass",
        "decoding alone",
        "networks alone",
        "pass to both",
        "three passes",
        "pass to them",
    ]
    return markdown(header, rows)


def main() -> None:
    """Run the command line."""
    command_line = parser(__doc__, "bench.passes", config=False)
    command_line.add_argument("folder", type=Path, help="where the bench's files are kept")
    command_line.add_argument("--repeats", type=int, default=2)
    command_line.add_argument("--seconds", type=float, default=DURATION, help="length of each file")
    arguments = command_line.parse_args()
    result = bench(arguments.folder.resolve(), arguments.seconds, arguments.repeats)
    save("passes", f"python -m bench.passes FOLDER --repeats {arguments.repeats}", result)
    print(reads_table(result), table(result), sep="\n\n")


def _answer(step: str, *arguments: str) -> dict[str, Any]:
    return read(*arguments) if step == "read" else extraction(step, *arguments)


if __name__ == "__main__":
    start(main, _answer)

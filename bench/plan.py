"""What a collection costs: processor hours, and GPU hours where this repository has a GPU's result.

    python -m bench.plan [--videos 550000] [--cores N]
    python -m bench.plan --sample TABLE_OR_FOLDER [--limit 8]

Reads bench/results/extract.json (and extract_gpu.json if there is one), or measures both backbones, with random weights
and one core, on the first videos of the user's own table or folder. Writes nothing but a temporary folder.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow.csv as pacsv

from bench.measure import BACKBONES, ROOT, child, load, start
from config.cli import UserError, clock, parser
from config.files import write_json
from config.model import load as configuration
from data.videos import read_videos


def from_results(result: dict[str, Any]) -> dict[str, float]:
    """Return core seconds a video by backbone: the median of the whole extraction on one core."""
    return {row["backbone"]: row["core_seconds_a_video"]["median"] for row in result["rows"] if row["cores"] == "1"}


def from_sample(sample: Path, limit: int) -> dict[str, float]:
    """Measure core seconds a video by backbone on the sample's first videos. UserError if none can be read."""
    videos = read_videos(sample).slice(0, limit)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pacsv.write_csv(videos.select(["video_id", "path"]), folder / "videos.csv")
        backbones = {part: {"weights": "random"} for part in BACKBONES}
        raw = {"results": str(folder / "results"), "videos": str(folder / "videos.csv"), "backbones": backbones}
        config = configuration(raw)
        path = config.paths.config
        write_json(path, config.model_dump(mode="json"))
        weights = [["pipeline.weights", "--backbone", part] for part in BACKBONES]
        for module, *arguments in (["data.manifest"], *weights, ["pipeline.plan"], ["pipeline.probe", "--shard", "0"]):
            process = subprocess.run(
                [sys.executable, "-m", module, "--config", str(path), *arguments],
                cwd=ROOT,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
            )
            if process.returncode:
                raise UserError(f"the sample {sample} cannot be measured: {process.stderr[-800:]}")
        measured = {part: child("bench.plan", str(path), part) for part in BACKBONES}
        for part, cost in measured.items():
            if not cost["valid"]:
                raise UserError(f"the sample {sample}: none of its first {videos.num_rows} videos has {part} features")
            print(f"{part}: {cost['valid']} of {videos.num_rows} videos of the sample have features")
        return {part: cost["seconds"] for part, cost in measured.items()}


def cost_of_sample(config_file: str, part: str) -> dict[str, float]:
    """Run the extraction of the sample with one core: seconds for a video that has features, start-up left out.

    Videos without features cost little; counting them would make a collection of good ones look cheap.
    """
    from config.model import read
    from pipeline.extract import extract
    from pipeline.records import read_record

    config = read(config_file)
    meter = extract(config, [part], 0)
    record = read_record(config.paths.done(part, 0))
    valid = record.valid if record else 0
    return {"seconds": (meter.decode + meter.network) / max(valid, 1), "valid": valid}


def words(seconds: dict[str, float], videos: int, cores: int) -> str:
    """Return the cost as lines of text."""
    lines = []
    for part, cost in seconds.items():
        lines.append(f"{part:10} {cost:7.2f} core seconds a video  {cost * videos / 3600:10,.0f} core hours")
    total = sum(seconds.values()) * videos
    lines.append(f"{'together':10} {sum(seconds.values()):7.2f} core seconds a video  {total / 3600:10,.0f} core hours")
    lines.append(f"{videos:,} videos on {cores} cores: {clock(total / cores)} ({total / cores / 86400:,.1f} days)")
    return "\n".join(lines)


def gpu_words(result: dict[str, Any] | None, videos: int) -> str:
    """Return GPU hours from a committed GPU result, or that there is none."""
    if result is None:
        return "GPU hours: not known; no bench/results/extract_gpu.json has been measured yet"
    total = sum(row["seconds_a_video"]["median"] for row in result["rows"]) * videos
    return f"GPU hours: {total / 3600:,.0f} ({result['device']})"


def readme_table(result: dict[str, Any], videos: int = 550_000) -> str:
    """Return the README's table of costs."""
    lines = [f"| backbone | core s a video | core hours for {videos:,} videos |", "|---|---|---|"]
    seconds = from_results(result)
    for part, cost in [*seconds.items(), ("together", sum(seconds.values()))]:
        lines.append(f"| {part} | {cost:.2f} | {cost * videos / 3600:,.0f} |")
    return "\n".join(lines)


def main() -> None:
    """Run the command line."""
    command_line = parser(__doc__, "bench.plan", config=False)
    command_line.add_argument(
        "--videos", type=int, default=550_000, help="how many videos the collection has (default: 550,000)"
    )
    command_line.add_argument(
        "--sample",
        type=Path,
        help="table or folder of some of your videos: MusicNN and R(2+1)D, with default settings, are measured, "
        "on this machine, which should be idle",
    )
    command_line.add_argument(
        "--limit", type=int, default=8, help="videos of the sample that are measured (default: 8)"
    )
    command_line.add_argument(
        "--cores",
        type=int,
        default=os.cpu_count() or 1,
        help="cores that will work at a time (default: those of this machine)",
    )
    arguments = command_line.parse_args()
    result = load("extract")
    if arguments.sample is not None:
        seconds, source = from_sample(arguments.sample, arguments.limit), f"measured here on {arguments.sample}"
    elif result is not None:
        seconds, source = from_results(result), f"from bench/results/extract.json ({result['processor']})"
    else:
        raise UserError("there is no bench/results/extract.json; run `make bench`, or give --sample")
    print(
        source,
        words(seconds, arguments.videos, arguments.cores),
        gpu_words(load("extract_gpu"), arguments.videos),
        sep="\n",
    )


if __name__ == "__main__":
    start(main, cost_of_sample)

"""Snakemake at full size: what the manifest, parsing and the job graph cost for 10,000 to 550,000 videos.

    python -m bench.workflow [--folder FOLDER] [--videos 10000 50000 200000 550000]

Makes tables of videos that do not exist and, in place of extracted shards, records that say so, through the project's
own code; no video is opened. Then it times the real Snakefile beside a minimal one with as many jobs in the same shape,
which is what Snakemake itself needs. Writes bench/results/workflow.json, and the folder (by default a temporary one).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from bench.measure import BACKBONES, ROOT, bar, exponent, save
from config.cli import parser, run
from config.files import write_json
from config.model import Config
from config.model import load as configuration
from pipeline.records import PROBE, CacheRecord, Record, read_plan, write_cache_record

COMMAND = "python -m bench.workflow"
APPENDED, SHARD = 1000, 1000
# The last shard is not full, so that what is appended goes partly into it.
SHORT = 400

MINIMAL = """
SHARDS = [f"{{i:05d}}" for i in range({shards})]
rule all:
    input: [f"done/{{b}}/{{s}}" for b in ("one", "two") for s in SHARDS]
rule probe:
    output: "done/probe/{{shard}}"
    shell: "touch {{output}}"
rule extract:
    input: "done/probe/{{shard}}"
    output: "done/{{backbone,one|two}}/{{shard}}"
    shell: "touch {{output}}"
"""


def videos_table(first: int, last: int) -> pa.Table:
    """Return rows `first` to `last` of a made-up collection: eight videos an artist, thirty genres, three tags."""
    rng = np.random.default_rng(first)
    artists, tags = rng.integers(0, max(1, last // 8), last - first), rng.integers(0, 50, (last - first, 3))
    return pa.table(
        {
            "video_id": [f"video{i:07d}" for i in range(first, last)],
            "path": [f"{i // 1000:04d}/video{i:07d}.mp4" for i in range(first, last)],
            "artist": [f"Artist {artist}" if artist % 10 else None for artist in artists],
            "genre": [f"genre {artist % 30}" if artist % 7 else None for artist in artists],
            "tags": ["|".join(f"tag {tag}" for tag in row) if row[0] % 5 else None for row in tags],
        }
    )


def timed(command: list[str], cwd: Path = ROOT) -> dict[str, Any]:
    """Run a command; its wall and processor time (s), peak memory (MB) and output. RuntimeError if it fails.

    The peak is at least that of this process, from which the command is forked.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8") as file:
        began = time.perf_counter()
        process = subprocess.Popen(command, cwd=cwd, stdout=file, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        file.seek(0)
        printed = file.read()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}:\n{printed[-3000:]}")
    cpu, rss = usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024
    return {"seconds": round(wall, 3), "cpu": round(cpu, 3), "rss_mb": round(rss), "printed": printed}


class Collection:
    """A results folder for so many videos that do not exist, and Snakemake on it."""

    def __init__(self, folder: Path, videos: int) -> None:
        self.folder, self.videos = folder, videos
        folder.mkdir(parents=True)
        for name in BACKBONES:
            (folder / f"{name}.safetensors").touch()
        raw = {
            "results": str(folder / "results"),
            "videos": str(folder / "videos.csv"),
            "shard_videos": SHARD,
            "backbones": {name: {"weights": str(folder / f"{name}.safetensors")} for name in BACKBONES},
        }
        (folder / "config.yaml").write_text(json.dumps(raw), encoding="utf-8")
        self.config: Config = configuration(raw)
        self.paths = self.config.paths
        write_json(self.paths.config, self.config.model_dump(mode="json"))
        for name in BACKBONES:
            write_json(self.paths.weights_record(name), {"source": "none", "sha256": "0" * 64, "random": True})
            self.paths.weights(name).touch()
        self.write_table(videos)

    def write_table(self, videos: int) -> None:
        """Write the user's table."""
        table = videos_table(0, min(videos, self.videos))
        if videos > self.videos:
            table = pa.concat_tables([table, videos_table(self.videos, videos)])
        pacsv.write_csv(table, self.folder / "videos.csv")

    def module(self, name: str) -> dict[str, Any]:
        """Run one of the project's modules."""
        return timed([sys.executable, "-m", name, "--config", str(self.paths.config)])

    def snakemake(self, *arguments: str, module: tuple[str, ...] = ("snakemake",)) -> dict[str, Any]:
        """Run Snakemake as a user would."""
        command = [sys.executable, "-m", *module, *arguments, "--snakefile", str(ROOT / "Snakefile")]
        command += ["--workflow-profile", str(ROOT / "profiles" / "default"), "--cores", "1", "--directory"]
        return timed([*command, str(self.folder), "--configfile", str(self.folder / "config.yaml")])

    def dry(self, *arguments: str) -> dict[str, Any]:
        """Run a dry run: return its wall time (s), its jobs by rule, and the shards that they are about."""
        run = self.snakemake("-n", *arguments)
        printed = run["printed"]
        jobs = {
            rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", printed.split("Job stats:")[-1], re.M)
        }
        shards = {int(digits) for digits in re.findall(r"^Job \d+: .* shard (\d{5})$", printed, re.M)}
        return {"seconds": run["seconds"], "cpu": run["cpu"], "jobs": jobs, "shards": sorted(shards)}

    def pretend_done(self, *parts: str) -> None:
        """Write the records of all shards of some parts."""
        plan = read_plan(self.paths)
        for part in parts:
            for shard in range(plan.shards):
                rows = len(plan.rows(shard))
                write_json(self.paths.done(part, shard), asdict(Record(plan.key(part), rows, rows, "0" * 64)))

    def pretend(self) -> None:
        """Write every shard's record, and what comes after, and let Snakemake know them as its own work."""
        self.pretend_done(PROBE, *BACKBONES)
        self.paths.failures.write_text("video_id\n", encoding="utf-8")
        none = {"train": 0, "validation": 0, "test": 0}
        write_cache_record(self.paths, CacheRecord(0, self.config.segments, none, {}))
        self.paths.report.mkdir()
        (self.paths.report / "index.html").touch()
        self.snakemake("--touch", "--forceall", module=("bench.workflow", "--child"))


def minimal(folder: Path, shards: int) -> dict[str, Any]:
    """Time the floor: starting Snakemake, and a dry run of as many jobs in the same shape by a bare Snakefile."""
    folder.mkdir(parents=True)
    (folder / "Snakefile").write_text(MINIMAL.format(shards=shards), encoding="utf-8")
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--directory", str(folder)]
    command += ["--snakefile", str(folder / "Snakefile")]
    (folder / "Empty").write_text("rule all:\n", encoding="utf-8")
    start = [sys.executable, "-m", "snakemake", "--snakefile", str(folder / "Empty"), "--list-rules"]
    return {"dry_run": costs(timed([*command, "-n"])), "start": costs(fastest(lambda: timed(start)))}


def costs(run: dict[str, Any]) -> dict[str, float]:
    """Return the times alone."""
    return {name: run[name] for name in ("seconds", "cpu")}


def fastest(work: Callable[[], dict[str, Any]], repeats: int = 5) -> dict[str, Any]:
    """Return the repeat that took the least time."""
    return min((work() for _ in range(repeats)), key=lambda run: run["seconds"])


def size(folder: Path, videos: int) -> dict[str, Any]:
    """Measure everything for one number of videos."""
    collection = Collection(folder / str(videos), videos - SHORT)
    result: dict[str, Any] = {"videos": videos, "shards": -(-collection.videos // SHARD)}
    result["minimal"] = minimal(folder / f"minimal{videos}", result["shards"])
    listed = fastest(lambda: collection.snakemake("--list-rules"))
    result["parse"] = round(listed["seconds"] - result["minimal"]["start"]["seconds"], 3)
    first = collection.module("data.manifest")
    again = collection.module("data.manifest")  # reads and compares with the first one's rows
    result["manifest"] = {"first": costs(first), "again": costs(again), "rss_mb": again["rss_mb"]}
    collection.module("pipeline.plan")
    result["dry_run"] = {"planned": collection.dry(), "job": collection.dry(*job_arguments(result["shards"] - 1))}
    collection.pretend()
    result["dry_run"]["done"] = collection.dry()
    collection.write_table(collection.videos + APPENDED)
    result["dry_run"]["grown"] = collection.dry()
    collection.snakemake(str(collection.paths.plan))
    result["dry_run"]["appended"] = collection.dry()
    result["shards_appended_to"] = result["dry_run"]["appended"]["shards"]
    for dry_run in result["dry_run"].values():
        del dry_run["shards"]
    print(json.dumps(result, indent=1), flush=True)
    return result


def job_arguments(shard: int) -> list[str]:
    """Return what a cluster's job asks of the Snakemake that it starts: one job, without looking at any other."""
    target = f"extract_shard:backbone={next(iter(BACKBONES))},shard={shard:05d}"
    return ["--target-jobs", target, "--allowed-rules", "extract_shard", "--nolock", "--ignore-incomplete", "--force"]


def table(result: dict[str, Any]) -> str:
    """Return the table of docs/performance.md."""
    lines = [
        "| videos | jobs | manifest, again | parse | start of a job | dry run: planned, done, appended | minimal |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        dry, manifest = row["dry_run"], row["manifest"]
        runs = ", ".join(f"{dry[name]['seconds']:.1f}" for name in ("planned", "done", "appended"))
        lines.append(
            f"| {row['videos']:,} | {3 * row['shards']:,} "
            f"| {manifest['first']['seconds']:.1f} s, {manifest['again']['seconds']:.1f} s | {row['parse']:.2f} s "
            f"| {dry['job']['seconds']:.1f} s | {runs} s | {row['minimal']['dry_run']['seconds']:.1f} s |"
        )
    powers = ", ".join(f"{name} {exponent}" for name, exponent in result["exponents"].items())
    return "\n".join(lines) + f"\n\nExponents of growth with the number of videos: {powers}."


def main() -> None:
    """Run the command line."""
    command_line = parser(__doc__, "bench.workflow", config=False)
    command_line.add_argument("--folder", type=Path, help="an empty folder to work in; default: a temporary one")
    command_line.add_argument("--videos", type=int, nargs="+", default=[10_000, 50_000, 200_000, 550_000])
    arguments = command_line.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        rows = [size(arguments.folder or Path(temporary), videos) for videos in arguments.videos]
    last = rows[-1]
    sizes = [row["videos"] for row in rows]
    # Processor time without the start, which is the same for all sizes.
    graphs = {
        f"dry run, {name}": [row["dry_run"][name]["cpu"] for row in rows] for name in ("planned", "done", "appended")
    }
    graphs["minimal dry run"] = [row["minimal"]["dry_run"]["cpu"] for row in rows]
    starts = [row["minimal"]["start"]["cpu"] + row["parse"] for row in rows]
    exponents = {"manifest": exponent(sizes, [row["manifest"]["again"]["cpu"] for row in rows])}
    for name, seconds in graphs.items():
        exponents[name] = exponent(
            sizes, [max(taken - start, 0.01) for taken, start in zip(seconds, starts, strict=True)]
        )
    slowest = max(last["dry_run"][name]["seconds"] for name in ("planned", "done", "appended"))
    bars = [
        bar("parse the Snakefile (s)", last["parse"], at_most=1),
        bar(f"slowest full dry run, {last['videos']:,} videos (s)", slowest, at_most=5),
        bar(f"manifest of {last['videos']:,} videos (s)", last["manifest"]["first"]["seconds"], at_most=60),
        bar("shards touched by 1,000 more videos, where two gain rows", len(last["shards_appended_to"]), at_most=2),
    ]
    save("workflow", COMMAND, {"rows": rows, "exponents": exponents, "bars": bars})


def _touch() -> None:
    """Run Snakemake with `--touch` as fast as it goes: it waits 0.1 s a job for the sake of time stamps."""
    import snakemake.executors.touch
    from snakemake.cli import main as cli

    snakemake.executors.touch.Executor.SLEEPING_TIME = 0
    del sys.argv[1]
    cli()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _touch()
    else:
        run(main)

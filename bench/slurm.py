"""A real Slurm under the workflow: 1,100 shard jobs of 550,000 videos submitted, and 60 executed under random kills.

    python -m bench.slurm [--parts submitted executed] [--videos 550000] [--jobs 60] [--kills 6]

Starts the one-host Slurm of `tests/support/cluster.py` (`apt-get install slurmctld slurmd slurm-client munge`). First
the node is drained, so that jobs are submitted and none begins: made-up videos, the real Snakefile and profile, without
its limit of 200 jobs in the queue; beside it plain `sbatch`. Then Snakemake is killed, and what a next one does first,
cancelling what is left, is timed. After that the node works on small shards of real files with `bench.light`, while
running jobs are killed at random, by turns as `scancel` does it (SIGTERM, SIGKILL after 5 s) and by SIGKILL at once. At
the end every video has to have the features of a run without Slurm. Writes bench/results/slurm.json, and a temporary
folder.
"""

from __future__ import annotations

import os
import random
import shlex
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen
from typing import Any

from bench.light import NAME
from bench.measure import ROOT, bar, load, save, summary
from bench.runs import Run, show, write_table
from bench.workflow import SHORT, Collection
from config.cli import UserError, parser, run
from config.files import write_json
from config.pipeline import Render
from config.scheduler import cancel_leftovers, job_prefix
from data.render import render_video
from pipeline.records import PROBE
from tests.support.cluster import NODE, Cluster, missing, until

PARTS = ("submitted", "executed")
PLAIN, LOOKS = 200, 20
"""How often a plain submission and a status poll are timed."""
SHARD, SEED = 3, 5
"""Videos a shard that is really extracted; the seed of the kills."""


@contextmanager
def started(folder: Path, program: str, *arguments: str, path: tuple[Path, ...] = ()) -> Iterator[Popen[bytes]]:
    """Start `snakemake extract` with the Slurm profile on FOLDER/config.yaml, printing to FOLDER/printed.txt.

    It is killed at the end of the context, if it still runs.
    """
    command = [sys.executable, "-m", program, "extract", *arguments, "--snakefile", str(ROOT / "Snakefile")]
    command += ["--workflow-profile", str(ROOT / "profiles" / "slurm"), "--directory", str(folder)]
    command += ["--configfile", str(folder / "config.yaml")]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(str(entry) for entry in (*path, ROOT))}
    with open(folder / "printed.txt", "wb") as out:
        process = Popen(command, cwd=folder, env=env, stdout=out, stderr=out, start_new_session=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def printed(folder: Path) -> str:
    """Return what Snakemake has printed."""
    return (folder / "printed.txt").read_text(encoding="utf-8")


def submitting(cluster: Cluster, folder: Path, videos: int) -> dict[str, Any]:
    """Submit all extraction jobs of a collection of so many videos to a node that takes none."""
    prepared = Collection(folder, videos - SHORT)
    for module in ("data.manifest", "pipeline.plan"):
        prepared.module(module)
    prepared.pretend_done(PROBE)
    jobs = 2 * -(-prepared.videos // prepared.config.shard_videos)
    cluster.ask("scontrol", "update", f"NodeName={NODE}", "State=DRAIN", "Reason=bench")
    plain = plain_submissions(cluster)

    began = time.perf_counter()
    with started(folder, "snakemake", "--jobs", "unlimited") as process:

        def count() -> int:
            if process.poll() is not None:
                raise RuntimeError(f"Snakemake has ended:\n{printed(folder)[-3000:]}")
            return printed(folder).count("has been submitted with SLURM jobid")

        until(count, 120, "the first submission")
        first = time.perf_counter() - began
        until(lambda: count() == jobs, 600, f"{jobs} submissions")
        last = time.perf_counter() - began
        # VmHWM is the peak (kB) of what the process has had in memory.
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
        peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
        poll = looking(cluster, jobs)
    clock = time.perf_counter()
    cancel_leftovers(job_prefix(prepared.paths.results))
    cancelling = time.perf_counter() - clock
    cluster.ask("scontrol", "update", f"NodeName={NODE}", "State=RESUME")
    return {
        "videos": prepared.videos,
        "jobs": jobs,
        "first_seconds": round(first, 2),
        "last_seconds": round(last, 2),
        "a_second": round((jobs - 1) / (last - first), 2),
        "plain_a_second": round(plain, 2),
        "of_plain": round((jobs - 1) / (last - first) / plain, 3),
        "snakemake_mb": round(peak / 1024),
        "poll_seconds": poll,
        "cancelling_seconds": round(cancelling, 2),
    }


def plain_submissions(cluster: Cluster) -> float:
    """Return the submissions a second of `sbatch`, one after the other, with nothing around it."""
    began = time.perf_counter()
    for _ in range(PLAIN):
        cluster.ask("sbatch", "--job-name=plain", "--mem=100", "--time=10", "--output=/dev/null", "--wrap=true")
    seconds = time.perf_counter() - began
    cluster.ask("scancel", "--name=plain")
    return PLAIN / seconds


def looking(cluster: Cluster, jobs: int) -> dict[str, float]:
    """Return the seconds of one status poll, as the plugin does it, with all jobs in the queue."""
    from snakemake_executor_plugin_slurm.job_status_query import query_job_status_squeue

    (name,) = set(cluster.ask("squeue", "--noheader", "--format=%j").split())
    command, seconds = shlex.split(query_job_status_squeue(name)), []
    for _ in range(LOOKS):
        began = time.perf_counter()
        lines = cluster.ask(*command).splitlines()
        seconds.append(time.perf_counter() - began)
        if len(lines) != jobs:
            raise RuntimeError(f"squeue knows {len(lines)} of {jobs} jobs")
    return summary(seconds)


def collection(folder: Path, results: str, shards: int) -> Run:
    """Plan and probe shards of small rendered files, in a results folder."""
    media = folder / "media"
    media.mkdir(exist_ok=True)
    files = [render_video(Render(videos=4, seconds=(4.0, 5.0), seed=1), i, media) for i in range(4)]
    table = write_table(folder / "videos.parquet", [(f"v{i:04d}", files[i % 4]) for i in range(shards * SHARD)])
    prepared = Run(folder / results, table, {NAME: {"weights": "none"}}, shard_videos=SHARD)
    prepared.prepare()
    by_hand(prepared, "pipeline.probe", shards)
    return prepared


def by_hand(prepared: Run, module: str, shards: int, *arguments: str) -> None:
    """Run a part on all shards in one process."""
    command = prepared.command(module, *arguments, "--shard", "0", "--shards", str(shards))
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)


def executing(cluster: Cluster, folder: Path, shards: int, kills: int) -> dict[str, Any]:
    """Extract so many shards, one a job, and kill so many of the running jobs."""
    folder.mkdir()
    undisturbed = collection(folder, "undisturbed", shards)
    by_hand(undisturbed, "pipeline.extract", shards, "--backbone", NAME)
    fire = collection(folder, "results", shards)
    write_json(folder / "config.yaml", fire.config.model_dump(mode="json", exclude_none=True))
    (folder / "sitecustomize.py").write_text("import bench.light\nbench.light.register()\n", encoding="utf-8")

    def done() -> int:
        return sum(fire.paths.done(NAME, shard).exists() for shard in range(shards))

    chance = random.Random(SEED)
    moments = sorted(chance.sample(range(shards - shards // 10), kills))  # numbers of shards done
    killed: Counter[str] = Counter()
    began = time.perf_counter()
    fast = ("--slurm-init-seconds-before-status-checks", "1", "--latency-wait", "5")
    with started(folder, "tests.support.poll", *fast, path=(folder,)) as process:
        while process.poll() is None:
            time.sleep(chance.uniform(0.2, 1.5))
            running = [job["id"] for job in cluster.jobs("R")]
            if moments and done() >= moments[0] and running:
                way = ("--signal=KILL", "--full") if killed.total() % 2 else ()
                cluster.ask("scancel", *way, chance.choice(running), check=False)  # it may have ended meanwhile
                killed["SIGKILL" if way else "SIGTERM"] += 1
                moments.pop(0)
    seconds = time.perf_counter() - began
    if process.returncode:
        raise RuntimeError(f"Snakemake has failed:\n{printed(folder)[-3000:]}")
    outcomes, features, expected = fire.outcomes(NAME), fire.features(NAME), undisturbed.features(NAME)
    return {
        "jobs": shards,
        "videos": len(outcomes),
        "seconds": round(seconds, 1),
        "seed": SEED,
        "kills": dict(killed),
        "states": Counter(job["state"] for job in cluster.jobs() if job["folder"] == str(folder)),
        "lost": sum(outcome == "lost" for outcome in outcomes.values()),
        "different": sum(features[video] != expected[video] for video in outcomes),
        "torn": sum(fire.torn(NAME, shard) for shard in range(shards)),
        "left_in_work": sum(path.is_file() for path in (fire.paths.results / "work").rglob("*")),
    }


def bars(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the bars of the parts that there are."""
    lines = []
    if submitted := result["submitted"]:
        lines.append(bar("shard jobs submitted to Slurm, 550,000 videos", submitted["jobs"], at_least=1100))
    if executed := result["executed"]:
        wrong = sum(executed[what] for what in ("lost", "different", "torn", "left_in_work"))
        lines.append(bar("videos lost or different, files torn or left, Slurm jobs killed at random", wrong, at_most=0))
    return lines


def table(result: dict[str, Any]) -> str:
    """Return a line about the queue and a sentence about the kills, for docs/performance.md."""
    queue = result["submitted"]
    cells = {
        "jobs": f"{queue['jobs']:,}",
        "first submitted": f"{queue['first_seconds']:.1f} s",
        "last": f"{queue['last_seconds']:.1f} s",
        "a second": f"{queue['a_second']:.1f}",
        "plain `sbatch` a second": f"{queue['plain_a_second']:.1f}",
        "Snakemake's peak": f"{queue['snakemake_mb']} MB",
        "one status poll": f"{1000 * queue['poll_seconds']['median']:.0f} ms",
        "cancelling all": f"{queue['cancelling_seconds']:.1f} s",
    }
    line = f"| {' | '.join(cells)} |\n{'|---' * len(cells)}|\n| {' | '.join(cells.values())} |\n\n"
    return line + (_kills(result["executed"]) if result["executed"] else "The kills have not been measured yet.")


def _kills(part: dict[str, Any]) -> str:
    states = ", ".join(f"{count} {state.lower()}" for state, count in sorted(part["states"].items()))
    kills = ", ".join(f"{count} by {way}" for way, count in sorted(part["kills"].items()))
    return (
        f"{part['jobs']} jobs executed in {part['seconds']:.0f} s, killed {kills}: {states}. Of {part['videos']} "
        f"videos {part['lost']} lost, {part['different']} with other features than without Slurm, {part['torn']} "
        "shards torn."
    )


def main() -> None:
    """Run the command line."""
    command_line = parser(__doc__, "bench.slurm", config=False)
    command_line.add_argument("--videos", type=int, default=550_000, help="of the collection whose jobs are submitted")
    command_line.add_argument("--jobs", type=int, default=60, help="that are executed")
    command_line.add_argument("--kills", type=int, default=6, help="of running jobs")
    command_line.add_argument(
        "--parts", nargs="+", choices=PARTS, default=PARTS, help="measure only these, keep the others"
    )
    command_line.add_argument("--no-result", action="store_true", help="print the result instead of writing it")
    arguments = command_line.parse_args()
    if reason := missing():
        raise UserError(reason)
    result = {part: (load("slurm") or {}).get(part) for part in PARTS}
    with tempfile.TemporaryDirectory() as temporary, Cluster() as cluster:
        os.environ.update(cluster.env)
        if "submitted" in arguments.parts:
            result["submitted"] = submitting(cluster, Path(temporary) / "submitted", arguments.videos)
        if "executed" in arguments.parts:
            result["executed"] = executing(cluster, Path(temporary) / "executed", arguments.jobs, arguments.kills)
    result["bars"] = bars(result)
    show(result) if arguments.no_result else save("slurm", "python -m bench.slurm", result)


if __name__ == "__main__":
    run(main)

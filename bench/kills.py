"""SIGKILL at random moments of extraction runs: nothing torn, nothing lost, nothing different.

    python -m bench.kills                    200 kills; writes bench/results/kills.json
    python -m bench.kills --kills 12 --workflow-kills 1 --no-result

A round is a small collection that is extracted, then grows and is extracted again, by hand (`python -m pipeline.probe`
and `pipeline.extract`), each job killed again and again until it gets through; some rounds instead kill the process
group of a whole Snakemake run. After every kill each done record must fit the bytes in the store; at the end of a round
the records, and with them the digests of the features, must be those of an undisturbed run. The moments are spread over
the start, the decoding (by the size of the journal) and the final write (by what appears on disk, and up to 200 ms
later). The backbone is `bench.light`, so that 200 kills take minutes; everything else is real. Exit status 1 if
anything is torn, lost or different. Writes into a temporary folder.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.light import NAME
from bench.measure import ROOT
from bench.runs import Run, finish, size_of, working_folder, write_table
from config.cli import parser
from config.files import read_json, write_json
from config.pipeline import Render
from data.render import render_video

SIZES = (10, 14)
"""Videos before and after the collection grows, in shards of 6: one shard stays as it is, one grows, one is new."""
SHARD = 6
MODES = ("start", "decoding", "writing")


class Campaign:
    """Kills, and what was found after them. `folder` holds the videos, the undisturbed runs and the one under fire."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.chance = folder, random.Random(seed)
        self.kills: Counter[str] = Counter()
        self.problems: list[str] = []
        self.rounds = 0
        self.job_seconds: dict[str, float] = {}
        (folder / "media").mkdir()
        render = Render(videos=4, seconds=(4.0, 5.0), seed=1)
        media = [render_video(render, i, folder / "media") for i in range(4)]
        broken = folder / "media" / "broken.mp4"
        broken.write_bytes(media[0].read_bytes()[:5000])
        cycle = [*media, broken]
        self.tables = [
            write_table(folder / f"{size}.parquet", [(f"v{i}", cycle[i % 5]) for i in range(size)]) for size in SIZES
        ]
        self.undisturbed = [self._undisturbed(i) for i in (0, 1)]

    def run(self, results: Path, table: Path) -> Run:
        """Make a results folder for a table, at least the configuration of it."""
        return Run(results, table, {NAME: {"weights": "none"}}, shard_videos=SHARD)

    def _undisturbed(self, stage: int) -> dict[tuple[str, int], Any]:
        run = self.run(self.folder / "undisturbed", self.tables[stage])
        run.prepare()
        records = {}
        for part in run.parts:
            for shard in range(run.plan.shards):
                began = time.monotonic()
                subprocess.run(run.job(part, shard), cwd=ROOT, check=True, capture_output=True)
                self.job_seconds[part] = max(self.job_seconds.get(part, 0.0), time.monotonic() - began)
                records[part, shard] = read_json(run.paths.done(part, shard))
        return records

    def check(self, run: Run, when: str) -> None:
        """Check that no done record lacks its shard, byte for byte. Called after every kill."""
        for part in run.parts:
            for shard in range(run.plan.shards):
                if run.torn(part, shard):
                    self.problems.append(f"torn: {part} shard {shard} {when}")

    def by_hand(self, enough: Callable[[], bool]) -> None:
        """Run one round of killed jobs: extract, grow, extract."""
        results = self.folder / "fire"
        for stage, table in enumerate(self.tables):
            run = self.run(results, table)
            run.prepare()
            for part in run.parts:
                for shard in range(run.plan.shards):
                    self._killed_until_done(run, part, shard, enough)
            self._compare(run, stage)
        shutil.rmtree(results)

    def _killed_until_done(self, run: Run, part: str, shard: int, enough: Callable[[], bool]) -> None:
        """Kill the job two to six times, then let it through."""
        for _ in range(0 if enough() else self.chance.randint(2, 6)):
            journal = run.paths.work(part, shard) / "journal"
            before = size_of(journal)
            mode = self.chance.choice(MODES)
            if not self._kill(run, part, shard, mode):
                self.check(run, f"after a run that got through before it was killed ({mode})")
                continue
            self.kills[f"{part}, {mode}"] += 1
            self.check(run, f"after a kill while {mode}")
            if size_of(journal) < before and run.record(part, shard) is None and not self._in_ledger(run, part, shard):
                self.problems.append(f"lost: the journal of {part} shard {shard} shrank after a kill while {mode}")
        process = subprocess.run(run.job(part, shard), cwd=ROOT, capture_output=True, text=True, encoding="utf-8")
        if process.returncode:
            self.problems.append(f"died: {part} shard {shard}: {process.stderr[-2000:]}")

    @staticmethod
    def _in_ledger(run: Run, part: str, shard: int) -> bool:
        return run.paths.ledger(part, shard, run.plan.key(part)).exists()

    def _kill(self, run: Run, part: str, shard: int, mode: str) -> bool:
        """Start a job and kill it. False if it ended before."""
        process = subprocess.Popen(run.job(part, shard), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        journal, work = run.paths.work(part, shard) / "journal", run.paths.results / "work"
        if mode == "start":
            self._wait(process, lambda: False, self.chance.uniform(0, self.job_seconds[part]))
        elif mode == "decoding":
            # A record of the light backbone has about 70 bytes, the probe's 40.
            size = size_of(journal) + self.chance.randint(1, SHARD * 60)
            self._wait(process, lambda: size_of(journal) >= size)
        else:
            self._wait(process, lambda: any(work.glob(f"*.{shard}.*.wip")))
            time.sleep(self.chance.choice([0, 0, 0.001, 0.003, 0.01, 0.03, 0.2]) * self.chance.random())
        process.kill()
        return process.wait() == -signal.SIGKILL

    @staticmethod
    def _wait(process: subprocess.Popen[bytes], until: Callable[[], bool], seconds: float = 60.0) -> None:
        stop = time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < stop and not until():
            time.sleep(0.0002)

    def by_workflow(self) -> None:
        """Run Snakemake once, killing its process group three times; then let it go on to the end."""
        results = self.folder / "workflow"
        run = self.run(results, self.tables[1])
        for _ in range(3):
            process = self._snakemake(run)
            until = self.chance.choice([self._anything_in_work(run), lambda: False])
            self._wait(process, until, self.chance.uniform(3, 14))
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                self.kills["workflow"] += 1
            process.wait()
            if run.paths.plan.exists():
                self.check(run, "after the workflow was killed")
            self._snakemake(run, "--unlock").wait()
        if self._snakemake(run).wait():
            self.problems.append("died: the workflow did not go on after it was killed")
        else:
            self._compare(run, 1)
        shutil.rmtree(results)

    @staticmethod
    def _anything_in_work(run: Run) -> Callable[[], bool]:
        return lambda: any(path.is_file() for path in (run.paths.results / "work").rglob("*"))

    def _snakemake(self, run: Run, *arguments: str) -> subprocess.Popen[bytes]:
        """Start `snakemake extract` in a process group of its own, with the light backbone in every process."""
        write_json(self.folder / "workflow.json", run.config.model_dump(mode="json", exclude_none=True))
        # Snakemake starts `python -m …` from PATH; a `sitecustomize` on the path registers the backbone there.
        shim = self.folder / "shim"
        shim.mkdir(exist_ok=True)
        (shim / "sitecustomize.py").write_text("import bench.light\nbench.light.register()\n", encoding="utf-8")
        environment = {**os.environ, "PYTHONPATH": f"{shim}{os.pathsep}{ROOT}"}
        command = [sys.executable, "-m", "snakemake", "extract", *arguments, "--cores", "2", "--quiet", "all"]
        command += ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(self.folder)]
        command += ["--workflow-profile", str(ROOT / "profiles" / "default")]
        command += ["--configfile", str(self.folder / "workflow.json")]
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip

    def _compare(self, run: Run, stage: int) -> None:
        """Check that every record is that of the undisturbed run, its shard is there, and no other file is left."""
        self.rounds += 1
        self.check(run, "at the end of a round")
        verify = subprocess.run(
            [sys.executable, "-m", *(["bench.light"] if run.light else []), "pipeline.verify", str(run.paths.results)],
            cwd=ROOT, capture_output=True, text=True, encoding="utf-8",
        )  # fmt: skip
        if verify.returncode:
            self.problems.append(f"verify: {verify.stdout[-1000:]}{verify.stderr[-1000:]}")
        for (part, shard), record in self.undisturbed[stage].items():
            if read_json(run.paths.done(part, shard)) != record:
                self.problems.append(f"different: {part} shard {shard}, stage {stage}")
        for part in run.parts:
            lost = [video for video, outcome in run.outcomes(part).items() if outcome == "lost"]
            if lost:
                self.problems.append(f"lost: {part}: {lost}")


def main() -> None:
    """Run the command line."""
    command_line = parser(__doc__, "bench.kills", config=False)
    command_line.add_argument("--kills", type=int, default=200, help="kills of jobs run by hand")
    command_line.add_argument("--workflow-kills", type=int, default=9, help="kills of whole workflows")
    command_line.add_argument("--seed", type=int, default=3)
    command_line.add_argument("--no-result", action="store_true", help="print the result instead of writing it")
    arguments = command_line.parse_args()
    began = time.monotonic()
    with working_folder() as folder:
        campaign = Campaign(folder, arguments.seed)
        while campaign.kills["workflow"] < arguments.workflow_kills:
            campaign.by_workflow()
        while (by_hand := campaign.kills.total() - campaign.kills["workflow"]) < arguments.kills:
            campaign.by_hand(lambda: campaign.kills.total() - campaign.kills["workflow"] >= arguments.kills)
            print(f"{by_hand} kills by hand, {len(campaign.problems)} problems", file=sys.stderr)
    result = {
        "seed": arguments.seed,
        "kills": campaign.kills.total(),
        "by_moment": dict(sorted(campaign.kills.items())),
        "extractions_compared": campaign.rounds,
        "seconds": round(time.monotonic() - began),
        "torn": sum(problem.startswith("torn") for problem in campaign.problems),
        "lost": sum(problem.startswith("lost") for problem in campaign.problems),
        "different": sum(problem.startswith("different") for problem in campaign.problems),
        "problems": campaign.problems,
    }
    kills = f"--kills {arguments.kills} --workflow-kills {arguments.workflow_kills}"
    command = f"python -m bench.kills {kills} --seed {arguments.seed}"
    finish("kills", command, result, keep=not arguments.no_result)


if __name__ == "__main__":
    main()

"""Snakemake through the Slurm of tests/support/cluster.py, with jobs that go wrong as tests/support/faults.py says."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.cluster import Cluster
from tests.support.commands import ROOT

VIDEOS, SHARD = 12, 4


class Workflow:
    """A configuration in a folder of its own, and Snakemake on it through Slurm."""

    def __init__(self, folder: Path, videos: Path, cluster: Cluster) -> None:
        self.folder, self.cluster, self.results = folder, cluster, folder / "results"
        self.faults = folder / "faults"
        self.faults.mkdir()
        shutil.copy(Path(__file__).with_name("faults.py"), self.faults / "sitecustomize.py")
        self.break_with()
        self.env: dict[str, str] = {}
        self.config: dict[str, Any] = {
            "results": str(self.results),
            "videos": str(videos),
            "shard_videos": SHARD,
            "segments": {"count": 2, "seconds": 3.0, "window": 3.2},
            "backbones": {"musicnn": {"weights": "random"}},
            "heads": {"audio": "musicnn", "video": "musicnn"},
        }

    def break_with(self, slow: dict[str, float] | None = None, exits: tuple[int, ...] = ()) -> None:
        """What is to go wrong: see faults.py."""
        (self.faults / "slow.json").write_text(json.dumps(slow or {}))
        for shard in exits:
            (self.faults / f"exit-{shard}").touch()

    def reads(self) -> list[str]:
        """Names of the files that were read, in order."""
        file = self.faults / "reads.txt"
        return [Path(line).name for line in file.read_text().splitlines()] if file.exists() else []

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start Snakemake with the Slurm profile, looking at its jobs every second."""
        file = self.folder / "config.yaml"
        file.write_text(json.dumps(self.config))
        path = os.pathsep.join([str(self.faults), str(ROOT)])
        command = [sys.executable, "-m", "tests.support.poll", *arguments, "--snakefile", str(ROOT / "Snakefile")]
        command += ["--workflow-profile", str(ROOT / "profiles" / "slurm"), "--directory", str(self.folder)]
        command += ["--latency-wait", "5", "--slurm-init-seconds-before-status-checks", "1", "--configfile", str(file)]
        env = self.cluster.env | {"PYTHONPATH": path, "FAULTS": str(self.faults)} | self.env
        out = open(self.folder / "printed.txt", "a")
        return subprocess.Popen(
            command, env=env, cwd=self.folder, stdout=out, stderr=out, text=True, start_new_session=True
        )

    def run(self, *arguments: str) -> str:
        """Run Snakemake to its end; everything that it printed. It has to succeed."""
        return self.ended(self.start(*arguments))

    def ended(self, process: subprocess.Popen[str]) -> str:
        """Wait for Snakemake's end, which has to be a good one."""
        try:
            code = process.wait(240)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise AssertionError(f"Snakemake hangs:\n{self.printed()[-4000:]}") from None
        assert code == 0, self.printed()[-6000:]
        return self.printed()

    def printed(self) -> str:
        """What Snakemake has printed so far."""
        return (self.folder / "printed.txt").read_text()

    def jobs(self, rule: str) -> list[dict[str, str]]:
        """Slurm's jobs of one rule of this workflow, finished ones included, oldest first."""
        mine = [job for job in self.cluster.jobs() if job["folder"] == str(self.folder)]
        return sorted((job for job in mine if rule in job["comment"]), key=lambda job: int(job["id"]))

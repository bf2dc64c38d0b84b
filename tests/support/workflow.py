"""Running the real workflow from tests: Snakemake as a user starts it, in a folder of its own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from config.files import write_json
from config.model import load
from tests.support.commands import ROOT, execute

VIDEOS, SHARD, COUNT = 30, 12, 2
"""Size of the small demo: videos, videos a shard, segments a video."""


def snakemake(
    folder: Path,
    config: dict[str, Any],
    *arguments: str,
    check: bool = True,
    program: Sequence[str] = ("-m", "snakemake"),
) -> str:
    """Run Snakemake on a configuration; return everything that it printed. `folder` holds `.snakemake` and results.

    `program`: how Python is told to start it.
    """
    file = folder / "config.yaml"
    file.write_text(json.dumps(config))  # JSON is YAML
    # Targets come first: Snakemake takes what follows `--configfile FILE` for more configuration files.
    command = [sys.executable, *program, *arguments, "--snakefile", ROOT / "Snakefile", "--directory", folder]
    command += ["--workflow-profile", ROOT / "profiles" / "default", "--cores", "2", "--configfile", file]
    done = execute(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=folder)
    assert done.returncode == 0 or not check, done.stdout[-6000:]
    return done.stdout


def keep_videos(folder: Path, count: int) -> None:
    """Leave only the first `count` videos in the table `media/videos.csv` of a copied demo."""
    table = folder / "media" / "videos.csv"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[: 1 + count]))


def planned_rules(printed: str) -> set[str]:
    """Return the names of the rules in a dry run's table of jobs."""
    table = printed.split("Job stats:")[-1].split("Reasons:")[0]
    return set(re.findall(r"^(\w+) +\d+$", table, re.M)) - {"total"}


def leftovers(results: Path) -> list[str]:
    """Files that unfinished jobs have left in `work/`; notes on the user's files and the last start stay for good."""
    files = (path.name for path in (results / "work").rglob("*") if path.is_file())
    return [name for name in files if name not in ("digests.json", "started_in.json") and not name.endswith(".sha256")]


def module(config: dict[str, Any], name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one module as a person would, on the configuration of a results folder."""
    path = Path(config["results"]) / "config.json"
    write_json(path, load(config).model_dump(mode="json"))
    command = [sys.executable, "-m", name, "--config", str(path), *arguments]
    return execute(command)

"""Running the real workflow from tests: Snakemake as a user starts it, in a folder of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from config.files import write_json
from config.model import load
from tests.commands import ROOT, execute

VIDEOS, SHARD, COUNT = 30, 12, 2
"""Size of the small demo: videos, videos a shard, segments a video."""


def snakemake(folder: Path, config: dict[str, Any], *arguments: str, check: bool = True) -> str:
    """Run Snakemake on a configuration; return everything that it printed. `folder` holds `.snakemake` and results."""
    file = folder / "config.yaml"
    file.write_text(json.dumps(config))  # JSON is YAML
    # Targets come first: Snakemake takes what follows `--configfile FILE` for more configuration files.
    command = [sys.executable, "-m", "snakemake", *arguments, "--snakefile", ROOT / "Snakefile", "--directory", folder]
    command += ["--workflow-profile", ROOT / "profiles" / "default", "--cores", "2", "--configfile", file]
    done = execute(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=folder)
    assert done.returncode == 0 or not check, done.stdout[-6000:]
    return done.stdout


def module(config: dict[str, Any], name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one module as a person would, on the configuration of a results folder."""
    path = Path(config["results"]) / "config.json"
    write_json(path, load(config).model_dump(mode="json"))
    command = [sys.executable, "-m", name, "--config", str(path), *arguments]
    return execute(command)

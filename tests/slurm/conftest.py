"""Fixtures of the Slurm tests: a cluster on this machine, small videos, and Snakemake started on both."""

from __future__ import annotations

import json
import sys

import pytest

from tests.support.cluster import Cluster, missing
from tests.support.commands import execute
from tests.support.slurm import VIDEOS, Workflow


@pytest.fixture(scope="session")
def cluster():
    """A running Slurm with one node of eight made-up cores and two made-up GPUs."""
    if reason := missing():
        pytest.skip(reason)
    with Cluster() as running:
        yield running


@pytest.fixture(scope="session")
def videos(tmp_path_factory):
    """A table of twelve small rendered videos."""
    folder = tmp_path_factory.mktemp("videos")
    config = {"results": str(folder), "render": {"videos": VIDEOS, "seconds": [6.5, 7.0]}}
    (folder / "config.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "data.render", "--config", folder / "config.json", "--threads", "2"]
    execute(command, check=True)
    return folder / "rendered" / "videos.csv"


@pytest.fixture
def workflow(tmp_path, videos, cluster):
    """A workflow that has not begun."""
    return Workflow(tmp_path, videos, cluster)

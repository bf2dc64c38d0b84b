"""Statistics of the whole cache by dask workers that are Slurm jobs: the same numbers as in threads here."""

import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

from config.cli import UserError
from config.files import write_json
from config.model import Dask, DaskSlurm
from config.paths import Paths
from pipeline.computing import computing
from pipeline.statistics import write_statistics
from tests.commands import execute
from tests.simulate import simulate


def test_statistics_by_workers_that_slurm_starts(tmp_path, cluster):
    config = simulate(tmp_path / "results", videos=600)
    paths = Paths(tmp_path / "results")
    here = write_statistics(config, "musicnn")
    workers = {"jobs": 2, "cores": 1, "memory_gb": 1, "walltime": "00:05:00", "interface": "lo"}
    write_json(paths.config, config.model_dump(mode="json") | {"dask": {"slurm": workers}})
    command = [sys.executable, "-m", "pipeline.statistics", "--config", str(paths.config), "--backbone", "musicnn"]
    done = execute(command, env=cluster.env)
    assert done.returncode == 0, done.stderr
    there = load_file(paths.statistics("musicnn"))
    np.testing.assert_allclose(there["covariance"], here.covariance, atol=1e-5)  # BLAS with other threads
    names = cluster.ask("squeue", "-h", "-t", "all", "-O", "Name:40,State:20").splitlines()
    assert len([line for line in names if line.startswith("dask-worker")]) == 2, names
    assert list((paths.results / "logs" / "dask").iterdir()), "no log of a worker"


def test_what_slurm_refuses_is_said(tmp_path, cluster, monkeypatch):
    dask = Dask(slurm=DaskSlurm(jobs=1, interface="lo", partition="nowhere"))
    config = simulate(tmp_path / "results", videos=20).model_copy(update={"dask": dask})
    for name in ("PATH", "SLURM_CONF"):
        monkeypatch.setenv(name, cluster.env[name])
    with (
        pytest.raises(UserError, match="Slurm refuses such workers: .*artition"),
        computing(config, 1),
    ):
        pass
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="there is no `sbatch` here"), computing(config, 1):
        pass

"""Statistics of the whole cache by dask workers that are Slurm jobs: the same numbers as in threads here."""

import numpy as np
import pytest

from config.cli import UserError
from config.paths import Paths
from config.pipeline import Dask, DaskSlurm
from pipeline.computing import computing
from pipeline.shards import Shards
from pipeline.statistics import compute
from tests.support.simulate import simulate


def test_statistics_by_workers_that_slurm_starts(tmp_path, cluster, monkeypatch):
    config = simulate(tmp_path / "results", videos=600)
    paths = Paths(tmp_path / "results")
    shards, rows = Shards.open(paths.features / "musicnn"), np.arange(600)
    here = compute(shards, rows, scheduler="threads", num_workers=1)
    for name in ("PATH", "SLURM_CONF"):
        monkeypatch.setenv(name, cluster.env[name])
    workers = DaskSlurm(jobs=2, cores=1, memory_gb=1, walltime="00:05:00", interface="lo")
    with computing(config.model_copy(update={"dask": Dask(slurm=workers)}), 1) as how:
        there = compute(shards, rows, **how)
    np.testing.assert_allclose(there.covariance, here.covariance, atol=1e-5)  # BLAS with other threads
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

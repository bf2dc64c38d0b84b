"""Where dask computes: threads here, a scheduler that runs already, or workers that are Slurm jobs of their own.

Reads and writes nothing itself; Slurm jobs of the workers log into logs/dask/ of the results folder.
"""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from config.cli import UserError
from config.model import Config
from config.pipeline import DaskSlurm

log = logging.getLogger("computing")
ROOT = Path(__file__).parents[1]


@contextmanager
def computing(config: Config, threads: int) -> Iterator[dict[str, Any]]:
    """Give the arguments of dask.compute for what `dask` in the configuration says; by default `threads` threads.

    Workers need the project and see the results folder under the same path. UserError if the scheduler cannot be
    reached, or Slurm is not there.
    """
    if config.dask.scheduler is None and config.dask.slurm is None:
        yield {"scheduler": "threads", "num_workers": threads}
        return
    from distributed import Client  # only here: importing it takes a second

    with ExitStack() as stack:
        address = config.dask.scheduler
        try:
            if config.dask.slurm is not None:
                address = stack.enter_context(slurm_cluster(config, config.dask.slurm)).scheduler_address
            client = stack.enter_context(Client(address, timeout="20s"))
        except (OSError, ValueError) as error:
            raise UserError(f"dask.scheduler: {address} cannot be reached ({error})") from None
        log.info("waiting for the first worker at %s", address)
        client.wait_for_workers(1)
        yield {"scheduler": client}


def slurm_cluster(config: Config, slurm: DaskSlurm) -> Any:
    """Start a dask scheduler in this process, whose workers are Slurm jobs (dask-jobqueue); closing it cancels them."""
    if shutil.which("sbatch") is None:
        raise UserError("dask.slurm: there is no `sbatch` here; leave `dask` out of the configuration to use threads")
    from dask_jobqueue.slurm import SLURMCluster

    logs = Path(config.results).resolve() / "logs" / "dask"
    logs.mkdir(parents=True, exist_ok=True)
    path = os.pathsep.join(entry for entry in (str(ROOT), os.environ.get("PYTHONPATH")) if entry)
    cluster = SLURMCluster(
        cores=slurm.cores,
        processes=1,
        memory=f"{slurm.memory_gb}GB",
        walltime=slurm.walltime,
        queue=slurm.partition,
        account=slurm.account,
        interface=slurm.interface,
        python=sys.executable,
        log_directory=str(logs),
        job_script_prologue=[f"export PYTHONPATH={shlex.quote(path)}"],
    )
    # Asked first: dask-jobqueue only logs that a job was refused, and would wait for its worker for ever.
    asked = subprocess.run(
        ["sbatch", "--test-only"], input=cluster.job_script(), capture_output=True, text=True, encoding="utf-8"
    )
    if asked.returncode:
        cluster.close()
        raise UserError(f"dask.slurm: Slurm refuses such workers: {asked.stderr.strip()}")
    cluster.scale(jobs=slurm.jobs)
    return cluster

# Validated configuration, paths and environment, shared by all rules. Parsed again by every job: it must stay fast.

import atexit
import os
import re
import shlex
import sys
from pathlib import Path

# Rules run `python -m …` with the Python that runs Snakemake, and find the packages wherever they are started from.
sys.path.insert(0, workflow.basedir)
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
os.environ["PYTHONPATH"] = os.pathsep.join(p for p in (workflow.basedir, os.environ.get("PYTHONPATH")) if p)

from config.cli import UserError
from config.files import read_json, write_json
from config.labels import FEATURES
from config.model import load, trainable
from config.paths import Paths
from config.scheduler import cancel_leftovers, job_prefix
from pipeline.backbones import resolve_options
from snakemake.exceptions import WorkflowError

try:
    if not config:
        raise UserError("no configuration: add `--configfile config/demo.yaml`, `config/paper.yaml` or your own")
    CONFIG = load(config)
    BACKBONES = {name: resolve_options(name, b.options) for name, b in CONFIG.backbones.items()}
    if CONFIG.videos is not None and not CONFIG.table.exists():
        raise UserError(f"videos: {CONFIG.videos} does not exist (relative paths start at the working directory)")
    for task in CONFIG.labels.tasks:
        for key, path in CONFIG.labels.files(task).items():
            if not Path(path).exists():
                raise UserError(f"{key}: {path} does not exist (relative paths start at the working directory)")
except UserError as error:
    raise WorkflowError(str(error))

PATHS = Paths(Path(CONFIG.results))
# Every module takes the resolved configuration from here, so that a person can run it by hand with the same flag.
FLAGS = f"--config {shlex.quote(str(PATHS.config))}"
LOGS = PATHS.results / "logs"
BENCHMARKS = PATHS.results / "benchmarks"


def cores(at_most):
    """Of a job that can use all there are. On a cluster Snakemake knows no number: then eight."""
    return min(workflow.resource_settings.cores or 8, at_most)


# Whatever starts a run asks for these first: weights that cannot be had stop it before any work.
WEIGHTS_FIRST = ancient([PATHS.weights_record(name) for name in CONFIG.backbones])


onstart:
    from pipeline.claim import Claim

    # The lock of the results, from wherever they are worked on. Snakemake's own is the working directory's, and a
    # Snakemake that was killed leaves it locked.
    try:
        atexit.register(Claim(PATHS.claim).release)
    except UserError as error:
        raise WorkflowError(f"another Snakemake works on these results: {error}")
    # Slurm jobs are called after the results that they work on, so that the next run finds those of one that was killed.
    executor, prefix = workflow.scheduler._executor, job_prefix(PATHS.results)
    if hasattr(executor, "run_uuid"):
        executor.run_uuid = f"{prefix}_{executor.run_uuid}"
        try:
            cancel_leftovers(prefix)
        except UserError as error:
            raise WorkflowError(str(error))
    write_json(PATHS.config, CONFIG.model_dump(mode="json"))


wildcard_constraints:
    shard=r"\d{5}",
    backbone="|".join(CONFIG.backbones),
    experiment="|".join(CONFIG.heads.experiments),
    task="|".join(CONFIG.labels.tasks),
    variant="|".join(re.escape(variant.name) for variant in CONFIG.study.length.variants),

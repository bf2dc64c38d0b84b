# Validated configuration, paths and environment, shared by all rules. Parsed again by every job: it must stay fast.

import atexit
import hashlib
import os
import re
import shlex
import sys
from contextlib import suppress
from pathlib import Path

# Rules run `python -m …` with the Python that runs Snakemake, and find the packages wherever they are started from.
# The working directory is the user's: a `config.py` or `numpy.py` there is not imported, here or by a rule.
elsewhere = {Path.cwd(), Path(workflow.workdir_init)} - {Path(workflow.basedir)}
# Snakemake would put the folder of each included file first, and study/fusion/data.py would be `data`: they stand last.
rule_files = [
    path for files in ("*/*.smk", "eval/*/*.smk", "study/*/*.smk") for path in Path(workflow.basedir).glob(files)
]
rule_folders = list(dict.fromkeys(str(path.parent) for path in rule_files))
sys.path[:] = [
    str(workflow.basedir),
    *(p for p in sys.path if p and p not in rule_folders and Path(p) not in elsewhere),
    *rule_folders,
]
os.environ["PYTHONSAFEPATH"] = "1"
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
searched = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
os.environ["PYTHONPATH"] = os.pathsep.join([str(workflow.basedir), *searched])

from config.cli import UserError, in_utf8
from config.digests import weights_digest, write_digest
from config.files import read_json, write_json
from config.heads import trainable
from config.labels import FEATURES
from config.model import load, read
from config.outcome import stamps, words
from config.paths import Paths
from config.pipeline import SHARD, TABLES
from config.place import absolute, check_not_a_copy, unnoticed
from config.scheduler import cancel_leftovers, job_prefix
from config.sources import refuse_duplicates, written
from config.threads import wait_briefly
from data.webdataset import shards_of
from pipeline.backbones.check import check
from pipeline.records import read_cache_record, read_plan
from snakemake.exceptions import WorkflowError

# Paths are UTF-8 in every process, whatever the locale: two that read a name differently write to two folders.
in_utf8("snakemake")
# Jobs inherit it. Each of them would also do it by itself, as a module that a person runs by hand does.
wait_briefly()

try:
    if not config:
        raise UserError("no configuration: add `--configfile config/demo.yaml`, `config/paper.yaml` or your own")
    if workflow.is_main_process:
        refuse_duplicates(workflow.configfiles)
    CONFIG = load(config, lambda: written(workflow.configfiles, workflow.config_settings.config_args))
    for given in workflow.configfiles:
        if Path(given).name == "config.json":
            check_not_a_copy(Path(given), read_json(Path(given)), CONFIG.results)
    BACKBONES = check(CONFIG)
    if CONFIG.videos is not None and not (CONFIG.table.exists() or CONFIG.is_pattern):
        raise UserError(f"videos: {CONFIG.videos} does not exist (relative paths start at the working directory)")
    if CONFIG.videos is not None and not (CONFIG.table.is_dir() or CONFIG.table.suffix.lower() in (*TABLES, SHARD)):
        raise UserError(f"videos: {CONFIG.videos} is neither a folder nor one of {', '.join((*TABLES, SHARD))}")
    if CONFIG.is_pattern and workflow.is_main_process:
        shards_of(CONFIG.table)
    folder = Path(CONFIG.results)
    if there := next((p for p in (folder, *folder.parents) if p.exists() and not p.is_dir()), None):
        raise UserError(f"results: {there} is a file; give the path of a folder")
    if CONFIG.videos is not None and folder.exists() and CONFIG.table.exists() and folder.samefile(CONFIG.table):
        raise UserError("results: this is the folder of the videos; results would be read as videos, so give another")
    for task in CONFIG.labels.tasks:
        for key, path in CONFIG.labels.files(task).items():
            if not Path(path).is_file():
                wrong = "is no file" if Path(path).exists() else "does not exist"
                raise UserError(f"{key}: {path} {wrong} (relative paths start at the working directory)")
except UserError as error:
    raise WorkflowError(str(error))

PATHS = CONFIG.paths
# Every module takes the resolved configuration from here, so that a person can run it by hand with the same flag.
FLAGS = f"--config {shlex.quote(str(PATHS.config))}"
LOGS = PATHS.results / "logs"
BENCHMARKS = PATHS.results / "benchmarks"
BEFORE = stamps(PATHS)


def cores(at_most):
    """Return the cores of a job that can use all of them; 8 on a cluster, where Snakemake knows no number."""
    return min(workflow.resource_settings.cores or 8, at_most)


onstart:
    from pipeline.claim import Claim
    from study.length.config import update_configs

    # The lock of the results, from wherever they are worked on. Snakemake's own is the working directory's, and a
    # Snakemake that was killed leaves it locked.
    try:
        atexit.register(Claim(PATHS.claim, f"the results in {PATHS.results}").release)
    except UserError as error:
        raise WorkflowError(f"another Snakemake is running: {error}")
    # Slurm jobs are called after the results that they work on, so that the next run finds those of one that was killed.
    executor, prefix = workflow.scheduler._executor, job_prefix(PATHS.results)
    if hasattr(executor, "run_uuid"):
        executor.run_uuid = f"{prefix}_{executor.run_uuid}"
        try:
            cancel_leftovers(prefix)
        except UserError as error:
            raise WorkflowError(str(error))
    resolved = absolute(CONFIG.model_dump(mode="json"))
    before = None
    with suppress(UserError):  # a damaged one is replaced
        before = read_json(PATHS.config)
    try:
        if warning := unnoticed(PATHS.started_in, before, resolved):
            print(warning, file=sys.stderr)
        write_json(PATHS.config, resolved)
        update_configs(read(PATHS.config))
    except UserError as error:
        raise WorkflowError(str(error))


onsuccess:
    # Snakemake's own last lines name only its log.
    for line in words(PATHS, BEFORE):
        print(line, file=sys.stderr)


wildcard_constraints:
    shard=r"\d{5}",
    backbone="|".join(CONFIG.backbones),
    experiment="|".join(CONFIG.heads.experiments),
    space="|".join(CONFIG.spaces),
    task="|".join(CONFIG.labels.tasks),
    variant="|".join(re.escape(variant.name) for variant in CONFIG.study.length.variants),

"""The workflow through a real Slurm: the same features as without, whatever happens to jobs, Snakemake or the node."""

import numpy as np
import zarr

from tests.slurm.conftest import VIDEOS
from tests.workflow import snakemake


def features(results):
    group = zarr.open_group(results / "features.zarr", mode="r")
    return group["musicnn"][:], group["musicnn_valid"][:]


def test_from_a_table_to_the_report(workflow, tmp_path):
    workflow.run()
    assert (workflow.results / "report" / "index.html").exists()
    states = {
        rule: [job["state"] for job in workflow.jobs(rule)] for rule in ("probe", "extract_shard", "index", "plan")
    }
    assert states == {"probe": ["COMPLETED"] * 3, "extract_shard": ["COMPLETED"] * 3, "index": [], "plan": []}
    local = tmp_path / "local"
    local.mkdir()
    snakemake(local, workflow.config | {"results": str(local / "results")}, "extract")
    for mine, other in zip(features(workflow.results), features(local / "results"), strict=True):
        np.testing.assert_array_equal(mine, other)
    assert len(workflow.reads()) == VIDEOS

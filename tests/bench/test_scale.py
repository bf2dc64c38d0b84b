"""Shards by the thousand, on records in place of features: what a cluster's job asks for, and what growth touches."""

import pytest

from bench.workflow import APPENDED, SHARD, SHORT, Collection, job_arguments

pytestmark = pytest.mark.workflow


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    made = Collection(tmp_path_factory.mktemp("scale") / "collection", 3 * SHARD - SHORT)
    for module in ("data.manifest", "pipeline.plan"):
        made.module(module)
    return made


def test_one_job_asks_for_one_shard_without_the_plan_stage(collection):
    # As Snakemake's cluster plugins start it: other rules may not run there, the checkpoint neither.
    found = collection.dry(*job_arguments(2))
    assert found["jobs"]["extract_shard"] == 1 and "plan" not in found["jobs"] and found["shards"] == [2]


def test_a_single_shard_before_there_is_a_plan_is_refused_in_words(tmp_path):
    with pytest.raises(RuntimeError, match=r"plan\.json does not exist; ask for `extract`"):
        Collection(tmp_path / "empty", SHARD).dry(*job_arguments(0))


def test_more_videos_touch_only_the_shards_that_gained_rows(collection):
    assert collection.dry()["shards"] == [0, 1, 2]
    collection.pretend()
    assert collection.dry()["jobs"] == {}
    collection.write_table(collection.videos + APPENDED)
    collection.snakemake(str(collection.paths.plan))
    assert collection.dry()["shards"] == [2, 3]

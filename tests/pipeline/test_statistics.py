"""Statistics of the whole cache against numpy's on the same numbers; threads and a dask cluster agree."""

import pickle

import numpy as np
import pytest
from distributed import LocalCluster

from config.cli import UserError
from config.pipeline import Dask
from pipeline.computing import computing
from pipeline.features import open_features
from pipeline.shards import Shards
from pipeline.statistics import Joined, compute
from tests.support.simulate import simulate

GONE, DAMAGED = [3, 40, 41], [(5, 1), (90, 0), (90, 2)]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A cache of 400 videos in 13 shards, some of them without video features or with damaged segments."""
    return simulate(tmp_path_factory.mktemp("cache"), videos=400, shard_videos=32, unreadable=GONE, damaged=DAMAGED)


@pytest.mark.parametrize("split", ["train", None])
def test_they_are_numpys(config, split):
    features = open_features(config.results)
    rows = features.rows(split, valid=["r2plus1d"])
    with computing(config, 2) as how:
        statistics = compute(Shards.open(features.folder / "r2plus1d"), rows, **how)
    x = features.numpy("r2plus1d", features.rows(split)).reshape(-1, 32).astype(np.float64)
    x = x[np.isfinite(x).all(axis=1)]
    assert statistics.count == len(x)
    if split is None:
        assert len(x) == 3 * (400 - len(GONE)) - len(DAMAGED)
    np.testing.assert_allclose(statistics.mean, x.mean(axis=0), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(statistics.variance, x.var(axis=0, ddof=1), rtol=1e-5)
    np.testing.assert_allclose(statistics.covariance, np.cov(x.T), atol=1e-6)


def test_numbers_far_from_zero_lose_nothing(tmp_path):
    config = simulate(tmp_path, videos=300, shard_videos=100)
    features = open_features(config.results)

    class Far(Shards):
        def read(self, rows=None, threads=None):
            return (super().read(rows, threads).astype(np.float32) / 4 + 2000).astype(np.float16)

    shards = Shards.open(features.folder / "musicnn")
    far = Far(*(getattr(shards, name) for name in shards.__dataclass_fields__))
    statistics = compute(far, np.arange(300), scheduler="synchronous")
    x = far.read().reshape(-1, 64).astype(np.float64)
    np.testing.assert_allclose(statistics.mean, x.mean(axis=0), rtol=1e-7)
    np.testing.assert_allclose(statistics.covariance, np.cov(x.T), atol=1e-5)


def test_a_dask_cluster_gives_the_same(config):
    features = open_features(config.results)
    shards, rows = Shards.open(features.folder / "musicnn"), features.rows("train")
    assert pickle.loads(pickle.dumps(shards)) == shards  # what a worker of another process is sent
    here = compute(shards, rows, scheduler="synchronous")
    with LocalCluster(2, threads_per_worker=1, processes=False, dashboard_address=None) as cluster:
        by_cluster = config.model_copy(update={"dask": Dask(scheduler=cluster.scheduler_address)})
        with computing(by_cluster, 1) as how:
            there = compute(shards, rows, **how)
    np.testing.assert_array_equal(there.covariance, here.covariance)


def test_too_few_segments_are_refused(tmp_path):
    empty = simulate(tmp_path / "empty", videos=40, unreadable=range(40))
    features = open_features(empty.results)
    with pytest.raises(UserError, match="no video has features"):
        compute(Shards.open(features.folder / "r2plus1d"), features.rows(valid=["r2plus1d"]))
    single = simulate(tmp_path / "single", videos=40, segments=1)
    with pytest.raises(UserError, match="one segment has no variance"):
        compute(Shards.open(open_features(single.results).folder / "r2plus1d"), np.arange(1))


def test_covariances_between_backbones_are_numpys(config):
    features = open_features(config.results)
    parts = tuple(Shards.open(features.folder / name) for name in ("musicnn", "r2plus1d"))
    rows = features.rows(valid=["musicnn", "r2plus1d"])
    statistics = compute(Joined(parts), rows, scheduler="threads", num_workers=2)
    blocks = [features.numpy(name, rows).astype(np.float64) for name in ("musicnn", "r2plus1d")]
    x = np.concatenate(blocks, axis=2).reshape(-1, 96)
    x = x[np.isfinite(x).all(axis=1)]
    assert statistics.count == len(x) == 3 * (400 - len(GONE)) - len(DAMAGED)
    np.testing.assert_allclose(statistics.covariance, np.cov(x.T), atol=1e-6)
    assert np.abs(statistics.covariance[:64, 64:]).max() > 0.1


def test_pairing_anew_leaves_each_part_and_takes_the_relation(config):
    features = open_features(config.results)
    parts = tuple(Shards.open(features.folder / name) for name in ("musicnn", "r2plus1d", "musicnn"))
    rows = features.rows(valid=["musicnn", "r2plus1d"])[100:]
    alone = Joined(parts).read(rows[:30])
    anew = Joined(parts, seed=3).read(rows[:30])
    assert np.isfinite(alone).all()
    np.testing.assert_array_equal(anew[..., :64], alone[..., :64])
    for part in (slice(64, 96), slice(96, 160)):
        known = {block.tobytes(): i for i, block in enumerate(alone[..., part])}
        assert sorted(known[block.tobytes()] for block in anew[..., part]) == list(range(30))
        assert not any((a == b).all() for a, b in zip(anew[..., part], alone[..., part], strict=True))
    true, shuffled = (compute(Joined(parts, seed), rows, scheduler="synchronous") for seed in (None, 0))
    between = [np.abs(statistics.covariance[:64, 64:96]).mean() for statistics in (true, shuffled)]
    assert between[1] < between[0] / 4
    assert np.isnan(Joined(parts, seed=0).read(rows[:2])).all()


def test_no_task_reads_more_than_a_shard(config):
    features, asked = open_features(config.results), []

    class Watched(Shards):
        def read(self, rows=None, threads=None):
            asked.append(len(rows))
            return super().read(rows, threads)

    shards = [Shards.open(features.folder / name) for name in ("musicnn", "r2plus1d")]
    parts = tuple(Watched(*(getattr(s, name) for name in s.__dataclass_fields__)) for s in shards)
    compute(Joined(parts), features.rows(valid=["musicnn", "r2plus1d"]), scheduler="synchronous")
    # The first read, of both parts, is of a hundred rows to find a point among the features.
    assert asked[:2] == [100, 100] and max(asked[2:]) <= shards[0].shard_rows == 32 and sum(asked[2:]) == 2 * 397

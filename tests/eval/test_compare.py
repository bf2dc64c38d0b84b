"""Several seeds and comparisons of experiments, on embeddings planted by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import zarr

from config.cli import UserError
from config.files import write_json
from config.model import Config
from config.paths import Paths
from eval.bootstrap import quantiles, resampled_metrics
from eval.compare import compare, difference
from eval.ranks import ranks
from eval.retrieval import load_test, retrieval
from eval.seeds import difference_interval, mean_interval
from heads.metrics import METRICS, summary
from heads.runs import runs
from tests.support.simulate import simulate

NOISE = {"good": 1.0, "same": 1.0, "bad": 6.0}


def plant(config: Config, noise: dict[str, float]) -> None:
    """Write embeddings of every experiment and seed: video is audio plus so much noise of the seed's own."""
    videos, segments = 600, 3
    for name, share in noise.items():
        for run in runs(config, name):
            rng = np.random.default_rng([run.seed, *name.encode()])
            common = np.random.default_rng(0).normal(size=(videos, segments, 16))
            group = zarr.create_group(run.folder / "embeddings.zarr", zarr_format=3, overwrite=True)
            for modality, scale in (("audio", 0.1), ("video", share)):
                values = common + scale * rng.normal(size=common.shape)
                group.create_array(modality, data=values.astype(np.float16))
            keys, flags = {"musicnn": "a" * 64, "r2plus1d": "b" * 64}, {"musicnn": False, "r2plus1d": True}
            write_json(run.folder / "embeddings.json", {"keys": keys, "random_weights": flags, "digest": str(run.seed)})


def planted(folder: Path, seeds: list[int]) -> Config:
    heads = {"experiments": {name: {} for name in NOISE}, "seeds": seeds}
    config = simulate(folder, heads=heads, eval={"galleries": [100], "bootstrap": 200})
    plant(config, NOISE)
    for name in NOISE:
        retrieval(config, name)
    return config


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return planted(tmp_path_factory.mktemp("three"), [0, 1, 2])


def test_values_are_means_over_seeds_with_both_intervals(three: Config) -> None:
    paths = three.paths
    written = json.loads((paths.eval("bad") / "retrieval.json").read_text())
    assert written["seeds"] == [0, 1, 2] and written["embeddings"] == ["0", "1", "2"]
    result = next(r for r in written["results"] if (r["level"], r["direction"]) == ("segment", "audio_to_video"))
    by_seed = []
    for run in runs(three, "bad"):
        test, _ = load_test(three, "bad", run)
        audio, video, owner = test.level("segment")
        by_seed.append(ranks(audio, video)[0])
    for name, metric in result["metrics"].items():
        seeds = [summary(rank)[name] for rank in by_seed]
        assert metric["seeds"] == pytest.approx(seeds) and len(set(seeds)) > 1
        assert metric["value"] == pytest.approx(np.mean(seeds))
        assert (metric["seeds_low"], metric["seeds_high"]) == pytest.approx(mean_interval(seeds))
    medians = np.mean(
        [resampled_metrics(rank, test.groups[owner], 200, three.eval.seed)[:, 0] for rank in by_seed], axis=0
    )
    median, ends = result["metrics"]["median"], np.array(quantiles(len(set(test.groups))))
    assert (median["low"], median["high"]) == pytest.approx(tuple(np.quantile(medians, ends)))
    assert ends == pytest.approx([0.025, 0.975], abs=0.01)
    assert sum(result["histogram"]) == pytest.approx(result["queries"])


def test_a_difference_is_claimed_only_where_there_is_one(three: Config) -> None:
    differences = {(r["a"], r["b"], r["level"], r["direction"], r["metric"]): r for r in compare(three)["results"]}
    assert len(differences) == 3 * 2 * 2 * len(METRICS)
    for level in ("segment", "video"):
        for metric in ("median", "recall_at_10", "mrr", "ndcg_at_10", "map"):
            clear = differences["good", "bad", level, "audio_to_video", metric]
            assert clear["better"] == "a" and (clear["low"] > 0 or clear["high"] < 0)
            assert differences["same", "bad", level, "video_to_audio", metric]["better"] == "a"
            assert differences["good", "same", level, "audio_to_video", metric]["better"] is None
    assert json.loads(three.paths.comparison.read_text())["experiments"] == list(NOISE)


def test_pairing_by_query_narrows_the_interval() -> None:
    """Hard and easy queries are hard and easy for both."""
    rng = np.random.default_rng(0)
    hard, owner = rng.uniform(1, 500, size=300), np.arange(300)
    first, second = hard + rng.uniform(0, 5, size=300), hard + 10 + rng.uniform(0, 5, size=300)
    a, b = (resampled_metrics(rank, owner, 500, 0)[:, 1] for rank in (first, second))
    assert (a - b).std() < a.std() / 20
    np.testing.assert_allclose((a - b).mean(), (first - second).mean(), atol=0.1)


@pytest.mark.parametrize(
    ("metric", "a", "b", "paired", "better"),
    [
        ("median", [10.0, 11, 12], [30.0, 31, 32], (-25.0, -15.0), "a"),
        ("mrr", [10.0, 11, 12], [30.0, 31, 32], (-25.0, -15.0), "b"),
        ("median", [10.0, 11, 12], [30.0, 31, 32], (-45.0, 5.0), None),  # the queries do not say so
        ("median", [1.0, 11, 42], [30.0, 31, 62], (-25.0, -15.0), None),  # the seeds do not say so
        ("median", [10.0], [30.0], (-25.0, -15.0), "a"),  # one seed: the queries alone
        ("mrr", [0.3, 0.3], [0.3, 0.3 - 6e-17], (1e-17, 5e-17), None),  # rounding says nothing
    ],
)
def test_both_intervals_have_to_agree(metric, a, b, paired, better) -> None:
    assert difference(metric, a, b, paired)["better"] == better


def test_intervals_over_seeds_cover_as_often_as_they_say() -> None:
    rng, hits = np.random.default_rng(0), np.zeros(2)
    for _ in range(2000):
        a, b = rng.normal(size=3), 3 * rng.normal(size=5)
        for i, (low, high) in enumerate((mean_interval(list(a)), difference_interval(list(a), list(b)))):
            hits[i] += low <= 0 <= high
    # Standard error of a share of 0.95 in 2,000: 0.005.
    assert (abs(hits / 2000 - 0.95) < 0.02).all()
    assert mean_interval([1.0]) is None and difference_interval([1.0], [1.0, 2.0]) is None
    assert math.isclose(mean_interval([0.0, 2.0])[1], 1 + 12.706, abs_tol=1e-3)


def test_experiments_measured_otherwise_are_refused(tmp_path: Path) -> None:
    config = planted(tmp_path, [0])
    with pytest.raises(UserError, match="not measured on the same"):
        changed = config.model_copy(update={"eval": config.eval.model_copy(update={"seed": 5})})
        retrieval(changed, "same")
        compare(config)
    retrieval(config, "same")
    # `patch.dict` restores their order, too, which is that of the results' columns.
    with mock.patch.dict(METRICS), pytest.raises(UserError, match="and metrics; run"):
        del METRICS["mean"]
        retrieval(config, "same")
        compare(config)
    (Paths(tmp_path).eval("bad") / "retrieval.safetensors").unlink()
    with pytest.raises(UserError, match="does not exist; run"):
        compare(config)

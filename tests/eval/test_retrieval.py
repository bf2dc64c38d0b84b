"""Retrieval end to end on simulated features, related and unrelated, and what the JSON says of it."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from config.cli import UserError
from config.model import Config
from eval.bootstrap import few_groups, metric_intervals, resampled_metrics
from eval.published import published_formula
from eval.ranks import ranks
from eval.retrieval import DRAWS, draw, fits, load_test, mean_unit, retrieval
from heads.embed import embed
from heads.metrics import summary
from heads.train import train
from tests.support.commands import execute
from tests.support.simulate import simulate


def prepared(folder: Path, correlation: float) -> Config:
    """The paper's baseline trained on 600 simulated videos of three segments, and embedded."""
    torch.set_num_threads(1)
    config = simulate(folder, correlation, eval={"galleries": [40], "bootstrap": 500}, unreadable=[3, 44])
    train(config, "baseline")
    embed(config, "baseline")
    return config


@pytest.fixture(scope="module")
def related(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return prepared(tmp_path_factory.mktemp("related"), 1.0)


@pytest.fixture(scope="module")
def unrelated(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return prepared(tmp_path_factory.mktemp("unrelated"), 0.0)


def by_kind(written: dict[str, Any]) -> dict[tuple[str, str, str], dict[str, Any]]:
    return {(r["level"], r["direction"], r["gallery"]): r for r in written["results"]}


def test_the_baseline_finds_related_videos(related: Config) -> None:
    for result in retrieval(related, "baseline")["results"]:
        median = result["metrics"]["median"]
        assert median["high"] < 0.2 * median["chance"], result
        assert result["better_than_chance"]
        assert result["metrics"]["recall_at_10"]["low"] > 2 * result["metrics"]["recall_at_10"]["chance"]
        assert result["histogram"][0] > 3 * result["histogram_chance"][0]


def test_the_baseline_finds_nothing_where_there_is_nothing(unrelated: Config) -> None:
    for result in retrieval(unrelated, "baseline")["results"]:
        median = result["metrics"]["median"]
        assert median["low"] < median["chance"] < median["high"], result
        assert not result["better_than_chance"]


def test_the_published_formula_tells_them_apart_by_nothing(related: Config, unrelated: Config) -> None:
    for config in (related, unrelated):
        for kind, result in by_kind(retrieval(config, "baseline")).items():
            if kind[1] == "audio_to_video":  # the published code prints the other direction's number for it
                assert result["published_formula"] is None
            elif kind[0] == "segment":
                assert result["published_formula"] == pytest.approx(result["size"] / 2, rel=0.35)


def test_what_the_json_says(related: Config) -> None:
    written = retrieval(related, "baseline")
    path = related.paths.eval("baseline") / "retrieval.json"
    first = path.read_bytes()
    assert json.loads(first) == written
    retrieval(related, "baseline")
    assert path.read_bytes() == first, "the same again, to the byte"
    results, valid = by_kind(written), written["test_videos_valid"]
    # 3 and 44: one of them is in the test split, and cannot be ranked.
    assert written["test_videos"] - valid == 1
    assert {kind[1] for kind in results} == {"audio_to_video", "video_to_audio"}
    assert len(results) == 8 and written["notes"] == [] and written["test_groups"] == valid
    for (level, _, gallery), result in results.items():
        size = 40 if gallery == "drawn" else valid * 3 if level == "segment" else valid
        draws = DRAWS if gallery == "drawn" else 1
        assert (result["size"], result["draws"], result["queries"]) == (size, draws, size * draws)
        assert sum(result["histogram"]) == result["queries"] == pytest.approx(sum(result["histogram_chance"]))
        for name, metric in result["metrics"].items():
            assert metric["low"] <= metric["value"] <= metric["high"], name
    assert written["keys"] == {"musicnn": "a" * 64, "r2plus1d": "b" * 64}
    assert written["random_weights"] == {"musicnn": False, "r2plus1d": True}


def test_galleries_of_several_sizes(related: Config) -> None:
    """Each that is smaller than the test split is drawn, the others are noted, and none changes another's numbers."""
    alone = retrieval(related, "baseline")
    valid = alone["test_videos_valid"]
    several = related.eval.model_copy(update={"galleries": [40, 20, valid, 2 * valid]})
    written = retrieval(related.model_copy(update={"eval": several}), "baseline")
    sizes = {
        level: [r["size"] for r in written["results"] if (r["level"], r["gallery"]) == (level, "drawn")][::2]
        for level in ("segment", "video")
    }
    # As many segments as there are videos, one of each, are another gallery than all segments.
    assert sizes == {"segment": [40, 20, valid], "video": [40, 20]}
    assert written["notes"] == [f"no galleries of {2 * valid} videos were drawn: the test split has {valid}"]
    assert [r for r in written["results"] if r["gallery"] == "full" or r["size"] == 40] == alone["results"]
    for result in written["results"]:
        if result["gallery"] == "drawn":
            assert (result["draws"], result["queries"]) == (DRAWS, DRAWS * result["size"])
            assert result["metrics"]["recall_at_10"]["chance"] == 10 / result["size"]


def test_a_drawn_gallery_has_one_item_of_each_of_its_videos() -> None:
    owner = np.repeat(np.arange(30), [1, 2, 3] * 10)
    galleries = draw(owner, 20, seed=0)
    assert galleries.shape == (DRAWS, 20) and all(len(set(owner[gallery])) == 20 for gallery in galleries)
    assert set(galleries.ravel()) == set(range(len(owner)))  # not always a video's first segment
    assert fits(30, owner) and not fits(31, owner) and not fits(30, np.arange(30))


def test_groups_are_what_is_resampled(tmp_path: Path) -> None:
    """Eight artists in the test split: their videos are alike, which widens intervals, and the note says so."""
    artists = [video % 80 for video in range(640)]
    config = simulate(tmp_path, 0.5, 640, eval={"galleries": [40], "bootstrap": 300}, artists=artists)
    train(config, "baseline")
    embed(config, "baseline")
    written, (test, _) = retrieval(config, "baseline"), load_test(config, "baseline")
    assert written["test_groups"] == len(set(test.table["artist"].to_pylist())) == 8 and test.groups.max() == 7
    assert written["notes"] == few_groups(8, "the test split") != []
    audio, video, owner = test.level("segment")
    rank = ranks(audio, video)[0]
    whole = metric_intervals(resampled_metrics(rank, test.groups[owner], 300, 0), 8)["mrr"]
    measured = by_kind(written)["segment", "audio_to_video", "full"]["metrics"]["mrr"]
    assert (measured["low"], measured["high"]) == whole


def test_directions_are_not_mixed_up(unrelated: Config) -> None:
    test, _ = load_test(unrelated, "baseline")
    results = by_kind(retrieval(unrelated, "baseline"))
    audio, video = mean_unit(test.audio), mean_unit(test.video)
    both = zip(("audio_to_video", "video_to_audio"), ranks(audio, video), strict=True)
    formulas = [None, np.median(published_formula(video, audio))]
    for (direction, rank), formula in zip(both, formulas, strict=True):
        result = results["video", direction, "full"]
        assert {name: metric["value"] for name, metric in result["metrics"].items()} == summary(rank)
        assert result["published_formula"] == formula


def test_embeddings_that_keep_their_lengths_are_ranked_by_dot_products(tmp_path: Path) -> None:
    """Against brute force over what the heads return, both directions and levels; the rest of the evaluation runs."""
    torch.set_num_threads(1)
    single = {"embedding": 64, "audio": {"identity": True, "normalise": False}, "max_epochs": 2}
    config = simulate(
        tmp_path, 1.0, eval={"galleries": [100], "bootstrap": 100}, heads={"experiments": {"single": single}}
    )
    train(config, "single")
    embed(config, "single")
    test, view = load_test(config, "single")
    assert test.unit == (False, True)
    # As extracted, not scaled.
    stored = view.numpy("musicnn", test.table["row"].to_numpy())
    np.testing.assert_array_equal(test.audio, stored)
    results = by_kind(retrieval(config, "single"))
    video = test.video.astype(float)
    video /= np.linalg.norm(video, axis=2, keepdims=True)
    whole = video.mean(axis=1)
    whole /= np.linalg.norm(whole, axis=1, keepdims=True)
    flat = test.audio.astype(float).reshape(-1, 64), video.reshape(-1, 32 * 2)
    for level, (a, v) in {"segment": flat, "video": (test.audio.astype(float).mean(axis=1), whole)}.items():
        similar = a @ v.T
        own = np.diag(similar)
        for direction, rank in (
            ("audio_to_video", 1 + (similar > own[:, None]).sum(1)),
            ("video_to_audio", 1 + (similar > own).sum(0)),
        ):
            metrics = results[level, direction, "full"]["metrics"]
            assert {name: metric["value"] for name, metric in metrics.items()} == pytest.approx(summary(rank), rel=1e-6)
    neighbours = import_module("eval.neighbours").neighbours(config, "single")
    assert neighbours["across"] == "dot product"
    found = neighbours["galleries"][0]["queries"][0]["nearest"]
    assert max(abs(n["similarity"]) for n in found["audio"]) <= 1.0001
    findings = import_module("eval.diagnose.__main__").diagnose(config, "single")["findings"]
    wrong = {f["name"] for f in findings if f["severity"] == "broken" and f["verdict"] == "found"}
    assert not wrong


def test_pooling_weighs_segments_alike_whatever_their_length() -> None:
    segments = np.array([[[3.0, 0.0], [0.0, 0.1]], [[1.0, 0.0], [1.0, 0.0]]])
    np.testing.assert_allclose(mean_unit(segments), [[0.5**0.5, 0.5**0.5], [1, 0]], atol=1e-6)


def test_embeddings_of_other_features_are_refused(tmp_path: Path) -> None:
    settings = {"heads": {"experiments": {"baseline": {"max_epochs": 1}}}}
    config = simulate(tmp_path, videos=100, **settings)
    with pytest.raises(UserError, match="embeddings.json does not exist"):
        retrieval(config, "baseline")
    train(config, "baseline")
    embed(config, "baseline")
    retrieval(config, "baseline")
    simulate(tmp_path, videos=100, keys=("a" * 64, "d" * 64), **settings)
    with pytest.raises(UserError, match="r2plus1d bbbbbbbb, the cache has .* r2plus1d dddddddd"):
        retrieval(config, "baseline")


def test_a_test_split_without_videos_is_refused(related: Config, tmp_path: Path) -> None:
    config = simulate(tmp_path, videos=100, unreadable=range(100))
    with pytest.raises(UserError, match="of which 0 have features of all backbones"):
        retrieval(config, "baseline")


@pytest.mark.parametrize("module", ["heads.embed", "eval.retrieval", "eval.neighbours"])
def test_command_lines(related: Config, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the workflow calls. (heads.train is run by test_heads.)"""
    written = related.paths.eval("baseline") / f"{module.split('.')[1]}.json"
    written.unlink(missing_ok=True)
    config = str(related.paths.config)
    monkeypatch.setattr(sys, "argv", [module, "--config", config, "--experiment", "baseline", "--threads", "1"])
    import_module(module).main()
    assert module == "heads.embed" or written.exists()


def test_a_users_mistake_is_one_message(related: Config) -> None:
    config = str(related.paths.config)
    wrong = execute(
        [sys.executable, "-m", "eval.neighbours", "--config", config, "--experiment", "nosuch"],
    )
    assert wrong.returncode == 2
    assert wrong.stderr == "error: heads.experiments.nosuch: no such experiment; there are ['baseline']\n"

"""Retrieval with near-duplicates counted as right answers: ranks, chance levels, and the file."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from config.cli import UserError
from data.manifest import read_manifest
from eval.duplicates import all_ranks, chance_levels, evaluate, positives_of, read_groups
from eval.ranks import ranks, rows_on_grid
from eval.retrieval import retrieval
from heads.embed import embed
from heads.metrics import METRICS, chance, summary
from heads.train import train
from tests.support.simulate import index_cache, simulate


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_ranks_are_those_of_a_sorted_list(seed, ties):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 30))
    audio, video = rng.standard_normal((2, n, 3))
    if ties:
        audio, video = np.round(audio) + 0.5, np.round(video) + 0.5
    group = rng.integers(n, size=n)
    own = ranks(audio, video)[0]
    returned = all_ranks(audio, video, own, group, (True, True))
    similar = rows_on_grid(audio, True) @ rows_on_grid(video, True).T  # exact, so ties are ties
    for i in range(n):
        expected = sorted(
            1 + (similar[i] > similar[i, j]).sum() + ((similar[i] == similar[i, j]).sum() - 1) / 2
            for j in np.flatnonzero(group == group[i])
        )
        assert returned[i, : len(expected)].tolist() == expected and np.isinf(returned[i, len(expected) :]).all()


def test_without_duplicates_it_is_the_strict_way():
    rng = np.random.default_rng(0)
    audio, video = rng.standard_normal((2, 50, 4))
    own, _ = ranks(audio, video)
    assert all_ranks(audio, video, own, np.arange(50), (True, True)).tolist() == own[:, None].tolist()
    assert chance_levels(51, np.ones(20, int)) == pytest.approx(chance(51))
    assert chance_levels(50, np.full(20, 3)) == pytest.approx(chance(50, 3))


def test_chance_levels_of_mixed_queries_are_those_of_random_orders():
    rng, gallery = np.random.default_rng(1), 40
    positives = np.repeat([1, 2, 5], [500, 300, 200])
    drawn = []
    for _ in range(100):
        table = np.full((len(positives), 5), np.inf)
        for size in (1, 2, 5):
            rows = np.flatnonzero(positives == size)
            orders = rng.permuted(np.tile(np.arange(1.0, gallery + 1), (len(rows), 1)), axis=1)
            table[rows, :size] = np.sort(orders[:, :size], axis=1)
        drawn.append(summary(table))
    levels = chance_levels(gallery, positives)
    for name, metric in METRICS.items():
        values = [one[name] for one in drawn]
        allowed = 1.0 if metric.aggregate == "median" else 5 * np.std(values) / 10 + 1e-9
        assert np.mean(values) == pytest.approx(levels[name], abs=allowed), name


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An experiment on 400 simulated videos, embedded; the test videos 0 and 1, and 2, 3 and 4, are called the same."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("duplicates") / "results"
    heads = {"experiments": {"baseline": {"max_epochs": 3, "batch": 64}}}
    splits = {"train": 0.6, "validation": 0.1, "test": 0.3}
    config = simulate(folder, 0.3, videos=400, eval={"bootstrap": 200, "galleries": []}, heads=heads, splits=splits)
    index_cache(config)
    train(config, "baseline")
    embed(config, "baseline")
    table = read_manifest(config.paths.manifest)
    rows = [row for row, split in enumerate(table["split"].to_pylist()) if split == "test"]
    train_row = table["split"].to_pylist().index("train")
    groups = {0: [rows[0], rows[1]], 1: [rows[2], rows[3], rows[4]], 2: [rows[5], train_row]}
    config.paths.duplicates_table.parent.mkdir()
    with open(config.paths.duplicates_table, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("group", "row"))
        writer.writerows((number, row) for number, members in groups.items() for row in members)
    keys = {"musicnn": "a" * 64, "r2plus1d": "b" * 64}
    about = {"on": "both", "threshold": 0.65, "backbones": {"audio": "musicnn", "video": "r2plus1d"}, "keys": keys}
    config.paths.duplicates.write_text(json.dumps(about))
    return config


def test_both_ways_stand_side_by_side(trained):
    written = evaluate(trained, "baseline")
    assert written == json.loads((trained.paths.eval("baseline") / "duplicates.json").read_text())
    # A duplicate in the train split is no candidate.
    assert written["videos"] == 5 and (written["on"], written["threshold"]) == ("both", 0.65)
    strict = {r["direction"]: r["metrics"] for r in retrieval(trained, "baseline")["results"] if r["level"] == "video"}
    for line in written["results"]:
        for name, metric in METRICS.items():
            values, lenient = strict[line["direction"]][name], line["with_duplicates"][name]
            assert line["strict"][name] == pytest.approx({k: values[k] for k in ("value", "low", "high", "chance")})
            if name not in ("ndcg_at_10", "map"):  # those ask for all positives
                better = -1 if metric.lower_is_better else 1
                assert better * (lenient["value"] - line["strict"][name]["value"]) >= 0
                assert better * (lenient["chance"] - line["strict"][name]["chance"]) >= 0
            assert lenient["low"] <= lenient["value"] <= lenient["high"]
        assert line["with_duplicates"]["mean"]["value"] < line["strict"]["mean"]["value"]


def test_groups_must_have_been_found(tmp_path):
    with pytest.raises(UserError, match="duplicates.csv does not exist; run `snakemake duplicates"):
        read_groups(tmp_path / "duplicates.csv", np.arange(3))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"on": "audio"}, "made with on: audio, but duplicates.on now: both. Delete .*snakemake duplicates"),
        ({"threshold": 0.9}, "made with threshold: 0.9, but duplicates.threshold now: 0.65"),
        ({"backbones": {"audio": "x", "video": "r2plus1d"}}, "but heads.audio and heads.video now"),
        ({"keys": {"musicnn": "c" * 64, "r2plus1d": "b" * 64}}, "but the cache's keys now"),
    ],
)
def test_duplicates_of_other_settings_are_refused(trained, changed, words):
    path = trained.paths.duplicates
    kept = path.read_text()
    try:
        path.write_text(json.dumps(json.loads(kept) | changed))
        with pytest.raises(UserError, match=words):
            evaluate(trained, "baseline")
        path.unlink()
        with pytest.raises(UserError, match="duplicates.json does not exist; run `snakemake duplicates"):
            evaluate(trained, "baseline")
    finally:
        path.write_text(kept)


def test_a_group_beyond_measure_is_refused():
    assert positives_of(np.array([0, 0, -1, 1000, 0])).tolist() == [3, 3, 1, 1, 3]
    assert positives_of(np.zeros(1000, int)).tolist() == [1000] * 1000
    with pytest.raises(UserError, match="has 1001 test videos.*a higher `duplicates.threshold` breaks chains"):
        positives_of(np.zeros(1001, int))

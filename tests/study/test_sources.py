"""The protocol for small real collections: what it finds where nothing is, and where something was planted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

from config.cli import UserError
from config.model import load as load_config
from config.study.sources import Sources
from data.manifest import read_manifest, write_manifest
from study.groups import folds
from study.sources.collection import Collection, load, near_duplicates
from study.sources.linear import CHANCE, Pair, basis, freely, normalised_ranks, p_value, shifted, within_sources
from study.sources.measure import answer, heads_row, share_row
from study.sources.simulated import simulate
from study.sources.train import splits, train
from study.trainings import Trained
from tests.support.simulate import simulate as simulated_cache

SMALL = Sources(folds=3, inner_folds=2, shrinkages=[0.3, 0.9], components=8, dimensions=4)
SIZES = [1] * 8 + [2] * 8 + [3] * 4 + [5, 6, 7]
SOURCES = np.repeat(np.arange(len(SIZES)), SIZES)
NUMBERS = np.arange(len(SOURCES))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads cost more than they bring for matrices this small."""
    with threadpool_limits(1):
        yield


def p_values(correlation: float, runs: int, naive: bool = False) -> np.ndarray:
    """p of the test within held-out sources, or of the naive one, in simulated collections."""
    values = []
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        pair = Pair(*simulate(SOURCES, correlation, rng), SMALL)
        pairings = freely(len(SOURCES), 19, rng) if naive else within_sources(SOURCES, 19, rng)
        values.append(p_value(pair.ranks(NUMBERS if naive else SOURCES, pairings, [seed]).mean(axis=1)))
    return np.array(values)


def test_without_pairing_the_test_within_sources_is_at_its_level() -> None:
    """5 % of 200 runs are 10; more than 18 or fewer than 3 have a probability of 0.7 % by chance."""
    assert 3 <= (p_values(0.0, runs=200) <= 0.05).sum() <= 18


def test_without_pairing_the_naive_test_finds_the_sources() -> None:
    """At its level, 15 or more of 60 runs would have a probability below 1e-6."""
    assert (p_values(0.0, runs=60, naive=True) <= 0.05).sum() >= 15


def test_a_planted_pairing_within_sources_is_found() -> None:
    assert (p_values(0.9, runs=20) <= 0.05).mean() >= 0.8


def test_permutations_within_sources_stay_there_and_are_all_different() -> None:
    pairings = within_sources(SOURCES, 200, np.random.default_rng(0))
    assert pairings.shape == (201, len(SOURCES)) and (pairings[0] == np.arange(len(SOURCES))).all()
    assert (SOURCES[pairings] == SOURCES).all() and (np.sort(pairings, axis=1) == np.arange(len(SOURCES))).all()
    alone = np.bincount(SOURCES)[SOURCES] == 1
    assert (pairings[:, alone] == np.flatnonzero(alone)).all()
    first = np.flatnonzero(SOURCES == 8)  # a source of two: both orders, equally often
    assert 60 < (pairings[1:, first[0]] == first[0]).sum() < 140


def test_stand_is_the_place_in_both_directions_and_ties_count_half() -> None:
    similar = np.array([[0.9, 0.1, 0.2], [0.3, 0.2, 0.8], [0.5, 0.5, 0.5]])
    # audio 1: last of 3 (1.0); video 1: second of 3 (0.5); audio 2: tied with both (0.5); video 2: second (0.5).
    assert normalised_ranks(similar).tolist() == [0.0, 0.75, 0.5]
    rng = np.random.default_rng(0)
    assert abs(normalised_ranks(rng.normal(size=(500, 20, 20))).mean() - CHANCE) < 0.01
    assert normalised_ranks(np.ones((4, 4))).tolist() == [CHANCE] * 4
    with pytest.raises(ValueError, match="gallery of 1 videos"):
        normalised_ranks(np.ones((3, 1, 1)))


def test_many_pairings_give_what_each_gives_alone() -> None:
    rng = np.random.default_rng(1)
    features = simulate(SOURCES, 0.5, rng)
    pairings = np.concatenate([within_sources(SOURCES, 3, rng), freely(len(SOURCES), 3, rng)[1:]])
    together = Pair(*features, SMALL).ranks(NUMBERS, pairings, [0, 1])
    for ranks, pairing in zip(together, pairings, strict=True):
        alone = Pair(features[0], features[1][pairing], SMALL)
        expected = alone.ranks(NUMBERS, NUMBERS[None], [0, 1])
        assert np.allclose(ranks, expected[0])


def test_a_held_out_video_changes_no_fit() -> None:
    rng = np.random.default_rng(2)
    features, train = rng.normal(size=(30, 50)), np.arange(20)
    features[:, 7] = 3.0  # a constant column
    changed = features.copy()
    changed[20:] = 1e6 * rng.normal(size=(10, 50))
    first, second = basis(features, train, 8), basis(changed, train, 8)
    assert np.array_equal(first.scores[train], second.scores[train]) and np.isfinite(second.scores).all()
    white = first.white(1e-9)[train]
    assert np.allclose(white.T @ white / 20, np.eye(8), atol=1e-6)


def test_folds_and_validation_never_split_a_source() -> None:
    for seed in range(5):
        fold = folds(SOURCES, 5, seed)
        for number in range(5):
            parts = splits(SOURCES, fold, number, seed)
            together = np.concatenate(list(parts.values()))
            assert np.array_equal(np.sort(together), np.arange(len(SOURCES)))
            held = [set(SOURCES[videos]) for videos in parts.values()]
            assert all(held) and not (held[0] & held[1] or held[0] & held[2] or held[1] & held[2])


def test_of_near_duplicates_in_either_modality_the_later_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    audio, video = rng.normal(size=(40, 20)), rng.normal(size=(40, 12))
    audio[30] = audio[4] + 0.01 * rng.normal(size=20)
    video[21] = video[33] + 0.01 * rng.normal(size=12)
    expected = near_duplicates([audio, video], 0.95)
    assert {later: earlier for later, (earlier, _) in expected.items()} == {30: 4, 33: 21}
    assert expected[30][1][0] > 0.95 > expected[30][1][1]
    monkeypatch.setattr("study.sources.collection.BLOCK", 7)
    assert near_duplicates([audio, video], 0.95) == expected
    assert near_duplicates([audio, video], 1.0) == {}


def test_shifted_pairings_leave_no_pair_of_a_source_with_several_videos() -> None:
    pairings = shifted(SOURCES, 200, np.random.default_rng(0))
    assert pairings.shape == (201, len(SOURCES)) and (pairings[0] == NUMBERS).all()
    assert (SOURCES[pairings] == SOURCES).all() and (np.sort(pairings, axis=1) == NUMBERS).all()
    alone = np.bincount(SOURCES)[SOURCES] == 1
    assert (pairings[:, alone] == NUMBERS[alone]).all() and (pairings[1:, ~alone] != NUMBERS[~alone]).all()
    first, *others = np.flatnonzero(SOURCES == 16)  # a source of three: the two others, equally often
    assert 60 < (pairings[1:, first] == others[0]).sum() < 140


def places(of_source: bool, correlation: float) -> tuple[np.ndarray, np.ndarray]:
    """Places of own frames and of those of another video of the source, means over simulated collections."""
    sources = np.repeat(np.arange(14), [1, 1] + [4] * 12)
    own, other = [], []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        # Without a source's look and sound every video is a source of its own.
        features = simulate(sources if of_source else np.arange(len(sources)), correlation, rng)
        ranks = Pair(*features, SMALL).ranks(np.arange(len(sources)), shifted(sources, 8, rng), [seed])
        own.append(ranks[0])
        other.append(ranks[1:].mean(axis=0))
    return np.mean(own, axis=0), np.mean(other, axis=0)


@pytest.mark.parametrize(("of_source", "correlation", "truth"), [(False, 0.9, 0.0), (True, 0.0, 1.0)])
def test_the_share_of_the_source_is_none_without_a_source_and_all_without_more(
    of_source: bool, correlation: float, truth: float
) -> None:
    sources = np.repeat(np.arange(14), [1, 1] + [4] * 12)
    config = load_config({"results": "r", "videos": "v.csv", "eval": {"bootstrap": 200}})
    row = share_row(*places(of_source, correlation), sources, config)
    assert (row["videos"], row["sources"]) == (48, 12) and row["naive_gain"] > 3
    assert abs(row["share_of_source"] - truth) < 0.1


def test_the_share_of_the_source_counts_videos_with_siblings_only() -> None:
    config = load_config({"results": "r", "videos": "v.csv", "eval": {"bootstrap": 200}})
    own, other = np.array([0.3] * 6 + [0.0]), np.array([0.34] * 6 + [0.0])
    row = share_row(own, other, np.array([0, 0, 1, 1, 2, 2, 3]), config)
    for column in ("share_of_source", "share_of_source_low", "share_of_source_high"):
        assert row[column] == pytest.approx(0.8)
    assert (row["videos"], row["sources"], row["naive_percent"]) == (6, 3, pytest.approx(30))
    mixed = share_row(np.array([0.1, 0.1, 0.6, 0.6]), np.full(4, 0.4), np.array([0, 0, 1, 1]), config)
    assert mixed["share_of_source"] == pytest.approx(2 / 3) and mixed["share_of_source_low"] is None
    assert share_row(np.full(4, 0.6), np.full(4, 0.4), np.array([0, 0, 1, 1]), config)["share_of_source"] is None
    assert share_row(own, other, np.arange(7), config)["share_of_source"] is None


def test_a_pair_of_backbones_that_are_not_there_is_refused() -> None:
    study = {"questions": ["sources"], "sources": {"others": [["musicnn", "nosuch"]]}}
    config = load_config({"results": "r", "videos": "v.csv", "study": study})
    with pytest.raises(UserError, match="study.sources.others: .* names nosuch, which is not in `backbones`"):
        config.check_study()


def test_a_recipe_with_backbones_of_its_own_is_refused() -> None:
    study = {"questions": ["sources"], "sources": {"recipe": {"video": ["r2plus1d", "musicnn"]}}}
    config = load_config({"results": "r", "videos": "v.csv", "study": study})
    with pytest.raises(UserError, match="study.sources.recipe: names backbones of its own"):
        config.check_study()


@pytest.mark.parametrize("normalise", [True, False])
def test_trained_heads_are_compared_as_they_were_trained(normalise: bool) -> None:
    """Audio features that keep their lengths by dot products with them, others by cosines."""
    rng = np.random.default_rng(4)
    audio, video = rng.normal(size=(2, 40, 6)) * rng.uniform(0.1, 9, (2, 40, 1))
    recipe = {} if normalise else {"audio": {"identity": True, "normalise": False}}
    study = {"seeds": [0], "sources": {"recipe": recipe, "secondary_permutations": 19}}
    config = load_config({"results": "r", "videos": "v.csv", "study": study})
    collection = Collection(np.arange(40), np.arange(40) // 2, {}, [[]] * 40, [], [])
    tensors = {"0-0/audio": torch.tensor(audio), "0-0/video": torch.tensor(video)}
    row = heads_row(config, collection, Trained(tensors, {"0-0": {"rows": list(range(40))}}, {}))
    units = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (audio, video)]
    expected = normalised_ranks((units[0] if normalise else audio) @ units[1].T).mean()
    assert row["rank_percent"] == pytest.approx(100 * expected)


@pytest.mark.workflow
def test_the_answer_on_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {
        **SMALL.model_dump(include={"folds", "inner_folds", "shrinkages", "components", "dimensions"}),
        "repeats": 2,
        "permutations": 19,
        "secondary_permutations": 19,
        "power": [0.9],
        "power_runs": 3,
        "tag": "original",
        "recipe": {"batch": 16, "max_epochs": 2, "embedding": 16, "hidden": [16]},
    }
    config = simulated_cache(
        tmp_path,
        correlation=1.0,
        videos=72,
        unreadable=[3],
        damaged=[(5, 1)],
        study={"questions": ["sources"], "seeds": [0, 1], "sources": settings},
        eval={"bootstrap": 100},
    )
    table = read_manifest(config.paths.manifest)
    lines = table.to_pylist()
    for i, line in enumerate(lines):
        line["group"], line["tags"] = f"source {i // 3}", ["original"] if i % 2 else ["unknown"]
    write_manifest(config.paths, type(table).from_pylist(lines, table.schema))
    collection = load(config)
    assert len(collection.rows) == 71 and collection.sources.max() == 23 and not collection.left_out
    train(config, 1)
    monkeypatch.setattr("eval.bootstrap.FEW", 25)
    written = answer(config)
    assert "has 24 groups: 95 % intervals" in written.limits[-1]
    rows = {(row["analysis"], row["folds"], row["permuted"]): row for row in written.tables["analyses"]}
    primary = rows["primary", "sources", "within sources"]
    assert [row["primary"] for row in written.tables["analyses"]] == [True] + [False] * (len(rows) - 1)
    assert {name for name, *_ in rows} == {"primary", "naive", "tag original", "one video a source", "trained heads"}
    assert primary["p"] == 0.05 and primary["rank_percent"] < 25 < primary["permuted_percent"]
    for row in rows.values():
        assert row["rank_percent_low"] <= row["rank_percent"] <= row["rank_percent_high"]
    assert rows["one video a source", "sources", "freely"]["videos"] == 24
    assert len(written.findings) == 4 and "is shown (p = 0.05)" in written.findings[0].claim
    (identity,) = written.tables["identity"]
    assert (identity["videos"], identity["sources"]) == (71, 24) and identity["share_of_source"] < 0.5
    with pytest.raises(UserError, match="24 sources can be used; 30 sources are needed"):
        many = config.study.model_copy(update={"sources": Sources(folds=5, inner_folds=3)})
        load(config.model_copy(update={"study": many}))

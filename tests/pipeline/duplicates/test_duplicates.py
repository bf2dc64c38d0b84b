"""Near-duplicates in caches where it is known which videos are the same."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from bench import fill
from config.cli import UserError
from config.pipeline import Splits
from data.manifest import merge, read_manifest, write_manifest
from pipeline.duplicates import report, search
from pipeline.duplicates.__main__ import duplicates
from pipeline.duplicates.search import Components, by_segments, chamfer
from pipeline.duplicates.space import Space, Stored, fit, unit
from pipeline.duplicates.units import join, write_groups
from pipeline.features import open_features
from tests.support.commands import execute
from tests.support.simulate import simulate

BOTH = {"audio": "musicnn", "video": "r2plus1d"}
SAME = {3: (7, 90), 40: (41,)}
"""Copies of videos, in audio and video; their segments stand in another order and have a little noise."""
SOUND = {60: 61}
"""A copy in audio alone."""


def planted(folder: Path, same=SAME, sound=SOUND, **settings):
    """A cache of 200 videos with these copies; returns its configuration."""
    draw, rng = fill.segment_features, np.random.default_rng(5)

    def copied(*arguments, **options):
        blocks = draw(*arguments, **options)
        pairs = [(a, b, blocks) for a, copies in same.items() for b in copies]
        pairs += [(a, b, blocks[:1]) for a, b in sound.items()]
        for a, b, of in pairs:
            for block in of:
                noise = 0.02 * rng.standard_normal(block[a].shape)
                block[b] = (block[a] + noise)[rng.permutation(len(block[a]))]
        return blocks

    with patch.object(fill, "segment_features", copied):
        return simulate(folder, videos=200, **settings)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """The results folder of `planted`; video 41 has no video features, video 7 a damaged segment."""
    folder = tmp_path_factory.mktemp("duplicates") / "results"
    planted(folder, unreadable=(41,), damaged=((7, 1),))
    return folder


def lines(folder: Path) -> list[dict[str, str]]:
    with open(folder / "duplicates" / "duplicates.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_planted_copies_are_found_and_nothing_else(cache):
    written = duplicates(cache, BOTH, 0.8, 2)
    assert written == json.loads((cache / "duplicates" / "duplicates.json").read_text())
    assert {line["video_id"] for line in lines(cache)} == {"v0003", "v0007", "v0090"}
    assert (written["compared"], written["groups"], written["videos"], written["largest"]) == (199, 1, 3, 3)
    assert written["examples"] == [{"group": 0, "videos": 3, "ids": ["v0003", "v0007", "v0090"]}]
    assert all(float(line["similarity"]) >= 0.8 for line in lines(cache))
    by_audio = duplicates(cache, {"audio": "musicnn"}, 0.8, 1)
    assert [group["ids"] for group in by_audio["examples"]] == [
        ["v0003", "v0007", "v0090"],
        ["v0040", "v0041"],
        ["v0060", "v0061"],
    ]
    assert not list((cache / "work").glob("duplicates*"))


def test_splits_are_counted(cache):
    written = duplicates(cache, {"audio": "musicnn"}, 0.8, 2)
    split = dict(
        zip(*(read_manifest(cache / "manifest.parquet")[n].to_pylist() for n in ("row", "split")), strict=True)
    )
    groups = [(3, 7, 90), (40, 41), (60, 61)]
    assert written["across_splits"]["groups"] == sum(len({split[row] for row in group}) > 1 for group in groups)
    trained = sum(
        split[row] == "test" and any(split[other] == "train" for other in group) for group in groups for row in group
    )
    assert written["across_splits"]["videos"]["test_with_train"] == trained


def test_random_pairs_say_how_alike_different_videos_are(cache, tmp_path):
    features = open_features(cache)
    rows = features.rows(valid=["musicnn"])
    space = Stored.write(tmp_path, features, fit(features, "musicnn", rows), rows)
    every = report.similarity([space], np.stack(np.triu_indices(len(rows), 1), axis=1))
    drawn = report.random_pairs([space], 0.8)
    assert drawn["pairs"] == len(every) == 19_900 and drawn["alike"] <= 20
    for quantile in ("0.5", "0.99"):
        assert drawn["quantiles"][quantile] == pytest.approx(np.quantile(every, float(quantile)), abs=0.03)


def test_retired_videos_are_not_compared(tmp_path):
    config = planted(tmp_path / "results")
    manifest = read_manifest(config.paths.manifest)
    kept = manifest.filter(np.arange(200) != 90).drop_columns(["row", "split", "status"])
    write_manifest(config.paths, merge(manifest, kept, config.splits))
    written = duplicates(tmp_path / "results", BOTH, 0.8, 1)
    assert [group["ids"] for group in written["examples"]] == [["v0003", "v0007"], ["v0040", "v0041"]]


def test_groups_keep_copies_and_their_artists_in_one_split(tmp_path):
    config = planted(tmp_path / "results")
    manifest = read_manifest(config.paths.manifest)
    artists = [f"artist {i // 4}" if i % 5 else None for i in range(200)]
    table = manifest.set_column(manifest.column_names.index("artist"), "artist", [artists]).select(
        ["video_id", "path", "artist"]
    )
    write_manifest(config.paths, merge(None, table, config.splits))
    file = tmp_path / "groups.csv"
    duplicates(tmp_path / "results", BOTH, 0.8, 1, file)
    with open(file, newline="") as opened:
        groups = {line["video_id"]: line["group"] for line in csv.DictReader(opened)}
    # 3 and 7 bring their artists' other videos; 90 and 40 have no artist. Every fifth video has none.
    assert {int(name[1:]) for name in groups} == {1, 2, 3, 4, 6, 7, 90, 40, 41, 42, 43}
    assert (
        groups["v0090"] == groups["v0003"] == groups["v0006"] == "same as row 1" and groups["v0041"] == "same as row 40"
    )
    ids = table["video_id"].to_pylist()
    with_groups = table.append_column("group", [[groups.get(name) for name in ids]])
    for share in (0.3, 0.5, 0.7):
        merged = merge(None, with_groups, Splits(train=share, validation=0.1, test=0.9 - share))
        split = dict(zip(ids, merged["split"].to_pylist(), strict=True))
        for group in set(groups.values()):
            assert len({split[name] for name, of in groups.items() if of == group}) == 1


def test_the_file_has_groups_of_before_too(tmp_path):
    """A second run with the first one's column keeps its groups, also where it finds nothing more."""
    given = ["mine", "mine", None, "same as row 3", "same as row 3", None]
    table = pa.table({"video_id": list("uvwxyz"), "artist": pa.nulls(6, pa.string()), "group": given})
    assert write_groups(tmp_path / "a.csv", table, join(table, [])) == 4
    assert write_groups(tmp_path / "b.csv", table, join(table, [np.array([1, 2])])) == 5
    same = "x,same as row 3\ny,same as row 3\n"
    assert (tmp_path / "a.csv").read_text() == "video_id,group\nu,mine\nv,mine\n" + same
    joined = "".join(f"{name},same as row 0\n" for name in "uvw")
    assert (tmp_path / "b.csv").read_text() == "video_id,group\n" + joined + same


def test_joining_is_transitive_through_artists():
    artists = ["a", "a", "b", "b", "c", None]
    table = pa.table({"video_id": list("uvwxyz"), "artist": artists, "group": pa.nulls(6, pa.string())})
    units = join(table, [np.array([1, 2]), np.array([3, 5])])
    assert units.first.tolist() == [0, 0, 0, 0, 4, 0] and units.joined.tolist() == [True] * 4 + [False, True]
    nothing = join(table, [])
    assert nothing.first.tolist() == [0, 0, 2, 2, 4, 5] and not nothing.joined.any()


# The parts


def stored(folder: Path, name: str, units: np.ndarray) -> Stored:
    """Write unit segments, float32 [videos, segments, d], as a space's files."""
    space = Stored(folder, name, *units.shape)
    unit(np.nanmean(units, axis=1)).astype(np.float32).tofile(space.path("means"))
    units.astype(np.float16).tofile(space.path("segments"))
    return space


def clustered(rng, videos: int, segments: int = 3, width: int = 8) -> np.ndarray:
    """Unit segments of videos around a third as many centres, some nearer than others; a fifth are damaged."""
    centres = rng.standard_normal((videos // 3, 1, width))
    spread = rng.uniform(0.05, 0.6, (videos, 1, 1))
    centre = centres[rng.integers(len(centres), size=videos)]
    units = unit((centre + spread * rng.standard_normal((videos, segments, width))).astype(np.float32))
    units[:, 1:][rng.random((videos, segments - 1)) < 0.2] = np.nan
    return units


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("spaces", [1, 2])
def test_blocks_find_what_all_pairs_at_once_do(tmp_path, monkeypatch, spaces, threads):
    monkeypatch.setattr(search, "TILE", 32)
    monkeypatch.setattr(search, "CELLS", 1 << 10)  # few pairs at a time
    rng, n = np.random.default_rng(spaces), 200
    sides = [stored(tmp_path, f"s{i}", clustered(rng, n)) for i in range(spaces)]
    if spaces == 2:  # the same neighbours in both, else nothing is alike in both
        sides[1] = stored(tmp_path, "s1", sides[0].of_segments(np.arange(n))[:, ::-1])
    pairs = np.stack(np.triu_indices(n, 1), axis=1)
    alike = report.similarity(sides, pairs) >= np.float32(0.85)
    i, j = pairs[alike].T
    count, expected = connected_components(coo_array((np.ones(len(i)), (i, j)), (n, n)), directed=False)
    assert 20 < count < n - 20
    firsts, means = search.search(sides, 0.85, threads)
    assert len(np.unique(firsts)) == count == len(np.unique(np.stack([firsts, expected]), axis=1).T)
    assert means == (search.by_means(sides, pairs) >= np.float32(0.85)).sum() > alike.sum() / 2
    assert (firsts <= np.arange(n)).all() and (firsts[firsts] == firsts).all()


def test_many_equal_videos_are_compared_once_each(tmp_path, monkeypatch):
    monkeypatch.setattr(search, "TILE", 256)
    monkeypatch.setattr(search, "CELLS", 1 << 14)
    compared: list[int] = []

    def counted(spaces, pairs):
        compared.append(len(pairs))
        return by_segments(spaces, pairs)

    monkeypatch.setattr(search, "by_segments", counted)
    units = np.repeat(clustered(np.random.default_rng(0), 3)[:1], 1000, axis=0)
    firsts, means = search.search([stored(tmp_path, "a", units)], 0.9, 2)
    assert not firsts.any() and means == 1000 * 999 // 2
    assert sum(compared) < 100_000  # not the 499,500 pairs


def test_chamfer_is_the_mean_of_best_matches():
    rng = np.random.default_rng(3)
    a, b = clustered(rng, 30, 4), clustered(rng, 30, 4)
    expected = []
    for left, right in zip(a, b, strict=True):
        left, right = (side[~np.isnan(side[:, 0])] for side in (left, right))
        similar = left @ right.T
        expected.append((similar.max(axis=1).mean() + similar.max(axis=0).mean()) / 2)
    np.testing.assert_allclose(chamfer(a, b), expected, rtol=1e-5)
    np.testing.assert_allclose(chamfer(a, a[:, ::-1]), 1, rtol=1e-5)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=40))
def test_components_are_those_of_the_graph(pairs):
    groups = Components(20)
    edges = np.array(pairs, np.int64).reshape(-1, 2)
    for part in np.array_split(edges, 3):
        groups.join(part)
    firsts = groups.firsts(np.arange(20))
    _, expected = connected_components(coo_array((np.ones(len(edges)), edges.T), (20, 20)), directed=False)
    assert all((firsts == firsts[v]).tolist() == (expected == expected[v]).tolist() for v in range(20))
    assert not groups.apart(edges).any()


def test_a_space_is_centred_and_leaves_out_what_never_changes(cache):
    features = open_features(cache)
    rows = features.rows(valid=["r2plus1d"])
    space = fit(features, "r2plus1d", rows)
    units = space.segments(features.numpy("r2plus1d", rows))
    good = ~np.isnan(units[:, :, 0])
    assert (~good).sum() == 1
    np.testing.assert_allclose(np.linalg.norm(units[good], axis=1), 1, rtol=1e-5)
    assert np.linalg.norm(units[good].mean(axis=0)) < 0.1
    still = Space("x", np.ones(4, np.float32), np.eye(4, 2, dtype=np.float32))
    assert not still.segments(np.ones((1, 2, 4), np.float16)).any()


# The command line


@pytest.mark.workflow
def test_command_line(cache, tmp_path):
    command = [sys.executable, "-m", "pipeline.duplicates", str(cache), "--threshold", "0.8"]
    file = tmp_path / "groups.csv"
    killed = cache / "work" / "duplicates.killed"
    killed.mkdir(parents=True)
    (killed / "lock").touch()
    done = execute([*command, "--on", "audio", "--write-groups", str(file), "--threads", "1"])
    assert done.returncode == 0, done.stderr
    assert "3 groups of near-duplicates, 7 videos in all" in done.stderr and "by audio," in done.stderr
    assert len(file.read_text().splitlines()) == 8
    assert not list((cache / "work").glob("duplicates.*")), "what a killed search has left takes a gigabyte"
    for more, words in (
        (["--write-groups", str(file)], "groups.csv: the file exists"),
        (["--audio", "r2plus1d"], "backbones of audio are ['musicnn']"),
        (["--on", "video", "--audio", "musicnn"], "leave one of them out"),
        (["--threshold", "1.5"], "not above 0 and at most 1"),
    ):
        wrong = execute([*command, *more])
        assert wrong.returncode == 2 and words in wrong.stderr and "Traceback" not in wrong.stderr


def test_a_long_chain_is_pointed_at():
    about = {"on": "both", "threshold": 0.8, "compared": 100, "groups": 1, "videos": 50, "largest": 50}
    about |= {"random_weights": {"musicnn": False, "r2plus1d": True}}
    rest = {
        "across_splits": {"groups": 0, "videos": {}},
        "random_pairs": {"pairs": 9, "alike": 0, "quantiles": {"0.999": 0.4}},
    }
    rest |= {"examples": [{"videos": 2, "ids": ["a\x1b[2J", "b"]}]}
    assert "a\x1b" not in " ".join(report.words({**about, **rest}, Path("d.csv")))
    assert "THE LARGEST GROUP HAS 50 VIDEOS" in report.words({**about, **rest}, Path("d.csv"))[-1]
    assert "r2plus1d ran on RANDOM weights" in " ".join(report.words({**about, **rest}, Path("d.csv")))
    assert "no near-duplicates" in report.words({**about, **rest, "groups": 0}, Path("d.csv"))[0]
    assert "LARGEST GROUP" not in " ".join(report.words({**about, **rest, "largest": 20}, Path("d.csv")))


def test_constant_features_are_refused(tmp_path):
    folder = tmp_path / "results"
    with patch.object(fill, "segment_features", lambda *a, **k: [np.ones((200, 3, d), np.float16) for d in (64, 32)]):
        simulate(folder, videos=200)
    with pytest.raises(UserError, match="the same in all 600 segments"):
        duplicates(folder, BOTH, 0.8, 1)

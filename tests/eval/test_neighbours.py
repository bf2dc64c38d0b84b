"""Neighbours, label agreement, consistency and maps against slow references and where the truth is known."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from config.model import Config
from config.paths import Paths
from data.labels import write_labels
from data.manifest import read_manifest, write_manifest
from eval.maps import maps
from eval.neighbours import NEAREST, neighbours
from eval.similarity import Items, Label, agreement, consistency, nearest
from eval.spaces import effective_ranks
from eval.video_labels import with_labels
from heads.embed import embed
from heads.train import train
from tests.support.msd_files import track_id, write_genres
from tests.support.simulate import simulate


def units(*shape: int, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def items(videos: int = 40, segments: int = 3, likeness: float = 0.0, seed: int = 0) -> Items:
    """Return segments whose vectors are mixed with one that their video has in common."""
    vectors = []
    for modality in (0, 1):
        own, common = units(videos * segments, 16, seed=seed + modality), units(videos, 16, seed=seed + modality + 10)
        mixed = own * (1 - likeness) + likeness * np.repeat(common, segments, axis=0)
        vectors.append((mixed / np.linalg.norm(mixed, axis=1, keepdims=True)).astype(np.float32))
    return Items(vectors[0], vectors[1], np.repeat(np.arange(videos), segments), np.arange(videos), True)


@pytest.mark.parametrize("by", ["audio", "video", "both", "audio_to_video", "video_to_audio"])
@pytest.mark.parametrize("leave_out", ["video", "item", "nothing"])
def test_neighbours_are_those_of_a_slow_search(by: str, leave_out: str) -> None:
    searched = items(videos=110)  # more than one block
    a, v = searched.audio, searched.video
    cosine = {"audio": a @ a.T, "video": v @ v.T, "both": (a @ a.T + v @ v.T) / 2}
    cosine |= {"audio_to_video": a @ v.T, "video_to_audio": v @ a.T}
    blocks = nearest(searched, np.arange(len(a)), by, 3, leave_out)
    for block, near, similar in blocks:
        for query, row, cosines in zip(block, near, similar, strict=True):
            allowed = [
                j
                for j in range(len(a))
                if leave_out == "nothing"
                or (j != query if leave_out == "item" else searched.owner[j] != searched.owner[query])
            ]
            best = sorted(allowed, key=lambda j: -cosine[by][query, j])[:3]
            assert row.tolist() == best
            assert cosines == pytest.approx([cosine[by][query, j] for j in best], abs=1e-6)


def test_a_query_with_few_others_takes_no_neighbours_from_the_rest_of_its_block() -> None:
    """46 videos of one artist have two others, which are all their neighbours; two more videos have three and more."""
    groups = np.array([0] * 46 + [1, 2])
    searched = replace(items(48, 1), groups=groups)
    ((_, near, cosines),) = nearest(searched, np.arange(48), "audio", 3, "group")
    assert (cosines > -np.inf).sum(axis=1).tolist() == [2] * 46 + [3, 3]
    for query, row in enumerate(near):
        ((_, alone, _),) = nearest(searched, np.array([query]), "audio", 3, "group")
        np.testing.assert_array_equal(row, alone[0])
    genre = np.arange(48) % 2
    measured = agreement(searched, Label("genre", list("ab"), np.eye(2, dtype=bool)[genre]), "audio", 3, 100, 0)
    others = [row[groups[row] != groups[query]] for query, row in enumerate(near)]
    expected = np.mean([np.mean(genre[row] == genre[query]) for query, row in enumerate(others)])
    assert measured and measured["value"] == pytest.approx(expected) and [len(row) for row in others][-2:] == [3, 3]


def test_items_that_keep_their_lengths_are_compared_by_dot_products_across_only() -> None:
    scaled = items()
    longer = scaled.audio * np.linspace(1, 9, len(scaled.audio), dtype=np.float32)[:, None]
    kept = Items(longer, scaled.video, scaled.owner, scaled.groups, True, (False, True))
    query = np.arange(20)
    for by in ("audio", "video", "both"):
        np.testing.assert_allclose(kept.similar(query, by), scaled.similar(query, by), atol=1e-6)
    np.testing.assert_array_equal(kept.similar(query, "audio_to_video"), longer[query] @ scaled.video.T)
    np.testing.assert_array_equal(kept.similar(query, "video_to_audio"), scaled.video[query] @ longer.T)
    one, other = (consistency(x, "audio", 50, 0) for x in (kept, scaled))
    assert one is not None and other is not None
    for name in ("within", "between"):
        assert one[name] == pytest.approx(other[name], abs=1e-6)


def test_labels_are_compared_by_what_they_share() -> None:
    values = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 1], [0, 0, 0]], dtype=bool)
    alike = Label("tags", list("abc"), values).alike()
    assert alike[0, 1] == pytest.approx(1 / 2) and alike[0, 2] == pytest.approx(1 / 3) and alike[1, 2] == 0
    assert np.isnan(np.diag(alike)).all() and np.isnan(alike[3]).all() and np.isnan(alike[:, 3]).all()


def test_agreement_finds_labels_that_are_there_and_none_that_are_not() -> None:
    rng = np.random.default_rng(0)
    genre = rng.integers(4, size=200)
    centre = units(4, 16, seed=3)
    near = centre[genre] + 1.2 * units(200, 16, seed=4)
    audio = (near / np.linalg.norm(near, axis=1, keepdims=True)).astype(np.float32)
    searched = Items(audio, units(200, 16, seed=5), np.arange(200), np.arange(200), True)
    label = Label("genre", list("abcd"), np.eye(4, dtype=bool)[genre])
    by_audio, by_video = (agreement(searched, label, by, 3, 500, 0) for by in ("audio", "video"))
    same = np.mean([genre[i] == genre[j] for i, j in itertools.permutations(range(200), 2)])
    for measured in (by_audio, by_video):
        assert measured and measured["chance"] == pytest.approx(same)
        assert measured["low"] < measured["value"] < measured["high"]
    assert by_audio["value"] > 0.6 and by_audio["better_than_chance"]
    assert by_video["low"] < by_video["chance"] < by_video["high"] and not by_video["better_than_chance"]


def test_agreement_needs_labels() -> None:
    none = np.zeros((4, 2), dtype=bool)
    assert agreement(items(4, 1), Label("genre", list("ab"), none), "audio", 3, 100, 0) is None
    single = none.copy()
    single[0, 0] = True
    assert agreement(items(4, 1), Label("genre", list("ab"), single), "audio", 3, 100, 0) is None


@pytest.mark.parametrize("by", ["audio", "video"])
def test_consistency_equals_the_mean_over_pairs(by: str) -> None:
    searched = items(videos=12, likeness=0.5)
    vectors = searched.audio if by == "audio" else searched.video
    cosine, own = vectors @ vectors.T, searched.owner
    pairs = list(itertools.permutations(range(len(own)), 2))
    measured = consistency(searched, by, 200, 0)
    assert measured is not None
    assert measured["within"]["value"] == pytest.approx(np.mean([cosine[i, j] for i, j in pairs if own[i] == own[j]]))
    assert measured["between"]["value"] == pytest.approx(np.mean([cosine[i, j] for i, j in pairs if own[i] != own[j]]))
    assert measured["nearest_same_video"]["chance"] == pytest.approx(2 / 35)


def test_chance_is_a_mean_over_videos_like_the_value() -> None:
    searched = replace(items(2, 4), owner=np.array([0] * 6 + [1] * 2))  # with `decoding.partial`
    measured = consistency(searched, "audio", 50, 0)
    assert measured and measured["nearest_same_video"]["chance"] == pytest.approx((5 / 7 + 1 / 7) / 2)


def test_features_that_differ_in_one_number_have_an_effective_rank_of_one() -> None:
    rng = np.random.default_rng(0)
    wide = rng.normal(size=(300, 2, 8))
    narrow = 0.01 * wide + rng.normal(size=(300, 1, 1)) * np.linspace(1, 2, 8)
    assert effective_ranks(wide)["raw"] == pytest.approx(8, abs=0.2)
    assert effective_ranks(narrow)["raw"] == pytest.approx(1, abs=0.02)
    uneven = wide * np.array([100.0] + [1.0] * 7)  # one large feature hides the others until all are standardised
    assert effective_ranks(uneven)["raw"] < 1.1 < 7 < effective_ranks(uneven)["standardised"]
    assert effective_ranks(np.ones((5, 1, 3))) == {"raw": 0.0, "standardised": 0.0}


def test_neighbours_of_other_groups_only() -> None:
    """Embeddings that know the artist and nothing else do not know the genre, though each artist has one."""
    artists = np.repeat(np.arange(40), 5)
    vectors = units(40, 16, seed=1)[artists]
    searched = Items(vectors, vectors, np.arange(200), artists, True)
    genre = np.eye(4, dtype=bool)[np.random.default_rng(0).integers(4, size=40)[artists]]
    measured = agreement(searched, Label("genre", list("abcd"), genre), "audio", 3, 500, 0)
    assert measured and not measured["better_than_chance"] and abs(measured["value"] - measured["chance"]) < 0.15
    known = agreement(searched, Label("artist", list("abcd"), genre), "audio", 3, 500, 0)
    assert known and known["better_than_chance"] and known["value"] == 1  # of other videos, as the label is the artist


def test_consistency_tells_like_segments_from_unlike_ones() -> None:
    like, unlike = (consistency(items(likeness=share, seed=7), "audio", 500, 0) for share in (0.7, 0.0))
    assert like and unlike
    assert like["within"]["low"] > like["between"]["high"]
    assert like["nearest_same_video"]["value"] > 0.9
    assert unlike["within"]["low"] < unlike["between"]["value"] < unlike["within"]["high"]
    assert consistency(items(segments=1), "audio", 100, 0) is None


def test_the_map_shows_the_directions_of_largest_variance() -> None:
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(2, 20))
    audio = rng.normal(size=(50, 2)) * [9, 3] @ plane
    (projected,) = [m for m in maps(audio, audio.copy(), True) if m["method"] == "PCA"]
    assert sum(projected["explained"]["audio"]) == pytest.approx(1) and projected["audio"] == projected["video"]
    flat = np.array(projected["audio"])
    distances = [np.linalg.norm(x[:, None] - x, axis=2) for x in (flat, audio)]
    assert distances[0] == pytest.approx(distances[1], abs=1e-3)  # two dimensions hold all there is


@pytest.fixture(scope="module")
def related(tmp_path_factory: pytest.TempPathFactory) -> Config:
    settings = {"experiments": {"baseline": {"max_epochs": 4, "output": "linear", "temperature": 0.1}}}
    config = simulate(tmp_path_factory.mktemp("near"), damaged=[(5, 0)], heads=settings, eval={"bootstrap": 100})
    train(config, "baseline")
    embed(config, "baseline")
    return config


@pytest.mark.parametrize("name", ["baseline", "features"])
def test_what_the_json_says(related: Config, name: str) -> None:
    written = neighbours(related, name)
    ways = {"audio", "video", "both"} | ({"audio_to_video", "video_to_audio"} if name == "baseline" else set())
    shown = written["items"]
    assert {g["level"]: len(g["queries"]) for g in written["galleries"]} == {"video": 25, "segment": 20}
    for gallery in written["galleries"]:
        for query in gallery["queries"]:
            own = shown[query["item"]]
            assert set(query["nearest"]) == ways and set(query["ranks"]) == ways - {"audio", "video", "both"}
            for way, near in query["nearest"].items():
                cosines = [n["similarity"] for n in near]
                assert len(near) == NEAREST and cosines == sorted(cosines, reverse=True)
                same = [shown[n["item"]]["video_id"] == own["video_id"] for n in near]
                if "_to_" not in way:
                    assert not any(same)
                # The positive is among the nearest exactly if its rank says so.
                elif query["ranks"][way] <= NEAREST or any(n["is_partner"] for n in near):
                    assert query["ranks"][way] <= NEAREST and sum(n["is_partner"] for n in near) == 1
    assert {(a["level"], a["by"]) for a in written["agreement"]} == set(itertools.product(("video", "segment"), ways))
    assert [c["by"] for c in written["consistency"]] == ["audio", "video"]
    for modality in ("audio", "video"):
        assert np.shape(written["maps"][0][modality]) == (written["videos"], 2)


def test_seeds_are_the_same_for_every_space(related: Config) -> None:
    chosen = [
        [written["items"][q["item"]]["video_id"] for g in written["galleries"] for q in g["queries"]]
        for written in (neighbours(related, "baseline"), neighbours(related, "features"))
    ]
    assert chosen[0] == chosen[1]


def test_it_is_repeatable(related: Config) -> None:
    path = related.paths.eval("baseline") / "neighbours.json"
    neighbours(related, "baseline")
    first = path.read_bytes()
    neighbours(related, "baseline")
    assert path.read_bytes() == first


def test_few_videos_have_few_neighbours(tmp_path: Path) -> None:
    config = simulate(tmp_path, videos=20, splits={"train": 0.8, "validation": 0.1, "test": 0.1})
    table = read_manifest(Paths(tmp_path).manifest)
    split = ["test" if i < 2 else "train" for i in range(20)]
    write_manifest(Paths(tmp_path), table.set_column(table.column_names.index("split"), "split", [split]))
    (videos, segments) = neighbours(config, "features")["galleries"]
    assert len(videos["queries"]) == 2 and all(len(q["nearest"]["both"]) == 1 for q in videos["queries"])
    assert len(segments["queries"]) == 6 and all(len(q["nearest"]["both"]) == 3 for q in segments["queries"])


def test_labels_of_the_million_song_dataset_are_compared(tmp_path: Path) -> None:
    """They take the manifest's column where the configuration names a file for them."""
    ids = [track_id(i) for i in range(30)]
    file = write_genres(tmp_path / "genres.cls", [f"{t}\t{'Rock' if i % 2 else 'Folk'}" for i, t in enumerate(ids)])
    config = simulate(tmp_path / "results", videos=40, labels={"genre": {"source": str(file)}})
    paths = Paths(tmp_path / "results")
    table = read_manifest(paths.manifest)
    column = table.column_names.index("msd_track_id")
    write_manifest(paths, table.set_column(column, "msd_track_id", [ids + [None] * 10]))
    write_labels(config, "genre")
    labelled = with_labels(config, read_manifest(paths.manifest))
    assert labelled["genre"].to_pylist() == ["Folk", "Rock"] * 15 + [None] * 10
    assert labelled["tags"].equals(table["tags"])
    assert {item["genre"] for item in neighbours(config, "features")["items"]} <= {"Folk", "Rock", None}

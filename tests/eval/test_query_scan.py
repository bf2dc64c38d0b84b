"""The search over stored embeddings against the plain computation, and against the evaluation's ranks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr

from config.cli import UserError
from eval.query.scan import TOGETHER, best_moment, search
from eval.ranks import ranks, unit_rows
from eval.retrieval import mean_unit
from heads.embed import BLOCK, Compressed, EmbeddingShards, embed, open_embeddings
from heads.features import InMemory
from heads.runs import runs
from heads.train import train
from tests.support.simulate import simulate

VIDEOS, SEGMENTS, DIM = 2 * BLOCK + 100, 3, 24
ALL = np.ones(VIDEOS, bool)


def drawn(seed: int, shift: float = 0.0) -> np.ndarray:
    """Unit vectors float16 [videos, segments, dim]; the larger `shift`, the more alike."""
    values = np.random.default_rng(seed).standard_normal((VIDEOS, SEGMENTS, DIM)) + shift
    return (values / np.linalg.norm(values, axis=2, keepdims=True)).astype(np.float16)


@pytest.mark.parametrize("shift", [0.0, 30.0])
def test_ranks_are_those_of_the_evaluation(shift: float) -> None:
    audio, video = drawn(0, shift), drawn(1, shift)
    video[5] = video[6]  # a tie
    for source, target, expected in zip(
        (audio, video), (video, audio), ranks(mean_unit(audio), mean_unit(video)), strict=True
    ):
        results = search(InMemory(target), ALL, list(source[: TOGETHER + 8]), own=list(range(TOGETHER + 8)), threads=2)
        assert [result.rank for result in results] == expected[: TOGETHER + 8].tolist()
        assert {result.gallery for result in results} == {VIDEOS}


@pytest.mark.parametrize("shift", [0.0, 30.0])
def test_the_most_similar_come_in_exact_order(shift: float) -> None:
    audio, video = drawn(2, shift), drawn(3, shift)
    video[40:43] = video[300]
    for query in audio[:5]:
        cosines = unit_rows(mean_unit(video)) @ unit_rows(mean_unit(query[None]))[0]
        (result,) = search(InMemory(video), ALL, [query], top=VIDEOS)
        np.testing.assert_array_equal(result.rows, np.argsort(-cosines, kind="stable"))
        np.testing.assert_array_equal(result.cosines, cosines[result.rows])
        (few,) = search(InMemory(video), ALL, [query], top=7)
        np.testing.assert_array_equal(few.rows, result.rows[:7])


def test_by_segments_the_best_pair_decides() -> None:
    audio, video = drawn(4), drawn(5)
    units = unit_rows(video.reshape(-1, DIM)).reshape(video.shape)
    for query in audio[:5]:
        pairs = np.einsum("vsd,qd->vsq", units, unit_rows(query))
        best = pairs.max(axis=(1, 2))
        (result,) = search(InMemory(video), ALL, [query], "segment", own=[9])
        np.testing.assert_array_equal(result.rows, np.argsort(-best, kind="stable")[:10])
        np.testing.assert_allclose(result.cosines, np.sort(best)[::-1][:10], rtol=1e-12)
        assert result.rank == 1 + (best > best[9]).sum()
        theirs, ours, cosine = best_moment(video[result.rows[0]], query)
        assert cosine == pytest.approx(pairs[result.rows[0], theirs, ours]) == pytest.approx(best.max())


@pytest.mark.parametrize("level", ["video", "segment"])
def test_damaged_segments_and_zeros_take_no_part(level: str) -> None:
    audio, video = drawn(6), drawn(7)
    video[3] = np.nan
    video[4, 0], video[8, 2] = np.nan, 0
    video[9] = 0
    query = audio[0].copy()
    query[1] = np.nan
    (result,) = search(InMemory(video), ALL, [query], level, top=VIDEOS, own=[3])  # type: ignore[arg-type]
    assert result.gallery == VIDEOS - 2 == len(result.rows) and not {3, 9} & set(result.rows.tolist())
    assert result.rank is None
    for row, segments in ((4, [1, 2]), (8, [0, 1])):
        (alone,) = search(InMemory(video[row : row + 1, segments]), ALL[:1], [query[[0, 2]]], level)  # type: ignore[arg-type]
        assert alone.cosines[0] == result.cosines[result.rows == row][0]


def test_means_that_nearly_cancel_are_exact() -> None:
    audio, video = drawn(8), drawn(9)
    video[:50, 1] = -video[:50, 0]
    video[:50, 2] = (video[:50, 2].astype(float) * 1e-3).astype(np.float16)
    (result,) = search(InMemory(video), ALL, [audio[0]], top=VIDEOS)
    cosines = unit_rows(mean_unit(video)) @ unit_rows(mean_unit(audio[:1]))[0]
    np.testing.assert_array_equal(result.rows, np.argsort(-cosines, kind="stable"))


def test_only_the_allowed_are_searched_and_the_own_one_is_left_out() -> None:
    audio, video = drawn(10), drawn(11)
    allowed = np.arange(VIDEOS) % 2 == 0
    (result,) = search(InMemory(video), allowed, [audio[0]], own=[4])
    (without,) = search(InMemory(video), allowed, [audio[0]], own=[4], leave_out=True)
    assert not (result.rows % 2).any() and result.gallery == allowed.sum() and result.rank is not None
    assert without.gallery == allowed.sum() - 1 and without.rank is None and 4 not in without.rows
    (nothing,) = search(InMemory(video), ~ALL, [audio[0]], own=[4])
    assert nothing.gallery == len(nothing.rows) == 0 and nothing.rank is None


def test_stored_embeddings_are_read_with_checksums_and_old_ones_too(tmp_path: Path) -> None:
    config = simulate(
        tmp_path, videos=300, unreadable=range(256, 300), heads={"experiments": {"baseline": {"max_epochs": 1}}}
    )
    train(config, "baseline")
    embed(config, "baseline")
    (run,) = runs(config, "baseline")
    folder = run.folder / "embeddings.zarr" / "video"
    stored = open_embeddings(run, "video")
    assert isinstance(stored, EmbeddingShards) and stored.shape == (300, 3, 256)
    group = zarr.open_group(folder.parent, mode="r+")
    whole = np.asarray(group["video"][:])  # type: ignore[index]
    rows = np.array([299, 0, 77])
    np.testing.assert_array_equal(stored.read(rows), whole[rows])
    np.testing.assert_array_equal(stored[250:300], whole[250:])
    assert np.isnan(whole[256:]).all() and (folder / "c/1/0/0").exists(), "what is missing is lost"

    content = bytearray((folder / "c/0/0/0").read_bytes())
    content[1000] ^= 1
    (folder / "c/0/0/0").write_bytes(content)
    with pytest.raises(UserError, match=r"c/0/0/0 is damaged .*embeddings\.json and run `snakemake embeddings"):
        stored.read(rows)

    old = group.create_array("video", data=whole, chunks=(256, 3, 256), overwrite=True)
    assert [codec.to_dict()["name"] for codec in old.compressors]
    read = open_embeddings(run, "video")
    assert isinstance(read, Compressed) and read.shape == whole.shape
    np.testing.assert_array_equal(read.read(rows), whole[rows])
    np.testing.assert_array_equal(read[250:300], whole[250:])

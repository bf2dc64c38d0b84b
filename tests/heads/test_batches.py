"""Which pairs are trained on: drawn by index, in memory and streamed, and what is read of the cache."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from config.cli import UserError
from config.heads import SegmentPolicy
from config.model import Config
from heads import dataset as memory
from heads.batches import count, cut, draw, steps
from heads.dataset import Data, load, open_data
from heads.features import PairedFeatures, load_features
from tests.support.commands import execute
from tests.support.simulate import simulate

POLICIES: list[SegmentPolicy] = ["one", "first", "all", "mean"]
policies = st.sampled_from(POLICIES)
Numbers = st.integers(0, 2**70)


def some_good(videos: int, segments: int, seed: int) -> np.ndarray:
    """bool [videos, segments] with damaged segments, one good at least."""
    rng = np.random.default_rng(seed)
    good = rng.random((videos, segments)) < 0.7
    good[np.arange(videos), rng.integers(segments, size=videos)] = True
    return good


@given(st.integers(2, 300), st.integers(1, 6), st.integers(2, 90), Numbers, st.integers(0, 1000), policies)
def test_an_epochs_batches(
    videos: int, segments: int, batch: int, seed: int, epoch: int, policy: SegmentPolicy
) -> None:
    good = some_good(videos, segments, seed % 1000)
    batches = list(cut(draw(good, policy, seed, epoch), batch, seed, epoch))
    pairs = [(v, s) for video, segment in batches for v, s in zip(video.tolist(), segment.tolist(), strict=True)]
    assert len(set(pairs)) == len(pairs), "a segment came twice"
    assert len(batches) == steps(good, policy, batch)
    for video, _ in batches:
        assert len(np.unique(video)) == len(video), "a video came twice in a batch"
        assert 2 <= len(video) <= batch + 1
    if policy == "all":  # a round's only pair has no negatives
        has = good.sum(axis=1)
        assert len(pairs) == sum(n for n in ((has > r).sum() for r in range(segments)) if n > 1)
    else:
        assert sorted({v for v, _ in pairs}) == list(range(videos)) and len(pairs) == videos
    assert policy == "mean" or all(good[pair] for pair in pairs)
    again = cut(draw(good, policy, seed, epoch), batch, seed, epoch)
    assert all((a == b).all() for one, two in zip(batches, again, strict=True) for a, b in zip(one, two, strict=True))


@given(st.integers(2, 5000), st.integers(2, 1000))
def test_batches_are_as_large_as_can_be_and_even(videos: int, batch: int) -> None:
    ((*batches,),) = (cut(np.zeros((videos, 1), np.int64), batch, 0, 1),)
    sizes = [len(video) for video, _ in batches]
    assert max(sizes) - min(sizes) <= 1 and sum(sizes) == videos
    assert len(sizes) == count(videos, batch) in (-(-videos // batch), videos // 2)


def test_every_epoch_draws_anew_and_evenly() -> None:
    good = np.ones((500, 6), bool)
    draws = {draw(good, "one", seed, epoch).tobytes() for seed in (0, 1) for epoch in (1, 2, 3)}
    orders = {next(cut(good[:, :1] * 1, 500, seed, epoch))[0].tobytes() for seed in (0, 1) for epoch in (1, 2, 3)}
    assert len(draws) == len(orders) == 6
    for policy in ("one", "all"):
        first = np.concatenate([draw(good, policy, 0, epoch)[:, 0] for epoch in range(1, 11)])  # type: ignore[arg-type]
        assert np.bincount(first).min() > 700  # of 833 expected


# From the cache


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, PairedFeatures]:
    """300 videos in shards of 32, some unreadable, some damaged; every number of the audio says whose it is."""
    config = simulate(
        tmp_path_factory.mktemp("cache"),
        videos=300,
        dims=(8, 4),
        shard_videos=32,
        splits={"train": 0.6, "validation": 0.3, "test": 0.1},
        unreadable=range(0, 300, 7),
        damaged=[(1, 0), (1, 2), (40, 1), (200, 0)],
    )
    return config, load_features(config)


def whole(features: PairedFeatures) -> tuple[np.ndarray, np.ndarray]:
    audio, video = (np.asarray(array[:]) for array in features.arrays)
    return audio, video


def seen(data: Data, policy: SegmentPolicy, batch: int = 20, epoch: int = 3) -> list[tuple[bytes, bytes]]:
    """An epoch's pairs as the bytes of their features; checks that no batch holds two segments of a video."""
    rows, audio = data.features.splits[data.split].rows, whole(data.features)[0]
    owner = {segment.astype(np.float32).tobytes(): row for row in rows for segment in audio[row]}
    epoch_pairs = []
    for batches in data.batches(policy, batch, 5, epoch):
        arrays = [array.numpy() for array in batches]
        assert arrays[0].dtype == arrays[1].dtype == np.float32 and np.isfinite(arrays[0]).all()
        pairs = [(a.tobytes(), v.tobytes()) for a, v in zip(*arrays, strict=True)]
        if policy != "mean":
            assert len({owner[a] for a, _ in pairs}) == len(pairs)
        epoch_pairs += pairs
    return epoch_pairs


def test_features_are_those_of_readable_videos(cache: tuple[Config, PairedFeatures]) -> None:
    _, features = cache
    together = np.concatenate([split.rows for split in features.splits.values()])
    assert sorted(together) == [row for row in range(300) if row % 7]
    assert sum(split.total for split in features.splits.values()) == 300
    bad = {
        (row, s) for split in features.splits.values() for i, s in np.argwhere(~split.good) for row in [split.rows[i]]
    }
    assert bad == {(1, 0), (1, 2), (40, 1), (200, 0)}
    assert features.dims == (8, 4) and features.random_weights == {"musicnn": False, "r2plus1d": True}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("split", ["train", "validation"])
def test_streaming_sees_what_memory_sees(
    cache: tuple[Config, PairedFeatures], policy: SegmentPolicy, split: str
) -> None:
    features = cache[1]
    held = seen(load(features, ("train", "validation"), "cpu")[split], policy)
    streams = [Data(features, split, "cpu", window=3 * 32 * 3 * 24 // (3 if policy == "one" else 1)) for _ in range(2)]
    first, second = (seen(stream, policy) for stream in streams)
    assert sorted(first) == sorted(held), "the same pairs"
    assert first == second, "in an order that is the seed's alone"
    if policy == "one":
        assert sorted(seen(streams[0], policy, epoch=4)) != sorted(held), "the next epoch draws other segments"
    rows, good = features.splits[split].rows, features.splits[split].good
    audio, video = (side[rows].astype(np.float32) for side in whole(features))
    if policy == "mean":
        expected = np.array([a[g].mean(axis=0) for a, g in zip(audio, good, strict=True)])
        pairs = np.array([np.frombuffer(a, np.float32) for a, _ in held])
        np.testing.assert_allclose(np.sort(pairs, axis=0), np.sort(expected, axis=0), rtol=1e-5, atol=1e-6)
    elif policy == "all" and good.all():
        every = zip(audio.reshape(-1, 8), video.reshape(-1, 4), strict=True)
        assert sorted((a.tobytes(), v.tobytes()) for a, v in every) == sorted(held)


def test_windows_are_read_ahead_and_hold_whole_shards(cache: tuple[Config, PairedFeatures]) -> None:
    features = cache[1]
    data = Data(features, "train", "cpu", window=2 * 32 * 3 * 24)
    rows = features.splits["train"].rows
    windows = data._windows(draw(features.splits["train"].good, "all", 0, 1), "all", 0, 1)
    held = []
    for block, videos, _ in windows:
        assert len(videos) <= 64
        for side, source in zip(block.modalities, whole(features), strict=True):
            np.testing.assert_array_equal(side.numpy(), source[rows[videos]])
        held.append(videos)
    assert len(held) >= 4 and sorted(np.concatenate(held)) == list(range(len(rows)))
    shards = [set(rows[videos] // 32) for videos in held]
    assert sum(map(len, shards)) == len(set.union(*shards)), "a shard is read once"
    order = [shard for window in shards for shard in window]
    assert order != sorted(order)


def test_a_shard_that_cannot_be_read_ends_the_epoch(tmp_path: Path) -> None:
    config = simulate(tmp_path, videos=100, dims=(8, 4), shard_videos=32)
    features = load_features(config)
    (file,) = (path for path in (tmp_path / "features.zarr" / "musicnn" / "c" / "1").rglob("*") if path.is_file())
    damaged = bytearray(file.read_bytes())
    damaged[100] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(UserError, match=r"shard 1 of musicnn is damaged.*pipeline.verify"):
        list(Data(features, "train", "cpu", window=10**4).batches("one", 10, 0, 1))


@pytest.mark.parametrize(
    ("share", "train", "validation"), [(0.2, True, True), (0.44, False, True), (0.46, False, False)]
)
def test_memory_decides_and_says_so(
    cache: tuple[Config, PairedFeatures], caplog: pytest.LogCaptureFixture, share: float, train: bool, validation: bool
) -> None:
    caplog.set_level("INFO")
    room = len(cache[1].splits["validation"].rows) * 72 / share  # of which validation is this share
    data = open_data(cache[1], "cpu", (memory.OVERHEAD + room) / 1e9)
    assert (data["train"].block is not None, data["validation"].block is not None) == (train, validation)
    assert ("streaming" if not train else "holding") in caplog.text and "heads.memory_gb" in caplog.text


@pytest.mark.parametrize(("order", "warned"), [("sorted", True), ("shuffled", False), ("alone", False)])
def test_streaming_a_table_that_is_sorted_by_group_warns(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, order: str, warned: bool
) -> None:
    artists = {"sorted": np.arange(300) // 10, "shuffled": np.arange(300) % 30, "alone": np.arange(300)}[order]
    config = simulate(tmp_path, videos=300, dims=(4, 2), artists=artists.tolist(), shard_videos=20)
    features, manifest = load_features(config), config.paths.manifest
    open_data(features, "cpu", 2, manifest)
    assert "is sorted" not in caplog.text  # all of it is in memory, and any batch can hold any video
    open_data(features, "cpu", (memory.OVERHEAD + 4000) / 1e9, manifest)
    assert ("the table of videos is sorted: 9" in caplog.text) == ("Shuffle the table" in caplog.text) == warned


def test_too_little_memory_is_refused(cache: tuple[Config, PairedFeatures]) -> None:
    with pytest.raises(UserError, match=r"heads.memory_gb: training needs at least 1.0 GB"):
        open_data(cache[1], "cpu", 0.5)


def test_what_is_available_is_found() -> None:
    assert 10**7 < memory.available("cpu") < 10**14


def test_buffers_are_reused_and_grow() -> None:
    block = memory.Block(10, 2, (3, 5), "cpu")
    for side in block.modalities:
        side.copy_(torch.arange(side.numel()).reshape(side.shape))
    few = block.pairs(np.array([1, 2]), np.array([0, 1]))
    many = block.pairs(np.arange(10), np.ones(10, int))
    np.testing.assert_array_equal(many[1].numpy(), block.modalities[1][:, 1].float().numpy())
    again: list[Any] = block.pairs(np.array([3]), np.array([0]))
    assert again[0].data_ptr() == many[0].data_ptr() != few[0].data_ptr()
    np.testing.assert_array_equal(again[0].numpy(), block.modalities[0][3, :1].float().numpy())


def test_reading_does_not_wait_for_pytorch(cache: tuple[Config, PairedFeatures]) -> None:
    """Its import takes seconds, in which `open_data` has begun to read."""
    code = """
import sys
import heads.train
from config.model import read
data = heads.train.open_data(heads.train.load_features(read(sys.argv[1])), heads.train.best_device(), None)["train"]
if heads.train.best_device() == "cpu" and sys.argv[2] == "cpu":
    assert "torch" not in sys.modules, "PyTorch was imported before the reading began"
assert len(next(iter(data.batches("one", 10, 0, 1)))[0])
"""
    file = str(Path(cache[0].results) / "config.json")
    execute([sys.executable, "-c", code, file, "cpu" if torch.version.cuda is None else "cuda"], check=True)

"""`decoding.partial`: good segments of damaged videos are kept, and nobody trains or ranks with the damaged ones."""

from __future__ import annotations

import shutil
from pathlib import Path

import av
import numpy as np
import pytest

from config.paths import Paths
from eval.retrieval import load_test, mean_unit
from eval.retrieval import retrieval as evaluate
from heads.embed import embed
from heads.features import load_features
from heads.train import train
from pipeline.extract import Lane
from pipeline.readers import Decoded, MediaError, first
from pipeline.records import read_plan
from pipeline.shard import ShardJob
from pipeline.verify import check_shard
from tests.support.media import Audio, Video, regular, write
from tests.support.simulate import simulate

STARTS = [0.5, 4.0, 8.5]
VIDEO = {"starts": STARTS, "seconds": 1.0, "fps": 5.0, "resize": (128, 171), "crop": (112, 112), "decoder": "pyav"}
AUDIO = {"starts": STARTS, "seconds": 1.0, "rate": 16000}
ON_CPU = {name: {"weights": "random", "device": "cpu"} for name in ("musicnn", "r2plus1d")}
DAMAGED = [(row, row % 3) for row in range(0, 120, 2)]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> tuple[str, str]:
    """Ten seconds, whole and with damage in the middle, where the second segment is."""
    folder = tmp_path_factory.mktemp("partial")
    whole = write(folder / "whole.mp4", Video(regular(10, 25), gop=25), Audio(10))
    data = bytearray(Path(whole).read_bytes())
    with av.open(whole) as container:
        packets = [p for p in container.demux() if p.size and 4.0 < p.pts * p.time_base < 5.0]
    for packet in packets:
        data[packet.pos + 4 : packet.pos + packet.size] = b"\x5a" * (packet.size - 4)
    (folder / "damaged.mp4").write_bytes(data)
    return whole, str(folder / "damaged.mp4")


@pytest.mark.parametrize("kind", ["audio", "video"])
def test_good_segments_of_a_damaged_file_are_kept_only_if_asked_for(files, kind):
    whole, damaged = files
    read, request = (first.audio, AUDIO) if kind == "audio" else (first.video, VIDEO)
    with pytest.raises(MediaError) as strict:
        read(damaged, **request)
    assert strict.value.reason == "decode_error"
    kept, everything = read(damaged, partial=True, **request), read(whole, partial=True, **request)
    assert everything.good is None and kept.good.tolist() == [True, False, True]
    np.testing.assert_array_equal(kept.segments, everything.segments[[0, 2]])
    beyond = {**request, "starts": [20.0, 30.0]}
    with pytest.raises(MediaError):  # not one is good
        read(whole, partial=True, **beyond)
    with pytest.raises(MediaError) as gone:
        read("/nowhere", partial=True, **request)
    assert gone.value.reason == "missing"


def test_damaged_segments_are_nan_rows(tmp_path):
    config = simulate(tmp_path, videos=3, backbones=ON_CPU)
    shutil.rmtree(Paths(tmp_path).ledger("r2plus1d", 0, "b" * 64).parents[1])
    lane = Lane(config, "r2plus1d", 0)
    with lane.job.journal as journal:
        kept = Decoded(np.ones((2, 32), np.float16), "pyav", np.array([True, False, True]))
        lane.take(0, lane.segments(0, kept))
        lane.take(1, lane.segments(1, MediaError("timeout", "slow")))
        lane.take(2, lane.segments(2, Decoded(np.ones((3, 32), np.float16), "pyav")))
        damaged, failed, whole = (journal.outcomes[row] for row in range(3))
        assert np.isnan(damaged).all(axis=1).tolist() == [False, True, False] and damaged.shape == (3, 32)
        assert isinstance(failed, MediaError) and np.isfinite(whole).all()
        assert journal.decoders == {0: "pyav", 2: "pyav"} and not lane.lacking


def test_the_record_counts_them_and_verify_agrees(tmp_path):
    config = simulate(tmp_path / "results", videos=4, damaged=[(2, 1)])
    paths = Paths(tmp_path / "results")
    assert check_shard(paths, read_plan(paths), "r2plus1d", 0) is None
    job = ShardJob(config, "r2plus1d", 0, (3, 32), np.float16)
    with job.journal:
        record = job.finish()
    assert (record.valid, record.partial) == (4, 1)
    assert check_shard(paths, read_plan(paths), "r2plus1d", 0) is None


def test_heads_and_ranks_leave_them_out(tmp_path):
    heads = {"experiments": {"baseline": {"max_epochs": 2, "batch": 32}}}
    splits = {"train": 0.5, "validation": 0.25, "test": 0.25}
    config = simulate(
        tmp_path / "results", videos=120, damaged=DAMAGED, heads=heads, splits=splits, eval={"bootstrap": 100}
    )
    features = load_features(config)
    assert sum(split.good.sum() for split in features.splits.values()) == 360 - len(DAMAGED)
    assert features.digest() != load_features(simulate(tmp_path / "whole", videos=120, splits=splits)).digest()
    train(config, "baseline")
    embed(config, "baseline")
    test, _ = load_test(config, "baseline")
    rows = set(test.table["row"].to_pylist())
    audio, video, owner = test.level("segment")
    assert len(audio) == len(owner) == 3 * len(rows) - sum(row in rows for row, _ in DAMAGED)
    assert np.isfinite(audio).all() and np.isfinite(video).all()
    assert np.isfinite(mean_unit(test.video)).all() and len(mean_unit(test.video)) == len(rows)
    written = evaluate(config, "baseline")
    assert {r["size"] for r in written["results"]} == {len(audio), len(rows)}

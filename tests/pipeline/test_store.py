"""The cache: layout, whole-shard writes, growth, keys, checks; and that other Zarr readers open it without us."""

import shutil
import sys
from dataclasses import replace

import dask.array
import numpy as np
import pytest
import zarr

from config.cli import UserError
from config.files import read_json, write_json
from config.paths import Paths
from config.pipeline import Segments
from pipeline.features import Features, open_features
from pipeline.plan import save_plan
from pipeline.records import PROBE, Failure, Plan, PlannedBackbone, Record, read_plan
from pipeline.store import finish_shard, read_array, stored_shard
from pipeline.verify import check_shard
from tests.support.commands import execute
from tests.support.simulate import simulate

SHARD, SEGMENTS, DIM = 8, 2, 5


def planned(videos, key="k" * 64):
    backbone = PlannedBackbone(key=key, dim=DIM, weights={}, random_weights=False, preprocessing={})
    return Plan(
        format=1,
        videos=videos,
        shard_videos=SHARD,
        shards=-(-videos // SHARD),
        segments=Segments(count=SEGMENTS),
        segment_key="s" * 64,
        backbones={"musicnn": backbone},
    )


def features(lo, hi):
    block = np.random.default_rng(lo).normal(size=(hi - lo, SEGMENTS, DIM)).astype(np.float16)
    valid = np.ones(hi - lo, bool)
    valid[1::4] = False
    block[~valid] = np.nan
    return block, valid


def fill(paths, plan, shards=None):
    """Write shards of known features; return what should stand in the arrays."""
    wanted = np.full((plan.videos, SEGMENTS, DIM), np.nan, np.float16)
    for shard in range(plan.shards) if shards is None else shards:
        lo, hi = shard * SHARD, min((shard + 1) * SHARD, plan.videos)
        block, valid = features(lo, hi)
        failures = [Failure(lo + int(i), f"v{lo + i}", "missing", "") for i in np.flatnonzero(~valid)]
        key = plan.key("musicnn")
        finish_shard(paths, "musicnn", shard, [block, valid], Record(key, hi - lo, int(valid.sum()), "", failures))
        starts = np.where(valid[:, None], [1.0, 2.0], np.nan).astype(np.float32)
        record = Record(plan.segment_key, hi - lo, int(valid.sum()), "", failures)
        finish_shard(paths, PROBE, shard, [starts, starts[:, 0]], record)
        wanted[lo:hi] = block
    return wanted


@pytest.fixture
def paths(tmp_path):
    return Paths(tmp_path / "results")


def test_a_reader_sees_one_plain_array(paths):
    plan = planned(21)
    save_plan(paths, plan)
    wanted = fill(paths, plan)
    view = open_features(paths)
    np.testing.assert_array_equal(view.numpy("musicnn"), wanted)
    np.testing.assert_array_equal(view.valid("musicnn"), np.isfinite(wanted).all((1, 2)))
    np.testing.assert_array_equal(view.start()[:, 1] == 2, view.valid("musicnn"))
    group = zarr.open_group(paths.features, mode="r")
    assert group["musicnn"].shape == (21, SEGMENTS, DIM) and group["musicnn"].dtype == np.float16
    assert group["start"].dtype == np.float32 and group["musicnn_valid"].dtype == bool
    assert group["musicnn"].attrs["key"] == "k" * 64
    np.testing.assert_array_equal(dask.array.from_zarr(group["musicnn"])[3:19].compute(), wanted[3:19])


def test_opens_without_this_project(paths):
    plan = planned(9)
    save_plan(paths, plan)
    fill(paths, plan)
    code = "import sys, zarr; a = zarr.open_group(sys.argv[1], mode='r')['musicnn']; print(a.shape, a[8].dtype)"
    done = execute([sys.executable, "-W", "error", "-c", code, paths.features])
    assert done.stdout.strip() == f"(9, {SEGMENTS}, {DIM}) float16", done.stderr


def test_few_files(paths):
    plan = planned(3 * SHARD)
    save_plan(paths, plan)
    fill(paths, plan)
    files = [p for p in paths.results.rglob("*") if p.is_file() and "musicnn" in str(p) and p.name != "zarr.json"]
    assert len(files) == 3 * 4  # a shard: features, valid flags, done record, ledger


def test_growing_leaves_full_shards_alone(paths):
    plan = planned(SHARD + 3)
    save_plan(paths, plan)
    fill(paths, plan)
    before = {p: p.stat().st_mtime_ns for p in paths.features.rglob("c/0/**/*") if p.is_file()}
    plan = planned(2 * SHARD + 2)
    save_plan(paths, plan)
    assert np.isnan(np.asarray(read_array(paths, "musicnn")[SHARD + 3 :])).all()
    wanted = fill(paths, plan, shards=[1, 2])
    wanted[:SHARD] = features(0, SHARD)[0]
    np.testing.assert_array_equal(open_features(paths).numpy("musicnn"), wanted)
    assert before and all(p.stat().st_mtime_ns == t for p, t in before.items())


def test_another_key_steps_aside_and_comes_back(paths):
    plan = planned(SHARD)
    save_plan(paths, plan)
    wanted = fill(paths, plan)
    save_plan(paths, planned(SHARD, "n" * 64))
    assert np.isnan(np.asarray(read_array(paths, "musicnn")[:])).all()
    assert stored_shard(paths, "musicnn", 0, "n" * 64) is None
    save_plan(paths, plan)
    np.testing.assert_array_equal(np.asarray(read_array(paths, "musicnn")[:]), wanted)
    assert stored_shard(paths, "musicnn", 0, "k" * 64) is not None


def test_a_plan_that_is_killed_again_and_again_is_made_in_the_end(paths, monkeypatch):
    """Each kill leaves an array without a key, as one between two writes did in earlier versions; now none does."""
    plan = planned(SHARD)
    for _ in range(3):
        (paths.features / "musicnn" / "c").mkdir(parents=True)
        save_plan(paths, plan)
        assert read_array(paths, "musicnn").attrs["key"] == "k" * 64
        shutil.rmtree(paths.features / "musicnn")

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(zarr, "open_array", killed)  # the first call after an array was made
        save_plan(paths, planned(SHARD, "n" * 64))
    assert read_array(paths, "musicnn").attrs["key"] == "n" * 64


def test_a_manifest_of_more_or_fewer_videos_is_refused(tmp_path):
    config = simulate(tmp_path / "results", videos=8)
    plan = read_plan(config.paths)
    assert Features(config.paths, plan).manifest(["row"])["row"].to_pylist() == list(range(8))
    with pytest.raises(UserError, match="has 8 videos, .*zarr only 7: .*snakemake extract"):
        Features(config.paths, replace(plan, videos=7)).manifest()
    for read in (Features.manifest, Features.labels):
        with pytest.raises(UserError, match="has 8 videos, .*zarr 9; run `snakemake manifest"):
            read(Features(config.paths, replace(plan, videos=9)))


def test_mixed_keys_and_missing_shards_are_refused(paths):
    plan = planned(2 * SHARD)
    save_plan(paths, plan)
    fill(paths, plan, shards=[0])
    with pytest.raises(UserError, match="1 of 2 shards of musicnn are not extracted"):
        open_features(paths)
    fill(paths, plan)
    open_features(paths)
    record = read_json(paths.done("musicnn", 1))
    write_json(paths.done("musicnn", 1), record | {"key": "x"})
    with pytest.raises(UserError, match="mixes cache keys"):
        open_features(paths)


def test_shard_size_cannot_change(paths):
    save_plan(paths, planned(20))
    with pytest.raises(UserError, match="shard_videos is 7.*made with 8"):
        save_plan(paths, replace(planned(20), shard_videos=7))


def test_all_invalid_shard_is_written_too(paths):
    save_plan(paths, planned(3))
    block, valid = np.full((3, SEGMENTS, DIM), np.nan, np.float16), np.zeros(3, bool)
    finish_shard(paths, "musicnn", 0, [block, valid], Record("k" * 64, 3, 0, ""))
    assert stored_shard(paths, "musicnn", 0, "k" * 64) is not None


def test_wrong_block_is_refused(paths):
    save_plan(paths, planned(3))
    with pytest.raises(ValueError, match="float32"):
        blocks = [np.zeros((3, SEGMENTS, DIM), np.float32), np.ones(3, bool)]
        finish_shard(paths, "musicnn", 0, blocks, Record("k" * 64, 3, 3, ""))


def test_every_flipped_byte_is_found(paths):
    plan = planned(SHARD)
    save_plan(paths, plan)
    fill(paths, plan)
    for part, name in (("musicnn", "musicnn"), ("musicnn", "musicnn_valid"), (PROBE, "start")):
        (path,) = [p for p in (paths.features / name / "c").rglob("*") if p.is_file()]
        data = path.read_bytes()
        assert check_shard(paths, plan, part, 0) is None
        for position in np.linspace(0, len(data) - 1, 25).astype(int):
            path.write_bytes(data[:position] + bytes([data[position] ^ 4]) + data[position + 1 :])
            assert "not those that were written" in check_shard(paths, plan, part, 0)
        path.write_bytes(data)


def test_a_flipped_bit_is_found_by_plain_readers(paths):
    plan = planned(SHARD)
    save_plan(paths, plan)
    fill(paths, plan)
    (path,) = [p for p in (paths.features / "musicnn" / "c").rglob("*") if p.is_file()]
    data = bytearray(path.read_bytes())
    data[10] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="checksum"):
        zarr.open_group(paths.features, mode="r")["musicnn"][:]


def test_verify_names_what_is_wrong(paths):
    plan = planned(2 * SHARD)
    save_plan(paths, plan)
    fill(paths, plan)
    run = [sys.executable, "-m", "pipeline.verify", str(paths.results)]
    assert execute(run).returncode == 0
    (path,) = [p for p in (paths.features / "musicnn" / "c" / "1").rglob("*") if p.is_file()]
    path.unlink()
    broken = execute(run)
    assert broken.returncode == 1 and "musicnn shard 1: its objects are missing" in broken.stdout
    repaired = execute([*run, "--repair"])
    assert repaired.returncode == 0 and not paths.done("musicnn", 1).exists() and paths.done("musicnn", 0).exists()
    nothing = execute([*run[:-1], str(paths.results / "none")])
    assert nothing.returncode == 2 and "plan.json does not exist" in nothing.stderr and "Trace" not in nothing.stderr


def test_rows_are_read_in_any_order_and_number(paths):
    plan = planned(21)
    save_plan(paths, plan)
    wanted = fill(paths, plan)
    view = open_features(paths.results)
    for rows in ([], [20], [3, 3, 0], [20, 8, 7, 9, 1, 16], range(21)):
        chosen = np.array(rows, int)
        np.testing.assert_array_equal(view.numpy("musicnn", chosen), wanted[chosen])
    for rows in (slice(3, 19), slice(8, 16), slice(20, None), slice(5, 5), slice(-4, 50)):
        np.testing.assert_array_equal(view.numpy("musicnn", rows), wanted[rows])
        np.testing.assert_array_equal(view.dask("musicnn")[rows].compute(), wanted[rows])
    np.testing.assert_array_equal(view.torch("musicnn").numpy(), wanted)
    np.testing.assert_array_equal(view.zarr("musicnn")[:], wanted)
    for bad in (np.array([21]), np.array([-1]), np.array([0.5]), slice(0, 4, 2)):
        with pytest.raises(IndexError):
            view.numpy("musicnn", bad)


def test_a_flipped_bit_is_found_on_read_with_its_shard_and_the_way_out(paths):
    plan = planned(2 * SHARD)
    save_plan(paths, plan)
    fill(paths, plan)
    view = open_features(paths)
    for name, read in (("musicnn", lambda: view.numpy("musicnn")), ("start", view.start)):
        (path,) = [p for p in (paths.features / name / "c" / "1").rglob("*") if p.is_file()] or [
            paths.features / name / "c" / "1"
        ]
        data = path.read_bytes()
        for position in np.linspace(0, len(data) - 1, 25).astype(int):
            path.write_bytes(data[:position] + bytes([data[position] ^ 4]) + data[position + 1 :])
            with pytest.raises(UserError, match=f"shard 1 of {name} .*pipeline.verify .* --repair"):
                read()
        path.write_bytes(data[:-1])
        with pytest.raises(UserError, match="shard 1"):
            read()
        path.unlink()
        with pytest.raises(UserError, match=f"{path}: shard 1 of {name} is missing"):
            read()
        path.write_bytes(data)

"""Failed videos are tried again, and only they; what else is in their shards keeps its bits."""

from __future__ import annotations

import csv
import json
import pickle
from dataclasses import replace
from datetime import datetime
from importlib.metadata import version

import numpy as np
import pytest
import zarr

from config.cli import UserError
from config.files import read_json, write_json
from config.paths import Paths
from pipeline import extract, retry
from pipeline.journal import Journal
from pipeline.readers import REASONS, MediaError
from pipeline.records import PROBE, Failure, read_plan, read_record
from pipeline.remote.errors import not_fetched
from pipeline.shard import ShardJob
from pipeline.store import finish_shard, read_array
from tests.support.simulate import simulate
from tests.support.workflow import SHARD, module, snakemake

FAILED = {3: "timeout", 4: "too_short", 5: "decode_error"}
"""Rows of the simulated shard 0 that have no features, and why: 3 and 4 failed in the probe."""


@pytest.fixture
def simulated(tmp_path):
    """A cache of two shards of 8, in which the rows of FAILED failed: (configuration, paths)."""
    config = simulate(tmp_path / "results", videos=16, shard_videos=8)
    paths = Paths(tmp_path / "results")
    for part, arrays in {PROBE: ["start", "duration"], "musicnn": ["musicnn", "musicnn_valid"]}.items():
        rows = [row for row in FAILED if part != PROBE or row < 5]
        blocks = [np.array(read_array(paths, name)[:8]) for name in arrays]
        for block in blocks:
            block[rows] = False if block.dtype == bool else np.nan
        failures = [Failure(row, f"v{row:04d}", FAILED[row], "why") for row in rows]
        known = read_record(paths.done(part, 0))
        assert known
        finish_shard(paths, part, 0, blocks, replace(known, valid=8 - len(rows), failures=failures))
    paths.features_record.write_text("{}")
    return config, paths


def reasons_left(paths, part, key):
    record = read_record(paths.ledger(part, 0, key))
    assert record
    return {failure.row: failure.reason for failure in record.failures}


def test_filtered_and_failed_are_told_apart():
    filtered = {name for name, reason in REASONS.items() if reason.filtered}
    assert filtered == {"too_short", "no_audio_stream", "no_video_stream", "encrypted", "still_image"}
    assert MediaError("too_short", "x").filtered and not MediaError("timeout", "x").filtered


@pytest.mark.parametrize(
    ("chosen", "probe_left", "left", "again"),
    [
        (None, {4: "too_short"}, {4: "too_short"}, [3, 5]),
        (["decode_error"], {3: "timeout", 4: "too_short"}, {3: "timeout", 4: "too_short"}, [5]),
        (["timeout"], {4: "too_short"}, {4: "too_short", 5: "decode_error"}, [3]),
        (["too_short"], {3: "timeout"}, {3: "timeout", 5: "decode_error"}, [4]),
        (["crashed"], {3: "timeout", 4: "too_short"}, FAILED, []),
    ],
)
def test_what_is_forgotten(simulated, monkeypatch, capsys, chosen, probe_left, left, again):
    config, paths = simulated
    flags = ["--reason", *chosen] if chosen else []
    monkeypatch.setattr("sys.argv", ["retry", "--config", str(paths.config), *flags])
    retry.main()
    printed = capsys.readouterr().out
    assert reasons_left(paths, PROBE, "s" * 64) == probe_left
    assert reasons_left(paths, "musicnn", "a" * 64) == left
    assert paths.done(PROBE, 0).exists() == (len(probe_left) == 2)
    assert paths.done("musicnn", 0).exists() == paths.features_record.exists() == (not again)
    assert paths.done("musicnn", 1).exists() and paths.done("r2plus1d", 0).exists()
    assert all(f"v{row:04d}: {FAILED[row]}" in printed for row in again)
    assert (f"{len(again)} videos will be tried again" if again else "nothing to try again") in printed
    job = ShardJob(config, "musicnn", 0, (3, 64), np.float16)
    with job.journal:
        assert [video["row"] for video in job.todo()] == again


def test_what_succeeds_fills_its_row_and_nothing_else_changes(simulated):
    config, paths = simulated
    before = np.array(read_array(paths, "musicnn")[:8])
    retry.forget(paths, read_plan(paths), ["decode_error"])
    job = ShardJob(config, "musicnn", 0, (3, 64), np.float16)
    with job.journal:
        job.note([(5, np.full((3, 64), 0.5, np.float16))])
        record = job.finish()
    after = np.array(read_array(paths, "musicnn")[:8])
    assert record.valid == 6 and [failure.row for failure in record.failures] == [3, 4]
    assert (after[5] == 0.5).all()
    np.testing.assert_array_equal(np.delete(after, 5, axis=0), np.delete(before, 5, axis=0))


def test_a_kill_between_the_objects_of_a_shard_costs_nothing(simulated, monkeypatch):
    config, paths = simulated
    ledger = paths.ledger("musicnn", 0, "a" * 64)
    write_json(ledger, read_json(ledger) | {"decoders": {"decord": 1, "pyav": 4}})
    retry.forget(paths, read_plan(paths), ["decode_error"])

    def killed(*arguments):
        target = paths.features / "musicnn" / "c" / "0" / "0" / "0"
        target.write_bytes(target.read_bytes()[:-1] + b"x")  # neither the old object nor yet all of the new ones
        raise KeyboardInterrupt

    job = ShardJob(config, "musicnn", 0, (3, 64), np.float16)
    before = np.array(read_array(paths, "musicnn")[:8])
    with job.journal, monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        job.journal.decoders[5] = "pyav"
        job.note([(5, np.full((3, 64), 0.5, np.float16))])
        patch.setattr("pipeline.shard.finish_shard", killed)
        job.finish()
    job = ShardJob(config, "musicnn", 0, (3, 64), np.float16)
    with job.journal:
        assert not job.todo()
        record = job.finish()
    assert record.decoders == {"decord": 1, "pyav": 5} and record.valid == 6
    after = np.array(read_array(paths, "musicnn")[:8])
    np.testing.assert_array_equal(np.delete(after, 5, axis=0), np.delete(before, 5, axis=0))


def test_progress_for_machines(simulated):
    config, paths = simulated
    retry.forget(paths, read_plan(paths), ["decode_error"])
    job = ShardJob(config, "musicnn", 0, (3, 64), np.float16)
    with job.journal:
        job.note([(5, MediaError("decode_error", "bad"))], lambda: (0.75, 0.25))
    (line,) = [json.loads(line) for line in paths.progress("musicnn", 0).read_text().splitlines()]
    assert line["rate"] > 0 and datetime.fromisoformat(line["time"]).tzinfo
    rest = {"waiting": 0.75, "network": 0.25, "failed": 2, "filtered": 1}
    assert line == line | rest | {"done": 1, "total": 1, "seconds_left": 0}


def test_an_unfinished_journal_forgets_too(simulated):
    config, paths = simulated
    job = ShardJob(config, "musicnn", 0, (3, 64), np.float16)
    with job.journal:
        job.journal.add(6, MediaError("timeout", "slow"))
        job.journal.add(7, np.zeros((3, 64), np.float16))
    retry.forget(paths, read_plan(paths), ["timeout"])
    with Journal(paths.work("musicnn", 0), "a" * 64, (3, 64), np.float16) as journal:
        assert set(journal.outcomes) == {7}


def test_attempts_are_counted_over_runs(simulated):
    config, paths = simulated
    for attempts in (2, 3):
        retry.forget(paths, read_plan(paths), ["decode_error"])
        job = ShardJob(config, "musicnn", 0, (3, 64), np.float16)
        with job.journal:
            job.note([(5, MediaError("decode_error", "still", decoder="pyav"))])
            retried = job.finish()
        assert {f.row: f.attempts for f in retried.failures} == {3: 1, 4: 1, 5: attempts}
        assert retried.tried == {} and retried.versions == {"pyav": version("av")}


def test_attempts_are_counted_where_a_shard_was_never_finished(tmp_path):
    with Journal(tmp_path, "k", (2,), np.float16) as journal:
        journal.add(5, MediaError("crashed", "twice", attempts=2))
        journal.forget([5])
    with Journal(tmp_path, "k", (2,), np.float16) as journal:
        assert journal.tried == {5: 2} and not journal.outcomes


def test_extraction_waits_for_the_probe_to_try_again(simulated):
    config, paths = simulated
    retry.forget(paths, read_plan(paths), ["timeout"])
    lane = extract.Lane(config, "musicnn", 0)
    with lane.job.journal, pytest.raises(UserError, match="v0003.mp4 has not been probed.*pipeline.probe --shard 0"):
        list(extract.tasks([lane]))


def test_everything_of_a_video_is_forgotten_if_it_is_named(simulated, monkeypatch, capsys):
    """Valid features too, of the probe, of all backbones, and of keys that may come back; nothing else changes."""
    config, paths = simulated
    ledger, key = paths.ledger("musicnn", 0, "a" * 64), "e" * 64
    write_json(ledger, read_json(ledger) | {"decoders": {"decord": 1, "pyav": 4}})
    write_json(paths.ledger("musicnn", 0, key), read_json(ledger) | {"key": key})
    before = np.array(read_array(paths, "musicnn")[:8])
    monkeypatch.setattr("sys.argv", ["retry", "--config", str(paths.config), "--videos", "v0001", "v0003"])
    retry.main()
    printed = capsys.readouterr().out
    assert "2 videos will be tried again" in printed and "v0001: its features" in printed
    assert reasons_left(paths, PROBE, "s" * 64) == {4: "too_short"} and not paths.features_record.exists()
    for part in (PROBE, "musicnn", "r2plus1d"):
        assert not paths.done(part, 0).exists() and paths.done(part, 1).exists()
    assert reasons_left(paths, "musicnn", key) == {4: "too_short", 5: "decode_error"}
    lane = extract.Lane(config, "musicnn", 0)
    with lane.job.journal:
        assert [video["row"] for video in lane.job.todo()] == [1, 3]
        with pytest.raises(UserError, match="v0001.mp4 has not been probed"):
            list(extract.tasks([lane]))
        lane.job.journal.decoders |= {1: "pyav", 3: "pyav"}
        lane.job.note((row, np.full((3, 64), 0.5, np.float16)) for row in (1, 3))
        record = lane.job.finish()
    assert record.valid == 6 and record.tried == {} and record.decoders == {"decord": 1, "pyav": 5}
    after = np.array(read_array(paths, "musicnn")[:8])
    assert (after[[1, 3]] == 0.5).all()
    np.testing.assert_array_equal(np.delete(after, [1, 3], axis=0), np.delete(before, [1, 3], axis=0))
    monkeypatch.setattr("sys.argv", ["retry", "--config", str(paths.config), "--videos", "none"])
    with pytest.raises(UserError, match="has no video 'none'"):
        retry.main()


def test_an_unfinished_journal_forgets_named_videos(simulated):
    config, paths = simulated
    with ShardJob(config, "musicnn", 0, (3, 64), np.float16).journal as journal:
        journal.add(6, np.zeros((3, 64), np.float16))
        journal.add(7, np.zeros((3, 64), np.float16))
    retry.forget(paths, read_plan(paths), [], [6])
    with Journal(paths.work("musicnn", 0), "a" * 64, (3, 64), np.float16) as journal:
        assert set(journal.outcomes) == {7}


def test_a_changed_video_is_forgotten_whole_with_one_failure(simulated):
    _, paths = simulated
    plan = read_plan(paths)
    assert retry.forget(paths, plan, ["decode_error"], changed=[2, 5]).whole == {5}
    for part in plan.parts:
        record = read_record(paths.ledger(part, 0, plan.key(part)))
        assert record and record.tried == ({5: 1} if part == "musicnn" else {5: 0})


def test_noted_videos_that_the_manifest_does_not_have(simulated, monkeypatch, caplog):
    """As after the manifest was deleted, and made of another table."""
    _, paths = simulated
    write_json(paths.changed_videos, {"audio_path": ["v0001", "gone"]})
    monkeypatch.setattr("sys.argv", ["retry", "--config", str(paths.config), "--changed", "audio_path"])
    retry.main()
    assert "notes 1 changed videos that" in caplog.text and "'gone'" in caplog.text
    record = read_record(paths.ledger(PROBE, 0, "s" * 64))
    assert record and set(record.tried) == {1}


def test_a_retry_that_was_killed_is_done_by_the_next(simulated, monkeypatch):
    _, paths = simulated
    plan, write = read_plan(paths), retry.write_ledger

    def killed(paths, part, shard, record):
        if part == "r2plus1d":  # probe and musicnn, whose failure it was, are through
            raise KeyboardInterrupt
        write(paths, part, shard, record)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(retry, "write_ledger", killed)
        retry.forget(paths, plan, ["decode_error"], changed=[5])
    retry.forget(paths, plan, ["decode_error"], changed=[5])
    for part in plan.parts:
        record = read_record(paths.ledger(part, 0, plan.key(part)))
        assert record and 5 in record.tried


@pytest.mark.parametrize(("reason", "fetched", "stops"), [
    ("network", False, True), ("timeout", False, True), ("timeout", True, False), ("missing", False, False),
])  # fmt: skip
def test_videos_in_a_row_that_could_not_be_fetched(tmp_path, reason, fetched, stops):
    config = simulate(tmp_path / "results", videos=64, shard_videos=32)
    retry.forget(Paths(tmp_path / "results"), read_plan(Paths(tmp_path / "results")), [], range(32))
    job = ShardJob(config, "musicnn", 0, (3, 64), np.float16)
    error = MediaError(reason, "why") if fetched else not_fetched(reason, "why")
    answers = ((row, pickle.loads(pickle.dumps(error))) for row in range(1, 32))  # as through a worker's pipe
    with job.journal:
        job.add(0, MediaError("timeout", "slow"))
        if not stops:
            job.note(answers)
            assert len(job.journal.outcomes) == 32
            return
        with pytest.raises(UserError, match="20 videos in a row could not be fetched; the last one: why.*deadline_sec"):
            job.note(answers)
        job.forget_unfetched()
        assert set(job.journal.outcomes) == {0}


def test_filtered_videos_do_not_count_as_failures(simulated):
    config, paths = simulated
    known = read_record(paths.done("musicnn", 0))
    assert known and config.decoding.failure_ratio == 0.5
    job = ShardJob(config, "musicnn", 0, (3, 64), np.float16)
    rows = [*job.rows, *job.rows]  # twice as many as it has: ten failures are the fewest that count
    with job.journal:
        short = [Failure(row, "v", "too_short", "short") for row in rows]
        job._check_ratio(short)  # every one of them is filtered: nothing to complain about
        with pytest.raises(UserError, match="12 of the 8 videos.*decode_error 12"):
            job._check_ratio(short[:4] + [Failure(row, "v", "decode_error", "bad") for row in rows[4:]])


def test_a_file_that_comes_back_is_read_and_the_others_are_not(copied):
    folder, config = copied
    media = folder / "media"
    with open(media / "videos.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    away = media / rows[0]["path"]
    away.rename(folder / "away.mp4")
    snakemake(folder, config, "extract")
    paths = Paths(folder / "results")
    before = zarr.open_group(paths.features, mode="r")["musicnn"][:]
    other = read_json(paths.done("musicnn", 1))
    with open(paths.failures, newline="") as file:
        (failure,) = csv.DictReader(file)
    assert (failure["reason"], failure["kind"], failure["attempts"]) == ("missing", "failed", "1")
    assert np.isnan(before[0]).all() and np.isfinite(before[1:]).all()

    (folder / "away.mp4").rename(away)
    assert "done already" not in snakemake(folder, config, "extract")  # nothing happens by itself
    done = module(config, "pipeline.retry")
    assert done.returncode == 0 and f"{failure['video_id']}: missing" in done.stdout, done.stderr
    printed = snakemake(folder, config, "extract")
    assert printed.count(f"{SHARD} videos, {SHARD - 1} of them done already") == 1  # the backbone; the probe has a log
    assert printed.count("done already") == 1
    after = zarr.open_group(paths.features, mode="r")["musicnn"][:]
    assert np.isfinite(after).all() and len(paths.failures.read_text().splitlines()) == 1
    np.testing.assert_array_equal(after[1:], before[1:])
    assert read_json(paths.done("musicnn", 1)) == other
    assert read_json(paths.done("musicnn", 0))["decoders"] == {"pyav": SHARD}
    assert read_json(paths.done("musicnn", 0))["versions"] == {"pyav": version("av")}
    assert "nothing to try again" in module(config, "pipeline.retry").stdout

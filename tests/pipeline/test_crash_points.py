"""A shard that is written again, with the process dying before each single change on the disk in turn."""

import os
from pathlib import Path

import numpy as np
import pytest

from config.paths import Paths
from pipeline.records import Record, read_record, write_job
from pipeline.store import finish_shard, objects_digest, part_arrays, stored_shard
from tests.support.simulate import simulate

KEY = "a" * 64


class Died(BaseException):
    """Stands for SIGKILL: nothing catches it."""


def dying(monkeypatch, after):
    """Let the next call that changes a name on the disk die once `after` of them were made; return the count."""
    calls = [0]

    def wrap(real):
        def call(*arguments, **named):
            calls[0] += 1
            if calls[0] > after:
                raise Died
            return real(*arguments, **named)

        return call

    monkeypatch.setattr(os, "replace", wrap(os.replace))
    monkeypatch.setattr(os, "fsync", wrap(os.fsync))
    monkeypatch.setattr(Path, "unlink", wrap(Path.unlink))
    return calls


def rewrite(paths, value):
    blocks = [np.full((40, 3, 64), value, np.float16), np.ones(40, bool)]
    return finish_shard(paths, "musicnn", 0, blocks, Record(KEY, 40, 40, ""))


def test_a_record_always_fits_its_shard(tmp_path, monkeypatch):
    paths = Paths(tmp_path / "results")
    simulate(paths.results, videos=40)
    after, finished = 0, False
    while not finished:
        rewrite(paths, 0.0)
        write_job(paths, "musicnn", range(1), 10)
        with monkeypatch.context() as patch:
            dying(patch, after)
            try:
                rewrite(paths, 1.0)
                finished = True
            except Died:
                after += 1
        record = read_record(paths.done("musicnn", 0))
        assert record is None or record.digest == objects_digest(paths, 0, part_arrays("musicnn")), after
        # Snakemake would find nothing to do.
        assert record is not None or not paths.job_done("musicnn", 0, 10).exists(), after
    assert after >= 8  # two objects and two records, each synced and renamed
    assert stored_shard(paths, "musicnn", 0, KEY) is not None
    assert not list((paths.results / "work").glob("*.wip"))  # the dead ones' leftovers are gone too


def test_a_full_disk_leaves_no_leftover(tmp_path, monkeypatch):
    paths = Paths(tmp_path / "results")
    simulate(paths.results, videos=40)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            rewrite(paths, 1.0)
    assert not list((paths.results / "work").glob("*.wip"))
    assert stored_shard(paths, "musicnn", 0, KEY) is not None  # the old shard, whole

"""Two writers of one shard: the second refuses while the first lives, and takes over when it is gone."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from config.cli import UserError
from config.files import write_json
from pipeline import claim, probe
from pipeline.claim import STALE, Claim
from pipeline.journal import Journal
from pipeline.records import read_plan
from pipeline.shard import ShardJob
from tests.support.commands import ROOT
from tests.support.simulate import simulate

HOLD = """
import sys, time, numpy as np
from pathlib import Path
from pipeline.journal import Journal
with Journal(Path(sys.argv[1]), "k", (2,), np.float16) as journal:
    journal.add(0, np.zeros(2, np.float16))
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
    """Another process that writes to a shard's journal; (process, folder of the journal)."""
    folder = tmp_path / "work" / "00003"
    command = [sys.executable, "-c", HOLD, str(folder)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "held\n"
    yield process, folder
    process.kill()
    process.wait()


def journal(folder):
    return Journal(folder, "k", (2,), np.float16)


def test_the_second_writer_refuses_and_tears_nothing(other):
    process, folder = other
    before = (folder / "journal").read_bytes()
    with pytest.raises(UserError, match=f"00003.claim: process {process.pid} on .* delete this file"):
        journal(folder)
    assert (folder / "journal").read_bytes() == before
    process.send_signal(signal.SIGKILL)
    # Not waited for: a zombie, as it stays where nobody asks for the dead.
    while "Z" not in (Path("/proc") / str(process.pid) / "stat").read_text().rpartition(")")[2]:
        time.sleep(0.005)
    with journal(folder) as mine:  # the dead one's claim is stale
        assert set(mine.outcomes) == {0}
    assert [p.name for p in folder.parent.iterdir()] == ["00003"]


def test_who_counts_as_gone(tmp_path, monkeypatch):
    path = tmp_path / "0.claim"
    me = claim._myself()
    alive = me | {"process": os.getppid(), "started": claim._started(os.getppid())}
    for who, free in (
        (alive, False),
        (alive | {"started": "1"}, True),  # its number has gone to another process
        (alive | {"boot": "another"}, True),
        (alive | {"host": "another"}, False),
    ):
        path.write_text(json.dumps(who))
        if free:
            Claim(path).release()
        else:
            with pytest.raises(UserError, match="at work on this shard"):
                Claim(path)
        assert path.exists() != free
    for text in (json.dumps(alive | {"host": "another"}), ""):
        path.write_text(text)
        with pytest.raises(UserError):
            Claim(path)
        os.utime(path, (time.time() - STALE - 9,) * 2)
        Claim(path).release()


def test_signs_of_life_and_a_lost_claim(tmp_path, monkeypatch):
    monkeypatch.setattr(claim, "BEAT", 0.01)
    path = tmp_path / "0.claim"
    held = Claim(path)
    os.utime(path, (1, 1))
    while path.stat().st_mtime == 1:
        time.sleep(0.01)
    held.check()
    Claim(path)  # the same process takes over
    with pytest.raises(UserError, match="another job has taken"):
        held.check()
    held.release()
    assert path.exists()


def test_a_job_that_cannot_begin_gives_its_claim_back(tmp_path, monkeypatch):
    """Keys that are not set, and a record of another version: on another node the shard is free at once."""
    config = simulate(tmp_path / "results", videos=4)
    paths, plan = config.paths, read_plan(config.paths)

    def refused(*_):
        raise UserError("no keys")

    monkeypatch.setattr(probe, "check_access", refused)
    monkeypatch.setattr("sys.argv", ["probe", "--config", str(paths.config), "--shard", "0"])
    with pytest.raises(UserError, match="no keys"):
        probe.main()
    write_json(paths.ledger("musicnn", 0, plan.key("musicnn")), {"key": "of another version"})
    with pytest.raises(UserError, match="not a record of this version"):
        ShardJob(config, "musicnn", 0, (3, 64), np.float16)
    assert not list(paths.results.rglob("*.claim"))


def test_a_job_without_its_claim_does_not_finish(tmp_path):
    with journal(tmp_path / "0") as first:
        first.add(0, np.zeros(2, np.float16))
        Claim(tmp_path / "0.claim")
        with pytest.raises(UserError, match="another job has taken"):
            first.carry({})

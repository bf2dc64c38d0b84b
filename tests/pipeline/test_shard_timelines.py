"""What the probe finds out about a file's clock is kept in its record, and the backbones' jobs read by it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.runs import Run, write_table
from config.files import read_json, write_json
from pipeline.journal import Journal
from pipeline.readers import MediaError
from pipeline.records import PROBE, Record, read_record
from pipeline.shard import ShardJob
from tests.support.media import Audio, Video, regular, write
from tests.support.timelines import joined

pytestmark = pytest.mark.workflow

NUMBERS = [1.4, 0.0, 14.0, 0.0, 100.0, 0.0, 0.0, 5000.0, 4000.0, 7.9]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The jobs of three videos: one that is right, one whose clock breaks, a still image with a song."""
    folder = tmp_path_factory.mktemp("kept")
    files = {
        "right": write(folder / "right.mp4", Video(regular(8, 25)), Audio(8)),
        "joined": joined(folder, "ts", (0, 6, 12)),
        "still": write(folder / "still.mp4", Video([0.0]), Audio(8)),
    }
    table = write_table(folder / "videos.parquet", [(name, Path(path)) for name, path in files.items()])
    segments = {"count": 2, "seconds": 3.0, "window": 3.2}
    run = Run(
        folder / "results", table, {name: {"weights": "random"} for name in ("light", "light_video")}, segments=segments
    )
    run.prepare()
    for (part, _), ended in run.extract(patience=60).items():
        assert ended.status == 0, (part, ended.text)
    return run


def again(run: Run, part: str) -> dict[str, bytes]:
    """The features of a part after its job has run from nothing."""
    run.paths.done(part, 0).unlink(missing_ok=True)
    run.paths.ledger(part, 0, run.plan.key(part)).unlink()
    ended = run.watch(part, 0, 60)
    assert ended.status == 0, ended.text
    return run.features(part)


def test_clocks_to_be_mended_are_in_the_probes_record_alone(run: Run) -> None:
    record = run.record(PROBE, 0)
    assert record is not None and record.timelines is not None
    assert sorted(record.timelines) == [1, 2] and len(record.timelines[1]) == 4 + 2 * 3
    assert (record.timeline(0), record.timeline(2)) == ([], [0.0, 0.0, pytest.approx(8, abs=0.1), 1.0])
    for part in ("light", "light_video"):
        assert "timelines" not in read_json(run.paths.done(part, 0))


def test_each_side_is_used_as_far_as_it_is_there(run: Run) -> None:
    assert run.outcomes(PROBE) == dict.fromkeys(("right", "joined", "still"), "ok")
    assert run.outcomes("light") == dict.fromkeys(("right", "joined", "still"), "ok")
    assert run.outcomes("light_video") == {"right": "ok", "joined": "ok", "still": "still_image"}


@pytest.mark.parametrize("part", ["light", "light_video"])
def test_a_record_of_an_older_version_says_nothing_and_the_readers_look(run: Run, part: str) -> None:
    before = run.features(part)
    ledger = run.paths.ledger(PROBE, 0, run.plan.segment_key)
    kept = read_json(ledger)
    try:
        write_json(ledger, {name: value for name, value in kept.items() if name != "timelines"})
        assert read_record(ledger).timeline(0) is None
        assert again(run, part) == before
    finally:
        write_json(ledger, kept)


def test_rows_that_an_older_version_probed_stay_unknown(run: Run) -> None:
    ledger, done = run.paths.ledger(PROBE, 0, run.plan.segment_key), run.paths.done(PROBE, 0)
    kept = read_json(ledger)
    try:
        write_json(ledger, {name: value for name, value in kept.items() if name != "timelines"})
        job = ShardJob(run.config, PROBE, 0, (1 + run.config.segments.count,), np.float32)
        with job.journal:
            assert job.finish().timelines == dict.fromkeys(range(3))
        assert read_record(done).timeline(0) is None
    finally:
        write_json(ledger, kept)
        write_json(done, kept)


def test_a_killed_probe_does_not_forget(tmp_path: Path) -> None:
    with Journal(tmp_path / "work", "k", (2,), np.float32) as journal:
        journal.timelines[4] = NUMBERS
        journal.add(4, np.zeros(2, np.float32))
        journal.add(5, np.zeros(2, np.float32))
        journal.add(6, MediaError("timeout", "slow"))
        journal.forget([6])
    with Journal(tmp_path / "work", "k", (2,), np.float32) as journal:
        assert journal.timelines == {4: NUMBERS} and sorted(journal.outcomes) == [4, 5]


def test_records_keep_numbers_to_the_bit(tmp_path: Path) -> None:
    record = Record("k", 2, 2, "d", timelines={1: NUMBERS, 0: None})
    write_json(tmp_path / "record.json", record.json())
    assert read_record(tmp_path / "record.json") == record
